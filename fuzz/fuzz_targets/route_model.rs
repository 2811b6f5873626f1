//! The mirror of routes equals the tables of a model of the kernel whenever all is quiet, in any order of changes, losses
//! and rounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nlring::fuzzing::route_model(bytes));
