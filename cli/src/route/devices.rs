//! The names of devices while routes are followed. They are dumped at startup, kept up to date by the link messages
//! among those about routes, and dumped again after a loss.

use std::time::{Duration, Instant};

use nlring::route::{Link, Requests, Route};
use nlring::{Message, Namespace};
use nlring_print::route::DeviceNames;
use nlring_print::text::escaped;

use crate::outcome::Failure;
use crate::write::console::Console;

/// The least time between two dumps of the links.
const DUMP_INTERVAL: Duration = Duration::from_secs(1);
/// How many further dumps a list of routes makes for names that are unknown.
const MOST_LOOKS: u32 = 16;

pub struct Devices {
    names: DeviceNames,
    /// The namespace of the devices. None: that of this thread.
    namespace: Option<Namespace>,
    dumped_at: Instant,
    /// When to dump all devices again.
    dump_at: Option<Instant>,
    /// Whether the last dump failed. The user was warned of it.
    has_failed: bool,
    look_count: u32,
}

/// No device, until one is fed.
impl Default for Devices {
    fn default() -> Self {
        Self::new(DeviceNames::default(), None)
    }
}

impl Devices {
    /// Dumps the devices. Call it when the socket of the events is in the group of links, so that no change is missed.
    pub fn load(namespace: Option<&Namespace>) -> Result<Self, Failure> {
        let names = dump(namespace)?;
        Ok(Self::new(names, namespace.cloned()))
    }

    fn new(names: DeviceNames, namespace: Option<Namespace>) -> Self {
        Self {
            names,
            namespace,
            dumped_at: Instant::now(),
            dump_at: None,
            has_failed: false,
            look_count: 0,
        }
    }

    /// The index of the device with this name.
    pub fn index(&self, name: &str) -> Result<u32, Failure> {
        self.names.index(name.as_bytes()).ok_or_else(|| {
            let name = escaped(name.as_bytes());
            Failure::Usage(format!(
                "there is no device {name} here; ip link lists the devices"
            ))
        })
    }

    pub fn names(&self) -> &DeviceNames {
        &self.names
    }

    /// The names, to change them, and the namespace of the devices. None: that of this thread.
    pub fn parts(&mut self) -> (&mut DeviceNames, Option<&Namespace>) {
        (&mut self.names, self.namespace.as_ref())
    }

    /// Feeds the names a message, which may be about a device.
    pub fn feed(&mut self, message: &Message<'_>) {
        if let Some(link) = Link::decode(message) {
            self.names.apply(&link);
        }
    }

    /// Records that messages were lost. Some may have been about devices.
    pub fn note_missed(&mut self) {
        self.dump_at.get_or_insert(self.dumped_at + DUMP_INTERVAL);
    }

    /// When [`catch_up`](Self::catch_up) is due.
    pub fn due(&self) -> Option<Instant> {
        self.dump_at
    }

    /// Dumps all names again if that is due. A dump that fails is repeated later.
    pub fn catch_up(&mut self, now: Instant, console: &mut Console) {
        if self.dump_at.is_none_or(|at| now < at) {
            return;
        }
        let dumped = dump(self.namespace.as_ref());
        (self.dumped_at, self.dump_at) = (Instant::now(), None);
        match dumped {
            Ok(dump) => {
                self.names.apply_dump(&dump);
                self.has_failed = false;
            }
            Err(failure) => {
                self.note_missed();
                if !self.has_failed {
                    self.has_failed = true;
                    console.warn(format_args!(
                        "names of devices may be missing or out of date: {failure}; nlring tries again"
                    ));
                }
            }
        }
    }

    /// Dumps the devices again if the route uses one whose name is unknown, because it may be newer than the last dump.
    /// If the dump fails, the name stays unknown.
    pub fn look_for(&mut self, route: &Route<'_>) {
        let hops = route.nexthops.map(|hop| hop.oif);
        let mut used = route.oif.into_iter().chain(route.iif).chain(hops);
        let is_unknown = |index| index != 0 && self.names.get(index).is_none();
        if self.look_count < MOST_LOOKS && used.any(is_unknown) {
            self.look_count += 1;
            if let Ok(dump) = dump(self.namespace.as_ref()) {
                self.names.apply_dump(&dump);
            }
        }
    }
}

/// Looks up names that are unknown, because the kernel reports some things about a new device before the device.
#[derive(Default)]
pub struct Lookup {
    requests: Option<Requests>,
}

impl Lookup {
    /// Asks the kernel for the name of a device, if it is unknown. If that fails, the name stays unknown.
    pub fn find(&mut self, devices: &mut Devices, index: u32) {
        if index == 0 || devices.names.get(index).is_some() {
            return;
        }
        if self.requests.is_none() {
            self.requests = open(devices.namespace.as_ref()).ok();
        }
        if let Some(requests) = &mut self.requests {
            let _ = requests.get_link(index, |link| devices.names.apply(link));
        }
    }
}

fn open(namespace: Option<&Namespace>) -> nlring::Result<Requests> {
    match namespace {
        Some(namespace) => Requests::open_in(namespace),
        None => Requests::open(),
    }
}

fn dump(namespace: Option<&Namespace>) -> Result<DeviceNames, Failure> {
    let dump = open(namespace)?.links(|names: &mut DeviceNames, link| names.apply(link));
    let dump = dump.map_err(|error| error.during("list the network devices"))?;
    Ok(dump.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_messages_bring_one_dump_and_not_at_once() {
        let (mut console, mut devices) =
            (Console::new(), Devices::new(DeviceNames::default(), None));
        assert_eq!(devices.due(), None);
        devices.note_missed();
        let due = devices.due().unwrap();
        assert_eq!(due, devices.dumped_at + DUMP_INTERVAL);
        devices.note_missed();
        assert_eq!(devices.due(), Some(due));
        devices.catch_up(devices.dumped_at, &mut console);
        assert_eq!(devices.names().get(1), None, "not yet");
        devices.catch_up(due, &mut console);
        assert_eq!(devices.due(), None);
        assert_eq!(devices.names().get(1), Some(&b"lo"[..]), "dumped again");
    }
}
