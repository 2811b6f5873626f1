//! Generic netlink: the numbers of families and their multicast groups, by name.
//!
//! Many kernel subsystems, called *families*, share the protocol [`Protocol::GENERIC`](crate::Protocol::GENERIC). The
//! kernel assigns a number to each family and each multicast group when it is registered, so programs look up the
//! numbers by name. The formats are those of include/uapi/linux/genetlink.h.
//!
//! ```
//! use nlring::{Protocol, Socket, generic};
//!
//! let mut requests = generic::Requests::open()?;
//! let family = requests.get("nlctrl")?;
//! assert_eq!(family.id, 16);
//!
//! // Announcements of families that come and go.
//! let socket = Socket::builder(Protocol::GENERIC)
//!     .group(family.group("notify")?)
//!     .open()?;
//! assert_eq!(socket.groups()?.len(), 1);
//! # Ok::<(), nlring::Error>(())
//! ```

mod request;

pub use self::request::Requests;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Attributes, Message};

/// The size of `struct genlmsghdr` in bytes: the header of each message of generic netlink, before that of the family.
pub const HEADER_BYTES: usize = 4;

/// `CTRL_ATTR_*`.
mod attribute {
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
    pub const VERSION: u16 = 3;
    pub const HEADER_BYTES: u16 = 4;
    pub const GROUPS: u16 = 7;
}

/// `CTRL_ATTR_MCAST_GRP_*`.
mod group_attribute {
    pub const NAME: u16 = 1;
    pub const NUMBER: u16 = 2;
}

/// A family of generic netlink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GenericFamily {
    /// The number of the family, from 16: the type of its messages.
    pub id: u16,
    /// The name, of up to 15 bytes.
    pub name: String,
    /// The version of the interface, as the family defines it.
    pub version: u32,
    /// The size in bytes of the family's own header, which follows that of generic netlink ([`HEADER_BYTES`]).
    pub header_bytes: u32,
    /// The multicast groups.
    pub groups: Vec<MulticastGroup>,
}

/// A multicast group of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MulticastGroup {
    /// The name, of up to 15 bytes. It is unique in its family.
    pub name: String,
    /// The number, for [`Socket::add_membership`](crate::Socket::add_membership) and
    /// [`SocketBuilder::group`](crate::SocketBuilder::group).
    pub number: u32,
}

impl GenericFamily {
    /// Reads a message of type 16 (`nlctrl`) that describes a family: a reply, or an event of its group `notify`. None
    /// if the message lacks the family's number or name.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        let mut family = Self::default();
        let (mut has_id, mut has_name) = (false, false);
        for attribute in message.attributes(HEADER_BYTES) {
            match attribute.attribute_type() {
                attribute::FAMILY_ID => {
                    family.id = attribute.as_u16()?;
                    has_id = true;
                }
                attribute::FAMILY_NAME => {
                    attribute.as_str()?.clone_into(&mut family.name);
                    has_name = true;
                }
                attribute::VERSION => family.version = attribute.as_u32()?,
                attribute::HEADER_BYTES => family.header_bytes = attribute.as_u32()?,
                attribute::GROUPS => {
                    let groups = attribute.nested();
                    family.groups = groups
                        .filter_map(|group| MulticastGroup::decode(group.nested()))
                        .collect();
                }
                _ => {}
            }
        }
        (has_id && has_name).then_some(family)
    }

    /// The number of a multicast group, by its name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]: the family has no group of this name. The text names the groups that it has.
    pub fn group(&self, name: &str) -> Result<u32> {
        let found = self.groups.iter().find(|group| group.name == name);
        found.map(|group| group.number).ok_or_else(|| {
            let names: Vec<_> = self.groups.iter().map(|group| &group.name[..]).collect();
            let text = format!(
                "the family {:?} has no multicast group {name:?}, only {names:?}",
                self.name
            );
            Error::explained("find a multicast group", ErrorKind::NotFound, text)
        })
    }
}

impl MulticastGroup {
    fn decode(attributes: Attributes<'_>) -> Option<Self> {
        Some(Self {
            name: attributes.get(group_attribute::NAME)?.as_str()?.to_owned(),
            number: attributes.get(group_attribute::NUMBER)?.as_u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageBuilder, Messages};

    fn family(bytes: &[u8]) -> Option<GenericFamily> {
        GenericFamily::decode(&Messages::new(bytes).next().expect("a message"))
    }

    #[test]
    fn a_family_needs_number_and_name_and_a_group_too() {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 16, 0)
            .bytes(&[1, 2, 0, 0])
            .attribute_str_nul(attribute::FAMILY_NAME, "ethtool")
            .attribute_u16(attribute::FAMILY_ID, 21)
            .attribute_u32(attribute::VERSION, 1)
            .nested(attribute::GROUPS, |groups| {
                groups
                    .nested(1, |group| {
                        group
                            .attribute_u32(group_attribute::NUMBER, 6)
                            .attribute_str_nul(group_attribute::NAME, "monitor")
                    })
                    .nested(2, |group| group.attribute_u32(group_attribute::NUMBER, 7))
            })
            .finish()
            .unwrap();
        let family = family(&bytes).expect("a family");
        assert_eq!(
            (family.id, &family.name[..], family.version),
            (21, "ethtool", 1)
        );
        assert_eq!(family.groups.len(), 1, "the other group has no name");
        assert_eq!(family.group("monitor").unwrap(), 6);
        let error = family.group("moniter").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            r#"find a multicast group: the family "ethtool" has no multicast group "moniter", only ["monitor"]"#
        );
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 16, 0)
            .bytes(&[1, 2, 0, 0])
            .attribute_u16(attribute::FAMILY_ID, 21)
            .attribute_str_nul(attribute::FAMILY_NAME, "x")
            .finish()
            .unwrap();
        assert!(family(&bytes).is_some());
        for index in 16..bytes.len() {
            for value in [0, 1, 4, 0x7f, 0xff] {
                let mut spoiled = bytes.clone();
                spoiled[index] = value;
                let _ = family(&spoiled);
            }
            let mut cut = bytes[..index].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(index).unwrap().to_ne_bytes());
            let _ = family(&cut);
        }
    }
}
