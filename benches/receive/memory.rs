//! Memory that the kernel writes into. It is accessed by pointer, and lent as bytes only after the kernel has
//! finished with it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::slice;

const PAGE_BYTES: usize = 4096;

/// Zeroed and page-aligned.
pub struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// `length` is not 0.
    pub fn new(length: usize) -> Self {
        assert_ne!(length, 0);
        let layout = Layout::from_size_align(length, PAGE_BYTES).expect("a usual size");
        // SAFETY: the layout's size is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    /// A pointer with `length` bytes behind it.
    pub fn at(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(offset + length <= self.layout.size());
        // SAFETY: the offset is within the allocation.
        unsafe { self.start.add(offset) }.as_ptr()
    }

    /// # Safety
    ///
    /// Nobody, the kernel included, writes to these bytes while they are borrowed.
    pub unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.at(offset, length);
        // SAFETY: the bytes are within the allocation and were zeroed, so they are initialised. The caller guarantees
        // that nobody writes to them while they are borrowed.
        unsafe { slice::from_raw_parts(start, length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and nobody else frees it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
