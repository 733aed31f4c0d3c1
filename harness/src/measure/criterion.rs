//! Results of criterion benchmarks as rows, so that they stand in the same records as everything else.
//!
//! ```text
//! target/criterion/<group>/<function>/<value>/new/benchmark.json   {"full_id": …}
//!                                                 estimates.json   {"median": {"point_estimate": ns, "standard_error": ns, …}, …}
//!                                                 sample.json      {"iters": […], "times": [ns …]}
//! row: source imported, task `criterion`, subject full_id, metric criterion_iteration_s = median time of an iteration
//! ```
//! criterion repeats inside one process, so such a row is one sample whatever its number of iterations: it has no arm and no pair, and no
//! rule of the gate judges imported rows. Files of the older run that criterion compares with (`base`) are not read.
//!
//! Source: the files as criterion 0.5 to 0.8 writes them (docs of the crate, "csv output" and "user guide").

use anyhow::{Context as _, bail, ensure};
use records::{Better, CellId, InnerStat, Metric, Row, Source};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Seconds per nanosecond, criterion's unit.
const SECOND_PER_NS: f64 = 1e-9;
/// Folder of the newest run of a benchmark.
const NEWEST: &str = "new";

#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
}

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
    standard_error: f64,
}

#[derive(Debug, Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// The metric of a benchmark.
pub fn metric() -> Metric {
    Metric::new("criterion_iteration_s", "s", Better::Lower).expect("name and unit agree")
}

/// A row per benchmark in or below `folder`, in the order of their paths; run and machine are the caller's.
///
/// # Errors
/// When the folder cannot be read, holds no benchmark, or a file is not criterion's or holds a time that is none.
pub fn rows(folder: &Path, keep_raw: bool) -> anyhow::Result<Vec<Row>> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    if found.is_empty() {
        bail!("`{}`: expected results of criterion (`…/{NEWEST}/benchmark.json`), found none", folder.display());
    }
    found.iter().map(|run| row(run, keep_raw).with_context(|| format!("cannot import `{}`", run.display()))).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    for path in folders {
        if path.ends_with(NEWEST) && path.join("benchmark.json").is_file() {
            found.push(path);
        } else {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn row(run: &Path, keep_raw: bool) -> anyhow::Result<Row> {
    let benchmark: Benchmark = read(run, "benchmark.json")?;
    let estimates: Estimates = read(run, "estimates.json")?;
    let sample: Sample = read(run, "sample.json")?;
    let (median, stderr) = (estimates.median.point_estimate, estimates.median.standard_error);
    ensure!(median.is_finite() && median > 0.0, "median.point_estimate: expected a positive time, found {median} ns");
    ensure!(stderr.is_finite() && stderr >= 0.0, "median.standard_error: expected a time, found {stderr} ns");
    let (iters, times) = (sample.iters, sample.times);
    ensure!(
        !iters.is_empty() && iters.len() == times.len() && iters.iter().all(|count| *count > 0.0),
        "sample.json: expected as many times as positive counts, found {} and {}",
        times.len(),
        iters.len()
    );
    let each: Vec<f64> = times.iter().zip(&iters).map(|(time, count)| time / count * SECOND_PER_NS).collect();
    ensure!(each.iter().all(|time| time.is_finite() && *time >= 0.0), "sample.json: expected times, found one that is none");
    let metric = metric();
    let row = Row {
        source: Source::Imported,
        task: Some("criterion".to_owned()),
        subject: Some(benchmark.full_id),
        metric: metric.name.into(),
        unit: metric.unit.into(),
        better: metric.better,
        value: Some(median * SECOND_PER_NS),
        stderr: Some(stderr * SECOND_PER_NS),
        inner_stat: Some(InnerStat::Median),
        inner_n: Some(each.len() as u64),
        inner_cv: stats::describe::coefficient_of_variation(&each).ok(),
        raw_samples: keep_raw.then_some(each),
        ..Row::default()
    };
    Ok(Row { cell_id: Some(CellId::of(&row).into()), ..row })
}

fn read<T: serde::de::DeserializeOwned>(run: &Path, name: &str) -> anyhow::Result<T> {
    let path = run.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("not a file of criterion: `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result in criterion's layout, numbers of our own.
    fn benchmark(root: &Path, path: &str, median_ns: &str) {
        let run = root.join(path).join(NEWEST);
        std::fs::create_dir_all(&run).unwrap();
        let id = path.to_owned();
        std::fs::write(run.join("benchmark.json"), format!(r#"{{"group_id":"g","full_id":"{id}","throughput":null}}"#)).unwrap();
        let estimates = format!(
            r#"{{"mean":{{}},"median":{{"confidence_interval":{{}},"point_estimate":{median_ns},"standard_error":50.0}}}}"#
        );
        std::fs::write(run.join("estimates.json"), estimates).unwrap();
        std::fs::write(run.join("sample.json"), r#"{"sampling_mode":"Linear","iters":[1.0,2.0],"times":[2000.0,5000.0]}"#)
            .unwrap();
    }

    #[test]
    fn nanoseconds_become_seconds_of_an_imported_row() {
        let root = tempfile::tempdir().unwrap();
        benchmark(root.path(), "merge/rw+lr/64", "2250.0");
        benchmark(root.path(), "merge/plain", "1000.0");
        std::fs::create_dir_all(root.path().join("merge/plain/base")).unwrap();
        std::fs::create_dir_all(root.path().join("report")).unwrap();
        let rows = rows(root.path(), true).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.subject.as_deref().unwrap(), row.value.unwrap())).collect();
        assert_eq!(found, [("merge/plain", 1000.0 * 1e-9), ("merge/rw+lr/64", 2250.0 * 1e-9)]);
        assert_eq!((rows[0].source, rows[0].inner_n), (Source::Imported, Some(2)));
        assert!((rows[0].stderr.unwrap() - 5e-8).abs() < 1e-20);
        let raw = rows[0].raw_samples.clone().unwrap();
        assert!((raw[0] - 2e-6).abs() < 1e-18 && (raw[1] - 2.5e-6).abs() < 1e-18, "{raw:?}");
        assert!(rows.iter().all(|row| row.check().is_ok() && row.cell_id.is_some()));
    }

    #[test]
    fn other_folders_and_times_that_are_none_are_refused() {
        let root = tempfile::tempdir().unwrap();
        assert!(rows(root.path(), false).unwrap_err().to_string().contains("expected results of criterion"));
        benchmark(root.path(), "slow", "-1.0");
        assert!(format!("{:#}", rows(root.path(), false).unwrap_err()).contains("expected a positive time, found -1 ns"));
        std::fs::write(root.path().join("slow/new/estimates.json"), "{}").unwrap();
        assert!(format!("{:#}", rows(root.path(), false).unwrap_err()).contains("not a file of criterion"));
    }
}
