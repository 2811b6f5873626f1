//! Changes of devices, addresses and nexthop objects that may change routes without a route event.

use std::collections::HashMap;

use crate::Family;
use crate::message::{Message, flags};
use crate::route::Link;
use crate::route::kernel::{LINK_FIXED_BYTES, ifla, message_type};

/// `IFF_UP`, `IFF_RUNNING`, `IFF_LOWER_UP`, `IFF_DORMANT` (include/uapi/linux/if.h): what hops depend on.
const STATES: u32 = 1 | 1 << 6 | 1 << 16 | 1 << 17;

/// How many devices are remembered. If the deletions of more were lost, all are forgotten, and each counts as changed
/// once.
const MOST_DEVICES: usize = 64 << 10;

/// The properties of a device on which routes depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    states: u32,
    /// A change of the master moves routes to another table or removes them (net/ipv4/fib_frontend.c,
    /// `fib_netdev_event`).
    master: Option<u32>,
    mtu: Option<u32>,
}

/// The devices as messages have reported them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_index: HashMap<u32, Device>,
}

impl Devices {
    /// Whether a message reports a change that may have changed routes without a route event.
    pub(super) fn is_silent_change(&mut self, message: &Message<'_>) -> bool {
        match message.message_type() {
            message_type::NEW_LINK | message_type::DELETE_LINK => self.is_link_change(message),
            // A new IPv4 address can revive hops that became dead with the device's last address
            // (`fib_inetaddr_event`).
            message_type::NEW_ADDRESS => message.payload().first() == Some(&Family::INET.number()),
            message_type::DELETE_ADDRESS | message_type::DELETE_NEXTHOP => true,
            // A nexthop object changes routes unless it is new.
            message_type::NEW_NEXTHOP => {
                message.flags() & (flags::CREATE | flags::REPLACE) != flags::CREATE
            }
            _ => false,
        }
    }

    fn is_link_change(&mut self, message: &Message<'_>) -> bool {
        let Some(link) = Link::decode(message).filter(|link| link.family == Family::UNSPEC) else {
            return false;
        };
        if link.is_deleted() {
            self.by_index.remove(&link.index);
            return true;
        }
        let attribute = |attribute_type| {
            let found = message.attributes(LINK_FIXED_BYTES).get(attribute_type);
            found.and_then(|found| found.as_u32())
        };
        let device = Device {
            states: link.flags & STATES,
            master: attribute(ifla::MASTER),
            mtu: attribute(ifla::MTU),
        };
        if self.by_index.len() >= MOST_DEVICES && !self.by_index.contains_key(&link.index) {
            self.by_index.clear();
        }
        self.by_index.insert(link.index, device) != Some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageBuilder, MessageList};

    #[test]
    fn devices_whose_ends_were_lost_do_not_pile_up() {
        let mut devices = Devices::default();
        let mut is_change = |index: u32| {
            let mut fixed = [0; 16];
            fixed[4..8].copy_from_slice(&index.to_ne_bytes());
            let mut bytes = Vec::new();
            let builder = MessageBuilder::new(&mut bytes, message_type::NEW_LINK, 0);
            builder.bytes(&fixed).finish().unwrap();
            MessageList::new(&bytes)
                .iter()
                .any(|message| devices.is_silent_change(&message))
        };
        assert!(is_change(1) && !is_change(1));
        let most = u32::try_from(MOST_DEVICES).unwrap();
        assert!((2..=most).all(&mut is_change) && !is_change(1));
        assert!(is_change(most + 1) && is_change(1), "all were forgotten");
        assert_eq!(devices.by_index.len(), 2);
    }
}
