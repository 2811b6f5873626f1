//! Anonymous memory that the kernel may write into while the program has pointers to it.
#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};

/// Zeroed, page-aligned memory. A page uses memory only after it is touched.
///
/// It hands out pointers, and slices of parts that the kernel does not write at that time. A forked child has a copy of
/// the contents at the fork; the kernel continues to write into the parent's memory.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: this value alone owns the mapping, which is not bound to a thread: any thread may call munmap(2).
unsafe impl Send for Mapping {}

// SAFETY: a shared reference gives out only pointers, each use of which needs its own proof, and slices, by an unsafe
// function whose caller guarantees that nothing writes to them, in any thread.
unsafe impl Sync for Mapping {}

/// The distance between buffers of this size, of which normally only the beginnings are used: a multiple of a cache
/// line, and for more than a page, an odd number of pages plus 5 lines. Buffers at a distance of a power of two would
/// compete for few sets of the processor's caches and translation buffers.
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
        // SAFETY: without MAP_FIXED the kernel chooses an unused address, so no existing memory changes.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // With huge pages the first byte of each would use 2 MiB. A kernel without huge pages refuses, which is
        // harmless.
        // SAFETY: `start` and `length` are those of the new mapping, and the call does not change its contents.
        unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// Makes this memory zero in a forked child (`MADV_WIPEONFORK`). Available since Linux 4.14.
    pub(super) fn wipe_on_fork(&self) -> io::Result<()> {
        let start = self.start.as_ptr().cast();
        // SAFETY: `start` and `length` are those of a mapping that this value owns, and the call does not change the
        // memory of this process.
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
    /// If they are not inside the mapping. Callers compute the offsets from the counts that the mapping was made for.
    pub(super) fn at(&self, offset: usize, length: usize) -> NonNull<u8> {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "inside the mapping"
        );
        // SAFETY: the assertion implies offset <= self.length, so the result is inside the mapping or at its end.
        unsafe { self.start.add(offset) }
    }

    /// `length` bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Neither the kernel nor the program writes to these bytes while the slice lives.
    pub(super) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.at(offset, length);
        // SAFETY: `at` has checked that the bytes are inside the mapping, which lives as long as the borrow of self.
        // They are initialised, because the mapping starts zeroed. The caller guarantees that nothing writes to them.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// The kernel may write to these bytes from now on. AddressSanitizer then reports each access to them by the
    /// program; in other builds this does nothing.
    #[cfg(feature = "io-uring")] // recvmmsg lends nothing beyond a call
    pub(super) fn forbid(&self, offset: usize, length: usize) {
        let start = self.start.as_ptr().wrapping_add(offset);
        // SAFETY: the call changes only what is reported, and callers pass what `at` accepts.
        unsafe { __asan_poison_memory_region(start, length) };
    }

    /// The opposite of [`forbid`](Self::forbid): the kernel has finished with these bytes.
    pub(super) fn allow(&self, offset: usize, length: usize) {
        let start = self.start.as_ptr().wrapping_add(offset);
        // SAFETY: as in `forbid`.
        unsafe { __asan_unpoison_memory_region(start, length) };
    }

    /// Whether one of these bytes is forbidden. `None`: only AddressSanitizer knows.
    #[cfg(all(test, feature = "io-uring"))]
    pub(super) fn is_any_forbidden(&self, offset: usize, length: usize) -> Option<bool> {
        #[cfg(address_sanitizer)]
        {
            let start = self.at(offset, length).as_ptr();
            // SAFETY: `at` has checked that the bytes are inside the mapping, and the call does not access them.
            Some(!unsafe { __asan_region_is_poisoned(start, length) }.is_null())
        }
        #[cfg(not(address_sanitizer))]
        {
            let _ = self.at(offset, length);
            None
        }
    }
}

#[cfg(address_sanitizer)] // set by scripts/sanitize
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const u8, length: usize);
    fn __asan_unpoison_memory_region(start: *const u8, length: usize);
    #[cfg(test)]
    fn __asan_region_is_poisoned(start: *const u8, length: usize) -> *const u8;
}

#[cfg(not(address_sanitizer))]
unsafe fn __asan_poison_memory_region(_: *const u8, _: usize) {}
#[cfg(not(address_sanitizer))]
unsafe fn __asan_unpoison_memory_region(_: *const u8, _: usize) {}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.allow(0, self.length); // other memory may get these addresses
        // SAFETY: `start` and `length` are those of a mapping that this value owns. No slice of it is left, because
        // each borrows this value. The kernel no longer writes into it: `Ring` keeps lent memory until its receives
        // have ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
