//! Any object of rtnetlink that this library knows.

use super::{
    InterfaceAddress, Link, MulticastRoute, Neighbour, Netconf, NexthopBucket, NexthopObject,
    Route, Rule, message_type,
};
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::Message;

/// An object of rtnetlink, as one message describes it.
///
/// # Example
///
/// All changes, in one order:
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use nlring::route::{Group, Object};
/// use nlring::{Engine, Event, Protocol, Socket};
///
/// let socket = Socket::builder(Protocol::ROUTE).open()?;
/// for group in [Group::Link, Group::Ipv4Address, Group::Neighbour] {
///     socket.add_membership(group)?;
/// }
/// let mut engine = Engine::builder().build()?;
/// engine.add(socket)?;
/// engine.start()?.run(|event, _| {
///     if let Event::Messages(_, list) = &event {
///         for object in list.iter().filter_map(|message| Object::decode(&message)) {
///             println!("{} {}: {object:?}", object.name(), object.kind());
///         }
///     }
///     ControlFlow::<()>::Continue(())
/// })?;
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is Copy and short-lived, and boxes would allocate"
)]
#[non_exhaustive]
pub enum Object<'a> {
    /// A device.
    Link(Link<'a>),
    /// An address of a device.
    Address(InterfaceAddress<'a>),
    /// A route.
    Route(Route<'a>),
    /// A multicast route.
    MulticastRoute(MulticastRoute<'a>),
    /// A neighbour, or an entry of a forwarding database.
    Neighbour(Neighbour<'a>),
    /// A policy rule.
    Rule(Rule<'a>),
    /// A nexthop object.
    Nexthop(NexthopObject<'a>),
    /// A bucket of a resilient nexthop group.
    NexthopBucket(NexthopBucket),
    /// Settings of a device.
    Netconf(Netconf),
}

impl<'a> Object<'a> {
    /// Decodes a message by its type. Attributes that are missing, unknown or of a wrong size are left out.
    ///
    /// None if the message is of another type, or too short for the fixed part of its object.
    pub fn decode(message: &Message<'a>) -> Option<Self> {
        use message_type as of;
        Some(match message.message_type() {
            of::NEW_LINK | of::DELETE_LINK => Self::Link(Link::decode(message)?),
            of::NEW_ADDRESS | of::DELETE_ADDRESS => {
                Self::Address(InterfaceAddress::decode(message)?)
            }
            of::NEW_ROUTE | of::DELETE_ROUTE => match MulticastRoute::decode(message) {
                Some(route) => Self::MulticastRoute(route),
                None => Self::Route(Route::decode(message)?),
            },
            of::NEW_NEIGHBOUR | of::DELETE_NEIGHBOUR => {
                Self::Neighbour(Neighbour::decode(message)?)
            }
            of::NEW_RULE | of::DELETE_RULE => Self::Rule(Rule::decode(message)?),
            of::NEW_NEXTHOP | of::DELETE_NEXTHOP => Self::Nexthop(NexthopObject::decode(message)?),
            of::NEW_NEXTHOP_BUCKET | of::DELETE_NEXTHOP_BUCKET => {
                Self::NexthopBucket(NexthopBucket::decode(message)?)
            }
            of::NEW_NETCONF | of::DELETE_NETCONF => Self::Netconf(Netconf::decode(message)?),
            _ => return None,
        })
    }

    /// What the message says about the object.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Link(link) => link.kind,
            Self::Address(address) => address.kind,
            Self::Route(route) => route.kind,
            Self::MulticastRoute(route) => route.kind,
            Self::Neighbour(neighbour) => neighbour.kind,
            Self::Rule(rule) => rule.kind,
            Self::Nexthop(nexthop) => nexthop.kind,
            Self::NexthopBucket(bucket) => bucket.kind,
            Self::Netconf(netconf) => netconf.kind,
        }
    }

    /// The address family.
    pub fn family(&self) -> Family {
        match self {
            Self::Link(link) => link.family,
            Self::Address(address) => address.family,
            Self::Route(route) => route.family,
            Self::MulticastRoute(route) => route.family,
            Self::Neighbour(neighbour) => neighbour.family,
            Self::Rule(rule) => rule.family,
            Self::Nexthop(nexthop) => nexthop.family,
            Self::NexthopBucket(bucket) => bucket.family,
            Self::Netconf(netconf) => netconf.family,
        }
    }

    /// What the object is: `link`, `address`, `route`, `mroute`, `neighbour`, `rule`, `nexthop`, `nexthop-bucket` or
    /// `netconf`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Address(_) => "address",
            Self::Route(_) => "route",
            Self::MulticastRoute(_) => "mroute",
            Self::Neighbour(_) => "neighbour",
            Self::Rule(_) => "rule",
            Self::Nexthop(_) => "nexthop",
            Self::NexthopBucket(_) => "nexthop-bucket",
            Self::Netconf(_) => "netconf",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageBuilder, MessageList};
    use nlring_testing::Random;

    #[test]
    fn each_type_of_message_is_its_object_and_short_ones_are_none() {
        let wanted = [
            (16, 16, "link"),
            (20, 8, "address"),
            (24, 12, "route"),
            (28, 12, "neighbour"),
            (32, 12, "rule"),
            (104, 8, "nexthop"),
            (116, 8, "nexthop-bucket"),
            (80, 1, "netconf"),
        ];
        for (message_type, fixed_bytes, name) in wanted {
            for (message_type, kind) in [
                (message_type, EventKind::New),
                (message_type + 1, EventKind::Delete),
            ] {
                for length in 0..=fixed_bytes {
                    let mut bytes = Vec::new();
                    let message = MessageBuilder::new(&mut bytes, message_type, 0);
                    message.bytes(&vec![0; length]).finish().unwrap();
                    // Without the builder's padding.
                    let header = u32::try_from(16 + length).unwrap().to_ne_bytes();
                    bytes[..4].copy_from_slice(&header);
                    let list = MessageList::new(&bytes);
                    let object = list
                        .iter()
                        .next()
                        .and_then(|message| Object::decode(&message));
                    let found = object.map(|object| (object.name(), object.kind()));
                    let wanted = (length == fixed_bytes).then_some((name, kind));
                    assert_eq!(found, wanted, "{message_type} with {length} bytes");
                }
            }
        }
    }

    #[test]
    fn a_route_of_a_multicast_family_is_a_multicast_route() {
        for (family, name) in [(2, "route"), (128, "mroute"), (129, "mroute")] {
            let mut bytes = Vec::new();
            let message = MessageBuilder::new(&mut bytes, 24, 0);
            message.bytes(&[family; 12]).finish().unwrap();
            let list = MessageList::new(&bytes);
            let object = Object::decode(&list.iter().next().unwrap()).unwrap();
            assert_eq!((object.name(), object.family()), (name, family.into()));
        }
    }

    #[test]
    fn random_bytes_never_cause_a_panic() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let message_type = [16, 20, 24, 28, 32, 80, 104, 116][random.index(8)];
            let mut payload: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
            if let Some(family) = payload.first_mut() {
                *family = [2, 7, 10, 28, 128, 129][random.index(6)];
            }
            let mut bytes = Vec::new();
            let mut message = MessageBuilder::new(&mut bytes, message_type, 0).bytes(&payload);
            for _ in 0..random.below(8) {
                let value: Vec<u8> = (0..random.below(40)).map(|_| random.byte()).collect();
                message = message.attribute(u16::try_from(random.below(60)).unwrap(), &value);
            }
            message.finish().unwrap();
            for message in &MessageList::new(&bytes) {
                if let Some(object) = Object::decode(&message) {
                    let _ = format!("{object:?}");
                }
            }
        }
    }
}
