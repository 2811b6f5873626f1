//! An allocator that counts.
//!
//! A binary that counts declares it as its own:
//!
//! ```
//! use nlring_testing::allocator::{Counting, count_allocations};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! assert_eq!(count_allocations(|| drop(std::hint::black_box(vec![1]))), 1);
//! ```
#![allow(unsafe_code)] // an allocator is unsafe to implement

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with counts of what it allocates.
#[derive(Debug)]
pub struct Counting;

/// How often the calling thread has allocated or reallocated.
pub fn allocation_count() -> u64 {
    COUNT.get()
}

/// How often `f` allocates on the calling thread.
///
/// # Panics
///
/// If the binary has not declared the allocator.
pub fn count_allocations(f: impl FnOnce()) -> u64 {
    let before = allocation_count();
    drop(black_box(Box::new(1)));
    assert_eq!(allocation_count(), before + 1, "the allocator counts");
    let before = allocation_count();
    f();
    allocation_count() - before
}

/// The bytes that the process has allocated and not yet freed.
pub fn allocated_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

// SAFETY: the system's allocator does the work. The counts are a number in an atomic, and a number in a thread-local
// that needs neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.fetch_add(new_size, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::{Counting, allocated_bytes, count_allocations};

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    #[test]
    fn the_allocator_counts() {
        let count = count_allocations(|| drop(black_box(vec![1, 2, 3])));
        assert_eq!(count, 1);
        let large = black_box(vec![0_u8; 100 << 20]);
        assert!(allocated_bytes() >= large.len());
    }
}
