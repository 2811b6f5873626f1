//! The devices' names while routes are followed: dumped at the start, kept current by the link messages among the routes',
//! and dumped again when some of those were lost.

use std::time::{Duration, Instant};

use nlring::Message;
use nlring::route::{Link, Requests, Route};
use nlring_print::route::DeviceNames;

use crate::outcome::Failure;
use crate::write::console::Console;

/// The least time between two dumps of the links.
const DUMP_INTERVAL: Duration = Duration::from_secs(1);
/// A list of routes looks for names that it lacks in at most this many further dumps.
const MOST_LOOKS: u32 = 16;

pub struct Devices {
    names: DeviceNames,
    dumped_at: Instant,
    /// When to dump all of them again.
    dump_at: Option<Instant>,
    /// The last dump failed, and the user knows.
    has_failed: bool,
    look_count: u32,
}

impl Devices {
    /// Dumps the devices that there are. To be called when the socket is in the group of links: then the names are those
    /// of the moment of each event.
    pub fn load() -> Result<Self, Failure> {
        Ok(Self::new(dump()?))
    }

    fn new(names: DeviceNames) -> Self {
        Self {
            names,
            dumped_at: Instant::now(),
            dump_at: None,
            has_failed: false,
            look_count: 0,
        }
    }

    pub fn names(&self) -> &DeviceNames {
        &self.names
    }

    /// Takes a message, if it is about a link.
    pub fn take(&mut self, message: &Message<'_>) {
        if let Some(link) = Link::decode(message) {
            self.names.apply(&link);
        }
    }

    /// Messages were lost, maybe about links.
    pub fn note_missed(&mut self) {
        self.dump_at.get_or_insert(self.dumped_at + DUMP_INTERVAL);
    }

    /// When [`catch_up`](Self::catch_up) is due.
    pub fn due(&self) -> Option<Instant> {
        self.dump_at
    }

    /// Dumps all names again when that is due. A dump that fails is tried again.
    pub fn catch_up(&mut self, now: Instant, console: &mut Console) {
        if self.dump_at.is_none_or(|at| now < at) {
            return;
        }
        let dumped = dump();
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
                        "names of devices may be missing or old: {failure}; it is tried again"
                    ));
                }
            }
        }
    }

    /// Dumps the devices again if the name of one that the route uses is unknown: it may have been made since. When that
    /// fails, the name stays unknown.
    pub fn look_for(&mut self, route: &Route<'_>) {
        let hops = route.nexthops.map(|hop| hop.oif);
        let mut used = route.oif.into_iter().chain(route.iif).chain(hops);
        let is_unknown = |index| index != 0 && self.names.get(index).is_none();
        if self.look_count < MOST_LOOKS && used.any(is_unknown) {
            self.look_count += 1;
            if let Ok(dump) = dump() {
                self.names.apply_dump(&dump);
            }
        }
    }
}

fn dump() -> Result<DeviceNames, Failure> {
    let dump = Requests::open()?.links(|names: &mut DeviceNames, link| names.apply(link));
    let dump = dump.map_err(|error| error.during("list the network devices"))?;
    Ok(dump.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_messages_bring_one_dump_and_not_at_once() {
        let (mut console, mut devices) = (Console::new(), Devices::new(DeviceNames::default()));
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
