//! Buckets of resilient nexthop groups.

use super::kernel::{NEXTHOP_OBJECT_FIXED_BYTES, message_type, nha};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Attributes, Message};

/// A bucket of a resilient nexthop group, as one message describes it (Linux v6.18, net/ipv4/nexthop.c,
/// `nh_fill_res_bucket`). Available since Linux 5.13.
///
/// A bucket that is in use when the group changes moves to another nexthop object later, and the kernel reports this
/// move. The events are sent to the group [`Nexthop`](super::Group::Nexthop).
///
/// ```
/// use nlring::route::NexthopBucket;
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 116 /* RTM_NEWNEXTHOPBUCKET */, 0)
///     .bytes(&[0; 8]) // struct nhmsg
///     .attribute_u32(1 /* NHA_ID */, 12)
///     .nested(13 /* NHA_RES_BUCKET */, |bucket| {
///         bucket.attribute_u16(1, 3).attribute_u32(3 /* NHA_RES_BUCKET_NH_ID */, 6)
///     })
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let bucket = list.iter().find_map(|message| NexthopBucket::decode(&message)).expect("a bucket");
/// assert_eq!((bucket.group_id, bucket.index, bucket.nexthop_id), (Some(12), Some(3), Some(6)));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NexthopBucket {
    /// What the message says about the bucket.
    pub kind: EventKind,
    /// The address family. The kernel sends [`Family::UNSPEC`].
    pub family: Family,
    /// Bits of [`route_flags`](super::route_flags).
    pub flags: u32,
    /// The id of the group.
    pub group_id: Option<u32>,
    /// The bucket's number in the group, from 0.
    pub index: Option<u16>,
    /// How long the bucket has been unused, in hundredths of a second.
    pub idle_time: Option<u64>,
    /// The id of the nexthop object that the bucket's packets take.
    pub nexthop_id: Option<u32>,
}

impl NexthopBucket {
    /// Decodes a message in one pass. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is neither of type [`NEW_NEXTHOP_BUCKET`](message_type::NEW_NEXTHOP_BUCKET) nor
    /// [`DELETE_NEXTHOP_BUCKET`](message_type::DELETE_NEXTHOP_BUCKET), or too short for `struct nhmsg`.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        let kind = kind_of(
            message,
            message_type::NEW_NEXTHOP_BUCKET,
            message_type::DELETE_NEXTHOP_BUCKET,
        )?;
        let fixed = message.payload();
        let &[family, _, _, _, flags @ ..] = fixed.first_chunk::<NEXTHOP_OBJECT_FIXED_BYTES>()?;
        let mut bucket = Self {
            kind,
            family: family.into(),
            flags: u32::from_ne_bytes(flags),
            group_id: None,
            index: None,
            idle_time: None,
            nexthop_id: None,
        };
        for attribute in message.attributes(NEXTHOP_OBJECT_FIXED_BYTES) {
            match attribute.attribute_type() {
                nha::ID => bucket.group_id = attribute.as_u32(),
                nha::RES_BUCKET => bucket.set(attribute.nested()),
                _ => {}
            }
        }
        Some(bucket)
    }

    /// Stores the attributes `NHA_RES_BUCKET_*` (`include/uapi/linux/nexthop.h`).
    fn set(&mut self, attributes: Attributes<'_>) {
        for attribute in attributes {
            match attribute.attribute_type() {
                1 => self.index = attribute.as_u16(),
                2 => self.idle_time = attribute.as_u64(),
                3 => self.nexthop_id = attribute.as_u32(),
                _ => {}
            }
        }
    }
}
