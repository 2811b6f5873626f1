//! A route as the line that `ip monitor route` (iproute2 6.1) prints for it. A route with several hops has several
//! lines, and some lines end in a blank, as in ip.

pub(super) mod encap;
mod metrics;

use std::io::Write as _;

use nlring::route::{
    Address, CacheInfo, Hop, Nexthop, Route, Via, protocol, route_flags, route_type,
    route_type_name, scope, table,
};
use nlring::{EventKind, Family, Timestamp};

use crate::local_time::LocalTime;
use crate::route::device_names::DeviceNames;
use crate::route::iproute_names::IprouteNames;
use crate::route::names::Names;
use crate::text::{write_decimal, write_escaped, write_hex, write_ip};

/// What a line of text shows in addition to the route.
#[derive(Debug)]
pub struct TextOptions {
    /// The names of tables, protocols, scopes, realms and types of service.
    pub names: IprouteNames,
    /// How each line shows when it was received, and in which time zone. `None`: it does not.
    pub timestamp: Option<(TimestampLayout, LocalTime)>,
}

/// The layouts in which ip shows the time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampLayout {
    /// Before the line, as with `ip -tshort`: `[2026-11-24T08:12:31.274061] `.
    Short,
    /// On a separate line, as with `ip -timestamp`: `Timestamp: Tue Nov 24 08:12:31 2026 274061 usec`.
    Long,
}

impl TextOptions {
    /// Reads the names of iproute2's configuration on this host and, for a timestamp, the local time zone.
    pub fn load(timestamp: Option<TimestampLayout>) -> Self {
        Self {
            names: IprouteNames::load(),
            timestamp: timestamp.map(|layout| (layout, LocalTime::system())),
        }
    }

    /// Appends when the line's event was received, if lines show that.
    pub(crate) fn write_timestamp(&self, out: &mut Vec<u8>, received_at: Timestamp) {
        match &self.timestamp {
            None => {}
            Some((TimestampLayout::Short, zone)) => {
                out.push(b'[');
                zone.write_iso(out, received_at);
                out.extend_from_slice(b"] ");
            }
            Some((TimestampLayout::Long, zone)) => {
                out.extend_from_slice(b"Timestamp: ");
                zone.write_ctime(out, received_at);
                out.push(b' ');
                write_decimal(out, received_at.as_ns() % 1_000_000_000 / 1000);
                out.extend_from_slice(b" usec\n");
            }
        }
    }
}

/// Appends the route's line or lines. Appends nothing for an entry of the route cache, which `ip monitor` leaves out.
pub fn write_line(
    out: &mut Vec<u8>,
    route: &Route<'_>,
    devices: &DeviceNames,
    options: &TextOptions,
    received_at: Timestamp,
) {
    if route.is_cloned() {
        return;
    }
    options.write_timestamp(out, received_at);
    let names = &options.names;
    let mut line = Line {
        out,
        devices,
        names,
    };
    line.route(route);
}

/// A line that is being written. Each method appends what a part of a function of ip prints.
pub(crate) struct Line<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) devices: &'a DeviceNames,
    pub(crate) names: &'a IprouteNames,
}

impl Line<'_> {
    /// Appends the route's line or lines (ip's function `print_route`).
    pub(crate) fn route(&mut self, route: &Route<'_>) {
        self.destination(route);
        self.path(route);
        self.attributes(route);
        self.details(route);
        for nexthop in route.nexthops {
            self.nexthop(route.family, &nexthop);
        }
        self.text("\n");
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Appends a label, a number and a blank.
    pub(crate) fn number(&mut self, label: &str, value: impl itoa::Integer) {
        self.text(label);
        write_decimal(self.out, value);
        self.text(" ");
    }

    pub(crate) fn hex(&mut self, label: &str, value: u64) {
        self.text(label);
        write_hex(self.out, value);
        self.text(" ");
    }

    /// Appends a label, the name of a number, or the number if it has none, and a blank.
    pub(crate) fn name(&mut self, label: &str, names: &Names, id: u32) {
        match names.get(id) {
            Some(name) => {
                self.text(label);
                self.text(name);
                self.text(" ");
            }
            None => self.number(label, id),
        }
    }

    pub(crate) fn device(&mut self, label: &str, index: u32) {
        self.text(label);
        match self.devices.get(index) {
            _ if index == 0 => self.text("*"),
            Some(name) => write_escaped(self.out, name),
            None => {
                self.text("if");
                write_decimal(self.out, index);
            }
        }
        self.text(" ");
    }

    pub(crate) fn address(&mut self, family: Family, address: &Address<'_>) {
        match address {
            Address::Ip(ip) => write_ip(self.out, *ip),
            Address::Mpls(labels) => self.labels(*labels),
            Address::Other(bytes) if family == Family::PACKET => self.hardware_address(bytes),
            _ => self.text("???"),
        }
    }

    fn labels(&mut self, labels: nlring::route::Labels<'_>) {
        for (index, label) in labels.enumerate() {
            if index != 0 {
                self.text("/");
            }
            write_decimal(self.out, label);
        }
    }

    pub(crate) fn hardware_address(&mut self, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            let _ = write!(self.out, "{colon}{byte:02x}"); // writing to a Vec cannot fail
        }
    }

    /// Appends the route's type, destination and source.
    fn destination(&mut self, route: &Route<'_>) {
        if route.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        if route.route_type != route_type::UNICAST {
            match route_type_name(route.route_type) {
                Some(name) => self.text(name),
                None => write_decimal(self.out, route.route_type),
            }
            self.text(" ");
        }
        match &route.dst {
            Some(dst) => self.prefix(route.family, dst, route.dst_prefix_len),
            None if route.dst_prefix_len != 0 => self.number("0/", route.dst_prefix_len),
            None => self.text("default"),
        }
        self.text(" ");
        match &route.src {
            Some(src) => {
                self.text("from ");
                self.prefix(route.family, src, route.src_prefix_len);
                self.text(" ");
            }
            None if route.src_prefix_len != 0 => self.number("from 0/", route.src_prefix_len),
            None => {}
        }
    }

    /// Appends an address, and its prefix length if that is shorter than the address.
    pub(crate) fn prefix(&mut self, family: Family, address: &Address<'_>, prefix_len: u8) {
        self.address(family, address);
        let whole = match family {
            Family::INET => 32,
            Family::INET6 => 128,
            Family::MPLS => 20,
            _ => 0,
        };
        if prefix_len != whole {
            self.text("/");
            write_decimal(self.out, prefix_len);
        }
    }

    /// Appends the path that packets take.
    fn path(&mut self, route: &Route<'_>) {
        let Hop {
            gateway,
            via,
            encap,
            ..
        } = route.hop;
        if let Some(id) = route.nexthop_id {
            self.number("nhid ", id);
        }
        if let Some(new_dst) = &route.hop.new_dst {
            self.new_destination(route.family, new_dst);
        }
        if let Some(encap) = encap {
            self.encap(route.hop.encap_type, encap);
        }
        if route.tos != 0 {
            self.tos(route.tos);
        }
        if let Some(gateway) = gateway {
            self.gateway(gateway);
        }
        if let Some(via) = &via {
            self.via(via);
        }
        if let Some(oif) = route.oif {
            self.device("dev ", oif);
        }
    }

    pub(crate) fn tos(&mut self, tos: u8) {
        match self.names.dsfields.get(u32::from(tos)) {
            Some(name) => {
                self.text("tos ");
                self.text(name);
            }
            None => {
                let _ = write!(self.out, "tos 0x{tos:02x}"); // writing to a Vec cannot fail
            }
        }
        self.text(" ");
    }

    fn new_destination(&mut self, family: Family, address: &Address<'_>) {
        self.text("as to ");
        self.address(family, address);
        self.text(" ");
    }

    pub(crate) fn gateway(&mut self, gateway: std::net::IpAddr) {
        self.text("via ");
        write_ip(self.out, gateway);
        self.text(" ");
    }

    fn via(&mut self, via: &Via<'_>) {
        self.text(match via.family {
            Family::INET => "via inet ",
            Family::INET6 => "via inet6 ",
            Family::PACKET => "via link ",
            Family::MPLS => "via mpls ",
            Family::BRIDGE => "via bridge ",
            _ => "via ??? ",
        });
        self.address(via.family, &via.address);
        self.text(" ");
    }

    /// Appends the table, the protocol and the other attributes of the route itself.
    fn attributes(&mut self, route: &Route<'_>) {
        let names = self.names;
        if route.table != 0 && route.table != table::MAIN {
            self.name("table ", &names.tables, route.table);
        }
        if route.protocol != protocol::BOOT {
            self.name("proto ", &names.protocols, u32::from(route.protocol));
        }
        if route.scope != scope::UNIVERSE {
            self.name("scope ", &names.scopes, u32::from(route.scope));
        }
        if let Some(prefsrc) = route.prefsrc {
            self.text("src ");
            write_ip(self.out, prefsrc);
            self.text(" ");
        }
        if let Some(priority) = route.priority {
            self.number("metric ", priority);
        }
        self.flags(route.flags);
    }

    pub(crate) fn flags(&mut self, flags: u32) {
        let names = [
            (route_flags::DEAD, "dead "),
            (route_flags::ONLINK, "onlink "),
            (route_flags::PERVASIVE, "pervasive "),
            (route_flags::OFFLOAD, "offload "),
            (route_flags::TRAP, "trap "),
            (route_flags::NOTIFY, "notify "),
            (route_flags::LINKDOWN, "linkdown "),
            (route_flags::UNRESOLVED, "unresolved "),
            (route_flags::ROUTE_OFFLOAD, "rt_offload "),
            (route_flags::ROUTE_TRAP, "rt_trap "),
            (route_flags::ROUTE_OFFLOAD_FAILED, "rt_offload_failed "),
        ];
        for (_, name) in names.iter().filter(|(bit, _)| flags & bit != 0) {
            self.text(name);
        }
    }

    /// Appends the remaining fields. As in ip, there is no blank after the preference and after the propagation of the
    /// TTL.
    fn details(&mut self, route: &Route<'_>) {
        match route.mark.unwrap_or(0) {
            0 => {}
            mark @ 1..16 => self.number("mark ", mark),
            mark => self.hex("mark 0x", u64::from(mark)),
        }
        if let Some(realms) = route.hop.realms {
            self.realms(realms);
        }
        if let Some(uid) = route.uid {
            self.number("uid ", uid);
        }
        if let Some(info) = &route.cache_info
            && [Family::INET, Family::INET6].contains(&route.family)
        {
            self.cache_info(info);
        }
        self.metrics(route.metrics);
        if let Some(iif) = route.iif {
            self.device("iif ", iif);
        }
        match route.pref {
            Some(0) => self.text("pref medium"),
            Some(1) => self.text("pref high"),
            Some(3) => self.text("pref low"),
            Some(pref) => write_decimal(self.out, pref),
            None => {}
        }
        match route.ttl_propagate {
            Some(true) => self.text("ttl-propogate enabled"), // the spelling of ip
            Some(false) => self.text("ttl-propogate disabled"),
            None => {}
        }
    }

    pub(crate) fn realms(&mut self, realms: u32) {
        let names = &self.names.realms;
        let (from, to) = (realms >> 16, realms & 0xffff);
        if from == 0 {
            self.name("realm ", names, to);
        } else {
            self.name("realms ", names, from);
            self.out.pop();
            self.name("/", names, to);
        }
    }

    fn cache_info(&mut self, info: &CacheInfo) {
        if let Some(seconds) = info.expires_seconds() {
            self.text("expires ");
            write_decimal(self.out, seconds);
            self.text("sec ");
        }
        if info.error != 0 {
            self.number("error ", info.error);
        }
        if info.id != 0 {
            let _ = write!(self.out, "ipid 0x{:04x} ", info.id); // writing to a Vec cannot fail
        }
        if info.ts != 0 || info.ts_age_seconds != 0 {
            let (ts, age) = (info.ts, info.ts_age_seconds);
            let _ = write!(self.out, "ts 0x{ts:x}tsage {age}sec "); // writing to a Vec cannot fail
        }
    }

    /// Appends one of several hops on a separate line.
    fn nexthop(&mut self, family: Family, nexthop: &Nexthop<'_>) {
        let hop = &nexthop.hop;
        self.text("\n\tnexthop ");
        if let Some(encap) = hop.encap {
            self.encap(hop.encap_type, encap);
        }
        if let Some(new_dst) = &hop.new_dst {
            self.new_destination(family, new_dst);
        }
        if let Some(gateway) = hop.gateway {
            self.gateway(gateway);
        }
        if let Some(via) = &hop.via {
            self.via(via);
        }
        if let Some(realms) = hop.realms {
            self.realms(realms);
        }
        self.device("dev ", nexthop.oif);
        if family != Family::MPLS {
            self.number("weight ", nexthop.weight);
        }
        self.flags(nexthop.flags);
    }
}

/// Linux 6.18 sent these bytes to a little-endian machine, and ip 6.1 printed these lines for them.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nlring::route::Link;
    use nlring_testing::allocator::count_allocations;
    use nlring_testing::datagrams::route::{
        BROADCAST, DELETED, ENCAP_IP, ENCAP_SEG6, EXPIRES, METRICS, MULTIPATH, NEXTHOP_GROUP,
        UNREACHABLE, VIA_INET6, WITH_SOURCE,
    };

    use super::*;
    use nlring::{MessageBuilder, MessageList};

    fn line(bytes: &[u8], devices: &DeviceNames) -> String {
        let options = TextOptions {
            names: IprouteNames::built_in(),
            timestamp: None,
        };
        let mut out = Vec::with_capacity(4096);
        for message in &MessageList::new(bytes) {
            let route = Route::decode(&message).unwrap();
            let allocations = count_allocations(|| {
                write_line(&mut out, &route, devices, &options, Timestamp::UNIX_EPOCH);
            });
            assert_eq!(allocations, 0, "formatting allocates nothing");
        }
        String::from_utf8(out).unwrap()
    }

    fn devices(names: &[(u32, &str)]) -> DeviceNames {
        let mut devices = DeviceNames::default();
        for (index, name) in names {
            let mut bytes = Vec::new();
            let index = index.to_ne_bytes();
            MessageBuilder::new(&mut bytes, 16, 0)
                .bytes(&[[0; 4], index, [0; 4], [0; 4]].concat())
                .attribute_str_nul(3, name)
                .finish()
                .unwrap();
            for message in &MessageList::new(&bytes) {
                devices.apply(&Link::decode(&message).unwrap());
            }
        }
        devices
    }

    #[test]
    fn lines_are_those_of_ip() {
        let devices = devices(&[(1, "lo"), (3, "v0"), (4, "br0")]);
        let lines = [
            (
                BROADCAST,
                "broadcast 127.255.255.255 dev lo table local proto kernel scope link src 127.0.0.1 \n",
            ),
            (UNREACHABLE, "unreachable 10.7.0.0/16 metric 4294967295 \n"),
            (
                DELETED,
                "Deleted 10.4.0.0/16 via 10.0.0.2 dev v0 table 1000 linkdown \n",
            ),
            (
                MULTIPATH,
                "10.3.1.0/24 metric 7 \n\tnexthop via 10.0.0.2 dev v0 weight 1 onlink \n\tnexthop dev br0 \
                 weight 1 \n",
            ),
            (
                NEXTHOP_GROUP,
                "10.21.0.0/16 nhid 11 \n\tnexthop via 10.0.0.2 dev v0 weight 1 \n\tnexthop via 10.0.0.3 dev v0 \
                 weight 2 \n",
            ),
            (
                METRICS,
                "10.10.0.1 via 10.0.0.2 dev v0 mtu lock 1400 window 500 rtt 1.5s rttvar 3s ssthresh 7 cwnd lock \
                 9 advmss 1300 reordering 4 hoplimit 9 initcwnd 10 features ecn rto_min lock 200ms initrwnd 11 \
                 quickack 1 congctl cubic fastopen_no_cookie 1 \n",
            ),
            (VIA_INET6, "10.12.0.0/16 via inet6 fe80::5 dev v0 \n"),
            (
                ENCAP_IP,
                "10.16.0.0/16  encap ip id 100 src 2.2.2.2 dst 1.1.1.1 ttl 9 tos 4 key csum seq via 10.0.0.2 \
                 dev v0 \n",
            ),
            (
                ENCAP_SEG6,
                "fc01::/64  encap seg6 mode encap segs 2 [ fc00::2 fc00::3 ] dev v0 metric 1024 pref medium\n",
            ),
            (
                EXPIRES,
                "fd01::/64 via fe80::2 dev v0 metric 1024 expires 300sec pref medium\n",
            ),
            (
                WITH_SOURCE,
                "fd07::/64 from fd09::/48 via fe80::2 dev v0 metric 1024 pref medium\n",
            ),
        ];
        for (datagram, want) in lines {
            assert_eq!(line(datagram, &devices), want);
        }
    }

    #[test]
    fn an_unknown_device_is_its_index_and_a_name_cannot_break_the_line() {
        let unknown = line(DELETED, &DeviceNames::default());
        assert!(unknown.contains(" dev if3 table 1000 "), "{unknown}");
        let named = line(DELETED, &devices(&[(3, "\x1b[2J")]));
        assert!(named.contains(" dev \\x1b[2J table 1000 "), "{named}");
    }

    #[test]
    fn the_route_cache_is_left_out() {
        let mut bytes = BROADCAST.to_vec();
        bytes[25] |= 2; // RTM_F_CLONED
        assert_eq!(line(&bytes, &DeviceNames::default()), "");
    }
}
