//! The programs that follow conntrack and route events in this network namespace, and what they lost:
//! /proc/net/netlink.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use nlring::Protocol;
use nlring_print::text::escaped;

use super::socket_flags::reliable_by_inode;

/// Conntrack's groups 1 to 3, as a mask: bit 0 is group 1.
const CONNTRACK_GROUPS: u32 = 0b111;
/// Groups 7 (IPv4), 11 (IPv6) and 27 (MPLS).
const ROUTE_GROUPS: u32 = 1 << 6 | 1 << 10 | 1 << 26;

/// The sockets of this thread's namespace.
const TABLE: &str = "/proc/thread-self/net/netlink";

/// How many sockets in this thread's namespace follow conntrack.
pub fn conntrack_listener_count() -> usize {
    let table = fs::read_to_string(TABLE).unwrap_or_default();
    let sockets = parse(&table);
    { sockets.iter().filter(|socket| socket.follows_conntrack()) }.count()
}

/// The sockets that follow conntrack or routes, and those of any protocol that dropped something.
pub struct NetlinkSockets(io::Result<Vec<NetlinkSocket>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkSocket {
    pub protocol: Protocol,
    pub port_id: u32,
    /// The groups 1 to 32.
    groups_mask: u32,
    pub drops: u64,
    inode: u64,
    /// Whether `drops` counts failed deliveries, which may have succeeded later. None: this kernel does not report it.
    pub is_reliable: Option<bool>,
    pub owner: Option<Owner>,
}

/// A process that has the socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub process_id: u32,
    pub program: String,
}

impl NetlinkSockets {
    pub fn read() -> Self {
        let table = fs::read_to_string(TABLE);
        let mut sockets = Self(table.map(|table| parse(&table)));
        if let Ok(sockets) = &mut sockets.0 {
            find_owners(sockets);
            let reliable = reliable_by_inode();
            for socket in sockets {
                socket.is_reliable = reliable.get(&socket.inode).copied();
            }
        }
        sockets
    }

    /// Why the sockets could not be read.
    pub fn error(&self) -> Option<&io::Error> {
        self.0.as_ref().err()
    }

    pub fn conntrack_listeners(&self) -> impl Iterator<Item = &NetlinkSocket> {
        self.all().filter(|socket| socket.follows_conntrack())
    }

    pub fn route_listeners(&self) -> impl Iterator<Item = &NetlinkSocket> {
        self.all().filter(|socket| socket.follows_routes())
    }

    /// The sockets of both protocols that dropped something.
    pub fn with_drops(&self) -> impl Iterator<Item = &NetlinkSocket> {
        self.all().filter(|socket| socket.has_drops())
    }

    /// The names of the conntrack listeners that are reliable.
    pub fn reliable_conntrack_listeners(&self) -> Vec<String> {
        let listeners = self.conntrack_listeners();
        let reliable = listeners.filter(|socket| socket.is_reliable == Some(true));
        reliable.map(NetlinkSocket::name).collect()
    }

    fn all(&self) -> impl Iterator<Item = &NetlinkSocket> {
        self.0.iter().flatten()
    }

    /// The sockets of a table in the form of /proc/net/netlink.
    #[cfg(test)]
    pub fn of_table(table: io::Result<&str>) -> Self {
        Self(table.map(parse))
    }

    #[cfg(test)]
    pub fn set_reliable(&mut self, is_reliable: bool) {
        for socket in self.0.iter_mut().flatten() {
            socket.is_reliable = Some(is_reliable);
        }
    }
}

impl NetlinkSocket {
    /// Reads a line: the socket's address, protocol, port ID, groups, four counts, drops, inode.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[_, protocol, port_id, groups_mask, _, _, _, _, drops, inode] = words.as_slice()
        else {
            return None;
        };
        Some(Self {
            protocol: Protocol::from_number(protocol.parse().ok()?),
            port_id: port_id.parse().ok()?,
            groups_mask: u32::from_str_radix(groups_mask, 16).ok()?,
            drops: drops.parse().ok()?,
            inode: inode.parse().ok()?,
            is_reliable: None,
            owner: None,
        })
    }

    /// The program and its process, or the port ID if the program is not known. A program chooses its name, so that is
    /// escaped.
    pub fn name(&self) -> String {
        match &self.owner {
            Some(owner) => {
                let program = escaped(owner.program.as_bytes());
                format!("{program} (process {})", owner.process_id)
            }
            None => format!("port ID {}", self.port_id),
        }
    }

    fn follows_conntrack(&self) -> bool {
        self.protocol == Protocol::NETFILTER && self.groups_mask & CONNTRACK_GROUPS != 0
    }

    fn follows_routes(&self) -> bool {
        self.protocol == Protocol::ROUTE && self.groups_mask & ROUTE_GROUPS != 0
    }

    fn has_drops(&self) -> bool {
        self.drops > 0 && [Protocol::NETFILTER, Protocol::ROUTE].contains(&self.protocol)
    }
}

fn parse(table: &str) -> Vec<NetlinkSocket> {
    let sockets = table.lines().filter_map(NetlinkSocket::parse);
    sockets
        .filter(|socket| {
            socket.follows_conntrack() || socket.follows_routes() || socket.has_drops()
        })
        .collect()
}

/// Looks for the sockets among the descriptors of all processes. Only root sees those of other users.
fn find_owners(sockets: &mut [NetlinkSocket]) {
    if sockets.is_empty() {
        return;
    }
    let mut owners = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(process_id) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue; // not a process
        };
        let descriptors = fs::read_dir(process.path().join("fd"));
        for descriptor in descriptors.into_iter().flatten().flatten() {
            if let Some(inode) = socket_inode(&descriptor.path()) {
                owners.entry(inode).or_insert(process_id);
            }
        }
    }
    for socket in sockets {
        socket.owner = owners.get(&socket.inode).map(|&process_id| Owner {
            process_id,
            program: program(process_id),
        });
    }
}

/// The inode of a descriptor that is a socket: `socket:[1234]`.
fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    let number = target.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}

fn program(process_id: u32) -> String {
    let name = fs::read(format!("/proc/{process_id}/comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKETS: &str = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000f58bfd21 0   0          00000000 0        0        0     2        0        4
000000002883bf44 12  4294963200 00000005 0        0        0     2        2269     1514
000000003a2b0622 0   623        04000440 512      0        0     2        0        1516
000000003a2b0623 16  624        00000001 0        0        0     2        9        1517
a line of another kernel
";

    #[test]
    fn sockets_are_sorted_by_protocol_and_groups() {
        let sockets = NetlinkSockets::of_table(Ok(SOCKETS));
        let names = |sockets: &mut dyn Iterator<Item = &NetlinkSocket>| {
            sockets.map(NetlinkSocket::name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&mut sockets.conntrack_listeners()),
            ["port ID 4294963200"]
        );
        assert_eq!(names(&mut sockets.route_listeners()), ["port ID 623"]);
        assert_eq!(names(&mut sockets.with_drops()), ["port ID 4294963200"]);
        assert!(sockets.error().is_none());
    }

    #[test]
    fn a_program_cannot_begin_a_line_with_its_name() {
        let mut sockets = parse(SOCKETS);
        sockets[0].owner = Some(Owner {
            process_id: 7,
            program: "a\u{1b}[2J\nlost: 9".to_owned(),
        });
        assert_eq!(sockets[0].name(), r"a\x1b[2J\x0alost: 9 (process 7)");
    }

    #[test]
    fn a_socket_is_reliable_only_if_the_kernel_says_so() {
        let mut sockets = NetlinkSockets::of_table(Ok(SOCKETS));
        assert_eq!(sockets.reliable_conntrack_listeners(), [""; 0]);
        sockets.set_reliable(true);
        assert_eq!(
            sockets.reliable_conntrack_listeners(),
            ["port ID 4294963200"]
        );
    }
}
