//! Work cut at fixed sizes and spread over the current rayon pool.
//!
//! The cuts depend on the sizes of the operands only, so the bits of a result do not depend on the number of threads.
use rayon::prelude::*;

/// Elements of an element-wise piece: 64 KiB of f32, so that three operands of a piece stay in the second-level cache.
pub(crate) const PIECE: usize = 16 * 1024;
/// Elements below which waking another thread costs more than it saves (a few microseconds).
const SMALL: usize = 32 * 1024;

/// Whether `elements` of memory-bound work are worth more than one thread.
pub(crate) fn is_worth_it(elements: usize) -> bool {
    elements > SMALL && rayon::current_num_threads() > 1
}

/// Runs `f(0) … f(tasks − 1)`, each once, in no particular order; on this thread when `elements` is small.
pub(crate) fn for_each(tasks: usize, elements: usize, f: impl Fn(usize) + Send + Sync) {
    if tasks > 1 && is_worth_it(elements) {
        (0..tasks).into_par_iter().with_max_len(1).for_each(f);
    } else {
        (0..tasks).for_each(f);
    }
}

/// Results of `f(0) … f(tasks − 1)` in order.
pub(crate) fn map<T: Send>(tasks: usize, elements: usize, f: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    if tasks > 1 && is_worth_it(elements) {
        (0..tasks).into_par_iter().with_max_len(1).map(f).collect()
    } else {
        (0..tasks).map(f).collect()
    }
}

/// A mutable slice that several tasks write disjoint parts of.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    _owner: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is `range`, whose caller promises that no two tasks hold overlapping ranges.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Takes the slice for as long as the tasks run.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), _owner: std::marker::PhantomData }
    }

    /// `start..end` as a slice of its own.
    ///
    /// # Safety
    /// No other live slice from this value overlaps the range.
    #[allow(clippy::mut_from_ref, reason = "that the ranges are disjoint is the caller's promise")]
    pub(crate) unsafe fn range(&self, start: usize, end: usize) -> &mut [T] {
        assert!(start <= end && end <= self.len, "range {start}..{end} of {}", self.len);
        // SAFETY: in bounds by the assertion, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), end - start) }
    }

    /// Address of element `offset`, for strided writes of a matrix product.
    pub(crate) fn address(&self, offset: usize) -> *mut T {
        assert!(offset <= self.len, "offset {offset} of {}", self.len);
        self.start.wrapping_add(offset)
    }
}
