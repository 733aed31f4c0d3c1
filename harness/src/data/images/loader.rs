//! Batches from worker threads, in a fixed order whatever their number.
//!
//! ```text
//! training:    step s: epoch e = s / (n / B), pictures order_e[(s mod (n / B))·B ..][..B]     order_e from stream("train/order", seed, e)
//! evaluation:  pictures 0 … n−1, the last batch may be smaller
//! worker w of W makes batches first + w, first + w + W, …; each has a short queue, and they are taken in turn
//! ```
//! The n mod B last pictures of an epoch's order are left out, as torch's loader does with `drop_last`, so that steps are of one size.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow, bail};
use candle_core::{Device, Tensor};
use images::{ImageError, Normalize};
use stats::rng;

use super::{ImageBatch, ImageSet, ImageTransform};
use crate::error::Hint as _;

/// Purpose of the random stream that orders pictures.
const ORDER: &str = "train/order";

/// Finished batches that wait per worker.
const QUEUE: usize = 2;

/// Which pictures stand in which batch.
#[derive(Debug, Clone, Copy)]
enum Order {
    Train { seed: u64 },
    Evaluate { count: usize },
}

/// Everything a worker needs.
#[derive(Debug)]
struct Job {
    set: Arc<ImageSet>,
    transform: ImageTransform,
    normalize: Normalize,
    order: Order,
    batch_size: usize,
}

/// A batch before it is a tensor.
struct HostBatch {
    pixels: Vec<f32>,
    labels: Vec<u32>,
    ids: Vec<u32>,
}

/// An iterator of batches over worker threads. Dropping it ends them.
#[derive(Debug)]
pub struct Loader {
    job: Arc<Job>,
    queues: Vec<Receiver<anyhow::Result<HostBatch>>>,
    threads: Vec<JoinHandle<()>>,
    first: u64,
    next: u64,
    last: Option<u64>,
    device: Device,
}

impl Loader {
    /// Endless training batches from step `first_step` on (0-based).
    ///
    /// # Errors
    /// Fewer pictures than a batch takes; threads that cannot be started.
    pub fn train(
        set: Arc<ImageSet>,
        transform: &ImageTransform,
        seed: u64,
        batch_size: usize,
        first_step: u64,
        workers: usize,
        device: &Device,
    ) -> anyhow::Result<Self> {
        if batch_size == 0 || set.len() < batch_size {
            return Err(anyhow!("`{}`: expected at least one batch of {batch_size} pictures, found {}", set.name, set.len()))
                .hint("use a smaller batch or more pictures");
        }
        Self::start(Job::new(set, transform, Order::Train { seed }, batch_size), first_step, None, workers, device)
    }

    /// Each of the first `limit` pictures once (all when none), in order, as evaluation sees them.
    ///
    /// # Errors
    /// An empty set; threads that cannot be started.
    pub fn evaluate(
        set: Arc<ImageSet>,
        transform: &ImageTransform,
        batch_size: usize,
        limit: Option<usize>,
        workers: usize,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let count = limit.map_or(set.len(), |limit| limit.min(set.len()));
        if count == 0 || batch_size == 0 {
            bail!("`{}`: expected pictures to evaluate, found none", set.name);
        }
        let batches = count.div_ceil(batch_size) as u64;
        Self::start(Job::new(set, transform, Order::Evaluate { count }, batch_size), 0, Some(batches), workers, device)
    }

    fn start(job: Job, first: u64, last: Option<u64>, workers: usize, device: &Device) -> anyhow::Result<Self> {
        let job = Arc::new(job);
        let workers = workers.max(1);
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(QUEUE);
            let job = Arc::clone(&job);
            let work = move || job.run(first + worker as u64, last, workers as u64, &sender);
            let name = format!("images-{worker}");
            threads.push(std::thread::Builder::new().name(name).spawn(work).context("cannot start a loader thread")?);
            queues.push(receiver);
        }
        Ok(Self { job, queues, threads, first, next: first, last, device: device.clone() })
    }

    /// The next batch; `None` after the last of an evaluation. A batch is smaller, or even empty, where pictures had to be skipped.
    ///
    /// # Errors
    /// A picture that cannot be used, with its name; after an error there is no next batch.
    pub fn next_batch(&mut self) -> anyhow::Result<Option<ImageBatch>> {
        if self.last.is_some_and(|last| self.next >= last) {
            return Ok(None);
        }
        let queue = &self.queues[((self.next - self.first) % self.queues.len() as u64) as usize];
        let batch = queue.recv().map_err(|_| anyhow!("the loader of `{}` stopped", self.job.set.name))??;
        self.next += 1;
        let size = self.job.transform.size;
        let images = Tensor::from_vec(batch.pixels, (batch.labels.len(), size, size, 3), &self.device)?;
        Ok(Some(ImageBatch { images, labels: batch.labels, ids: batch.ids }))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // A worker that waits to send ends when its queue is gone.
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // A panic of a worker was reported by the taker as a loader that stopped.
            let _ = thread.join();
        }
    }
}

impl Job {
    fn new(set: Arc<ImageSet>, transform: &ImageTransform, order: Order, batch_size: usize) -> Self {
        let normalize = Normalize::new(transform.mean, transform.std);
        Self { set, transform: transform.clone(), normalize, order, batch_size }
    }

    /// Batches in an epoch of training.
    fn steps_per_epoch(&self) -> u64 {
        (self.set.len() / self.batch_size) as u64
    }

    /// Makes every `stride`-th batch from `first` on, until the last or until nobody takes them.
    fn run(&self, first: u64, last: Option<u64>, stride: u64, sender: &SyncSender<anyhow::Result<HostBatch>>) {
        let mut permutation: Option<(u64, Vec<usize>)> = None;
        let mut step = first;
        while last.is_none_or(|last| step < last) {
            let batch = self.batch(step, &mut permutation);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
            step += stride;
        }
    }

    fn batch(&self, step: u64, permutation: &mut Option<(u64, Vec<usize>)>) -> anyhow::Result<HostBatch> {
        match self.order {
            Order::Evaluate { count } => {
                let first = step as usize * self.batch_size;
                self.make((first..count.min(first + self.batch_size)).map(|index| (index, None)))
            }
            Order::Train { seed } => {
                let epoch = step / self.steps_per_epoch();
                if permutation.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    let order = rng::permutation(&mut rng::stream(ORDER, seed, epoch), self.set.len());
                    *permutation = Some((epoch, order));
                }
                let order = &permutation.as_ref().expect("set above").1;
                let first = (step % self.steps_per_epoch()) as usize * self.batch_size;
                self.make(order[first..first + self.batch_size].iter().map(|&index| (index, Some((seed, epoch)))))
            }
        }
    }

    /// Pictures by index; with seed and epoch as training sees them, without as evaluation does.
    fn make(&self, items: impl ExactSizeIterator<Item = (usize, Option<(u64, u64)>)>) -> anyhow::Result<HostBatch> {
        let values = 3 * self.transform.size * self.transform.size;
        let rows = items.len();
        let mut batch =
            HostBatch { pixels: vec![0.0; rows * values], labels: Vec::with_capacity(rows), ids: Vec::with_capacity(rows) };
        for (index, train) in items {
            let Some(image) = self.set.decode(index)? else { continue };
            let changed = match train {
                Some((seed, epoch)) => self.transform.augment(&image, seed, epoch, index as u32),
                None => self.transform.evaluate(&image),
            };
            let changed = changed.map_err(|error| {
                let hint = match error {
                    ImageError::TooLarge { .. } => "so narrow a strip grows out of bounds: take it out of the set",
                    _ => "a transform with `resize` (or random-resized-crop) takes smaller pictures",
                };
                let (set, id, size) = (&self.set.name, self.set.id(index), self.transform.size);
                anyhow!(error).context(format!("{set}: cannot use `{id}` at {size} pixels")).hint(hint)
            })?;
            self.normalize.write(&changed, &mut batch.pixels[batch.labels.len() * values..][..values]);
            batch.labels.push(self.set.label(index));
            batch.ids.push(index as u32);
        }
        batch.pixels.truncate(batch.labels.len() * values);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::layout::{Placed, Split};
    use crate::data::images::set::{Bytes, OnBadImage, OpenOptions};
    use images::Rgb8;

    /// Pictures of one colour, their index; label = index modulo 3.
    fn set(count: usize, on_bad_image: OnBadImage, bad: &[usize]) -> Arc<ImageSet> {
        let place = |index: usize| Placed {
            id: format!("{index:04}"),
            label: index as u32 % 3,
            item: if bad.contains(&index) {
                Bytes::Memory(vec![0xff, 0xd8, 0xff])
            } else {
                Bytes::Pixels(Arc::new(Rgb8::new(4, 4, vec![index as u8; 48]).unwrap()))
            },
        };
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let split = Split { name: None, classes, files: (0..count).map(place).collect() };
        Arc::new(ImageSet::of("s".to_owned(), split, OpenOptions { on_bad_image, ..OpenOptions::default() }))
    }

    fn transform() -> ImageTransform {
        ImageTransform { size: 4, mean: [0.0; 3], std: [1.0 / 255.0; 3], ..ImageTransform::cifar() }
    }

    fn train(set: &Arc<ImageSet>, seed: u64, first: u64, workers: usize, steps: usize) -> Vec<(Vec<u32>, Vec<u32>, Vec<f32>)> {
        let mut loader = Loader::train(Arc::clone(set), &transform(), seed, 4, first, workers, &Device::Cpu).unwrap();
        (0..steps)
            .map(|_| {
                let batch = loader.next_batch().unwrap().unwrap();
                (batch.ids, batch.labels, batch.images.flatten_all().unwrap().to_vec1().unwrap())
            })
            .collect()
    }

    #[test]
    fn batches_do_not_depend_on_workers_and_resume_anywhere() {
        let set = set(18, OnBadImage::Fail, &[]);
        let all = train(&set, 7, 0, 1, 9);
        assert_eq!(train(&set, 7, 0, 3, 9), all);
        assert_eq!(train(&set, 7, 5, 2, 4), all[5..]);
        assert_ne!(train(&set, 8, 0, 1, 9), all);
    }

    #[test]
    fn an_epoch_shows_each_picture_at_most_once_and_the_next_has_another_order() {
        let all = train(&set(18, OnBadImage::Fail, &[]), 0, 0, 2, 8);
        let epoch = |range: std::ops::Range<usize>| all[range].iter().flat_map(|(ids, ..)| ids.clone()).collect::<Vec<u32>>();
        let (first, second) = (epoch(0..4), epoch(4..8));
        let distinct: std::collections::BTreeSet<u32> = first.iter().copied().collect();
        assert_eq!((first.len(), distinct.len()), (16, 16));
        assert_ne!(first, second);
        for (ids, labels, _) in &all {
            assert!(ids.iter().zip(labels).all(|(id, label)| id % 3 == *label));
        }
    }

    #[test]
    fn evaluation_visits_every_picture_once_in_order_and_unchanged() {
        for (batch_size, workers) in [(4, 1), (4, 3), (18, 2), (5, 2)] {
            let set = set(18, OnBadImage::Fail, &[]);
            let mut loader = Loader::evaluate(set, &transform(), batch_size, None, workers, &Device::Cpu).unwrap();
            let (mut ids, mut values) = (Vec::new(), Vec::new());
            while let Some(batch) = loader.next_batch().unwrap() {
                ids.extend(batch.ids);
                let rows: Vec<Vec<f32>> = batch.images.flatten_from(1).unwrap().to_vec2().unwrap();
                values.extend(rows);
            }
            assert_eq!(ids, (0..18).collect::<Vec<u32>>());
            for (index, row) in values.iter().enumerate() {
                assert!(row.iter().all(|value| (value - index as f32).abs() < 1e-4));
            }
        }
    }

    #[test]
    fn bad_pictures_are_skipped_and_named_or_stop_the_loader() {
        let skipping = set(6, OnBadImage::Skip, &[1, 4]);
        let mut loader = Loader::evaluate(Arc::clone(&skipping), &transform(), 3, None, 2, &Device::Cpu).unwrap();
        let mut ids = Vec::new();
        while let Some(batch) = loader.next_batch().unwrap() {
            assert_eq!(batch.images.dim(0).unwrap(), batch.ids.len());
            ids.extend(batch.ids);
        }
        assert_eq!(ids, [0, 2, 3, 5]);
        let bad: Vec<String> = skipping.bad().into_iter().map(|bad| bad.id).collect();
        assert_eq!(bad, ["0001", "0004"]);

        let mut loader = Loader::evaluate(set(6, OnBadImage::Fail, &[1]), &transform(), 3, None, 2, &Device::Cpu).unwrap();
        let error = crate::error::render(&loader.next_batch().unwrap_err());
        assert!(error.contains("cannot decode `0001`") && error.contains("--on-bad-image skip"), "{error}");
    }

    #[test]
    fn a_strip_that_a_resize_would_blow_up_is_refused_by_name() {
        let strip = Bytes::Pixels(Arc::new(Rgb8::new(1, 65_500, vec![0; 3 * 65_500]).unwrap()));
        let files = vec![Placed { id: "strip".to_owned(), label: 0, item: strip }];
        let split = Split { name: None, classes: vec!["a".to_owned()], files };
        let set = Arc::new(ImageSet::of("s".to_owned(), split, OpenOptions::default()));
        let mut loader = Loader::evaluate(set, &ImageTransform::imagenet(224), 1, None, 1, &Device::Cpu).unwrap();
        let error = crate::error::render(&loader.next_batch().unwrap_err());
        assert!(error.contains("cannot use `strip` at 224 pixels") && error.contains("take it out of the set"), "{error}");
    }

    #[test]
    fn pictures_of_the_wrong_size_and_short_sets_are_refused() {
        let big = ImageTransform { size: 8, resize: 0, ..transform() };
        let mut loader = Loader::evaluate(set(3, OnBadImage::Fail, &[]), &big, 3, None, 1, &Device::Cpu).unwrap();
        let error = crate::error::render(&loader.next_batch().unwrap_err());
        assert!(error.contains("cannot use `0000` at 8 pixels") && error.contains("hint: a transform with `resize`"), "{error}");
        let error = Loader::train(set(3, OnBadImage::Fail, &[]), &transform(), 0, 4, 0, 1, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("one batch of 4 pictures, found 3"), "{error}");
    }
}
