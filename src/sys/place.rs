//! Where a datagram is in a receiver's memory.

/// A buffer, and the offset of a datagram in it. A slot counts as a buffer, with one datagram at offset 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub buffer: u16,
    pub offset: u32,
}
