//! Small subjects, plans and windows for the tests of the measuring side.

use harness::config::{ImageTrainConfig, TrainConfig};
use harness::measure::{MeasureOptions, Plan, SubjectSpec, WindowSpec, Workload, probes};
use laurel::ResidualConfig;
use records::Row;
use std::path::{Path, PathBuf};

/// A network of two layers on two sequences of 32 tokens.
pub(crate) fn config() -> TrainConfig {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let sets = ["batch=2", "data.sequence_length=32", "model.num_hidden_layers=2"].map(str::to_owned);
    TrainConfig::load(&root.join("configs/train/lm-tiny-plain.toml"), &sets, None).unwrap()
}

/// The same with a residual preset, rank 4, lookback 3.
pub(crate) fn variant(preset: &str) -> TrainConfig {
    let mut config = config();
    config.model.set_residual(ResidualConfig::preset(preset, 4, 3).unwrap());
    config.name = format!("lm-{preset}");
    config
}

/// A prompt of 16 tokens answered with 4.
pub(crate) fn workload() -> Workload {
    Workload { prompt_length: 16, output_length: 4, ..Workload::default() }
}

/// One thread and windows of a few iterations, in a build that may have debug assertions.
pub(crate) fn options(out: &Path) -> MeasureOptions {
    MeasureOptions {
        program: Some(env!("CARGO_BIN_EXE_harness").into()),
        window: WindowSpec::short(),
        allow_debug_assertions: true,
        ..MeasureOptions::new(out.to_owned(), 1)
    }
}

/// A ResNet of a stem and two blocks on two pictures of 16 pixels a side, trained with SGD.
pub(crate) fn image_config() -> ImageTrainConfig {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let sets = ["batch=2", "data.transform.size=16", "data.transform.crop.padding=2", "model.depths=[1,1]", "model.width=4"];
    ImageTrainConfig::load(&root.join("configs/train/resnet20-cifar10-plain.toml"), &sets.map(str::to_owned), None).unwrap()
}

/// The same with a residual preset, rank 2, lookback 3.
pub(crate) fn image_variant(preset: &str) -> ImageTrainConfig {
    let mut config = image_config();
    config.model.set_residual(ResidualConfig::preset(preset, 2, 3).unwrap());
    config.name = format!("resnet-{preset}");
    config
}

/// Subjects × probes.
pub(crate) fn plan<C: Clone + Into<SubjectSpec>>(subjects: &[C], probes: &[&str], pairs: u32) -> Plan {
    let subjects = subjects.iter().cloned().map(Into::into).collect();
    let probes = probes.iter().map(|name| probes::by_name(name).unwrap()).collect();
    Plan::new(subjects, probes, workload(), pairs)
}

/// The value of the first row of a metric, which must have one.
pub(crate) fn value(rows: &[Row], metric: &str) -> f64 {
    let row = rows.iter().find(|row| row.metric == metric).unwrap_or_else(|| panic!("no row of `{metric}`"));
    row.value.unwrap_or_else(|| panic!("`{metric}`: {:?} {:?}", row.status, row.reason))
}
