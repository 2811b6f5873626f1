//! A requester that gets any bytes from the kernel's port reads no other byte, panics at none, and ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nlring::fuzzing::replies(bytes));
