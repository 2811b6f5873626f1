//! The mirror of flows equals the table of a model of the kernel whenever all is quiet, in any order of changes, losses and
//! rounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nlring::fuzzing::conntrack_model(bytes));
