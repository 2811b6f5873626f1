//! The names of network devices, and the few other properties that lines show. Link messages report them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use nlring::route::{Link, link_flags};

/// How many deleted devices keep their names.
const MOST_DELETED: usize = 16 << 10;

/// The names of network devices, by index.
///
/// A deleted device keeps its last name until its index is reused or 16,384 more devices are deleted. The name is still
/// needed: a mirror reports the routes of a deleted device after its deletion, and queued events may be older than a
/// dump.
///
/// ```no_run
/// use nlring::route::Requests;
/// use nlring_print::route::DeviceNames;
///
/// let dump = Requests::open()?.links(|names: &mut DeviceNames, link| names.apply(link))?;
/// assert_eq!(dump.items.get(1), Some(&b"lo"[..]));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct DeviceNames {
    devices: HashMap<u32, Device>,
    /// The last deletions, in their order. An index may be in use again since.
    deletions: VecDeque<Deletion>,
    deletion_count: u64,
    namespaces: HashMap<i32, Box<[u8]>>,
}

#[derive(Debug)]
struct Device {
    name: Box<[u8]>,
    link_type: u16,
    flags: u32,
    /// The number of its deletion. `None`: it exists.
    deletion: Option<u64>,
}

#[derive(Debug)]
struct Deletion {
    number: u64,
    index: u32,
}

impl Device {
    fn is_there(&self) -> bool {
        self.deletion.is_none()
    }
}

impl DeviceNames {
    /// Applies a link message. Allocates only for a new device, a new name and a deletion.
    pub fn apply(&mut self, link: &Link<'_>) {
        if let Some(name) = link.name {
            self.set(link.index, name, link.link_type, link.flags);
        }
        if link.is_deleted() {
            self.note_deleted(link.index);
        }
    }

    /// Applies a dump of all devices, for example after messages were lost. Devices that it lacks count as deleted.
    pub fn apply_dump(&mut self, dump: &Self) {
        let is_missing = |(index, device): (&u32, &Device)| {
            (device.is_there() && !dump.devices.contains_key(index)).then_some(*index)
        };
        let missing: Vec<u32> = self.devices.iter().filter_map(is_missing).collect();
        for index in missing {
            self.note_deleted(index);
        }
        for (&index, device) in &dump.devices {
            self.set(index, &device.name, device.link_type, device.flags);
        }
    }

    /// The last name of the device with this index, as the kernel reported it. `None`: it is unknown.
    pub fn get(&self, index: u32) -> Option<&[u8]> {
        self.devices.get(&index).map(|device| &*device.name)
    }

    /// The index of the device with this name that is not deleted.
    pub fn index(&self, name: &[u8]) -> Option<u32> {
        let mut devices = self.devices.iter();
        let is_wanted = |device: &Device| device.is_there() && *device.name == *name;
        Some(*devices.find(|(_, device)| is_wanted(device))?.0)
    }

    /// Sets the names of all namespaces, by the ids that the devices' namespace has assigned to them. Lines of devices
    /// whose other end is elsewhere show them.
    pub fn set_namespaces(&mut self, names: impl IntoIterator<Item = (i32, Box<[u8]>)>) {
        self.namespaces = names.into_iter().collect();
    }

    /// The name of the namespace with this id.
    pub fn namespace(&self, nsid: i32) -> Option<&[u8]> {
        self.namespaces.get(&nsid).map(|name| &**name)
    }

    /// The hardware type of the device with this index (`ARPHRD_*`).
    pub(crate) fn link_type(&self, index: u32) -> Option<u16> {
        Some(self.devices.get(&index)?.link_type)
    }

    /// Whether the device with this index is known to be switched off.
    pub(crate) fn is_down(&self, index: u32) -> bool {
        let device = self.devices.get(&index);
        device.is_some_and(|device| device.is_there() && device.flags & link_flags::UP == 0)
    }

    fn set(&mut self, index: u32, name: &[u8], link_type: u16, flags: u32) {
        match self.devices.get_mut(&index) {
            Some(device) if *device.name == *name => {
                (device.link_type, device.flags) = (link_type, flags);
                device.deletion = None;
            }
            _ => {
                let device = Device {
                    name: name.into(),
                    link_type,
                    flags,
                    deletion: None,
                };
                self.devices.insert(index, device);
            }
        }
    }

    fn note_deleted(&mut self, index: u32) {
        let Some(device) = self.devices.get_mut(&index) else {
            return;
        };
        self.deletion_count += 1;
        let number = self.deletion_count;
        device.deletion = Some(number);
        self.deletions.push_back(Deletion { number, index });
        if self.deletions.len() > MOST_DELETED
            && let Some(Deletion { number, index }) = self.deletions.pop_front()
            && let Entry::Occupied(device) = self.devices.entry(index)
            && device.get().deletion == Some(number)
        {
            device.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::{Family, MessageBuilder, MessageList};

    const NEW: u16 = 16;
    const DELETE: u16 = 17;

    fn apply(names: &mut DeviceNames, message_type: u16, family: Family, index: u32, name: &str) {
        let mut fixed = [0; 16];
        fixed[0] = family.into();
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, message_type, 0)
            .bytes(&fixed)
            .attribute_str_nul(3, name)
            .finish()
            .unwrap();
        for message in &MessageList::new(&bytes) {
            names.apply(&Link::decode(&message).unwrap());
        }
    }

    /// Applies a link message of device 7.
    fn apply_7(names: &mut DeviceNames, message_type: u16, name: &str) {
        apply(names, message_type, Family::UNSPEC, 7, name);
    }

    #[test]
    fn a_device_can_be_renamed_and_keeps_its_last_name_when_it_is_deleted() {
        let mut names = DeviceNames::default();
        apply_7(&mut names, NEW, "eth0");
        apply_7(&mut names, NEW, "wan");
        assert_eq!(names.get(7), Some(&b"wan"[..]));
        apply_7(&mut names, DELETE, "wan");
        assert_eq!(names.get(7), Some(&b"wan"[..]));
        assert_eq!(names.get(8), None);
    }

    #[test]
    fn the_names_of_the_devices_that_were_deleted_first_are_forgotten() {
        let mut names = DeviceNames::default();
        apply_7(&mut names, NEW, "eth0");
        apply_7(&mut names, DELETE, "eth0");
        apply_7(&mut names, NEW, "eth1"); // its index is in use again
        let later = 8..8 + u32::try_from(MOST_DELETED).unwrap();
        for index in later.clone() {
            apply(&mut names, DELETE, Family::UNSPEC, index, "veth");
        }
        assert_eq!(names.get(7), Some(&b"eth1"[..]));
        assert_eq!(names.get(8), Some(&b"veth"[..]));
        apply_7(&mut names, DELETE, "eth1");
        assert_eq!(names.get(8), None);
        assert_eq!(names.get(7), Some(&b"eth1"[..]));
        assert_eq!(names.devices.len(), MOST_DELETED);
        assert_eq!(names.deletions.len(), MOST_DELETED);
        assert_eq!(names.get(later.end - 1), Some(&b"veth"[..]));
    }

    #[test]
    fn an_index_that_is_used_again_and_again_and_a_name_of_many_leave_nothing() {
        let mut names = DeviceNames::default();
        for number in 0..3 * MOST_DELETED {
            apply_7(&mut names, NEW, &format!("eth{number}"));
            apply_7(&mut names, DELETE, &format!("eth{number}"));
            apply_7(&mut names, NEW, &format!("wan{number}"));
        }
        assert_eq!(
            (names.devices.len(), names.deletions.len()),
            (1, MOST_DELETED)
        );
        assert_eq!(
            names.get(7),
            Some(format!("wan{}", 3 * MOST_DELETED - 1).as_bytes())
        );
        for index in 8..10_000 {
            apply(&mut names, NEW, Family::UNSPEC, index, "veth");
            apply(&mut names, DELETE, Family::UNSPEC, index, "veth");
        }
        assert_eq!(
            (names.devices.len(), names.deletions.len()),
            (9993, MOST_DELETED)
        );
    }

    #[test]
    fn leaving_a_bridge_is_no_deletion() {
        let mut names = DeviceNames::default();
        apply(&mut names, NEW, Family::UNSPEC, 7, "eth0");
        apply(&mut names, DELETE, Family::BRIDGE, 7, "eth0");
        assert!(names.deletions.is_empty());
    }

    #[test]
    fn a_dump_brings_new_names_and_deletes_what_it_lacks() {
        let (mut names, mut dump) = (DeviceNames::default(), DeviceNames::default());
        for (index, name) in [(1, "lo"), (2, "eth0"), (3, "eth1")] {
            apply(&mut names, NEW, Family::UNSPEC, index, name);
        }
        for (index, name) in [(1, "lo"), (2, "wan"), (4, "eth2")] {
            apply(&mut dump, NEW, Family::UNSPEC, index, name);
        }
        for _ in 0..2 {
            names.apply_dump(&dump);
            let all = [1, 2, 3, 4].map(|index| names.get(index).unwrap());
            assert_eq!(all, [&b"lo"[..], b"wan", b"eth1", b"eth2"]);
            let deleted: Vec<u32> = names.deletions.iter().map(|of| of.index).collect();
            assert_eq!(deleted, [3]);
        }
    }
}
