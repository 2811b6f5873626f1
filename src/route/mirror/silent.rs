//! Changes of devices, addresses and nexthop objects that may change routes without a route event.

use std::collections::HashMap;

use crate::Family;
use crate::message::{Message, flags};
use crate::route::Link;
use crate::route::kernel::{LINK_FIXED_BYTES, ifla, message_type};

/// `IFF_UP`, `IFF_RUNNING`, `IFF_LOWER_UP`, `IFF_DORMANT` (include/uapi/linux/if.h): what hops depend on.
const STATES: u32 = 1 | 1 << 6 | 1 << 16 | 1 << 17;

/// What routes depend on in a device.
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
    /// Whether a message reports a change that may have changed routes without an event of theirs.
    pub(super) fn is_silent_change(&mut self, message: &Message<'_>) -> bool {
        match message.message_type() {
            message_type::NEW_LINK | message_type::DELETE_LINK => self.is_link_change(message),
            // A new IPv4 address can revive hops that died with the device's last address (`fib_inetaddr_event`).
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
        self.by_index.insert(link.index, device) != Some(device)
    }
}
