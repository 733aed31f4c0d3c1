//! The probes: each is one thing that `measure` can read off a subject. To add one, write a file and add a line to [`probes()`].
//!
//! | probe | kind | metrics |
//! |---|---|---|
//! | [`params`] | exact | `params_*`, counted and in closed form; `weights_bytes` |
//! | [`flops`] | exact | `flops_*`, in closed form and counted over the live matrices |
//! | [`train_step`] | timing | `train_step_s`, `first_step_s`, rates |
//! | [`train_split`] | timing | `train_step_fwd_s`, `train_step_bwd_s`, `train_step_opt_s` |
//! | [`utilisation`] | timing | `gemm_utilisation`, `mfu`, the measured roofs |
//! | [`prefill`] | timing | `prefill_s`, `prefill_tokens_per_s` |
//! | [`ttft`] | timing | `ttft_s` |
//! | [`decode`] | timing | `tpot_s`, `itl_*_s`, `decode_tokens_per_s`, `request_tokens_per_s`, `e2e_s`, `first_request_s` |
//! | [`image_inference`] | timing | `image_latency_s`, `images_per_s` |
//! | [`energy`] | timing | `energy_step_j`, `energy_token_j`, `idle_power_w` |
//! | [`memory`] | memory | `peak_alloc_*`, `peak_rss_*`, `peak_cgroup_*` of training and of inference, with the state beside them |
//! | [`predicted_memory`] | memory | `peak_alloc_predicted_bytes` of a training step that does not fit |
//! | [`ballast`] | memory | readings of a known amount of memory: shows that the others can be trusted |
//!
//! Definitions: measurement.md sections 3 to 8.

pub mod ballast;
pub mod decode;
pub mod energy;
pub mod flops;
pub mod image_inference;
pub mod memory;
pub mod params;
pub mod predicted_memory;
pub mod prefill;
pub mod request;
pub mod train_split;
pub mod train_step;
pub mod ttft;
pub mod utilisation;

use super::subject::Subject;
use super::window::WindowSpec;
use crate::config::RunConfig;
use records::{Measurement, Metric};

/// What a worker of a probe must and must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Counts; the same on any machine, one worker is enough.
    Exact,
    /// Times; memory is not counted meanwhile.
    Timing,
    /// Memory; allocations are counted, nothing is timed.
    Memory,
}

/// Which sizes of the workload the probe uses, and so which shape columns its rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// None.
    Nothing,
    /// Training batch and sequence length or size of the pictures.
    Training,
    /// Batch of requests and prompt length.
    Prompt,
    /// The same and the output length.
    Request,
    /// One picture.
    Picture,
    /// A batch of pictures.
    Pictures,
    /// What the subject answers: a request, or a batch of pictures.
    Inference,
}

/// One thing that can be measured about a subject.
pub trait Probe: Sync {
    /// Name on the command line and, for sampled probes, in the column `task`.
    fn name(&self) -> &'static str;
    /// One line for `list probes`.
    fn about(&self) -> &'static str;
    /// What its worker may do.
    fn kind(&self) -> Kind;
    /// Sizes it uses.
    fn work(&self) -> Work;
    /// Everything it may report, most important first; no two probes of a kind share a metric.
    fn metrics(&self) -> Vec<Metric>;
    /// Those that a subject has.
    fn metrics_of(&self, _config: &RunConfig) -> Vec<Metric> {
        self.metrics()
    }
    /// Why a subject cannot be measured; `None` where it can. Its row is skipped with this reason.
    fn refuses(&self, config: &RunConfig) -> Option<&'static str> {
        match (self.work(), config) {
            (Work::Prompt | Work::Request, RunConfig::Images(_)) => {
                Some("a network on images reads no prompt and generates no tokens")
            }
            (Work::Picture | Work::Pictures, RunConfig::Language(_)) => Some("a language model reads no pictures"),
            _ => None,
        }
    }
    /// Measures once.
    ///
    /// # Errors
    /// When the subject cannot be built or gives a wrong answer.
    fn run(&self, subject: &mut Subject, window: &WindowSpec) -> anyhow::Result<Vec<Measurement>>;

    /// Whether a `measure` that names no probe takes it.
    fn is_default(&self) -> bool {
        true
    }

    /// Whether it only counts.
    fn is_exact(&self) -> bool {
        self.kind() == Kind::Exact
    }
}

/// Every probe, in the order of a run.
pub fn probes() -> [&'static dyn Probe; 16] {
    [
        &params::Params,
        &flops::Flops,
        &train_step::TrainStep,
        &train_split::TrainSplit,
        &utilisation::Utilisation,
        &prefill::Prefill,
        &ttft::Ttft,
        &decode::Decode,
        &image_inference::ImageLatency,
        &image_inference::ImageThroughput,
        &energy::TrainEnergy,
        &energy::RequestEnergy,
        &memory::TrainMemory,
        &memory::InferenceMemory,
        &predicted_memory::PredictedMemory,
        &ballast::Ballast,
    ]
}

/// Their names, in the same order.
pub fn names() -> [&'static str; 16] {
    probes().map(Probe::name)
}

/// The probe of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Probe> {
    probes().into_iter().find(|probe| probe.name() == name)
}

/// The probe that reports a metric.
pub fn for_metric(metric: &str) -> Option<&'static dyn Probe> {
    probes().into_iter().find(|probe| probe.metrics().iter().any(|known| known.name == *metric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_metrics_belong_to_one_probe() {
        let mut names: Vec<String> = probes()
            .into_iter()
            .filter(|probe| !probe.is_exact())
            .flat_map(Probe::metrics)
            .map(|metric| metric.name.into())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(for_metric("decode_tokens_per_s").map(Probe::name), Some("decode"));
        assert!(for_metric("acc").is_none());
    }
}
