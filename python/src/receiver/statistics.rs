//! What a receiver has counted, as Python sees it.

use pyo3::prelude::*;

use super::live::Counts;

/// What became of a receiver's datagrams. All counts are exact.
///
/// `received + dropped + unread` is the number of datagrams that the kernel tried to deliver.
#[pyclass(frozen, get_all, eq, module = "nlring")]
#[derive(PartialEq)]
pub struct Statistics {
    /// Datagrams received, including those that were not handed out.
    received: u64,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    dropped: u64,
    /// Deliveries to a reliable receiver that failed, and may be retried.
    delivery_failures: u64,
    /// Datagrams larger than the engine's buffers.
    truncated: u64,
    /// Datagrams with a wrong length inside.
    malformed: u64,
    /// Receives that returned too few bytes.
    short: u64,
    /// Datagrams that were dropped because the kernel did not send them.
    foreign: u64,
    /// How often the engine's buffers ran out. No datagram was lost.
    starved: u64,
    /// Calls that failed and were retried.
    retried: u64,
    /// Datagrams that were still queued at the end and were not handed out.
    unread: u64,
    /// Whether `unread` may be too small.
    unread_is_incomplete: bool,
    /// Messages received.
    messages: u64,
    /// Messages that are in no batch, because they are neither flows nor routes.
    undecoded: u64,
    /// Bytes received.
    bytes: u64,
}

impl From<Counts> for Statistics {
    fn from(counts: Counts) -> Self {
        let Counts {
            statistics,
            undecoded,
        } = counts;
        Self {
            received: statistics.received,
            dropped: statistics.dropped,
            delivery_failures: statistics.delivery_failures,
            truncated: statistics.truncated,
            malformed: statistics.malformed,
            short: statistics.short,
            foreign: statistics.foreign,
            starved: statistics.starved,
            retried: statistics.retried,
            unread: statistics.unread,
            unread_is_incomplete: statistics.unread_is_incomplete,
            messages: statistics.messages,
            undecoded,
            bytes: statistics.bytes,
        }
    }
}

#[pymethods]
impl Statistics {
    fn __repr__(&self) -> String {
        let Self {
            received,
            dropped,
            unread,
            messages,
            ..
        } = self;
        format!(
            "<Statistics received={received} dropped={dropped} unread={unread} messages={messages}>"
        )
    }
}
