//! What the processor offers and which instruction level the kernels run at.
//!
//! The level is detected once, at first use. `force` lowers it for a whole process (`--cpu-features portable`), so that a
//! result can be reproduced on a machine with fewer features; it must be called before the first kernel runs.
use std::sync::OnceLock;

/// Instruction level of the kernels. Each level gives its own bits; all agree within rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every target of the compiler has (SSE2 on `x86_64`); no fused multiply-add.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors (F, BW, DQ, VL).
    Avx512,
}

impl Level {
    /// Name used on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }
}

/// Features of the processor that the kernels know about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// AVX2 and FMA.
    pub avx2: bool,
    /// AVX-512 F, BW, DQ and VL.
    pub avx512: bool,
    /// bf16 dot products (`VDPBF16PS`).
    pub avx512_bf16: bool,
    /// bf16 matrix tiles. No kernel uses them yet; where they are, [`crate::Numerics::F32Split`] splits its operands.
    pub amx_bf16: bool,
}

impl CpuFeatures {
    /// Asks the processor and the operating system.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let avx512_bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
            Self { avx2, avx512, avx512_bf16, amx_bf16: amx_bf16() }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::default()
    }

    /// Highest level these features allow.
    pub fn level(self) -> Level {
        match self {
            Self { avx512: true, .. } => Level::Avx512,
            Self { avx2: true, .. } => Level::Avx2,
            _ => Level::Portable,
        }
    }
}

/// CPUID leaf 7, EDX bit 22 (Intel SDM vol. 2A, CPUID); the standard library's test for it is not stable.
#[cfg(target_arch = "x86_64")]
fn amx_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx >> 22 & 1 == 1
}

static LEVEL: OnceLock<Level> = OnceLock::new();

/// Level the kernels run at: the forced one, else the highest the processor has.
pub fn level() -> Level {
    *LEVEL.get_or_init(|| CpuFeatures::detect().level())
}

/// Fixes the level for the rest of the process.
///
/// # Errors
/// When the processor lacks the level, or when another level is already in use.
pub fn force(level: Level) -> Result<(), String> {
    let best = CpuFeatures::detect().level();
    if level > best {
        return Err(format!("cannot force the CPU level: this processor has at most `{}`: `{}`", best.name(), level.name()));
    }
    let used = *LEVEL.get_or_init(|| level);
    if used == level {
        return Ok(());
    }
    let (used, level) = (used.name(), level.name());
    Err(format!(
        "cannot force the CPU level to `{level}`: kernels already run at `{used}`\nhint: force it before the first operation"
    ))
}

/// Threads the kernels use: those of the current rayon pool.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// One line for records: level in use, features found, threads.
pub fn describe() -> String {
    let found = CpuFeatures::detect();
    let names =
        [("avx2", found.avx2), ("avx512", found.avx512), ("avx512_bf16", found.avx512_bf16), ("amx_bf16", found.amx_bf16)];
    let features: Vec<&str> = names.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join("+") };
    format!("level={} features={features} threads={}", level().name(), threads())
}

/// Asks the allocator to keep freed blocks instead of returning them to the system.
///
/// Activations and gradients of a training step are megabytes each and are freed and asked for again every step; above glibc's
/// mapping threshold every one of them costs an `mmap`, page faults and an `munmap`. Worth 2 to 8 % of a fused training step and
/// 19 % of one in stock candle. Raises resident memory, so a memory measurement must not call it. Does nothing but on glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only stores integers in the allocator's parameters and may be called at any time.
    unsafe {
        // the other arenas, of threads that are not the first, are made of pieces of 64 MiB that are returned and mapped again
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Keeps candle's own worker threads from starting, and says whether it could.
///
/// Candle runs large element-wise operations on a pool of its own, whose threads and callers spin for about half a millisecond
/// around every operation (`CANDLE_BARRIER_POOL_SPIN_LIMIT`). Beside the pool of these kernels they take the cores from it: on two
/// cores a training step of `examples/gpt_step.rs` took 1.6 s with them and 0.54 s without. Sets `CANDLE_NUM_THREADS=1` unless the
/// user set it. Call it first in `main`: the environment may change only while the process has one thread, which is checked
/// (Linux), and candle reads the variable at its first operation.
pub fn stop_candle_threads() -> bool {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_some() {
        return true;
    }
    if !std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1) {
        return false;
    }
    // SAFETY: this is the only thread of the process, so nothing reads the environment meanwhile.
    unsafe { std::env::set_var(NAME, "1") };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_the_highest_feature_found() {
        assert_eq!(CpuFeatures::default().level(), Level::Portable);
        assert_eq!(CpuFeatures { avx2: true, ..Default::default() }.level(), Level::Avx2);
        assert_eq!(CpuFeatures { avx2: true, avx512: true, ..Default::default() }.level(), Level::Avx512);
    }

    #[test]
    fn forcing_another_level_after_use_is_refused() {
        let used = level();
        assert!(force(used).is_ok());
        let other = if used == Level::Portable { Level::Avx2 } else { Level::Portable };
        assert!(force(other).unwrap_err().contains(other.name()));
    }

    #[test]
    fn the_environment_is_left_alone_while_other_threads_run() {
        // the test runner is a second thread, so only a value that is already there can be reported
        assert_eq!(stop_candle_threads(), std::env::var_os("CANDLE_NUM_THREADS").is_some());
    }

    #[test]
    fn description_names_the_level_and_the_threads() {
        let text = describe();
        assert!(text.contains(level().name()) && text.contains("threads="), "{text}");
    }
}
