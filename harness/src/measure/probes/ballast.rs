//! A known amount of memory, touched, released and touched again: shows on any machine that the memory readings are right.
//!
//! ```text
//! base │ touch N bytes │ release, trim, reset │ touch 8 MiB
//! ballast_peak_rss − ballast_base_rss ≈ N          ballast_reset_rss − ballast_base_rss ≈ 8 MiB
//! ```
//! Source: measurement.md section 16, checks 1 and 2.

use super::memory::{alloc_row, rss_row};
use super::{Kind, Probe, Work};
use crate::measure::allocator;
use crate::measure::process;
use crate::measure::subject::Subject;
use crate::measure::window::WindowSpec;
use anyhow::Context as _;
use records::{Better, InnerStat, Measurement, Metric, Outcome};

/// Bytes touched after the release.
const SECOND_BYTES: usize = 8 << 20;
/// Bytes per page; one write each makes a page resident.
const PAGE_BYTES: usize = 4096;

/// The probe.
#[derive(Debug)]
pub struct Ballast;

fn metric(name: &str) -> Metric {
    Metric::new(&format!("ballast_{name}_bytes"), "bytes", Better::None).expect("name and unit agree")
}

impl Probe for Ballast {
    fn name(&self) -> &'static str {
        "ballast"
    }

    fn is_default(&self) -> bool {
        false // it checks the instrument
    }

    fn about(&self) -> &'static str {
        "a known amount of memory: checks the memory readings themselves"
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn work(&self) -> Work {
        Work::Nothing
    }

    fn metrics(&self) -> Vec<Metric> {
        ["peak_rss", "base_rss", "reset_rss", "peak_alloc"].into_iter().map(metric).collect()
    }

    fn run(&self, subject: &mut Subject, _: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let base = process::resident().context("`/proc/self/status` has no VmHWM")?;
        let ballast = touched(subject.workload.ballast_bytes as usize);
        let full = process::resident().context("`/proc/self/status` has no VmHWM")?;
        let peak_alloc = allocator::read().peak_bytes;
        drop(ballast);
        anyhow::ensure!(process::reset_resident_peak(), "the kernel did not reset the high-water mark");
        let second = touched(SECOND_BYTES);
        let reset = process::resident().context("`/proc/self/status` has no VmHWM")?;
        drop(second);
        let row = |name: &str, resident: process::Resident, value: u64| {
            rss_row(metric(name), Some(resident), Outcome::of(value as f64, InnerStat::Max, 1))
        };
        Ok(vec![
            row("peak_rss", full, full.peak_bytes),
            row("base_rss", base, base.now_bytes),
            row("reset_rss", reset, reset.peak_bytes),
            alloc_row(metric("peak_alloc"), peak_alloc),
        ])
    }
}

fn touched(bytes: usize) -> Vec<u8> {
    let mut block = vec![0u8; bytes];
    for page in block.chunks_mut(PAGE_BYTES) {
        page[0] = 1;
    }
    std::hint::black_box(block)
}
