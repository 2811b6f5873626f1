//! Anonymous memory that the kernel writes into behind Rust's back.
#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};

/// Zeroed, page-aligned memory of its own, which costs nothing until it is touched, page by page.
///
/// It hands out pointers and, to this module's siblings, slices of parts that the kernel does not write at that time.
/// A forked child has a copy of its own, with what was there at the fork; the kernel goes on writing into the parent's.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and to no thread; munmap(2) may come from any thread.
unsafe impl Send for Mapping {}

// SAFETY: a shared reference gives pointers, which nobody reads or writes by without a proof of their own, and slices
// by an unsafe function, whose caller vouches that nobody writes, on whichever thread.
unsafe impl Sync for Mapping {}

/// How far apart to lay things of this size, of which only the beginnings are used as a rule: in steps of cache lines,
/// and where they are larger than a page, of an odd number of pages and a few lines. Beginnings that lie a power of
/// two apart would share few places in the processor's caches and translation buffers.
pub(super) fn spread(bytes: usize) -> usize {
    const LINE: usize = 64;
    const PAGE: usize = 4096;
    if bytes <= PAGE {
        return bytes.next_multiple_of(LINE);
    }
    (bytes.div_ceil(PAGE) | 1) * PAGE + 5 * LINE
}

impl Mapping {
    pub(super) fn new(length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED the kernel chooses a place where nothing is.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Huge pages would use 2 MiB for the first byte of each. A kernel without them refuses, which is as good.
        // SAFETY: `start` and `length` are the mapping just made; the call changes nothing of its contents.
        unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// Has a forked child find zeroes here, in memory of its own. Available since Linux 4.14.
    pub(super) fn wipe_on_fork(&self) -> io::Result<()> {
        let start = self.start.as_ptr().cast();
        // SAFETY: `start` and `length` are a mapping that this value owns, and the call changes nothing in this
        // process.
        let result = unsafe { libc::madvise(start, self.length, libc::MADV_WIPEONFORK) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// A pointer to `length` bytes at `offset`, inside the mapping.
    ///
    /// # Panics
    ///
    /// When that reaches outside: the callers compute offsets from the counts the mapping was made for.
    pub(super) fn at(&self, offset: usize, length: usize) -> NonNull<u8> {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "inside the mapping"
        );
        // SAFETY: offset <= self.length, as has just been checked, so the result is in the mapping or at its end.
        unsafe { self.start.add(offset) }
    }

    /// `length` bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Nobody, the kernel included, writes to them while the slice lives.
    pub(super) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.at(offset, length);
        // SAFETY: `at` has checked that the bytes are inside the mapping, which lives as long as the borrow of self;
        // the mapping is zeroed, so they are initialised; the caller vouches that nobody writes.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are a mapping that this value owns; slices of it have ended with its borrow.
        // Whoever lent parts of it to the kernel has taken them back first (see `Ring`'s Drop).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
