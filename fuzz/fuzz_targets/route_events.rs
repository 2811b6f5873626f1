//! The mirror of routes keeps its promises to those who follow its changes, whatever events and dumps it is fed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nlring::fuzzing::route_events(bytes));
