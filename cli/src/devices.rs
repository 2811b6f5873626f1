//! The devices' names while routes are followed: asked for at the start, kept current by link messages, and asked for
//! again when some of those were missed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nlring::route::{Link, Requests};
use nlring::{Message, MessageList};

use crate::device_names::DeviceNames;
use crate::outcome::Failure;

/// How long a removed device keeps its name.
const MEMORY: Duration = Duration::from_secs(2);
/// The least time between two dumps of the links.
const DUMP_INTERVAL: Duration = Duration::from_secs(1);

pub struct Devices {
    names: DeviceNames,
    gone: VecDeque<Gone>,
    dumped_at: Instant,
    /// When to ask for all of them again.
    dump_at: Option<Instant>,
}

/// A device that was removed, by its message. It keeps its name for a while: events of its routes, which came before,
/// may still be in another socket's queue.
struct Gone {
    at: Instant,
    index: u32,
    message: Vec<u8>,
}

impl Devices {
    /// Asks for the devices that there are.
    pub fn load() -> Result<Self, Failure> {
        Ok(Self::new(dump()?))
    }

    fn new(names: DeviceNames) -> Self {
        Self {
            names,
            gone: VecDeque::new(),
            dumped_at: Instant::now(),
            dump_at: None,
        }
    }

    pub fn names(&self) -> &DeviceNames {
        &self.names
    }

    /// Takes a link message in.
    pub fn take(&mut self, message: &Message<'_>, now: Instant) {
        match Link::decode(message) {
            Some(link) if link.is_deleted() => {
                self.gone.push_back(Gone {
                    at: now,
                    index: link.index,
                    message: message.bytes().to_vec(),
                });
            }
            Some(link) => {
                self.gone.retain(|gone| gone.index != link.index); // its index is in use again
                self.names.apply(&link);
            }
            None => {}
        }
    }

    /// Link messages were missed.
    pub fn note_missed(&mut self) {
        self.dump_at.get_or_insert(self.dumped_at + DUMP_INTERVAL);
    }

    /// When [`catch_up`](Self::catch_up) is due.
    pub fn due(&self) -> Option<Instant> {
        self.dump_at
    }

    /// Forgets what went long ago, and asks for all names again when that is due.
    pub fn catch_up(&mut self, now: Instant) -> Result<(), Failure> {
        self.forget(now);
        if self.dump_at.is_some_and(|at| now >= at) {
            *self = Self::new(dump()?);
        }
        Ok(())
    }

    fn forget(&mut self, now: Instant) {
        while let Some(gone) = self.gone.front().filter(|gone| now >= gone.at + MEMORY) {
            for message in &MessageList::new(&gone.message) {
                if let Some(link) = Link::decode(&message) {
                    self.names.apply(&link);
                }
            }
            self.gone.pop_front();
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
    use nlring::MessageBuilder;

    use super::*;

    const NEW: u16 = 16;
    const DELETE: u16 = 17;

    fn take(devices: &mut Devices, message_type: u16, name: &str, now: Instant) {
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&7u32.to_ne_bytes());
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, message_type, 0).bytes(&fixed);
        message.attribute_str_nul(3, name).finish().unwrap();
        for message in &MessageList::new(&bytes) {
            devices.take(&message, now);
        }
    }

    #[test]
    fn a_removed_device_keeps_its_name_for_a_while() {
        let (now, mut devices) = (Instant::now(), Devices::new(DeviceNames::default()));
        take(&mut devices, NEW, "eth0", now);
        take(&mut devices, DELETE, "eth0", now);
        devices.forget(now + MEMORY / 2);
        assert_eq!(devices.names().get(7), Some(&b"eth0"[..]));
        devices.forget(now + MEMORY);
        assert_eq!(devices.names().get(7), None);
    }

    #[test]
    fn an_index_that_is_used_again_is_not_forgotten() {
        let (now, mut devices) = (Instant::now(), Devices::new(DeviceNames::default()));
        take(&mut devices, NEW, "eth0", now);
        take(&mut devices, DELETE, "eth0", now);
        take(&mut devices, NEW, "eth1", now);
        devices.forget(now + MEMORY);
        assert_eq!(devices.names().get(7), Some(&b"eth1"[..]));
    }

    #[test]
    fn missed_messages_bring_one_dump_and_not_at_once() {
        let mut devices = Devices::new(DeviceNames::default());
        assert_eq!(devices.due(), None);
        devices.note_missed();
        let due = devices.due().unwrap();
        assert_eq!(due, devices.dumped_at + DUMP_INTERVAL);
        devices.note_missed();
        assert_eq!(devices.due(), Some(due));
        devices.catch_up(due).unwrap();
        assert_eq!(devices.due(), None);
        assert_eq!(devices.names().get(1), Some(&b"lo"[..]), "asked for again");
    }
}
