//! `doctor`: what works on this machine, what would fail, and why. Exit code 1 when training or evaluating cannot work.

use super::{Exit, Format, Global, output};
use crate::config::TrainConfig;
use crate::eval::sandbox::PythonSandbox;
use crate::provenance;
use crate::train::Corpus;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness doctor
  harness doctor --runs-dir /big-disk/runs --threads 4
  harness doctor --format json")]
pub struct Args {
    /// The config whose inputs are tried
    #[arg(long, value_name = "FILE", default_value = "configs/train/lm-tiny-plain.toml")]
    pub config: PathBuf,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Works.
    Good,
    /// Works, with a consequence worth knowing.
    Note,
    /// Something will not work.
    Bad,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    consequence: Option<String>,
}

fn good(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, state: State::Good, found: found.into(), consequence: None }
}

fn note(check: &'static str, found: impl Into<String>, consequence: impl Into<String>) -> Finding {
    Finding { check, state: State::Note, found: found.into(), consequence: Some(consequence.into()) }
}

fn bad(check: &'static str, found: impl Into<String>, consequence: impl Into<String>) -> Finding {
    Finding { check, state: State::Bad, found: found.into(), consequence: Some(consequence.into()) }
}

/// Bytes of memory below which the demo subjects may not train.
const LEAST_MEMORY_BYTES: u64 = 1 << 30;

/// Bytes of disk below which a demo suite may not fit.
const LEAST_DISK_BYTES: u64 = 1 << 30;

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let findings = vec![
        build(),
        cpu(),
        threads(global),
        memory(),
        runs_dir(&global.runs_dir),
        disk(&global.runs_dir),
        demo(&args.config, &global.runs_dir),
        benchmark_data(Path::new("../shared/data/MANIFEST.json")),
        proc_readable(),
        memory_reset(),
        python(),
        git(),
        network(global),
    ];
    match global.format {
        Format::Json => output::json(&findings)?,
        Format::Text => {
            for finding in &findings {
                let mark = match finding.state {
                    State::Good => "ok  ",
                    State::Note => "note",
                    State::Bad => "BAD ",
                };
                output::line(&format!("{mark}  {:<14} {}", finding.check, finding.found))?;
                if let Some(consequence) = &finding.consequence {
                    output::line(&format!("      {:<14} -> {consequence}", ""))?;
                }
            }
        }
    }
    Ok(if findings.iter().any(|finding| finding.state == State::Bad) { Exit::Against } else { Exit::Fine })
}

fn build() -> Finding {
    let profile = provenance::build().cargo_profile.unwrap_or_default();
    let found = format!("harness {}, {profile} profile, {}", env!("CARGO_PKG_VERSION"), env!("HARNESS_RUSTC"));
    if cfg!(debug_assertions) {
        note("build", found, "debug assertions are on: `measure` refuses timings; build with --release for them")
    } else {
        good("build", found)
    }
}

fn cpu() -> Finding {
    let model = provenance::host(1).cpu_model.unwrap_or_else(|| "unknown processor".to_owned());
    let found = format!("{model}; {}", kernels::cpu::describe());
    if kernels::cpu::level() == kernels::cpu::Level::Portable {
        note("cpu", found, "no vector level is used: training is several times slower")
    } else {
        good("cpu", found)
    }
}

fn threads(global: &Global) -> Finding {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let used = global.thread_count();
    let found = format!("{used} used, {available} available to this process");
    if used > available { note("threads", found, "more threads than cores: timings mean little") } else { good("threads", found) }
}

fn memory() -> Finding {
    match (provenance::mem_available_bytes(), provenance::mem_total_bytes()) {
        (Some(available), Some(total)) => {
            let found = format!("{} available of {}", output::bytes(available as f64), output::bytes(total as f64));
            if available < LEAST_MEMORY_BYTES {
                bad("memory", found, "the demo subjects may not fit")
            } else {
                good("memory", found)
            }
        }
        _ => note("memory", "/proc/meminfo is not readable", "memory limits are not checked before a run"),
    }
}

fn runs_dir(runs_dir: &Path) -> Finding {
    let probe = || -> std::io::Result<()> {
        std::fs::create_dir_all(runs_dir)?;
        tempfile::NamedTempFile::new_in(runs_dir)?.as_file().sync_all()
    };
    match probe() {
        Ok(()) => good("runs dir", format!("`{}` is writable", runs_dir.display())),
        Err(error) => bad(
            "runs dir",
            format!("`{}`: {error}", runs_dir.display()),
            "nothing can be trained or recorded; choose one with --runs-dir",
        ),
    }
}

/// Free space by `df`, as the standard library has no call for it.
fn disk(runs_dir: &Path) -> Finding {
    let output = Command::new("df").arg("-Pk").arg(runs_dir).output();
    let free = output.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()
    });
    match free.map(|kib| kib * 1024) {
        Some(free) if free < LEAST_DISK_BYTES => {
            bad("disk", format!("{} free", output::bytes(free as f64)), "checkpoints of a suite may not fit")
        }
        Some(free) => good("disk", format!("{} free", output::bytes(free as f64))),
        None => {
            note("disk", "free space is unknown (`df` gave no answer)", "a full disk shows only when a checkpoint is written")
        }
    }
}

fn demo(config: &Path, runs_dir: &Path) -> Finding {
    let loaded = TrainConfig::load(config, &[], None).and_then(|config| {
        let corpus = Corpus::load(&config, runs_dir)?;
        Ok(format!("{}: {} training tokens, {} validation tokens", config.name, corpus.train.ids.len(), corpus.valid.ids.len()))
    });
    match loaded {
        Ok(found) => good("demo inputs", found),
        Err(error) => bad("demo inputs", format!("{error:#}"), "run from the project's folder, or name a config with --config"),
    }
}

fn benchmark_data(manifest: &Path) -> Finding {
    if manifest.is_file() {
        good("benchmarks", format!("`{}` is there; `harness data verify` checks its files", manifest.display()))
    } else {
        note(
            "benchmarks",
            format!("no `{}`", manifest.display()),
            "evaluations use the bundled samples unless --data names a folder",
        )
    }
}

fn proc_readable() -> Finding {
    let files = ["/proc/self/status", "/proc/stat", "/proc/pressure/cpu", "/proc/cpuinfo"];
    let missing: Vec<&str> = files.into_iter().filter(|file| std::fs::read(file).is_err()).collect();
    if missing.is_empty() {
        good("/proc", "readable")
    } else {
        note("/proc", format!("not readable: {}", missing.join(", ")), "those columns of the records are null")
    }
}

fn memory_reset() -> Finding {
    match std::fs::write("/proc/self/clear_refs", "5") {
        Ok(()) => good("memory marks", "the resident high-water mark can be reset"),
        Err(error) => {
            note("memory marks", format!("/proc/self/clear_refs: {error}"), "peak memory is per process, not per phase")
        }
    }
}

fn python() -> Finding {
    match PythonSandbox::new() {
        Ok(sandbox) => good("code tasks", format!("Python {}, sandbox: {}", sandbox.python_version(), sandbox.layers())),
        Err(error) => note(
            "code tasks",
            error.to_string(),
            "tasks that run generated programs (humaneval, mbpp, gsm8k_pal) are reported as not run",
        ),
    }
}

fn git() -> Finding {
    match provenance::build().git_commit {
        Some(commit) => good("git", format!("commit {}", &commit[..commit.len().min(12)])),
        None => note("git", "no commit known: no repository, or the program is older than its log", "records carry no commit"),
    }
}

fn network(global: &Global) -> Finding {
    if global.is_offline() {
        good("network", "switched off (--offline or HF_HUB_OFFLINE)")
    } else {
        good("network", "allowed; only `--data hub` and hub models use it")
    }
}
