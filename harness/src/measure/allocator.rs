//! Counting allocator: how many bytes the program asked for, now and at most.
//!
//! ```text
//! live += size on allocation, −= size on release       peak = max(peak, live)       largest = max(largest, size)
//! ```
//! It stands in front of the system allocator of every binary of this package. Until [`start`] it costs one relaxed load per call, so
//! timings do not pay for it; a memory worker starts it before the model is built. `live` is signed: blocks from before the start may
//! be released after it. With one thread the readings are exact and repeat to the byte; with more, peaks depend on overlap.
//!
//! Source: measurement.md section 7.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait, and trimming the heap is a C call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK_BYTES: AtomicI64 = AtomicI64::new(0);
static LARGEST_BYTES: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The system allocator with counters in front.
#[derive(Debug, Clone, Copy)]
struct CountingAllocator;

// SAFETY: every call is passed to `System` with the caller's own arguments, and its result is returned unchanged; the counters are
// atomics in static memory and allocate nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the same for `System`.
        let block = unsafe { System.alloc(layout) };
        count(block, 0, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`. Passed on as such, so that fresh pages from the kernel stay untouched.
        let block = unsafe { System.alloc_zeroed(layout) };
        count(block, 0, layout.size());
        block
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`; `old` came from `System`, as every block of this allocator does.
        let block = unsafe { System.realloc(old, layout, new_size) };
        count(block, layout.size(), new_size);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` with this layout, as every block of this allocator does.
        unsafe { System.dealloc(block, layout) };
        if IS_COUNTING.load(Relaxed) {
            LIVE_BYTES.fetch_sub(signed(layout.size()), Relaxed);
        }
    }
}

/// Counts a block that grew from `old` to `new` bytes, unless the system refused it.
fn count(block: *mut u8, old: usize, new: usize) {
    if block.is_null() || !IS_COUNTING.load(Relaxed) {
        return;
    }
    let change = signed(new) - signed(old);
    let live = LIVE_BYTES.fetch_add(change, Relaxed) + change;
    PEAK_BYTES.fetch_max(live, Relaxed);
    LARGEST_BYTES.fetch_max(signed(new), Relaxed);
}

/// A block's size as a counter's type; no block reaches half the address space.
fn signed(bytes: usize) -> i64 {
    bytes.cast_signed() as i64
}

/// Readings of the counters, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// Asked for and not yet released, since [`start`].
    pub live_bytes: i64,
    /// Largest `live_bytes` since [`start`] or [`reset_peak`].
    pub peak_bytes: i64,
    /// Largest single block since then.
    pub largest_bytes: i64,
}

/// Starts counting, from zero. Call before the blocks of interest exist.
pub fn start() {
    LIVE_BYTES.store(0, Relaxed);
    IS_COUNTING.store(true, Relaxed);
    reset_peak();
}

/// Begins a new window: the peak is what is live now.
pub fn reset_peak() {
    PEAK_BYTES.store(LIVE_BYTES.load(Relaxed), Relaxed);
    LARGEST_BYTES.store(0, Relaxed);
}

/// The counters now.
pub fn read() -> Allocated {
    Allocated {
        live_bytes: LIVE_BYTES.load(Relaxed),
        peak_bytes: PEAK_BYTES.load(Relaxed),
        largest_bytes: LARGEST_BYTES.load(Relaxed),
    }
}

/// Gives free heap pages back to the system, so that a reading of resident size does not show what was freed earlier. Does nothing
/// but on glibc.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` has no precondition; it only returns pages that hold no live block.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The allocator behind the counters, and its arena limit where one is set: both move resident size.
pub fn describe() -> String {
    let name = if cfg!(target_env = "gnu") { "glibc" } else { "system" };
    match std::env::var("MALLOC_ARENA_MAX") {
        Ok(limit) => format!("{name} arena_max={limit}"),
        Err(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_move_live_peak_and_largest() {
        // Other tests allocate at the same time in this process, so the block is far larger than what they hold.
        const BLOCK: i64 = 64 << 20;
        const SLACK: i64 = 16 << 20;
        start();
        let before = read().live_bytes;
        let mut block: Vec<u8> = Vec::with_capacity(BLOCK as usize);
        let during = read();
        assert!((during.live_bytes - before - BLOCK).abs() < SLACK, "{during:?}");
        assert!(during.largest_bytes >= BLOCK);
        block.reserve_exact(2 * BLOCK as usize);
        assert!((read().live_bytes - before - 2 * BLOCK).abs() < SLACK);
        drop(block);
        let after = read();
        assert!((after.live_bytes - before).abs() < SLACK && after.peak_bytes - before > 2 * BLOCK - SLACK, "{after:?}");
        reset_peak();
        assert!(read().peak_bytes - before < SLACK);
        IS_COUNTING.store(false, Relaxed);
    }
}
