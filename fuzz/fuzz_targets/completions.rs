//! In any order of completions and turns, each buffer belongs to either the kernel or the engine, and each datagram is handed
//! over once, in order, or counted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nlring::fuzzing::completions(bytes));
