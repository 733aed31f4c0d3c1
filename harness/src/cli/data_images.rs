//! `data images`: what an image set holds, whether every picture decodes, how fast batches can be made of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use serde_json::json;

use super::{Exit, Format, Global, output};
use crate::data::images::{ImageSet, ImageTransform, Loader, OnBadImage, OpenOptions};

/// Bad pictures that are named in text.
const SHOWN: usize = 20;

/// What to look at.
#[derive(Debug, clap::Args)]
pub struct ImagesArgs {
    /// A folder in ImageFolder layout, a tar (.gz, .zst) of one, CIFAR's binary files, or the hub's parquet files
    #[arg(value_name = "SET")]
    pub set: PathBuf,
    /// Split, where the set has several
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,
    /// Side of the network's input: 32 augments as for CIFAR, others as for ImageNet
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub size: usize,
    /// Pictures of a batch
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    /// Threads that make batches; default: all
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Most pixels of a picture; larger ones count as undecodable
    #[arg(long, value_name = "N", default_value_t = images::DEFAULT_MAX_PIXELS)]
    pub max_pixels: usize,
    /// Memory for decoded pictures, bytes
    #[arg(long, value_name = "BYTES", default_value_t = OpenOptions::default().cache_bytes)]
    pub cache_bytes: usize,
}

/// Reads every picture once, then an epoch of training batches. Exit code 1 when a picture cannot be decoded.
///
/// # Errors
/// No set there, an unknown or ambiguous split.
pub fn run(args: &ImagesArgs, global: &Global) -> anyhow::Result<Exit> {
    let options = OpenOptions {
        split: args.split.clone(),
        on_bad_image: OnBadImage::Skip,
        max_pixels: args.max_pixels,
        cache_bytes: args.cache_bytes,
    };
    let set = Arc::new(ImageSet::open(&args.set, options)?);
    let workers = args.workers.unwrap_or_else(|| global.thread_count()).max(1);
    let transform = if args.size == 32 { ImageTransform::cifar() } else { ImageTransform::imagenet(args.size) };
    let batch = args.batch.clamp(1, set.len());
    let mut rates = Vec::new();
    // The second epoch finds in the cache what fits there.
    for epoch in 0..2 {
        let steps = (set.len() / batch) as u64;
        let mut loader = Loader::train(Arc::clone(&set), &transform, 0, batch, epoch * steps, workers, &Device::Cpu)?;
        let (mut count, started) = (0, Instant::now());
        for _ in 0..steps {
            count += loader.next_batch()?.map_or(0, |batch| batch.labels.len());
        }
        rates.push(count as f64 / started.elapsed().as_secs_f64());
    }
    // Pictures that both epochs left out of their last batch are looked at too.
    for index in 0..set.len() {
        set.decode(index)?;
    }
    let bad = set.bad();
    let mut counts = vec![0usize; set.classes().len()];
    (0..set.len()).for_each(|index| counts[set.label(index) as usize] += 1);
    match global.format {
        Format::Json => output::json(&json!({
            "set": set.name, "split": set.split, "pictures": set.len(), "classes": set.classes(), "pictures_per_class": counts,
            "undecodable": bad, "cached_bytes": set.cached_bytes(), "workers": workers, "images_per_s_first": rates[0],
            "images_per_s_cached": rates[1],
        }))?,
        Format::Text => {
            let split = set.split.as_deref().unwrap_or("—");
            let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
            output::data(&format!(
                "set        {}, split {split}\npictures   {}, {} undecodable\nclasses    {}, {least} to {most} pictures each\ncache      {} of decoded pictures\nbatches    {:.0} images/s at first, {:.0} images/s from the cache ({workers} threads, {} pixels)\n",
                set.name,
                set.len(),
                bad.len(),
                counts.len(),
                output::bytes(set.cached_bytes() as f64),
                rates[0],
                rates[1],
                args.size,
            ))?;
            for bad in bad.iter().take(SHOWN) {
                output::line(&format!("{}: {}", bad.id, bad.reason))?;
            }
        }
    }
    Ok(if bad.is_empty() { Exit::Fine } else { Exit::Against })
}
