//! The measuring side: spawns a fresh worker per sample, survives it, appends its rows, skips what is already there.
//!
//! ```text
//! worker ends with rows            rows as they are
//! error, or an unreadable answer   status failed, the worker's message as reason
//! time limit                       killed; status timeout
//! killed, or allocation refused    status oom
//! needs more than the machine has  not started; status skipped
//! cannot be asked of the subject   not started; status skipped
//! ```
//! Key for resuming: (cell_id, probe, seed, block, pair, arm, A/A, trial). A key with rows is finished, failures included: nothing is
//! retried behind anyone's back, `fresh` measures again. Rows of another machine or another build are never mixed with new ones.
//!
//! Source: measurement.md sections 2 and 14.

use super::job::{Job, Provenance};
use super::plan::{Plan, Step};
use super::probes::{self, Kind};
use super::window::WindowSpec;
use crate::data::source;
use crate::error::Hint as _;
use crate::provenance;
use anyhow::{Context as _, anyhow, bail};
use records::store::{MANIFEST_FILE, RECORDS_FILE};
use records::{Arm, Manifest, RecordWriter, Row, RunId, RunStatus, Status, read_rows};
use std::collections::HashSet;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How to measure, beside what.
#[derive(Debug, Clone)]
pub struct MeasureOptions {
    /// Folder of `records.jsonl` and `manifest.json`.
    pub out: PathBuf,
    /// Name of the suite, in rows and in the run id.
    pub suite: String,
    /// The program whose `worker` measures; default: this one.
    pub program: Option<PathBuf>,
    /// Flags in front of `worker`'s, such as `--cpu-features portable`.
    pub worker_flags: Vec<String>,
    /// Threads of each worker.
    pub threads: usize,
    /// How long a worker warms up and times.
    pub window: WindowSpec,
    /// How long a worker may take.
    pub timeout: Duration,
    /// Forget earlier records in `out`.
    pub fresh: bool,
    /// Time even in a build with debug assertions.
    pub allow_debug_assertions: bool,
}

impl MeasureOptions {
    /// The protocol's window, ten minutes per worker, this program.
    pub fn new(out: PathBuf, threads: usize) -> Self {
        Self {
            out,
            suite: "efficiency".to_owned(),
            program: None,
            worker_flags: Vec::new(),
            threads,
            window: WindowSpec::default(),
            timeout: Duration::from_mins(10),
            fresh: false,
            allow_debug_assertions: false,
        }
    }
}

/// Measures a plan and returns the rows of its cells, those of earlier runs in the same folder included.
///
/// # Errors
/// Timings in a build with debug assertions; a workload no subject can do; records of another machine or build in the folder; a
/// worker program that cannot be started; a disk that is full. A worker that fails is no error but a row.
pub fn measure(plan: &Plan, options: &MeasureOptions) -> anyhow::Result<Vec<Row>> {
    check(plan, options)?;
    if options.fresh {
        forget(&options.out)?;
    }
    let program = options.program.clone().map_or_else(own_program, Ok)?;
    let mut writer = RecordWriter::in_folder(&options.out)?;
    let mut manifest = start_manifest(plan, options, &program)?;
    let stamps = plan.subjects.iter().map(|subject| stamp(&manifest, subject, options)).collect::<anyhow::Result<Vec<_>>>()?;
    let earlier = read_rows(writer.path())?;
    earlier.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let finished: HashSet<Key> = earlier.rows.iter().filter_map(Key::of).collect();
    let jobs: Vec<(Step, Job, Key)> = plan
        .steps()
        .into_iter()
        .map(|step| {
            let job = plan.job(&step, options.window, options.threads, stamps[step.subject].clone());
            let key = Key::of_job(&step, &job)?;
            Ok((step, job, key))
        })
        .collect::<anyhow::Result<_>>()?;
    let wanted: HashSet<Key> = jobs.iter().map(|(_, _, key)| key.clone()).collect();
    let mut rows: Vec<Row> =
        earlier.rows.into_iter().filter(|row| Key::of(row).is_some_and(|key| wanted.contains(&key))).collect();
    let estimates: Vec<f64> = jobs.iter().map(|(step, _, _)| plan.estimated_s(step, &options.window, options.threads)).collect();
    let progress = Progress::new(&options.suite, &estimates);
    for (at, (step, job, key)) in jobs.iter().enumerate() {
        if !finished.contains(key) {
            progress.show(&format!("{} {}", job.config.name(), job.probe));
            let subject = &plan.subjects[step.subject];
            let new = run_job(job, subject.program.as_ref().unwrap_or(&program), plan.needed_bytes(step), options)?;
            for row in new.iter().filter(|row| row.status != Status::Ok && row.status != Status::Skipped).take(1) {
                let reason = row.reason.as_deref().unwrap_or_default();
                progress.note(&format!("{} of {}: {}: {reason}", job.probe, job.config.name(), row.status));
            }
            writer.append(&new)?;
            rows.extend(new);
        }
        progress.advance(estimates[at]);
    }
    progress.finish();
    manifest.status = RunStatus::Finished;
    manifest.finished_utc = Some(provenance::utc_now());
    manifest.save(&options.out.join(MANIFEST_FILE))?;
    Ok(rows)
}

/// This program as the kernel holds it: a build that replaces the file during a long run changes no later worker.
fn own_program() -> anyhow::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe().context("cannot find this program's own file") }
}

fn check(plan: &Plan, options: &MeasureOptions) -> anyhow::Result<()> {
    let timed: Vec<&str> = plan.probes.iter().filter(|probe| probe.kind() == Kind::Timing).map(|probe| probe.name()).collect();
    if cfg!(debug_assertions) && !timed.is_empty() && !options.allow_debug_assertions {
        return Err(anyhow!("cannot time in a build with debug assertions: `{}`", timed.join("`, `")))
            .hint("measure with an optimised build: cargo run --release -p harness -- measure …")
            .hint("--allow-debug-assertions times this build; its rows say `cargo_profile = \"dev\"`");
    }
    for (at, subject) in plan.subjects.iter().enumerate() {
        let (config, first) = (&subject.config, &plan.subjects[0].config);
        plan.workload.check(config)?;
        if config.kind() != first.kind() {
            return Err(anyhow!("`{}`: expected {} as `{}`, found {}", config.name(), first.kind(), first.name(), config.kind()))
                .hint("ratios between the two mean nothing: measure them in two runs, each with its own --out");
        }
        if plan.subjects[..at].iter().any(|other| other.config.name() == config.name() && other.program == subject.program) {
            bail!("two subjects have the name `{}`: expected each once", config.name());
        }
    }
    Ok(())
}

/// Removes the records and the manifest of an earlier run; other files in the folder are not ours.
pub(crate) fn forget(out: &Path) -> anyhow::Result<()> {
    for name in [RECORDS_FILE, MANIFEST_FILE] {
        let path = out.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(anyhow::Error::new(error).context(format!("cannot remove `{}`", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The run is this machine with this build: only such rows may stand in one file of pairs.
fn start_manifest(plan: &Plan, options: &MeasureOptions, program: &Path) -> anyhow::Result<Manifest> {
    let seed = plan.subjects.first().and_then(|subject| i64::try_from(subject.config.seed()).ok()).unwrap_or_default();
    manifest_for(seed, options, program)
}

/// Appends rows that no worker measured (imported, or read from training logs) to the records in `options.out`, each once.
///
/// - Rows without a run are given this one: the machine and build of now.
/// - Returns all of them, and how many are new.
///
/// # Errors
/// When the folder holds records of another machine or build, or cannot be written.
pub fn add_rows(rows: Vec<Row>, options: &MeasureOptions) -> anyhow::Result<(Vec<Row>, usize)> {
    if options.fresh {
        forget(&options.out)?;
    }
    let program = options.program.clone().map_or_else(own_program, Ok)?;
    let mut writer = RecordWriter::in_folder(&options.out)?;
    let mut manifest = manifest_for(0, options, &program)?;
    let own = |row: Row| {
        if !row.run_id.is_empty() {
            return Row { suite: Some(options.suite.clone()), ..row }.seal();
        }
        let (run_id, suite) = (manifest.run_id.clone(), Some(options.suite.clone()));
        Row { run_id, suite, host_fingerprint: manifest.host.host_fingerprint.clone(), ..row }.seal()
    };
    let rows: Vec<Row> = rows.into_iter().map(own).collect();
    let known: HashSet<String> = read_rows(writer.path())?.rows.into_iter().map(|row| row.record_id).collect();
    let new: Vec<Row> = rows.iter().filter(|row| !known.contains(&row.record_id)).cloned().collect();
    writer.append(&new)?;
    manifest.status = RunStatus::Finished;
    manifest.finished_utc = Some(provenance::utc_now());
    manifest.save(&options.out.join(MANIFEST_FILE))?;
    Ok((rows, new.len()))
}

fn manifest_for(seed: i64, options: &MeasureOptions, program: &Path) -> anyhow::Result<Manifest> {
    let host = provenance::host(options.threads);
    let mut build = provenance::build();
    if options.program.is_some() {
        build.binary_sha256 = Some(source::sha256(program)?);
    }
    let identity = format!("{:?} {:?} {:?}", host.host_fingerprint, build.binary_sha256, options.worker_flags);
    let run_id = RunId::new(&options.suite, &records::ids::sha256_hex(identity.as_bytes()), seed).to_string();
    let path = options.out.join(MANIFEST_FILE);
    if path.is_file() {
        let earlier = Manifest::load(&path)?;
        if earlier.run_id != run_id {
            let what = if earlier.host.host_fingerprint == host.host_fingerprint {
                "build, flags or seed"
            } else {
                "machine or thread count"
            };
            return Err(anyhow!(
                "`{}` holds measurements of another {what}: expected run `{run_id}`, found `{}`",
                options.out.display(),
                earlier.run_id
            ))
            .hint("--fresh forgets them; --out DIR keeps them and writes elsewhere");
        }
    }
    let manifest = Manifest {
        run_id,
        command: provenance::command(),
        started_utc: provenance::utc_now(),
        host,
        build,
        ..Manifest::default()
    };
    manifest.save(&path)?;
    Ok(manifest)
}

/// What rows of a subject repeat of the manifest, so that a row alone says which build and machine it is of.
fn stamp(manifest: &Manifest, subject: &super::plan::SubjectSpec, options: &MeasureOptions) -> anyhow::Result<Provenance> {
    let own = subject.program.as_ref().map(|program| source::sha256(program)).transpose()?;
    Ok(Provenance {
        run_id: manifest.run_id.clone(),
        suite: options.suite.clone(),
        host_fingerprint: manifest.host.host_fingerprint.clone(),
        cargo_profile: manifest.build.cargo_profile.clone(),
        binary_sha256: own.or_else(|| manifest.build.binary_sha256.clone()),
        config_sha256: String::new(),
        checkpoint_sha256: subject.checkpoint.as_ref().map(|path| source::sha256(path)).transpose()?,
    })
}

/// What makes two measurements the same step of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    run_id: String,
    cell_id: String,
    probe: &'static str,
    seed: Option<i64>,
    place: (Option<u32>, Option<u32>, Option<u32>),
    arm: Arm,
    is_aa: bool,
    binary: Option<String>,
    config: Option<String>,
}

impl Key {
    /// The key of a row; `None` for rows that no probe wrote.
    fn of(row: &Row) -> Option<Self> {
        let probe = match &row.task {
            Some(task) => probes::by_name(task)?,
            None => probes::probes()
                .into_iter()
                .find(|probe| probe.is_exact() && probe.metrics().iter().any(|metric| metric.name == *row.metric))?,
        };
        Some(Self::with(row, probe.name()))
    }

    fn of_job(step: &Step, job: &Job) -> anyhow::Result<Self> {
        Ok(Self::with(&job.base_row()?, step.probe.name()))
    }

    fn with(row: &Row, probe: &'static str) -> Self {
        Self {
            run_id: row.run_id.clone(),
            cell_id: row.cell_id.clone().unwrap_or_default(),
            probe,
            seed: row.seed,
            place: (row.trial, row.block, row.pair),
            arm: row.arm,
            is_aa: row.is_aa,
            binary: row.binary_sha256.clone(),
            config: row.config_sha256.clone(),
        }
    }
}

/// Runs one worker to its end; whatever happens to it becomes rows.
///
/// # Errors
/// When the worker program cannot be started at all.
fn run_job(job: &Job, program: &Path, needed_bytes: u64, options: &MeasureOptions) -> anyhow::Result<Vec<Row>> {
    if let Some(reason) = job.probe()?.refuses(&job.config) {
        return job.failure_rows(Status::Skipped, reason);
    }
    if let Some(available) = provenance::mem_available_bytes().filter(|available| needed_bytes > *available) {
        let reason = format!("needs at least {needed_bytes} bytes of memory, {available} are available");
        return job.failure_rows(Status::Skipped, &reason);
    }
    let answer = run_worker(job, program, options)?;
    let (status, reason) = match answer {
        Answer::Rows(text) => match parse(&text) {
            Ok(rows) => return Ok(rows),
            Err(error) => (Status::Failed, format!("unreadable answer of the worker: {error:#}")),
        },
        Answer::Failed(reason) => (Status::Failed, reason),
        Answer::OutOfMemory(reason) => (Status::Oom, reason),
        Answer::Timeout => (Status::Timeout, format!("killed after {} s", options.timeout.as_secs_f64())),
    };
    job.failure_rows(status, &reason)
}

fn parse(text: &str) -> anyhow::Result<Vec<Row>> {
    let rows = text
        .lines()
        .map(|line| {
            let row: Row = serde_json::from_str(line)?;
            row.check()?;
            Ok(row)
        })
        .collect::<anyhow::Result<Vec<Row>>>()?;
    if rows.is_empty() {
        bail!("expected at least one row, found none");
    }
    Ok(rows)
}

enum Answer {
    Rows(String),
    Failed(String),
    OutOfMemory(String),
    Timeout,
}

fn run_worker(job: &Job, program: &Path, options: &MeasureOptions) -> anyhow::Result<Answer> {
    let mut child = Command::new(program)
        .arg("worker")
        .args(["--threads", &options.threads.to_string()])
        .args(&options.worker_flags)
        // The last lines a worker says become the reason in its rows; a backtrace would push the message out of them.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start a worker: `{}`", program.display()))?;
    let (mut stdin, mut stdout, mut stderr) = (
        child.stdin.take().expect("asked for a pipe"),
        child.stdout.take().expect("asked for a pipe"),
        child.stderr.take().expect("asked for a pipe"),
    );
    // A worker that dies early closes the pipe; its exit status says why, so the broken pipe is no news.
    let _ = serde_json::to_writer(&mut stdin, job).map_err(std::io::Error::from).and_then(|()| stdin.flush());
    drop(stdin);
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        // What cannot be read cannot be shown; the exit status remains.
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        // The receiver is gone only when the time was up.
        let _ = sender.send(text);
    });
    // Blocking, so that the parent takes no processor time from the worker.
    let Ok(output) = receiver.recv_timeout(options.timeout) else {
        child.kill().context("cannot stop a worker")?;
        child.wait().context("cannot wait for a worker")?;
        return Ok(Answer::Timeout);
    };
    let status = child.wait().context("cannot wait for a worker")?;
    let errors = errors.join().unwrap_or_default();
    Ok(judge(status, output, &errors))
}

fn judge(status: ExitStatus, output: String, errors: &str) -> Answer {
    if status.success() {
        return Answer::Rows(output);
    }
    let said: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = said.iter().rev().take(6).rev().copied().collect::<Vec<_>>().join("; ");
    let reason = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    // The kernel ends a process that is out of memory with signal 9; the standard library aborts with this sentence.
    let is_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    if is_killed || errors.contains("memory allocation of") { Answer::OutOfMemory(reason) } else { Answer::Failed(reason) }
}

/// A progress bar over estimated seconds on a terminal, nothing elsewhere.
struct Progress(Option<indicatif::ProgressBar>);

impl Progress {
    fn new(label: &str, estimates: &[f64]) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = indicatif::ProgressBar::new(milliseconds(estimates.iter().sum())).with_prefix(label.to_owned());
        bar.set_style(indicatif::ProgressStyle::with_template(TEMPLATE).expect("a constant template that the tests parse"));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(Some(bar))
    }

    fn show(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
        }
    }

    fn advance(&self, estimated_s: f64) {
        if let Some(bar) = &self.0 {
            bar.inc(milliseconds(estimated_s));
        }
    }

    fn note(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.println(text);
        } else {
            tracing::warn!("{text}");
        }
    }

    fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

const TEMPLATE: &str = "{prefix} {bar:24} {percent} %  {eta} left  {msg}";

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn endings_of_a_worker_are_told_apart() {
        let answer = |raw: i32, errors: &str| match judge(ExitStatus::from_raw(raw), "rows".into(), errors) {
            Answer::Rows(text) => text,
            Answer::Failed(reason) => format!("failed: {reason}"),
            Answer::OutOfMemory(reason) => format!("oom: {reason}"),
            Answer::Timeout => "timeout".into(),
        };
        assert_eq!(answer(0, "a note"), "rows");
        assert_eq!(answer(2 << 8, "error: a\n  caused by: b\n"), "failed: exit status: 2: error: a; caused by: b");
        assert!(answer(9, "").starts_with("oom: signal: 9"));
        assert!(answer(6, "memory allocation of 99 bytes failed\n").starts_with("oom: signal: 6"));
        assert!(answer(11, "").starts_with("failed: signal: 11"));
    }

    #[test]
    fn an_answer_without_rows_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("{\"schema\":1,\"metric\":\"ttft_s\",\"unit\":\"s\"}\n").is_err()); // ok without a value
    }

    #[test]
    fn bar_template_parses() {
        assert!(indicatif::ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
