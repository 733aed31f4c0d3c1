//! Labelled pictures: sets as they are published -> decoded (and cached) -> augmented by seed -> batches from worker threads.
//!
//! ```text
//! folder | tar | CIFAR binary | parquet --ImageSet--> Rgb8, label, id --ImageTransform--> f32 [height, width, 3] --Loader--> ImageBatch
//! ```
//! - [`set`]: what a set is, opening one, bad pictures. - [`layout`]: splits and classes from paths.
//! - [`archive`], [`folder`], [`cifar`], [`parquet`]: where the bytes come from.
//! - [`transform`]: what training and evaluation make of a picture. - [`loader`]: which picture stands in which batch, and the threads.
//!
//! Every random choice is keyed by (seed, epoch, picture): runs that share a seed see the same pictures in the same order, changed in the same
//! way, whatever the number of threads and wherever they resume.

pub mod archive;
pub mod cifar;
pub mod folder;
pub mod layout;
pub mod loader;
pub mod parquet;
pub mod set;
pub mod transform;

pub use loader::Loader;
pub use set::{BadImage, ImageSet, OnBadImage, OpenOptions};
pub use transform::ImageTransform;

use candle_core::Tensor;

/// What a step is fed.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// Standardised pixels `[B, height, width, 3]`, f32.
    pub images: Tensor,
    /// Class of each picture.
    pub labels: Vec<u32>,
    /// Index of each picture in its set; [`ImageSet::id`] is its name.
    pub ids: Vec<u32>,
}
