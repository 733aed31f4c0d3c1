//! The one error of this crate: what is wrong with a picture.

/// Why a picture cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Neither a JPEG nor a PNG.
    #[error("expected a JPEG or PNG file, found {found}")]
    UnknownFormat {
        /// First bytes, or what the file is instead.
        found: String,
    },
    /// Damaged, or of a kind that no data set uses.
    #[error("damaged or unsupported {format}: {reason}")]
    Damaged {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// What the decoder met.
        reason: String,
    },
    /// More pixels than the stated limit; decided from the header, before memory is taken.
    #[error("expected at most {limit} pixels, found {width}×{height}")]
    TooLarge {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Most pixels allowed.
        limit: usize,
    },
    /// Bytes and sides that do not belong together.
    #[error("expected 3·{width}·{height} bytes of pixels and sides above zero, found {found}")]
    Shape {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes given.
        found: usize,
    },
    /// A region that does not lie in the picture.
    #[error("expected a region inside {width}×{height}, found {region_width}×{region_height} at ({left}, {top})")]
    Region {
        /// Columns of the picture.
        width: usize,
        /// Rows of the picture.
        height: usize,
        /// First column asked for.
        left: usize,
        /// First row asked for.
        top: usize,
        /// Columns asked for.
        region_width: usize,
        /// Rows asked for.
        region_height: usize,
    },
}
