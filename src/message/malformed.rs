//! What can be wrong with a message's length.

use std::fmt;

/// Where a datagram stops being a sequence of netlink messages, and why.
///
/// The messages before `offset_bytes` are good, and are always delivered.
///
/// ```
/// use nlring::{MalformedReason, MessageList};
///
/// let list = MessageList::new(&[1, 2, 3]);
/// let malformed = list.malformed().expect("three bytes are no message");
/// assert_eq!(malformed.offset_bytes, 0);
/// assert_eq!(malformed.reason, MalformedReason::ShortHeader { left_bytes: 3 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset of the bad header from the start of its datagram.
    pub offset_bytes: usize,
    /// What is wrong there.
    pub reason: MalformedReason,
}

/// What can be wrong with a message's length. The check is that of libmnl's `mnl_nlmsg_ok` (src/nlmsg.c), which does
/// not say which of these it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedReason {
    /// Fewer bytes are left than the 16 of a header.
    ShortHeader {
        /// How many are left, 1 to 15.
        left_bytes: usize,
    },
    /// `nlmsg_len` is smaller than a header (16 bytes), which it includes. It may be 0.
    LengthBelowHeader {
        /// The length the header states.
        length_bytes: u32,
    },
    /// `nlmsg_len` reaches beyond the end of the datagram.
    LengthBeyondEnd {
        /// The length the header states.
        length_bytes: u32,
        /// How many bytes are left, the header included.
        left_bytes: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset_bytes)?;
        match self.reason {
            MalformedReason::ShortHeader { left_bytes } => {
                write!(f, "{left_bytes} bytes are left, a message header has 16")
            }
            MalformedReason::LengthBelowHeader { length_bytes } => {
                write!(
                    f,
                    "a message states {length_bytes} bytes, fewer than its own header of 16"
                )
            }
            MalformedReason::LengthBeyondEnd {
                length_bytes,
                left_bytes,
            } => {
                write!(
                    f,
                    "a message states {length_bytes} bytes where {left_bytes} are left"
                )
            }
        }
    }
}

impl std::error::Error for Malformed {}
