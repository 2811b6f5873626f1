//! Devices, as far as routes depend on them.

use super::kernel::{LINK_FIXED_BYTES, ifla, message_type};
use super::kind_of;
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::Message;

/// A device, as one message describes it: the parts that routes depend on, and its name.
///
/// ```
/// use nlring::EventKind;
/// use nlring::route::Link;
/// use nlring::{MessageBuilder, MessageList};
///
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 16 /* RTM_NEWLINK */, 0)
///     .bytes(&[0, 0, 1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]) // struct ifinfomsg, little-endian
///     .attribute_str_nul(3 /* IFLA_IFNAME */, "eth0")
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let link = list.iter().find_map(|message| Link::decode(&message)).expect("it is a link");
/// # if cfg!(target_endian = "little") {
/// assert_eq!((link.index, link.name), (7, Some(&b"eth0"[..])));
/// # }
/// assert_eq!(link.kind, EventKind::New);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Link<'a> {
    /// What the message says about the device, or about its part in something else: see `family`.
    pub kind: EventKind,
    /// [`Family::UNSPEC`] for a message about the device itself. Other families are about its part in something else: a
    /// Delete with [`Family::BRIDGE`] says that the device left a bridge, not that it is gone.
    pub family: Family,
    /// The hardware type (`ARPHRD_*`, `include/uapi/linux/if_arp.h`).
    pub link_type: u16,
    /// The index.
    pub index: u32,
    /// Bits of `IFF_*` (include/uapi/linux/if.h).
    pub flags: u32,
    /// The name: any bytes except NUL, `/`, `:` and white space (Linux v6.18, net/core/dev.c, `dev_valid_name`).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub name: Option<&'a [u8]>,
}

impl<'a> Link<'a> {
    /// Decodes a message.
    ///
    /// None if the message is neither of type [`NEW_LINK`](message_type::NEW_LINK) nor
    /// [`DELETE_LINK`](message_type::DELETE_LINK), or too short for `struct ifinfomsg`.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        let kind = kind_of(message, message_type::NEW_LINK, message_type::DELETE_LINK)?;
        let fixed = message.payload().first_chunk::<LINK_FIXED_BYTES>()?;
        let (&[family, _, type_low, type_high], rest) = fixed.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (flags, _change_mask) = rest.split_first_chunk()?;
        let name = message.attributes(LINK_FIXED_BYTES).get(ifla::IFNAME);
        Some(Self {
            kind,
            family: family.into(),
            link_type: u16::from_ne_bytes([type_low, type_high]),
            index: u32::from_ne_bytes(*index),
            flags: u32::from_ne_bytes(*flags),
            name: name.map(|name| name.as_str_bytes()),
        })
    }

    /// Whether the message says that the device itself is gone.
    #[inline]
    pub fn is_deleted(&self) -> bool {
        self.kind == EventKind::Delete && self.family == Family::UNSPEC
    }
}
