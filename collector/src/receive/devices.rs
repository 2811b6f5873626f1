//! The names of network devices. They are dumped at startup, kept up to date by the messages about devices among those
//! about routes, and dumped again after a loss.

use std::time::{Duration, Instant};

use nlring::route::{Link, Requests};
use nlring::{Message, Namespace};
use nlring_print::route::DeviceNames;

use crate::failure::Result;

/// The least time between two dumps.
const DUMP_INTERVAL: Duration = Duration::from_secs(1);

/// The names of the devices of a network namespace.
pub struct Devices {
    names: DeviceNames,
    /// The namespace. None: that of this process.
    namespace: Option<Namespace>,
    dumped_at: Instant,
    /// When to dump them again.
    dump_at: Option<Instant>,
}

impl Devices {
    /// Dumps the devices. Messages about devices that are received later are fed.
    pub fn load(namespace: Option<&Namespace>) -> Result<Self> {
        Ok(Self {
            names: dump(namespace)?,
            namespace: namespace.cloned(),
            dumped_at: Instant::now(),
            dump_at: None,
        })
    }

    pub fn names(&self) -> &DeviceNames {
        &self.names
    }

    /// Feeds a message, which may be about a device.
    pub fn feed(&mut self, message: &Message<'_>) {
        if let Some(link) = Link::decode(message) {
            self.names.apply(&link);
        }
    }

    /// Records that messages are missing. Some may have been about devices.
    pub fn note_missing(&mut self) {
        self.dump_at.get_or_insert(self.dumped_at + DUMP_INTERVAL);
    }

    /// When [`catch_up`](Self::catch_up) is due.
    pub fn due(&self) -> Option<Instant> {
        self.dump_at
    }

    /// Dumps all devices again if that is due. If this fails, it is retried later.
    pub fn catch_up(&mut self, now: Instant) {
        if self.dump_at.is_none_or(|at| now < at) {
            return;
        }
        (self.dumped_at, self.dump_at) = (now, None);
        match dump(self.namespace.as_ref()) {
            Ok(dumped) => self.names.apply_dump(&dumped),
            Err(_) => self.note_missing(),
        }
    }
}

fn dump(namespace: Option<&Namespace>) -> Result<DeviceNames> {
    let mut requests = match namespace {
        Some(namespace) => Requests::open_in(namespace)?,
        None => Requests::open()?,
    };
    let dump = requests.links(|names: &mut DeviceNames, link| names.apply(link));
    let dump = dump.map_err(|error| error.during("list the network devices"))?;
    Ok(dump.items)
}
