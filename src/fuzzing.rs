//! Private functions for the fuzz targets in `fuzz/`. This module is compiled only with `--cfg fuzzing`, and is not
//! part of the API. Each function panics if a property does not hold.
#![allow(missing_docs, unreachable_pub)]

#[path = "../testing/src/random.rs"]
mod random;

pub use self::random::Random;
use crate::Message;
use crate::conntrack::fuzzing as conntrack;
use crate::filter::Program;
use crate::route::fuzzing as route;

/// What each kind of message that only requests return decodes as.
pub fn decode_statistics(message: &Message<'_>) -> String {
    conntrack::decode_statistics(message)
}

/// What the kernel would return for a datagram. `None`: it would refuse the program.
pub fn run_program(program: &Program, datagram: &[u8]) -> Option<u32> {
    crate::filter::interpreter::run(program, datagram)
}

/// The replies to a request may be any bytes.
pub fn replies(bytes: &[u8]) {
    crate::request::fuzzing::replies(Random::of_bytes(bytes));
}

/// How the reading of replies in a datagram has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyEnd {
    /// More may come.
    More,
    Done,
    /// The kernel refused the request with this error number.
    Refused(i32),
    /// A message was no reply to the request.
    Unexpected,
}

/// Reads the replies to one request in a datagram, until it ends. Returns how many data messages there were, too.
pub fn read_replies(datagram: &[u8], sequence: u32, port_id: u32) -> (usize, ReplyEnd) {
    crate::request::fuzzing::read_replies(datagram, sequence, port_id)
}

/// Receives complete in any order, with any result.
pub fn completions(bytes: &[u8]) {
    let mut random = Random::of_bytes(bytes);
    if random.one_in(2) {
        crate::sys::fuzzing::buffers(random);
    } else {
        crate::engine::simulated::run(random);
    }
}

/// A mirror of flows follows a model of the kernel.
pub fn conntrack_model(bytes: &[u8]) {
    conntrack::model(Random::of_bytes(bytes));
}

/// A mirror of flows gets any events and dumps.
pub fn conntrack_events(bytes: &[u8]) {
    conntrack::events(Random::of_bytes(bytes));
}

/// A mirror of routes follows a model of the kernel.
pub fn route_model(bytes: &[u8]) {
    route::model(Random::of_bytes(bytes));
}

/// A mirror of routes gets any events and dumps.
pub fn route_events(bytes: &[u8]) {
    route::events(Random::of_bytes(bytes));
}
