//! Where a datagram lies in a receiver's memory.

/// A buffer and an offset in it. A slot has one datagram, at offset 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub buffer: u16,
    pub offset: u32,
}
