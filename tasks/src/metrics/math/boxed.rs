//! The boxed answer of a MATH solution.
//!
//! Where the text holds `\boxed ` (with a space), what follows its last occurrence up to the next `$`; else the last `\boxed{…}` by brace matching.
//! A solution whose only box is `\fbox` is refused, as the reference does: no document of the test set is one.
//!
//! Source: lm-evaluation-harness 0.4.13 `hendrycks_math/utils.py`, after hendrycks/math.

use crate::metrics::MetricError;

const SPACED: &str = "\\boxed ";
const BRACED: &str = "\\boxed{";

/// The last box with its command, or none.
pub fn last_boxed(solution: &str) -> Option<String> {
    if let Some((_, rest)) = solution.rsplit_once(SPACED) {
        let content = rest.split('$').next().unwrap_or_default();
        return Some(format!("{SPACED}{content}"));
    }
    let start = solution.rfind("\\boxed").or_else(|| solution.rfind("\\fbox"))?;
    let mut depth = 0;
    for (at, c) in solution[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(solution[start..=start + at].to_owned());
                }
            }
            _ => {}
        }
    }
    None
}

/// The content of a box.
///
/// # Errors
/// When the text is no `\boxed`.
pub fn remove_boxed(boxed: &str) -> Result<String, MetricError> {
    if boxed.contains(SPACED) {
        let content = boxed.strip_prefix(SPACED);
        return content
            .map(str::to_owned)
            .ok_or(MetricError::NoBoxedAnswer { reason: "expected a text that begins with `\\boxed `" });
    }
    let content = boxed.strip_prefix(BRACED).and_then(|rest| rest.strip_suffix('}'));
    content.map(str::to_owned).ok_or(MetricError::NoBoxedAnswer { reason: "expected `\\boxed{…}`" })
}

/// The answer of a reference solution.
///
/// # Errors
/// When the solution has no complete `\boxed`.
pub fn gold_answer(solution: &str) -> Result<String, MetricError> {
    let boxed =
        last_boxed(solution).ok_or(MetricError::NoBoxedAnswer { reason: "found no `\\boxed`, or one that is not closed" })?;
    remove_boxed(&boxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_matched() {
        assert_eq!(gold_answer(r"so $\boxed{1}$ and $\boxed{\frac{1}{2}}.$").unwrap(), r"\frac{1}{2}");
        assert_eq!(last_boxed(r"\boxed{1"), None);
    }

    #[test]
    fn a_spaced_box_ends_at_the_dollar() {
        assert_eq!(gold_answer(r"\boxed{1} or $\boxed 5$ end").unwrap(), "5");
    }

    #[test]
    fn other_boxes_are_refused() {
        assert!(matches!(gold_answer(r"\fbox{7}"), Err(MetricError::NoBoxedAnswer { .. })));
        assert!(matches!(gold_answer("7"), Err(MetricError::NoBoxedAnswer { .. })));
    }
}
