//! Which objects `nlring monitor` shows.

use nlring::route::{Filter, NetconfScope, Object, Term};
use nlring::{EventKind, Family};

use crate::args::{MonitorArguments, MonitorObject, RouteEvent};
use crate::outcome::Failure;
use crate::route::devices::Devices;
use crate::route::filter::{Selection as RouteSelection, named_devices};

pub struct Selection {
    pub follows_links: bool,
    shows_new: bool,
    shows_delete: bool,
    device: Option<Device>,
    /// Which routes. None: the kernel sends no others.
    routes: Option<Filter>,
}

/// How --filter and --in-table select routes. The program passes multicast routes, which are a different object with
/// the same types of messages.
pub fn select_routes(arguments: &MonitorArguments) -> Result<RouteSelection, Failure> {
    let terms = &arguments.routes;
    if !terms.is_empty() && !arguments.follows(MonitorObject::Route) {
        return Err(Failure::Usage(
            "--filter and --in-table select routes, and no routes are followed; add route to the objects".to_owned(),
        ));
    }
    let devices = named_devices(terms.devices(), arguments.follow.netns.all_netns)?;
    let filter = terms.filter(|name| devices.index(name))?;
    let multicast = [Family::IPMR, Family::IP6MR].map(|family| Filter::from(Term::family(family)));
    let wider = multicast.into_iter().fold(filter.clone(), Filter::or);
    RouteSelection::of_events_among(&wider, filter)
}

/// The device of --dev.
struct Device {
    /// Which device it is. None: there is none of this name now.
    index: Option<u32>,
    name: String,
    /// Whether the next device of this name is followed if there is none, as with --all-netns.
    waits: bool,
}

impl Selection {
    /// Finds out which device --dev means. With --all-netns there need not be one in each namespace.
    pub fn new(
        arguments: &MonitorArguments,
        routes: &RouteSelection,
        devices: &Devices,
    ) -> Result<Self, Failure> {
        let waits = arguments.follow.netns.all_netns.is_some();
        let device = arguments.dev.as_deref();
        let device = device.map(|name| Device::find(name, devices, waits));
        Ok(Self {
            follows_links: arguments.follows(MonitorObject::Link),
            shows_new: arguments.events.contains(&RouteEvent::New),
            shows_delete: arguments.events.contains(&RouteEvent::Delete),
            device: device.transpose()?,
            routes: routes.left().cloned(),
        })
    }

    /// Whether an object is shown. None means a message that cannot be read, which is always shown.
    pub fn selects(&mut self, object: Option<&Object<'_>>) -> bool {
        let Some(object) = object else {
            return true;
        };
        let is_of_device = self.device.as_mut().is_none_or(|device| {
            device.note_new(object);
            let is_in = device.is_in(object);
            device.note_gone(object);
            is_in
        });
        let is_of_kind = match object.kind() {
            EventKind::Delete => self.shows_delete,
            _ => self.shows_new,
        };
        is_of_device && is_of_kind && self.selects_route(object)
    }

    /// Whether an object is a selected route, or not a route.
    fn selects_route(&self, object: &Object<'_>) -> bool {
        match (&self.routes, object) {
            (Some(filter), Object::Route(route)) => filter.matches(route),
            _ => true,
        }
    }
}

impl Device {
    fn find(name: &str, devices: &Devices, waits: bool) -> Result<Self, Failure> {
        let index = match devices.index(name) {
            Err(_) if waits => None,
            index => Some(index?),
        };
        let name = name.to_owned();
        Ok(Self { index, name, waits })
    }

    /// Chooses the device if it is new and has the name.
    fn note_new(&mut self, object: &Object<'_>) {
        if let Object::Link(link) = object
            && self.waits
            && self.index.is_none()
            && link.kind != EventKind::Delete
            && link.name == Some(self.name.as_bytes())
        {
            self.index = Some(link.index);
        }
    }

    /// Waits for the next device if this one is gone. A bridge's port that is deleted is still a device.
    fn note_gone(&mut self, object: &Object<'_>) {
        if let Object::Link(link) = object
            && self.waits
            && link.kind == EventKind::Delete
            && link.family == Family::UNSPEC
            && self.index == Some(link.index)
        {
            self.index = None;
        }
    }

    /// Whether an object concerns the device, or may concern it because it names no device.
    fn is_in(&self, object: &Object<'_>) -> bool {
        let is_this = |index: u32| Some(index) == self.index;
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
            Object::Netconf(netconf) => match netconf.scope {
                Some(NetconfScope::Device(index)) => is_this(index),
                _ => false,
            },
            _ => true,
        }
    }
}
