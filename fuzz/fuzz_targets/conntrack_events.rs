//! The mirror of flows keeps its promises to those who follow its changes, whatever events and dumps it is fed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nlring::fuzzing::conntrack_events(bytes));
