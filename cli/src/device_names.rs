//! Names of network devices, by index, as link messages tell them.

use std::collections::HashMap;

use nlring::route::Link;

/// The names known so far.
#[derive(Debug, Default)]
pub struct DeviceNames {
    names: HashMap<u32, Box<[u8]>>,
}

impl DeviceNames {
    /// Takes over what a link message says. Allocates only for a new device and a new name.
    pub fn apply(&mut self, link: &Link<'_>) {
        if link.is_deleted() {
            self.names.remove(&link.index);
        } else if let Some(name) = link.name
            && self.get(link.index) != Some(name)
        {
            self.names.insert(link.index, name.into());
        }
    }

    /// The name's bytes, as the kernel gave them.
    pub fn get(&self, index: u32) -> Option<&[u8]> {
        self.names.get(&index).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::{MessageBuilder, MessageList};

    fn apply(names: &mut DeviceNames, message_type: u16, family: u8, index: u32, name: &str) {
        let mut fixed = [0; 16];
        fixed[0] = family;
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

    #[test]
    fn a_device_is_known_until_it_is_gone_and_can_be_renamed() {
        let mut names = DeviceNames::default();
        apply(&mut names, 16, 0, 7, "eth0");
        apply(&mut names, 16, 0, 7, "wan");
        assert_eq!(names.get(7), Some(&b"wan"[..]));
        apply(&mut names, 17, 0, 7, "wan");
        assert_eq!(names.get(7), None);
    }

    #[test]
    fn leaving_a_bridge_is_not_being_gone() {
        let mut names = DeviceNames::default();
        apply(&mut names, 16, 0, 7, "eth0");
        apply(&mut names, 17, 7, 7, "eth0");
        assert_eq!(names.get(7), Some(&b"eth0"[..]));
    }
}
