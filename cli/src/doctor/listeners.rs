//! Who else follows these events in this namespace, and who of them has lost some: /proc/net/netlink.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use nlring::Protocol;
use serde_json::{Value, json};

use super::report::{Check, State};
use super::socket_flags::reliable_by_inode;

/// Conntrack's groups 1 to 3, as a mask: bit 0 is group 1.
const CONNTRACK_GROUPS: u32 = 0b111;
/// Groups 7 (IPv4), 11 (IPv6) and 27 (MPLS).
const ROUTE_GROUPS: u32 = 1 << 6 | 1 << 10 | 1 << 26;
/// How many are named.
const MOST_NAMED: usize = 4;

/// The sockets of netfilter and of routes that programs have.
pub struct NetlinkSockets(io::Result<Vec<NetlinkSocket>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct NetlinkSocket {
    protocol: Protocol,
    port_id: u32,
    /// Of the first 32.
    groups_mask: u32,
    drops: u64,
    inode: u64,
    /// Whether its drops are failed deliveries, some of which succeeded later. None: this kernel does not say.
    is_reliable: Option<bool>,
    owner: Option<Owner>,
}

/// A process that has the socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    process_id: u32,
    program: String,
}

impl NetlinkSockets {
    pub fn read() -> Self {
        Self(fs::read_to_string("/proc/net/netlink").map(|table| {
            let mut sockets: Vec<_> = table.lines().filter_map(NetlinkSocket::parse).collect();
            sockets.retain(|socket| {
                socket.follows_conntrack() || socket.follows_routes() || socket.drops > 0
            });
            find_owners(&mut sockets);
            let reliable = reliable_by_inode();
            for socket in &mut sockets {
                socket.is_reliable = reliable.get(&socket.inode).copied();
            }
            sockets
        }))
    }

    fn all(&self) -> impl Iterator<Item = &NetlinkSocket> {
        self.0.iter().flatten()
    }

    pub fn conntrack_listener_count(&self) -> usize {
        self.conntrack_listeners().count()
    }

    /// The names of conntrack's listeners that are reliable.
    pub fn reliable_conntrack_listeners(&self) -> Vec<String> {
        let listeners = self.conntrack_listeners();
        let reliable = listeners.filter(|socket| socket.is_reliable == Some(true));
        reliable.map(NetlinkSocket::name).collect()
    }

    fn conntrack_listeners(&self) -> impl Iterator<Item = &NetlinkSocket> {
        self.all().filter(|socket| socket.follows_conntrack())
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

    fn follows_conntrack(&self) -> bool {
        self.protocol == Protocol::NETFILTER && self.groups_mask & CONNTRACK_GROUPS != 0
    }

    fn follows_routes(&self) -> bool {
        self.protocol == Protocol::ROUTE && self.groups_mask & ROUTE_GROUPS != 0
    }

    /// What its drop counter says.
    fn loss(&self) -> String {
        let (name, drops) = (self.name(), self.drops);
        match self.is_reliable {
            Some(false) => format!("{name} lost {drops}"),
            Some(true) => format!(
                "{name} had {drops} failed deliveries (it is reliable: ends of flows are sent again)"
            ),
            None => format!("{name} lost {drops}, or failed deliveries if it is reliable"),
        }
    }

    fn has_drops(&self) -> bool {
        self.drops > 0 && [Protocol::NETFILTER, Protocol::ROUTE].contains(&self.protocol)
    }

    fn name(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{} (process {})", owner.program, owner.process_id),
            None => format!("port ID {}", self.port_id),
        }
    }

    fn json(&self) -> Value {
        let is_route = self.protocol == Protocol::ROUTE;
        json!({
            "protocol": if is_route { "route" } else { "netfilter" },
            "port_id": self.port_id,
            "process_id": self.owner.as_ref().map(|owner| owner.process_id),
            "program": self.owner.as_ref().map(|owner| &owner.program),
            "drops": self.drops,
            "reliable": self.is_reliable,
        })
    }
}

/// Looks for the sockets among the descriptors of all processes; others' are shown to root only.
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
            continue; // another file
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

/// A list of names, cut where it gets long.
fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.len() {
        0 => "nobody".to_owned(),
        count if count > MOST_NAMED => {
            let shown = names[..MOST_NAMED].join(", ");
            format!("{shown} and {} more", count - MOST_NAMED)
        }
        _ => names.join(", "),
    }
}

pub fn listeners(sockets: &NetlinkSockets) -> Check {
    const NAME: &str = "listeners";
    if let Err(error) = &sockets.0 {
        return Check::new(
            NAME,
            State::Unknown,
            format!("read /proc/net/netlink: {error}"),
        );
    }
    let on_routes = || sockets.all().filter(|socket| socket.follows_routes());
    let detail = format!(
        "conntrack: {}; routes: {}",
        list(sockets.conntrack_listeners().map(NetlinkSocket::name)),
        list(on_routes().map(NetlinkSocket::name)),
    );
    let json = |socket: &NetlinkSocket| socket.json();
    Check::new(NAME, State::Ok, detail)
        .value(
            "conntrack",
            sockets.conntrack_listeners().map(json).collect::<Vec<_>>(),
        )
        .value("routes", on_routes().map(json).collect::<Vec<_>>())
}

pub fn drops(sockets: &NetlinkSockets) -> Check {
    const NAME: &str = "drops";
    if let Err(error) = &sockets.0 {
        return Check::new(
            NAME,
            State::Unknown,
            format!("read /proc/net/netlink: {error}"),
        );
    }
    let lossy = || sockets.all().filter(|socket| socket.has_drops());
    let check = if lossy().next().is_none() {
        Check::new(
            NAME,
            State::Ok,
            "no other program's socket here has lost anything",
        )
    } else {
        let detail = format!(
            "since they were opened: {}",
            list(lossy().map(NetlinkSocket::loss))
        );
        Check::new(NAME, State::Note, detail).advice(
            "A larger receive buffer loses less: nlring's --recv-buffer or --recv-buffer-max, or the other program's \
             option.",
        )
    };
    check.value(
        "sockets",
        lossy().map(NetlinkSocket::json).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000f58bfd21 0   0          00000000 0        0        0     2        0        4
000000002883bf44 12  4294963200 00000005 0        0        0     2        2269     1514
000000003a2b0622 0   623        04000440 512      0        0     2        0        1516
000000003a2b0623 16  624        00000001 0        0        0     2        9        1517
a line of another kernel
";

    fn sockets() -> NetlinkSockets {
        NetlinkSockets(Ok(TABLE.lines().filter_map(NetlinkSocket::parse).collect()))
    }

    #[test]
    fn listeners_are_told_by_protocol_and_groups() {
        let check = listeners(&sockets());
        assert_eq!(
            check.detail,
            "conntrack: port ID 4294963200; routes: port ID 623"
        );
        assert_eq!(check.values["routes"][0]["port_id"], 623);
        assert_eq!(check.values["routes"][0]["program"], Value::Null);
    }

    #[test]
    fn only_drops_of_collectors_are_told() {
        let check = drops(&sockets());
        assert_eq!(check.state, State::Note);
        assert!(
            check.detail.ends_with(
                ": port ID 4294963200 lost 2269, or failed deliveries if it is reliable"
            ),
            "{}",
            check.detail
        );
        assert_eq!(check.values["sockets"].as_array().unwrap().len(), 1);
        let none = NetlinkSockets(Ok(Vec::new()));
        assert_eq!(drops(&none).state, State::Ok);
        let unread = NetlinkSockets(Err(io::ErrorKind::NotFound.into()));
        assert_eq!(drops(&unread).state, State::Unknown);
    }

    #[test]
    fn drops_of_a_reliable_socket_are_no_losses() {
        let mut sockets: Vec<_> = sockets().all().cloned().collect();
        for (is_reliable, part) in [
            (Some(false), "4294963200 lost 2269"),
            (Some(true), "4294963200 had 2269 failed deliveries"),
        ] {
            sockets[1].is_reliable = is_reliable;
            let check = drops(&NetlinkSockets(Ok(sockets.clone())));
            assert!(check.detail.contains(part), "{}", check.detail);
            assert_eq!(check.values["sockets"][0]["reliable"], is_reliable.unwrap());
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names = |count: usize| list((0..count).map(|number| number.to_string()));
        assert_eq!(names(0), "nobody");
        assert_eq!(names(4), "0, 1, 2, 3");
        assert_eq!(names(6), "0, 1, 2, 3 and 2 more");
    }
}
