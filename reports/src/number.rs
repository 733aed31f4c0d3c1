//! Numbers for people: units, scales, and significant digits taken from the interval.
//!
//! ```text
//! 65.1234 ± 0.8123  ->  65.12 ± 0.81      two significant digits of the half-width decide the decimals
//! 0.0123 s          ->  12.3 ms           without an interval: three significant digits
//! ```
//! All formats are fixed, so the same records give the same bytes.
//!
//! Source: style.md section 7, measurement.md section 15.

/// Shown for a missing value; a footnote says why.
pub const MISSING: &str = "—";

/// How a column shows a unit: the shown number is value / `divisor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Value in base units per shown unit.
    pub divisor: f64,
    /// Shown unit; empty for pure numbers.
    pub unit: &'static str,
}

impl Scale {
    /// No scaling, no unit.
    pub const NONE: Self = Self { divisor: 1.0, unit: "" };

    /// The scale for a base unit such that the largest value reads between 1 and 1000, where prefixes exist.
    pub fn of(unit: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let largest = values.into_iter().map(f64::abs).fold(0.0, f64::max);
        let steps: &[(f64, &'static str)] = match unit {
            "s" => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
            "bytes" => &[(1024.0 * 1024.0 * 1024.0, "GiB"), (1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
            "params" => &[(1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")],
            "FLOP" => &[(1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP")],
            "FLOP/s" => &[(1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"), (1.0, "FLOP/s")],
            "fraction" => &[(0.01, "%")],
            "%" => &[(1.0, "%")],
            "tok/s" => &[(1.0, "tok/s")],
            "step/s" => &[(1.0, "step/s")],
            "nat/tok" => &[(1.0, "nat/tok")],
            "bit/byte" => &[(1.0, "bit/byte")],
            "J" => &[(1.0, "J")],
            _ => &[(1.0, "")],
        };
        let (divisor, unit) = steps.iter().copied().find(|(divisor, _)| largest >= *divisor).unwrap_or(steps[steps.len() - 1]);
        // An all-zero column keeps the base unit.
        if largest == 0.0 {
            let base = steps.iter().copied().find(|(divisor, _)| *divisor == 1.0).unwrap_or(steps[0]);
            return Self { divisor: base.0, unit: base.1 };
        }
        Self { divisor, unit }
    }
}

/// Decimals that show `digits` significant digits of `x`.
pub fn decimals_for(x: f64, digits: i32) -> usize {
    if x == 0.0 || !x.is_finite() {
        return 0;
    }
    // Rounding first keeps 0.0996 from showing one digit more than 0.1.
    let exponent = x.abs().log10().floor() as i32;
    let rounded = (x.abs() / 10f64.powi(exponent - digits + 1)).round() * 10f64.powi(exponent - digits + 1);
    let exponent = if rounded >= 10f64.powi(exponent + 1) { exponent + 1 } else { exponent };
    usize::try_from((digits - 1 - exponent).clamp(0, 9)).unwrap_or(0)
}

/// `x` with a fixed number of decimals; minus zero shows as zero.
pub fn fixed(x: f64, decimals: usize) -> String {
    let text = format!("{x:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

/// A value with its half-width, if any: `65.12 ± 0.81`.
pub fn estimate(value: f64, half_width: Option<f64>) -> String {
    match half_width {
        Some(half) if half > 0.0 => {
            let decimals = decimals_for(half, 2);
            format!("{} ± {}", fixed(value, decimals), fixed(half, decimals))
        }
        Some(_) => format!("{} ± 0", significant(value)),
        None => significant(value),
    }
}

/// Three significant digits, whole numbers in full up to a million: `12.3`, `0.00123`, `2048`.
pub fn significant(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 1e6 { fixed(x, 0) } else { fixed(x, decimals_for(x, 3)) }
}

/// Counted numbers, which have no noise to hide digits: whole ones in full up to a million, others with five significant digits,
/// three below 1.
pub fn exact(x: f64, is_scaled: bool) -> String {
    match (x.fract() == 0.0 && x.abs() < 1e6 && !is_scaled, x.abs() < 1.0) {
        (true, _) => fixed(x, 0),
        (_, true) => significant(x),
        (_, false) => fixed(x, decimals_for(x, 5)),
    }
}

/// A ratio as a signed percentage: 1.034 is `+3.4 %`.
pub fn ratio_pct(ratio: f64) -> String {
    let pct = 100.0 * (ratio - 1.0);
    let decimals = if pct.abs() < 1.0 { 2 } else { 1 };
    let text = fixed(pct, decimals);
    let sign = if text.starts_with('-') || text.chars().all(|c| c == '0' || c == '.') { "" } else { "+" };
    format!("{sign}{text} %")
}

/// A count with thin groups of three: `25 557 032`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A quantity with its unit, for sentences: `12.3 ms`.
pub fn quantity(value: f64, unit: &str) -> String {
    let scale = Scale::of(unit, [value]);
    let text = significant(value / scale.divisor);
    if scale.unit.is_empty() { text } else { format!("{text} {}", scale.unit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_from_the_interval() {
        assert_eq!(estimate(65.1234, Some(0.8123)), "65.12 ± 0.81");
        assert_eq!(estimate(65.1234, Some(12.3)), "65 ± 12");
        assert_eq!(estimate(0.123_456, Some(0.000_99)), "0.12346 ± 0.00099");
        assert_eq!(estimate(10.0, Some(0.0996)), "10.00 ± 0.10");
        assert_eq!(estimate(2.0, Some(0.0)), "2 ± 0");
    }

    #[test]
    fn three_significant_digits_without_one() {
        assert_eq!(significant(12.345), "12.3");
        assert_eq!(significant(0.001_234_5), "0.00123");
        assert_eq!(significant(2048.0), "2048");
        assert_eq!(significant(0.0), "0");
        assert_eq!(significant(0.9996), "1.00");
        assert_eq!(fixed(-0.001, 2), "0.00");
    }

    #[test]
    fn units_scale_by_the_largest_value() {
        assert_eq!(Scale::of("s", [0.012, 0.5]).unit, "ms");
        assert_eq!(Scale::of("s", [1.5, 0.012]).unit, "s");
        assert_eq!(Scale::of("bytes", [3.0 * 1024.0 * 1024.0]).unit, "MiB");
        assert_eq!(quantity(0.0123, "s"), "12.3 ms");
        assert_eq!(quantity(1_210_000.0, "params"), "1.21 M");
        assert_eq!(quantity(0.651, "fraction"), "65.1 %");
        assert_eq!(quantity(0.0, "s"), "0 s");
    }

    #[test]
    fn counted_numbers_keep_their_digits() {
        assert_eq!(exact(1.000_008, true), "1.0000");
        assert_eq!(exact(1.0, true), "1.0000");
        assert_eq!(exact(157.197_056, true), "157.20");
        assert_eq!(exact(0.0008, false), "0.000800");
        assert_eq!(exact(4104.0, false), "4104");
        assert_eq!(exact(0.0, true), "0");
    }

    #[test]
    fn ratios_and_counts() {
        assert_eq!(ratio_pct(1.0338), "+3.4 %");
        assert_eq!(ratio_pct(0.9963), "-0.37 %");
        assert_eq!(ratio_pct(1.0), "0.00 %");
        assert_eq!(thousands(25_557_032), "25 557 032");
        assert_eq!(thousands(1024), "1024");
    }
}
