//! Measuring a candle model of your own for the gate: fresh processes, interleaved pairs, an A/A control, one records file.
//!
//! ```text
//! cargo run --release -p harness --example gate_own_model -- measure --out records [--reference OTHER-BUILD] [--pairs 20]
//! harness gate --rules gate.toml --baseline baselines --candidate records
//! ```
//! Replace [`MyModel`] and [`rows`]; the rest is the protocol: the parent starts itself, or the other build, once per sample
//! (`worker`), in the order AB BA BA AB, and a control of the reference against itself in every round. The gate reads nothing else than
//! these rows. Rules that fit:
//!
//! ```toml
//! [[rule]]
//! name = "parameters"
//! metric = "params_total"
//! kind = "exact"
//!
//! [[rule]]
//! name = "forward time"
//! metric = "prefill_s"
//! kind = "noisy"
//! limit = 0.05
//! ```
//! Protocol: measurement.md sections 2 and 10.
#![expect(clippy::print_stdout, reason = "a worker's rows go to stdout")]

use anyhow::{Context as _, bail, ensure};
use candle_core::{DType, Device, Tensor};
use harness::measure::window::{self, WindowSpec};
use records::metric::{PARAMS_TOTAL, PREFILL_S};
use records::{Arm, CellId, Measurement, Outcome, RecordWriter, Row};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A two-layer perceptron: your model goes here.
struct MyModel {
    up: Tensor,   // [D, F]
    down: Tensor, // [F, D]
}

impl MyModel {
    fn new(width: usize, hidden: usize, device: &Device) -> anyhow::Result<Self> {
        let ramp = |rows: usize, columns: usize| -> anyhow::Result<Tensor> {
            let values = Tensor::arange(0f32, (rows * columns) as f32, device)?;
            Ok((values.affine(1e-3, 0.0)?.sin()? * 0.05)?.reshape((rows, columns))?)
        };
        Ok(Self { up: ramp(width, hidden)?, down: ramp(hidden, width)? })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.matmul(&self.up)?.relu()?.matmul(&self.down)
    }

    fn num_params(&self) -> usize {
        self.up.elem_count() + self.down.elem_count()
    }
}

/// What one worker reports: the time of a forward pass and the number of parameters.
fn rows(hidden: usize, spec: &WindowSpec) -> anyhow::Result<Vec<Row>> {
    let device = Device::Cpu;
    let model = MyModel::new(64, hidden, &device)?;
    let x = Tensor::ones((32, 64), DType::F32, &device)?;
    let timed = window::run(spec, || {
        let (seconds, y) = window::time(&device, || Ok(model.forward(&x)?))?;
        // A fast wrong answer is a failed measurement.
        ensure!(y.sum_all()?.to_scalar::<f32>()?.is_finite(), "the model's output is not finite");
        Ok((seconds, ()))
    })?;
    let params = Measurement::new(PARAMS_TOTAL, Outcome::exact(model.num_params() as f64));
    Ok(vec![timed.median_of(PREFILL_S, timed.samples.clone())?.into(), params.into()])
}

/// One worker's rows, from a fresh process of `program`, with their place in the design.
fn sample(program: &Path, worker: &[String], arm: Arm, pair: u32, is_aa: bool) -> anyhow::Result<Vec<Row>> {
    let output = Command::new(program)
        .arg("worker")
        .args(worker)
        .output()
        .with_context(|| format!("cannot start `{}`", program.display()))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let lines = String::from_utf8(output.stdout)?;
    lines
        .lines()
        .map(|line| {
            let row: Row = serde_json::from_str(line)?;
            let row = Row {
                run_id: "my-model".to_owned(),
                subject: Some("my-model".to_owned()),
                variant: Some("mine".to_owned()),
                dtype: Some("f32".to_owned()),
                threads: Some(1),
                host_fingerprint: harness::provenance::host(1).host_fingerprint,
                arm,
                trial: Some(0),
                block: Some(pair / 2),
                pair: Some(pair),
                is_aa,
                ..row
            };
            Ok(Row { cell_id: Some(CellId::of(&row).into()), ..row }.seal())
        })
        // Exact rules judge every count in the records, and only the candidate's is the one to judge.
        .filter(|row| (arm == Arm::B && !is_aa) || !row.as_ref().is_ok_and(|row| PARAMS_TOTAL.name == *row.metric))
        .collect()
}

/// Measures both builds in pairs and writes `OUT/records.jsonl`.
fn measure(out: &Path, reference: &Path, pairs: u32, worker: [&[String]; 2]) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let mut writer = RecordWriter::in_folder(out)?;
    for pair in 0..pairs {
        let mut arms = [(Arm::A, false), (Arm::B, false), (Arm::A, true), (Arm::B, true)];
        if matches!(pair % 4, 1 | 2) {
            arms.reverse();
        }
        for (arm, is_aa) in arms {
            let (program, arguments) = if arm == Arm::B && !is_aa { (own.as_path(), worker[1]) } else { (reference, worker[0]) };
            writer.append(&sample(program, arguments, arm, pair, is_aa)?)?;
        }
    }
    Ok(())
}

/// The value behind a flag.
fn value<'a>(arguments: &'a [String], flag: &str) -> Option<&'a str> {
    arguments.iter().position(|argument| argument == flag).and_then(|at| Some(arguments.get(at + 1)?.as_str()))
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, default: usize| value(&arguments, flag).map_or(Ok(default), str::parse);
    match arguments.first().map(String::as_str) {
        Some("worker") => {
            let spec =
                if arguments.iter().any(|argument| argument == "--short") { WindowSpec::short() } else { WindowSpec::default() };
            for row in rows(number("--hidden", 128)?, &spec)? {
                println!("{}", serde_json::to_string(&row)?);
            }
            Ok(())
        }
        Some("measure") => {
            let out = PathBuf::from(value(&arguments, "--out").context("--out DIR: expected a folder for the records")?);
            let own = std::env::current_exe()?;
            let reference = value(&arguments, "--reference").map_or(own, PathBuf::from);
            // Two sizes of the model stand for two builds where there is only one: a plan to try the gate with.
            let worker = |hidden: &str| -> anyhow::Result<Vec<String>> {
                let mut worker = vec!["--hidden".to_owned(), number(hidden, 128)?.to_string()];
                worker.extend(arguments.iter().filter(|argument| *argument == "--short").cloned());
                Ok(worker)
            };
            let (a, b) = (worker("--reference-hidden")?, worker("--hidden")?);
            measure(&out, &reference, u32::try_from(number("--pairs", 20)?)?, [&a, &b])
        }
        _ => bail!("expected `measure --out DIR [--reference PROGRAM] [--pairs N]` or `worker`"),
    }
}
