//! Time and memory of a whole report from many records in one Parquet file.
//!
//! ```text
//! cargo run --release -p reports --example million -- write 1000000 /tmp/records.parquet     half documents, a third steps, the rest samples
//! cargo run --release -p reports --example million -- report /tmp/records.parquet /tmp/out   prints seconds and the peak resident size
//! ```
//! The two are separate processes, so that the peak is the report's. Rows are written sorted, or `mixed`, as a file
//! need not be sorted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use records::{Arm, InnerStat, RecordKind, Row};
use reports::{Records, ReportOptions, Study, build_report};

/// Variants with their loss.
const VARIANTS: [(&str, f64); 8] = [
    ("plain", 3.0),
    ("naive+1", 2.97),
    ("rw", 2.96),
    ("lr", 2.962),
    ("pa", 2.951),
    ("rw+lr", 2.953),
    ("rw+pa", 2.952),
    ("rw+lr+pa", 2.95),
];
const SEEDS: u8 = 5;
const TASKS: usize = 40;

fn base(variant: &str, seed: i64, metric: &str, value: f64) -> Row {
    let known = records::Metric::by_name(metric).expect("a known metric");
    Row {
        run_id: format!("lm-{variant}/0a1b2c3d-s{seed}"),
        suite: Some("llm".into()),
        subject: Some(format!("lm-{variant}")),
        variant: Some(variant.into()),
        seed: Some(seed),
        metric: metric.into(),
        unit: known.unit.as_str().into(),
        better: known.better,
        value: Some(value),
        model_family: Some("decoder".into()),
        num_hidden_layers: Some(24),
        hidden_size: Some(768),
        dtype: Some("f32".into()),
        threads: Some(1),
        cpu_model: Some("a processor".into()),
        host_fingerprint: Some("feedface00000000".into()),
        git_commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
        cargo_profile: Some("release".into()),
        rustc: Some("rustc 1.95.0".into()),
        ..Row::default()
    }
}

/// A number in [0, 1) from a counter.
fn noise(at: usize) -> f64 {
    let mut x = at as u64 ^ 0x9e37_79b9_7f4a_7c15;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// Row `at` of `count`.
fn row(at: usize, count: usize) -> Row {
    let (variant, loss) = VARIANTS[at % VARIANTS.len()];
    let at = at / VARIANTS.len();
    let seed = (at % usize::from(SEEDS)) as u8;
    let at = at / usize::from(SEEDS);
    let u = noise(at * 64 + usize::from(seed) * 8 + variant.len());
    let seed = i64::from(seed);
    match at % 12 {
        // Worker samples, in pairs against plain.
        0 => {
            let pair = (at / 12) as u32;
            let arm = if variant == "plain" { Arm::A } else { Arm::B };
            let place = Row { arm, pair: Some(pair), block: Some(0), inner_stat: Some(InnerStat::Median), ..Row::default() };
            let like = base(variant, seed, "train_step_s", 0.095 * (1.0 + 0.02 * u));
            Row {
                arm: place.arm,
                pair: place.pair,
                block: place.block,
                inner_stat: place.inner_stat,
                run_id: format!("m-s{seed}"),
                ..like
            }
        }
        1 => base(variant, seed, "val_loss", loss + 0.01 * u),
        // Learning curves.
        2..=5 => {
            let step = (at / 12 * 4 + at % 12) as u64;
            let value = loss + 3.0 * (-(step as f64) / (count as f64 / 4000.0)).exp() + 0.01 * u;
            Row { kind: RecordKind::Step, eval_step: Some(step), ..base(variant, seed, "train_loss", value) }
        }
        // Documents of tasks.
        _ => {
            let doc = at / 12;
            let task = doc % TASKS;
            Row {
                kind: RecordKind::Document,
                task: Some(format!("task_{task:02}")),
                doc_id: Some(format!("doc-{:06}-{}", doc / TASKS, at % 12)),
                cluster_id: Some(format!("text-{:06}", doc / TASKS / 4)),
                ..base(variant, seed, "acc", if u < 0.6 { 1.0 } else { 0.0 })
            }
        }
    }
}

fn write(count: usize, path: &Path, is_sorted: bool) -> Result<(), Box<dyn std::error::Error>> {
    let rows: Vec<Row> = (0..count).map(|at| row(at, count).seal()).collect();
    if is_sorted {
        Records::new(rows).compact(path)?;
    } else {
        reports::frame::compact_rows(&rows, path)?;
    }
    Ok(())
}

/// Peak resident size of this process, bytes.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", count, path, rest @ ..] => write(count.parse()?, Path::new(path), rest != ["mixed"]),
        ["report", path, out] => {
            let start = Instant::now();
            let study = Study::load(&[PathBuf::from(path)])?;
            let loaded_s = start.elapsed().as_secs_f64();
            let files = build_report(&study, Path::new(out), &ReportOptions::default())?;
            let total_s = start.elapsed().as_secs_f64();
            let peak =
                peak_rss_bytes().map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0));
            eprintln!(
                "{} rows in {} groups: read {loaded_s:.2} s, report of {} files {total_s:.2} s in all, peak resident {peak}",
                study.len(),
                study.groups().count(),
                files.len()
            );
            Ok(())
        }
        _ => Err("usage: million write COUNT FILE [mixed] | million report FILE OUT".into()),
    }
}
