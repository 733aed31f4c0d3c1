//! Levels from outside.
use kernels::cpu::{CpuFeatures, Level, describe, level};

#[test]
fn the_level_in_use_is_one_the_processor_has() {
    assert!(level() <= CpuFeatures::detect().level());
    assert!(describe().starts_with(&format!("level={}", level().name())));
    assert!(Level::Portable < Level::Avx2 && Level::Avx2 < Level::Avx512);
}
