//! Multicast groups, and who listens to them.

use std::fs;

use super::await_that;

/// The kinds of events that the command follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    Conntrack,
    Route,
}

/// Multicast groups of a protocol, as /proc/net/netlink shows them.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    protocol: &'static str,
    mask: u32,
}

impl Groups {
    /// The groups of these events.
    pub fn of(events: Events) -> Self {
        let (protocol, mask) = match events {
            Events::Conntrack => ("12", 0b111), // new, update, destroy
            Events::Route => ("0", 1 << 6 | 1 << 10 | 1 << 26), // IPv4, IPv6, MPLS
        };
        Self { protocol, mask }
    }

    /// The group of devices.
    pub const LINK: Self = Self {
        protocol: "0",
        mask: 1,
    };

    /// The group of nexthop objects, which `ip monitor` joins last.
    pub const NEXTHOP: Self = Self {
        protocol: "0",
        mask: 1 << 31,
    };

    /// The groups of expectations: the new ones, and those that end.
    pub const EXPECTATIONS: Self = Self {
        protocol: "12",
        mask: 0b10_1000,
    };

    /// The groups that the command joins with these arguments. It joins them one by one, so a test must await all.
    pub(super) fn wanted(arguments: &str) -> Self {
        if arguments.starts_with("monitor") {
            return Self::LINK; // which it joins last
        }
        if arguments.starts_with("route") {
            return Self::of(Events::Route);
        }
        let mut groups = Self::of(Events::Conntrack);
        let mut words = arguments.split_whitespace().map(str::to_lowercase);
        let mut chosen = 0;
        while let Some(word) = words.next() {
            if word == "-e" || word == "--events" {
                for event in words.next().unwrap_or_default().split(',') {
                    chosen |= match event {
                        "new" => 0b1,
                        "update" | "updates" => 0b10,
                        "destroy" => 0b100,
                        "expect" => Self::EXPECTATIONS.mask,
                        _ => groups.mask,
                    };
                }
            }
        }
        if chosen != 0 {
            groups.mask = chosen;
        }
        groups
    }

    /// The port IDs of the sockets in this thread's network namespace that are in all of these groups.
    pub fn listeners(self) -> Vec<u32> {
        self.column(2)
    }

    /// The port ID of the only one of these sockets. While sockets are opened and closed, in any namespace, the kernel's
    /// table may have a socket twice or not at all, so this waits until it has one.
    #[track_caller]
    pub fn listener(self) -> u32 {
        let mut port_id = 0;
        await_that("one listener", || match self.listeners()[..] {
            [one] => {
                port_id = one;
                true
            }
            _ => false,
        });
        port_id
    }

    /// How many datagrams the kernel has dropped because the receive buffers of those sockets were full.
    pub fn drop_count(self) -> u32 {
        self.column(8).iter().sum()
    }

    /// How many bytes wait in the receive queues of those sockets.
    pub fn queued_bytes(self) -> u32 {
        self.column(4).iter().sum()
    }

    /// Whether a process, or one that it has started, has a socket in all of these groups. Another program may listen in
    /// this namespace at the same time: `nlring --all-netns=processes` of another test does.
    pub fn are_joined_by(self, process_id: u32) -> bool {
        let process = format!("/proc/{process_id}");
        let descriptors = fs::read_dir(format!("{process}/fd"));
        let targets = descriptors.into_iter().flatten().flatten();
        let targets: Vec<_> = targets
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .collect();
        let is_one = self.column(9).into_iter().any(|inode: u32| {
            let name = format!("socket:[{inode}]");
            targets
                .iter()
                .any(|target| target.as_os_str() == name.as_str())
        });
        let children = fs::read_to_string(format!("{process}/task/{process_id}/children"));
        is_one
            || children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
                .any(|child| self.are_joined_by(child))
    }

    /// A column of the kernel's table of netlink sockets, for those that are in all of these groups.
    fn column(self, index: usize) -> Vec<u32> {
        // Columns: address, protocol, port ID, groups, received and sent bytes, dump, references, drops, inode.
        let table = fs::read_to_string("/proc/thread-self/net/netlink").expect("netlink sockets");
        let number = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let groups = u32::from_str_radix(words[3], 16).expect("groups");
            let listens = words[1] == self.protocol && groups & self.mask == self.mask;
            listens.then(|| words[index].parse().expect("a number"))
        };
        table.lines().skip(1).filter_map(number).collect()
    }

    /// Whether a socket listens that is not among those before, some of which may be closing.
    pub fn has_more_than(self, before: &[u32]) -> bool {
        let listeners = self.listeners();
        listeners.iter().any(|listener| !before.contains(listener))
    }
}
