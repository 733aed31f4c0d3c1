//! Forward passes of a network on images, in its inference form: batch norms folded into the convolutions, weights packed, no graph.
//!
//! ```text
//! image_latency_s   one picture                       images_per_s   pictures of a batch / time of their forward pass
//! ```
//! Pictures are standardised and on the device: nothing is decoded, resized or copied in the measured time. The batch of `images_per_s` is
//! the training micro-batch unless another is asked for; its rows state it.
//!
//! Source: measurement.md section 6.

use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, Timed, WindowSpec};
use anyhow::ensure;
use candle_core::Tensor;
use models::{Mode, ResNet};
use records::metric::{IMAGE_LATENCY_S, IMAGES_PER_S};
use records::{Measurement, Metric};

/// A network with the pictures that it is given.
#[derive(Debug)]
pub(super) struct Pictures {
    network: ResNet,
    images: Tensor, // [B, Y, X, 3]
}

impl Pictures {
    pub(super) fn new(subject: &Subject, batch: usize) -> anyhow::Result<Self> {
        Ok(Self { network: subject.build_folded()?, images: subject.pictures(batch)? })
    }

    /// The scores of every picture, `[B, classes]`.
    pub(super) fn forward(&self) -> anyhow::Result<Tensor> {
        Ok(self.network.forward(&self.images, Mode::Eval)?)
    }

    /// Refuses scores that are not numbers.
    pub(super) fn check(logits: &Tensor) -> anyhow::Result<()> {
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        ensure!(logits.iter().all(|logit| logit.is_finite()), "expected finite logits, found others");
        Ok(())
    }

    fn timed(subject: &Subject, batch: usize, spec: &WindowSpec) -> anyhow::Result<Timed<()>> {
        let (pictures, device) = (Self::new(subject, batch)?, subject.device());
        window::run(spec, || {
            let (seconds, logits) = window::time(&device, || pictures.forward())?;
            Self::check(&logits)?; // outside the time
            Ok((seconds, ()))
        })
    }
}

/// Time of one picture.
#[derive(Debug)]
pub struct ImageLatency;

impl Probe for ImageLatency {
    fn name(&self) -> &'static str {
        "image_latency"
    }

    fn about(&self) -> &'static str {
        "time of the forward pass over one picture"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Picture
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![IMAGE_LATENCY_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let timed = Pictures::timed(subject, 1, spec)?;
        Ok(vec![timed.median_of(IMAGE_LATENCY_S, timed.samples.clone())?])
    }
}

/// Rate of a batch of pictures.
#[derive(Debug)]
pub struct ImageThroughput;

impl Probe for ImageThroughput {
    fn name(&self) -> &'static str {
        "image_throughput"
    }

    fn about(&self) -> &'static str {
        "pictures per second of the forward pass over a batch"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Pictures
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![IMAGES_PER_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let batch = subject.images()?.batch;
        let timed = Pictures::timed(subject, batch, spec)?;
        let rates = timed.samples.iter().map(|seconds| batch as f64 / seconds).collect();
        Ok(vec![timed.median_of(IMAGES_PER_S, rates)?])
    }
}
