//! A model of the kernel: its routes, the events of their changes, and dumps that skip routes as the kernel's dumps do.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::event_kind::EventKind;
use crate::filter::Program;
use crate::filter::interpreter::run;
use crate::message::flags;
use crate::mirror::Random;
use crate::route::{Route, route_flags};
use crate::{Family, Message, MessageBuilder};

/// What a mirror's user sees of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct View {
    pub family: Family,
    table: u32,
    pub dst: Option<IpAddr>,
    pub prefix_len: u8,
    pub priority: u32,
    pub protocol: u8,
    route_type: u8,
    /// Device, gateway, state.
    pub hops: Vec<(u32, Option<IpAddr>, u32)>,
}

impl View {
    pub(super) fn of(route: &Route<'_>) -> Self {
        let mut hops: Vec<_> = route
            .nexthops
            .map(|hop| (hop.oif, hop.hop.gateway, hop.flags))
            .collect();
        if hops.is_empty() {
            hops.push((
                route.oif.unwrap_or(0),
                route.hop.gateway,
                route.flags & 0xff,
            ));
        }
        hops.sort_unstable();
        Self {
            family: route.family,
            table: route.table,
            dst: route.dst.and_then(|dst| dst.ip()),
            prefix_len: route.dst_prefix_len,
            priority: route.priority.unwrap_or(0),
            protocol: route.protocol,
            route_type: route.route_type,
            hops,
        }
    }

    /// What identifies the route, as the documentation of `Mirror` says.
    pub(super) fn identity(&self) -> Self {
        let mut identity = self.clone();
        if self.family == Family::INET6 && self.hops.iter().any(|hop| hop.1.is_some()) {
            identity.protocol = 0;
            identity.hops = vec![(0, Some([0; 4].into()), 0)];
        }
        for hop in &mut identity.hops {
            hop.2 &= !route_flags::LINKDOWN;
        }
        identity
    }
}

/// An IPv4 route in a leaf of the trie, or part of an IPv6 one in a node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub prefix_len: u8,
    pub priority: u32,
    pub protocol: u8,
    /// Device and gateway, which may be none for IPv6. There are several with IPv6 gateways only.
    pub hops: Vec<(u8, Option<u8>)>,
    pub made_at: u64,
}

impl Entry {
    fn has_gateways(&self) -> bool {
        self.hops[0].1.is_some()
    }

    fn is_key(&self, other: &Self) -> bool {
        (self.prefix_len, self.priority) == (other.prefix_len, other.priority)
    }

    fn is_equal(&self, other: &Self) -> bool {
        self.is_key(other) && (self.protocol, &self.hops) == (other.protocol, &other.hops)
    }
}

pub(super) enum Queued {
    Event(Vec<u8>),
    /// Events were lost here, because the socket's queue was full.
    Loss,
    /// A change that no route event reports.
    Silent,
    /// The acknowledgement that arrives after the events.
    Barrier(u64),
}

/// Where a dump continues.
#[derive(Default)]
pub(super) struct Cursor {
    pub ipv4_key: u8,
    pub ipv4_index: usize,
    pub is_ipv4_done: bool,
    pub ipv6_after: Option<u8>,
    pub ipv6_count: usize,
    pub serial: u64,
    pub is_done: bool,
}

#[derive(Default)]
pub(super) struct Kernel {
    pub ipv4: BTreeMap<u8, Vec<Entry>>,
    pub ipv6: BTreeMap<u8, Vec<Entry>>,
    pub is_down: [bool; 4],
    pub serial: u64,
    pub time: u64,
    pub queue: VecDeque<Queued>,
    pub loss_percent: u32,
    pub silent_percent: u32,
    /// How many destinations each family has. Fewer destinations mean more changes of each.
    pub dst_count: u32,
    /// What decides which events the socket receives. `None`: it receives all.
    pub program: Option<Program>,
}

impl Kernel {
    fn send(&mut self, random: &mut Random, queued: Queued) {
        let is_lost = random.percent(self.loss_percent);
        if let (Some(program), Queued::Event(event)) = (&self.program, &queued)
            && run(program, event) == Some(0)
        {
            return; // an event that the program rejects needs no room
        }
        if is_lost {
            self.queue.push_back(Queued::Loss);
        } else {
            self.queue.push_back(queued);
        }
    }

    pub(super) fn message(
        &self,
        family: Family,
        dst: u8,
        entry: &Entry,
        kind: EventKind,
        flags: u16,
    ) -> Vec<u8> {
        let is_ipv6 = family == Family::INET6;
        let address = |net: u8, host: u8| {
            if is_ipv6 {
                vec![0xfd, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]
            } else {
                vec![10, net, 0, host]
            }
        };
        let state = |device: u8| {
            if self.is_down[usize::from(device)] {
                16u8
            } else {
                0
            }
        };
        let [(device, gateway), ..] = entry.hops[..] else {
            panic!("no hops")
        };
        let mut states = u32::from(state(device)).to_ne_bytes();
        if entry.hops.len() > 1 {
            states = [0; 4];
        }
        let [a, b, c, d] = states;
        let fixed = [
            family.into(),
            entry.prefix_len,
            0,
            0,
            254,
            entry.protocol,
            0,
            1,
            a,
            b,
            c,
            d,
        ];
        let message_type = if kind == EventKind::New { 24 } else { 25 };
        let mut bytes = Vec::new();
        let mut builder = MessageBuilder::new(&mut bytes, message_type, flags)
            .bytes(&fixed)
            .attribute_u32(15, 254)
            .attribute(1, &address(dst, 0));
        if is_ipv6 || entry.priority != 0 {
            builder = builder.attribute_u32(6, entry.priority);
        }
        if entry.hops.len() > 1 {
            let mut hops = Vec::new();
            for &(device, gateway) in &entry.hops {
                hops.extend_from_slice(&28u16.to_ne_bytes());
                hops.extend_from_slice(&[state(device), 0, device, 0, 0, 0]);
                hops.extend_from_slice(&20u16.to_ne_bytes());
                hops.extend_from_slice(&5u16.to_ne_bytes());
                hops.extend(address(200, gateway.unwrap()));
            }
            builder = builder.attribute(9, &hops);
        } else {
            if let Some(gateway) = gateway {
                builder = builder.attribute(5, &address(200, gateway));
            }
            builder = builder.attribute(4, &[device, 0, 0, 0]);
        }
        if is_ipv6 {
            let age = u8::try_from(self.time % 200).unwrap();
            builder = builder.attribute(12, &[age; 32]).attribute_u8(20, 0);
        }
        builder.finish().unwrap();
        bytes
    }

    fn report(&mut self, random: &mut Random, family: Family, dst: u8, entry: &Entry, flags: u16) {
        let message = self.message(family, dst, entry, EventKind::New, flags);
        self.send(random, Queued::Event(message));
    }

    fn report_end(&mut self, random: &mut Random, family: Family, dst: u8, entry: &Entry) {
        let message = self.message(family, dst, entry, EventKind::Delete, 0);
        self.send(random, Queued::Event(message));
    }

    pub(super) fn change(&mut self, random: &mut Random) {
        self.time += 1;
        if random.percent(self.silent_percent) {
            self.silent(random);
        } else if random.percent(50) {
            self.change_ipv4(random);
        } else {
            self.change_ipv6(random);
        }
    }

    /// A device loses its carrier, gets it back, or goes down and takes its IPv4 routes along.
    fn silent(&mut self, random: &mut Random) {
        let device = u8::try_from(1 + random.below(3)).unwrap();
        if random.percent(50) {
            let is_down = &mut self.is_down[usize::from(device)];
            *is_down = !*is_down;
        } else {
            for leaf in self.ipv4.values_mut() {
                leaf.retain(|entry| entry.hops[0].0 != device);
            }
            self.ipv4.retain(|_, leaf| !leaf.is_empty());
        }
        self.send(random, Queued::Silent);
    }

    /// Changes an IPv4 route, like `fib_table_insert` and `fib_table_delete`.
    fn change_ipv4(&mut self, random: &mut Random) {
        let dst = u8::try_from(random.below(self.dst_count)).unwrap();
        let leaf = self.ipv4.entry(dst).or_default();
        if random.percent(40) {
            if leaf.is_empty() {
                self.ipv4.remove(&dst);
                return;
            }
            let index = random.below(u32::try_from(leaf.len()).unwrap()) as usize;
            let entry = leaf.remove(index);
            if leaf.is_empty() {
                self.ipv4.remove(&dst);
            }
            self.report_end(random, Family::INET, dst, &entry);
            return;
        }
        let device = u8::try_from(1 + random.below(3)).unwrap();
        let entry = Entry {
            prefix_len: [16, 24][random.below(2) as usize],
            priority: random.below(2),
            protocol: [3, 4][random.below(2) as usize],
            hops: vec![(device, Some(u8::try_from(random.below(3)).unwrap()))],
            made_at: self.time,
        };
        let first = leaf.iter().position(|other| other.is_key(&entry));
        let is_there = leaf.iter().any(|other| other.is_equal(&entry));
        let how = random.below(4);
        let sent_flags = match (first, how) {
            _ if is_there => None,
            (Some(first), 0 | 1) => {
                leaf[first] = entry.clone();
                Some(flags::REPLACE)
            }
            (Some(first), 2) => {
                leaf.insert(first, entry.clone());
                Some(flags::CREATE)
            }
            (Some(first), _) => {
                let count = leaf[first..]
                    .iter()
                    .take_while(|other| other.is_key(&entry));
                let end = first + count.count();
                leaf.insert(end, entry.clone());
                Some(flags::CREATE | flags::APPEND)
            }
            (None, _) => {
                let order = |other: &Entry| (255 - other.prefix_len, other.priority);
                let end = leaf.partition_point(|other| order(other) < order(&entry));
                leaf.insert(end, entry.clone());
                Some(flags::CREATE | flags::EXCL)
            }
        };
        if leaf.is_empty() {
            self.ipv4.remove(&dst);
        }
        if let Some(flags) = sent_flags {
            self.report(random, Family::INET, dst, &entry, flags);
        }
    }

    /// Changes an IPv6 route, like `ip6_route_multipath_add`, `fib6_add_rt2node` and `ip6_route_del`.
    fn change_ipv6(&mut self, random: &mut Random) {
        let dst = u8::try_from(random.below(self.dst_count)).unwrap();
        if random.percent(45) {
            self.delete_ipv6(random, dst);
            return;
        }
        self.serial += 1;
        let time = self.time;
        let mut new_hop = || {
            let gateway = random
                .percent(80)
                .then(|| u8::try_from(random.below(4)).unwrap());
            (u8::try_from(1 + random.below(3)).unwrap(), gateway)
        };
        let mut hops = vec![new_hop()];
        let second = new_hop();
        if hops[0].1.is_some() && second.1.is_some() && second != hops[0] && random.percent(40) {
            hops.push(second);
        }
        let mut entry = Entry {
            prefix_len: 64,
            priority: 1024 + random.below(2),
            protocol: [3, 4][random.below(2) as usize],
            hops,
            made_at: time,
        };
        let node = self.ipv6.entry(dst).or_default();
        let has_gateways = entry.has_gateways();
        let alike = node
            .iter()
            .position(|other| other.is_key(&entry) && other.has_gateways() == has_gateways);
        let any = node.iter().position(|other| other.is_key(&entry));
        if node.iter().any(|other| other.is_equal(&entry)) {
            return; // the kernel could add a twin, which nobody can distinguish
        }
        if random.percent(40) {
            let flags = if let Some(index) = alike.or(any) {
                node[index] = entry.clone();
                flags::REPLACE
            } else {
                let end = node.partition_point(|other| other.priority <= entry.priority);
                node.insert(end, entry.clone());
                flags::CREATE | flags::EXCL
            };
            self.report(random, Family::INET6, dst, &entry, flags);
            return;
        }
        let group = alike.filter(|_| has_gateways);
        if let Some(index) = group {
            let mut new = entry.hops.clone();
            new.retain(|hop| !node[index].hops.contains(hop));
            if new.is_empty() {
                return;
            }
            node[index].hops.extend(&new);
            // An event begins with a hop that is new.
            entry = node[index].clone();
            let count = entry.hops.len();
            entry.hops.rotate_right(new.len() % count);
            self.report(random, Family::INET6, dst, &entry, flags::CREATE);
        } else if !node
            .iter()
            .any(|other| other.is_key(&entry) && other.hops == entry.hops)
        {
            let end = node.partition_point(|other| other.priority <= entry.priority);
            node.insert(end, entry.clone());
            self.report(random, Family::INET6, dst, &entry, flags::CREATE);
        }
    }

    fn delete_ipv6(&mut self, random: &mut Random, dst: u8) {
        let Some(node) = self.ipv6.get_mut(&dst) else {
            return;
        };
        let index = random.below(u32::try_from(node.len()).unwrap()) as usize;
        let mut gone = node[index].clone();
        if gone.hops.len() > 1 && random.percent(60) {
            let hop = random.below(u32::try_from(gone.hops.len()).unwrap()) as usize;
            gone.hops = vec![node[index].hops.remove(hop)];
        } else {
            node.remove(index);
        }
        if node.is_empty() {
            self.ipv6.remove(&dst);
        }
        self.report_end(random, Family::INET6, dst, &gone);
    }

    /// The next entries of a dump, as `fib_table_dump` and `fib6_dump_table` choose them.
    pub(super) fn dump(&self, cursor: &mut Cursor, limit: usize) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        let new = EventKind::New;
        if !cursor.is_ipv4_done {
            for (&dst, leaf) in self.ipv4.range(cursor.ipv4_key..) {
                let skip = if dst == cursor.ipv4_key {
                    cursor.ipv4_index
                } else {
                    0
                };
                for (index, entry) in leaf.iter().enumerate().skip(skip) {
                    if entries.len() == limit {
                        (cursor.ipv4_key, cursor.ipv4_index) = (dst, index);
                        return entries;
                    }
                    entries.push(self.message(Family::INET, dst, entry, new, flags::MULTI));
                }
                (cursor.ipv4_key, cursor.ipv4_index) = (dst + 1, 0);
            }
            cursor.is_ipv4_done = true;
            cursor.serial = self.serial;
        }
        let is_changed = cursor.serial != self.serial;
        cursor.serial = self.serial;
        let skip = if is_changed { cursor.ipv6_count } else { 0 };
        let after = cursor.ipv6_after.filter(|_| !is_changed);
        let nodes = self.ipv6.iter().skip(skip);
        for (&dst, node) in nodes.filter(|(dst, _)| after.is_none_or(|after| **dst > after)) {
            if entries.len() >= limit {
                return entries;
            }
            for entry in node {
                entries.push(self.message(Family::INET6, dst, entry, new, flags::MULTI));
            }
            cursor.ipv6_after = Some(dst);
            cursor.ipv6_count += 1;
        }
        cursor.is_done = true;
        entries
    }

    pub(super) fn views(&self) -> Vec<(View, u64)> {
        let all = |family: Family, routes: &BTreeMap<u8, Vec<Entry>>| {
            let mut views = Vec::new();
            for (&dst, entries) in routes {
                for entry in entries {
                    let bytes = self.message(family, dst, entry, EventKind::New, 0);
                    let message = one(&bytes);
                    let view = View::of(&Route::decode(&message).unwrap());
                    views.push((view, entry.made_at));
                }
            }
            views
        };
        let mut views = all(Family::INET, &self.ipv4);
        views.extend(all(Family::INET6, &self.ipv6));
        views
    }
}

pub(super) fn one(bytes: &[u8]) -> Message<'_> {
    crate::Messages::new(bytes).next().unwrap()
}
