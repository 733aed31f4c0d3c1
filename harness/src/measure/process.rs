//! What Linux says about this process: resident size and its high-water mark, and who else used the processor.
//!
//! ```text
//! VmHWM, RssAnon, RssFile      /proc/self/status        fresh at exec; never `ru_maxrss`, which inherits the parent's mark
//! reset of VmHWM               "5" to /proc/self/clear_refs
//! contended                    PSI cpu `some` > 5 % of wall time × cores,  or  steal > 1 % of wall time
//! ```
//! What cannot be read is `None`, never an estimate.
//!
//! Source: measurement.md sections 2.8 and 7; proc_pid_clear_refs(5), proc_pid_status(5), the kernel's PSI page.

use super::allocator;
use records::Contention;
use std::time::Instant;

/// Share of wall time × cores that tasks waited for a processor, above which a sample is contended.
const PRESSURE_LIMIT: f64 = 0.05;
/// Share of wall time that the hypervisor took away, above which a sample is contended.
const STEAL_LIMIT: f64 = 0.01;
/// Milliseconds per tick of `/proc/stat`: USER_HZ is 100 on every Linux of this target list.
const TICK_MS: u64 = 10;
/// Resident-size counters are batched per processor: differences below this are none.
pub const RSS_SLACK_BYTES: u64 = 1 << 20;

/// Resident size of this process, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// High-water mark since exec or the last reset.
    pub peak_bytes: u64,
    /// Now.
    pub now_bytes: u64,
    /// Anonymous part of now.
    pub anon_bytes: Option<u64>,
    /// File-backed part of now.
    pub file_bytes: Option<u64>,
}

/// Reads the resident size; `None` where `/proc` has none.
pub fn resident() -> Option<Resident> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name| status_number(&text, name).map(|value| value * 1024);
    Some(Resident {
        peak_bytes: kib("VmHWM:")?,
        now_bytes: kib("VmRSS:")?,
        anon_bytes: kib("RssAnon:"),
        file_bytes: kib("RssFile:"),
    })
}

/// Gives free pages back and sets the high-water mark to the current size. False when the kernel refused, or the mark did not fall:
/// then phases cannot be told apart.
pub fn reset_resident_peak() -> bool {
    allocator::trim();
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
        && resident().is_some_and(|after| after.peak_bytes <= after.now_bytes + RSS_SLACK_BYTES)
}

fn status_number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Counters at one moment; two of them make a [`Contention`].
#[derive(Debug, Clone)]
pub struct Evidence {
    at: Instant,
    psi_cpu_some_us: Option<u64>,
    steal_ms: Option<u64>,
    ctx_switch_invol: Option<u64>,
    major_faults: Option<u64>,
}

impl Evidence {
    /// Reads the counters now.
    pub fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            at: Instant::now(),
            psi_cpu_some_us: read("/proc/pressure/cpu").and_then(|text| pressure_us(&text)),
            steal_ms: read("/proc/stat").and_then(|text| steal_ms(&text)),
            ctx_switch_invol: read("/proc/self/status").and_then(|text| status_number(&text, "nonvoluntary_ctxt_switches:")),
            major_faults: read("/proc/self/stat").and_then(|text| major_faults(&text)),
        }
    }

    /// Differences from this moment to a later one, and whether they say that the sample is contended.
    pub fn until(&self, end: &Self, cores: usize) -> Contention {
        let difference = |a: Option<u64>, b: Option<u64>| Some(b?.saturating_sub(a?));
        let wall_s = end.at.duration_since(self.at).as_secs_f64();
        let psi_cpu_some_us = difference(self.psi_cpu_some_us, end.psi_cpu_some_us);
        let steal_ms = difference(self.steal_ms, end.steal_ms);
        Contention {
            psi_cpu_some_us,
            steal_ms,
            ctx_switch_invol: difference(self.ctx_switch_invol, end.ctx_switch_invol),
            major_faults: difference(self.major_faults, end.major_faults),
            load1: std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split_whitespace().next()?.parse().ok()),
            contended: is_contended(psi_cpu_some_us, steal_ms, wall_s, cores),
        }
    }
}

fn is_contended(psi_us: Option<u64>, steal_ms: Option<u64>, wall_s: f64, cores: usize) -> Option<bool> {
    let pressure = psi_us.map(|us| us as f64 * 1e-6 > PRESSURE_LIMIT * wall_s * cores as f64);
    let steal = steal_ms.map(|ms| ms as f64 * 1e-3 > STEAL_LIMIT * wall_s);
    match (pressure, steal) {
        (None, None) => None,
        _ => Some(pressure == Some(true) || steal == Some(true)),
    }
}

/// `total=` of the `some` line.
fn pressure_us(text: &str) -> Option<u64> {
    text.lines().find(|line| line.starts_with("some"))?.split_once("total=")?.1.trim().parse().ok()
}

/// Eighth number of the `cpu` line.
fn steal_ms(text: &str) -> Option<u64> {
    let ticks: u64 = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()?;
    Some(ticks * TICK_MS)
}

/// Field 12; the fields are counted behind the name in parentheses, which may itself hold spaces.
fn major_faults(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_read() {
        assert_eq!(pressure_us("some avg10=0.00 avg60=0.00 avg300=0.00 total=4321\nfull avg10=0.00 total=1\n"), Some(4321));
        assert_eq!(steal_ms("cpu  10 0 20 30 5 0 1 7 0 0\ncpu0 1 2\n"), Some(70));
        assert_eq!(major_faults("77 (a b) c) R 1 2 3 4 5 6 7 8 99 10 11"), Some(99));
        assert_eq!(status_number("Name:\tx\nVmHWM:\t    2128 kB\n", "VmHWM:"), Some(2128));
        assert_eq!(pressure_us(""), None);
    }

    #[test]
    fn contention_needs_a_twentieth_of_the_cores_or_a_hundredth_of_steal() {
        // Two seconds on two cores: 5 % is 200 ms of pressure, 1 % of the wall time is 20 ms of steal.
        assert_eq!(is_contended(Some(200_000), Some(20), 2.0, 2), Some(false));
        assert_eq!(is_contended(Some(200_001), Some(0), 2.0, 2), Some(true));
        assert_eq!(is_contended(Some(0), Some(30), 2.0, 2), Some(true));
        assert_eq!(is_contended(None, Some(0), 2.0, 2), Some(false));
        assert_eq!(is_contended(None, None, 2.0, 2), None);
    }

    #[test]
    fn this_process_has_a_resident_size() {
        let found = resident().expect("the tests run on Linux");
        assert!(found.peak_bytes + RSS_SLACK_BYTES >= found.now_bytes && found.now_bytes > 1 << 20);
    }
}
