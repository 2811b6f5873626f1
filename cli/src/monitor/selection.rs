//! Which objects `nlring monitor` shows.

use nlring::EventKind;
use nlring::route::{NetconfScope, Object};

use crate::args::{MonitorArguments, MonitorObject, RouteEvent};
use crate::outcome::Failure;
use crate::route::devices::Devices;

pub struct Selection {
    pub follows_links: bool,
    shows_new: bool,
    shows_delete: bool,
    device: Option<Device>,
}

/// The device of --dev.
struct Device {
    index: u32,
    name: String,
}

impl Selection {
    /// Finds out which device --dev means.
    pub fn new(arguments: &MonitorArguments, devices: &Devices) -> Result<Self, Failure> {
        let device = arguments.dev.as_ref().map(|name| {
            let index = devices.index(name);
            let name = name.clone();
            index.map(|index| Device { index, name })
        });
        Ok(Self {
            follows_links: arguments.follows(MonitorObject::Link),
            shows_new: arguments.events.contains(&RouteEvent::New),
            shows_delete: arguments.events.contains(&RouteEvent::Delete),
            device: device.transpose()?,
        })
    }

    /// Whether an object is shown. None is a message that cannot be read, which is shown always.
    pub fn selects(&self, object: Option<&Object<'_>>) -> bool {
        let Some(object) = object else {
            return true;
        };
        let is_of_kind = match object.kind() {
            EventKind::Delete => self.shows_delete,
            _ => self.shows_new,
        };
        is_of_kind
            && self
                .device
                .as_ref()
                .is_none_or(|device| device.is_in(object))
    }
}

impl Device {
    /// Whether an object concerns the device, or may concern it because it names no device.
    fn is_in(&self, object: &Object<'_>) -> bool {
        let is_this = |index: u32| index == self.index;
        let is_name = |name: &[u8]| name == self.name.as_bytes();
        match object {
            Object::Link(link) => is_this(link.index),
            Object::Address(address) => is_this(address.index),
            Object::Route(route) => {
                route.oif.is_some_and(is_this) || { route.nexthops }.any(|hop| is_this(hop.oif))
            }
            Object::MulticastRoute(route) => {
                route.iif.is_some_and(is_this) || { route.hops }.any(|hop| is_this(hop.oif))
            }
            Object::Neighbour(neighbour) => is_this(neighbour.index),
            Object::Rule(rule) => {
                let mut names = rule.iif.into_iter().chain(rule.oif).peekable();
                names.peek().is_none() || names.any(is_name)
            }
            Object::Nexthop(nexthop) => nexthop.oif.is_none_or(is_this),
            Object::Netconf(netconf) => netconf.scope == Some(NetconfScope::Device(self.index)),
            _ => true,
        }
    }
}
