//! Flags every command takes, and what they switch on once, before the first tensor exists.

use crate::error::Hint as _;
use anyhow::{Context as _, anyhow, bail};
use candle_core::{DType, Device};
use clap::ValueEnum;
use records::Numerics;
use std::path::PathBuf;

/// The number format of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeFlag {
    /// 32-bit floats; what training's master weights always are.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// 64-bit floats, for checks.
    F64,
}

/// Which CPU code paths may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CpuFeaturesFlag {
    /// The best this machine has.
    Auto,
    /// Plain code only, the same on every machine.
    Portable,
}

/// What stdout holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: full precision, base units.
    Json,
}

/// What the log lines on stderr look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// Flags every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where tensors live: `cpu`, or `cuda` / `cuda:N` / `metal` in a build with that feature
    #[arg(long, global = true, default_value = "cpu", value_name = "DEVICE", hide_short_help = true)]
    pub device: String,
    /// Number format of weights and activations (evaluation; training keeps f32 master weights)
    #[arg(long, global = true, value_enum, default_value = "f32", hide_short_help = true)]
    pub dtype: DtypeFlag,
    /// How matrix products of `train`, `measure` and `gate` are computed; default: the config's, which is f32 unless it says otherwise
    #[arg(long, global = true, value_name = "f32|f32-split|bf16", value_parser = numerics, hide_short_help = true)]
    pub numerics: Option<Numerics>,
    /// CPU threads; default: all physical cores this process may use
    #[arg(long, global = true, value_name = "N", hide_short_help = true)]
    pub threads: Option<usize>,
    /// CPU code paths
    #[arg(long, global = true, value_enum, default_value = "auto", hide_short_help = true)]
    pub cpu_features: CpuFeaturesFlag,
    /// Same bits on every repetition: one thread, fixed order of every sum
    #[arg(long, global = true, hide_short_help = true)]
    pub deterministic: bool,
    /// Where runs, caches and records live
    #[arg(long, global = true, default_value = "runs", value_name = "DIR", hide_short_help = true)]
    pub runs_dir: PathBuf,
    /// Never use the network (also: `HF_HUB_OFFLINE=1`)
    #[arg(long, global = true, hide_short_help = true)]
    pub offline: bool,
    /// Format of stdout
    #[arg(long, global = true, value_enum, default_value = "text", hide_short_help = true)]
    pub format: Format,
    /// Format of the log lines on stderr
    #[arg(long, global = true, value_enum, default_value = "text", hide_short_help = true)]
    pub log_format: LogFormat,
    /// More to read on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// A word of [`Numerics`].
fn numerics(word: &str) -> Result<Numerics, String> {
    Numerics::parse(word).ok_or_else(|| format!("expected `f32`, `f32-split` or `bf16`, found `{word}`"))
}

impl Global {
    /// The override of a training config's numerics, if there is one.
    pub fn numerics_set(&self) -> Option<String> {
        self.numerics.map(|numerics| format!("numerics=\"{numerics}\""))
    }

    /// Flags that a measuring worker must be given; its job says the rest.
    pub fn worker_flags(&self) -> Vec<String> {
        match self.cpu_features {
            CpuFeaturesFlag::Auto => Vec::new(),
            CpuFeaturesFlag::Portable => vec!["--cpu-features".to_owned(), "portable".to_owned()],
        }
    }

    /// Scores are computed in f32 only, so that they equal the reference harness's; another choice is refused rather than ignored.
    ///
    /// # Errors
    /// When another numerics is asked for.
    pub fn check_scores_are_f32(&self) -> anyhow::Result<()> {
        match self.numerics {
            None | Some(Numerics::F32) => Ok(()),
            Some(other) => Err(anyhow!("--numerics: expected `f32` for scores, found `{other}`"))
                .hint("evaluation computes in f32 whatever the model was trained in; `--dtype bf16` loads weights in bf16"),
        }
    }

    /// Sets up logging, the thread pool and the CPU code paths. Called once, before the command runs.
    ///
    /// # Errors
    /// When a flag asks for something this build or machine cannot do.
    pub fn apply(&self) -> anyhow::Result<()> {
        self.start_logging();
        if self.threads == Some(0) {
            bail!("--threads: expected at least 1, found 0");
        }
        if self.cpu_features == CpuFeaturesFlag::Portable {
            kernels::cpu::force(kernels::cpu::Level::Portable).map_err(|error| anyhow!("--cpu-features: {error}"))?;
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.thread_count())
            .build_global()
            .context("cannot start the thread pool")?;
        Ok(())
    }

    /// CPU threads of every parallel region of this process.
    pub fn thread_count(&self) -> usize {
        match (self.deterministic, self.threads) {
            (true, _) => 1,
            (false, Some(count)) => count,
            (false, None) => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The device asked for.
    ///
    /// # Errors
    /// When the name is unknown or this build lacks the accelerator.
    pub fn device(&self) -> anyhow::Result<Device> {
        let (kind, ordinal) = match self.device.split_once(':') {
            Some((kind, number)) => {
                let ordinal = number
                    .parse::<usize>()
                    .map_err(|_| anyhow!("--device: expected a number after `{kind}:`, found `{number}`"))?;
                (kind, ordinal)
            }
            None => (self.device.as_str(), 0),
        };
        match kind {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Device::new_cuda(ordinal)
                .with_context(|| format!("cannot open device `{}`", self.device))
                .hint("the default build is CPU only; build with the feature `cuda` on a machine that has CUDA"),
            "metal" => Device::new_metal(ordinal)
                .with_context(|| format!("cannot open device `{}`", self.device))
                .hint("the default build is CPU only; build with the feature `metal` on a Mac"),
            _ => bail!("--device: expected `cpu`, `cuda[:N]` or `metal[:N]`, found `{}`", self.device),
        }
    }

    /// The tensor dtype asked for.
    pub fn dtype(&self) -> DType {
        match self.dtype {
            DtypeFlag::F32 => DType::F32,
            DtypeFlag::Bf16 => DType::BF16,
            DtypeFlag::F16 => DType::F16,
            DtypeFlag::F64 => DType::F64,
        }
    }

    /// Whether the network may not be used: `--offline`, or `HF_HUB_OFFLINE` as the hub's own tools read it.
    pub fn is_offline(&self) -> bool {
        let from_environment = std::env::var("HF_HUB_OFFLINE")
            .is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()));
        self.offline || from_environment
    }

    fn start_logging(&self) {
        use tracing_subscriber::EnvFilter;
        let filter = match self.verbose {
            0 => "warn,harness=info",
            1 => "info,harness=debug",
            _ => "debug,harness=trace",
        };
        let builder = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_target(self.verbose > 1)
            .without_time();
        // A second call (tests that run several commands in one process) keeps the first subscriber.
        let _ = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
    }
}
