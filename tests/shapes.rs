//! Datagrams of all shapes arrive whole. Those that are malformed, too long or from a stranger become notices.

mod common;

use std::fmt::Write as _;
use std::net::IpAddr;

use common::{
    Source, Tally, any_sender, engine_with_listener, ip, listener, own_namespace, run,
    set_loopback, skip, start, turn_until, turn_until_event, turn_until_idle,
};
use nlring::message::flags;
use nlring::{
    AddOptions, Backend, Engine, Event, EventKind, MalformedReason, MessageBuilder, Notice,
    Protocol, Running, Socket, conntrack, route,
};

on_each_backend!(
    truncated_datagrams_are_reported_with_their_real_length,
    a_datagram_that_just_fits_is_whole,
    datagrams_of_all_sizes_keep_their_bytes,
    the_good_messages_of_a_malformed_datagram_are_delivered,
    a_notice_comes_where_its_datagram_was,
    a_foreign_sender_is_dropped_and_counted,
    a_foreign_sender_that_is_accepted_is_delivered_with_its_port_id,
    the_group_of_each_datagram_is_reported,
    a_route_of_64_hops_arrives_whole,
    a_route_with_the_largest_number_of_hops_arrives_whole,
    a_link_arrives_whole,
    conntrack_events_arrive,
    uevents_arrive_as_raw_datagrams,
);

const BUFFER_BYTES: usize = 512;

fn truncated_datagrams_are_reported_with_their_real_length(backend: Backend) {
    own_namespace();
    for pktinfo in [false, true] {
        let socket = listener(16 << 20);
        socket.set_pktinfo(pktinfo).unwrap();
        let options = any_sender().buffer_bytes(BUFFER_BYTES);
        let (mut running, id) = start(&Engine::builder().backend(backend), socket, options);
        let mut tally = Tally::default();
        let mut good = Source::new(BUFFER_BYTES);
        let mut long = Source::new(3000);
        let mut longer = Source::new(30_000);
        for _ in 0..100 {
            good.send_many(3, None);
            long.send();
            longer.send();
        }
        good.send();
        turn_until(&mut running, &mut tally, |running, _| {
            running.statistics(id).unwrap().received == 501
        });
        turn_until_idle(&mut running, &mut tally);
        let group = pktinfo.then_some(1);
        assert_eq!(
            tally.truncated,
            [(3000, group), (30_000, group)].repeat(100),
            "every datagram, in order"
        );
        common::assert_all_in_order(&tally.sequences(id), 301);
        let statistics = running.statistics(id).unwrap();
        assert_eq!(
            (
                statistics.truncated,
                statistics.messages,
                statistics.dropped,
                statistics.malformed
            ),
            (200, 301, 0, 0)
        );
        assert_eq!(
            statistics.bytes,
            301 * BUFFER_BYTES as u64 + 100 * 33_000,
            "real lengths"
        );
    }
}

fn a_datagram_that_just_fits_is_whole(backend: Backend) {
    own_namespace();
    // 500 is a multiple of no alignment. The buffer must hold what was asked for, and may hold more.
    let options = any_sender().buffer_bytes(500);
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(16 << 20),
        options,
    );
    Source::new(500).send_many(10, None);
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 10
    });
    assert_eq!(running.statistics(id).unwrap().truncated, 0);
}

/// The datagram with this number, which determines its length and each byte.
fn numbered_datagram(number: u32) -> Vec<u8> {
    let length = match number % 8 {
        0 => 16 << 10,
        rest => 16 + number.wrapping_mul(2_654_435_761) as usize % (1 << (4 + rest)),
    };
    let mut bytes = datagram(&[(u32::try_from(length).unwrap(), length)]);
    bytes[8..12].copy_from_slice(&number.to_ne_bytes());
    bytes[16..].fill(number.to_ne_bytes()[0]);
    bytes
}

/// Default buffers, which the kernel packs if it can, are reused many times, also for datagrams that do not fit.
fn datagrams_of_all_sizes_keep_their_bytes(backend: Backend) {
    const COUNT: u32 = 20_000;
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    let mut source = Source::new(100);
    let mut next = 0;
    let mut truncated_count = 0;
    for number in 0..COUNT {
        source.send_bytes(&numbered_datagram(number));
        if number % 100 == 99 {
            source.send_bytes(&datagram(&[(200_000, 200_000)]));
        }
        if number % 250 != 249 {
            continue;
        }
        turn_until_event(&mut running, |event, _| {
            match event {
                Event::Messages(_, list) => {
                    for datagram in list.datagrams() {
                        assert_eq!(datagram.bytes(), numbered_datagram(next), "number {next}");
                        next += 1;
                    }
                }
                Event::Notice(_, Notice::Truncated { real_bytes, .. }) => {
                    assert_eq!(real_bytes, 200_000);
                    truncated_count += 1;
                }
                Event::Notice(_, Notice::Starved) => {}
                event => panic!("{event:?}"),
            }
            next == number + 1 && truncated_count == (number + 1) / 100
        });
    }
    assert_eq!(running.statistics(id).unwrap().dropped, 0);
}

/// Builds messages from pairs of the length that the header states and the real length.
fn datagram(messages: &[(u32, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, &(stated_bytes, real_bytes)) in (1u32..).zip(messages) {
        let start = bytes.len();
        bytes.resize(start + real_bytes, 0xaa);
        let mut header = stated_bytes.to_ne_bytes().to_vec();
        header.extend_from_slice(&100u16.to_ne_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&number.to_ne_bytes());
        header.extend_from_slice(&[0; 4]);
        let count = header.len().min(real_bytes);
        bytes[start..start + count].copy_from_slice(&header[..count]);
    }
    bytes
}

/// Notes messages and notices in one sequence, because a notice comes right after the messages of its datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Message(u32),
    Malformed(usize, MalformedReason),
    Truncated(usize, Option<u32>),
}

/// Lengths that other libraries get wrong: unaligned, several in a datagram, 0, shorter than a header, beyond the
/// end.
fn the_good_messages_of_a_malformed_datagram_are_delivered(backend: Backend) {
    use MalformedReason::{LengthBelowHeader, LengthBeyondEnd, ShortHeader};
    own_namespace();
    let beyond = |length_bytes, left_bytes| LengthBeyondEnd {
        length_bytes,
        left_bytes,
    };
    let below = |length_bytes| LengthBelowHeader { length_bytes };
    // The messages that are sent, how many are good, and where and how the datagram is malformed.
    let table = [
        (datagram(&[(20, 20)]), 1, None),
        (datagram(&[(16, 16)]), 1, None),
        (datagram(&[(17, 20), (23, 24), (16, 16)]), 3, None), // unaligned, padded
        (datagram(&[(17, 20), (21, 21)]), 2, None),           // the last without padding
        (datagram(&[(18, 18)]), 1, None),
        (datagram(&[(0, 16)]), 0, Some((0, below(0)))),
        (datagram(&[(20, 20), (0, 64)]), 1, Some((20, below(0)))),
        (
            datagram(&[(20, 20), (15, 16), (20, 20)]),
            1,
            Some((20, below(15))),
        ),
        (
            datagram(&[(24, 24), (28, 24)]),
            1,
            Some((24, beyond(28, 24))),
        ),
        (
            datagram(&[(u32::MAX, 32)]),
            0,
            Some((0, beyond(u32::MAX, 32))),
        ),
        (
            datagram(&[(0x7fff_fffc, 16)]),
            0,
            Some((0, beyond(0x7fff_fffc, 16))),
        ),
        (
            datagram(&[(20, 20), (20, 7)]),
            1,
            Some((20, ShortHeader { left_bytes: 7 })),
        ),
        (vec![1], 0, Some((0, ShortHeader { left_bytes: 1 }))),
        (datagram(&[(16, 16); 100]), 100, None),
    ];
    let (mut running, id) = engine_with_listener(backend, 16 << 20);
    let mut source = Source::new(16);
    let rounds = 5; // again, in buffers with older bytes
    for _ in 0..rounds {
        for (bytes, _, _) in &table {
            source.send_bytes(bytes);
        }
    }
    let mut due = Vec::new();
    for (_, good, wrong) in table.iter().cycle().take(table.len() * rounds) {
        due.extend((1..=*good).map(Seen::Message));
        due.extend(wrong.map(|(offset_bytes, reason)| Seen::Malformed(offset_bytes, reason)));
    }
    let mut seen = Vec::new();
    common::turn_until_event(&mut running, |event, _| {
        match event {
            Event::Messages(_, list) => {
                assert!(list.malformed().is_none());
                seen.extend(list.iter().map(|message| Seen::Message(message.sequence())));
            }
            Event::Notice(_, nlring::Notice::Malformed(malformed)) => {
                seen.push(Seen::Malformed(malformed.offset_bytes, malformed.reason));
            }
            event => panic!("{event:?}"),
        }
        seen.len() >= due.len()
    });
    assert_eq!(seen, due);
    let statistics = running.statistics(id).unwrap();
    let count = |f: fn(&Seen) -> bool| due.iter().filter(|seen| f(seen)).count() as u64;
    assert_eq!(
        (
            statistics.messages,
            statistics.malformed,
            statistics.truncated
        ),
        (
            count(|seen| matches!(seen, Seen::Message(_))),
            count(|seen| matches!(seen, Seen::Malformed(..))),
            0
        )
    );
}

/// What cannot be delivered is reported between the messages before it and those after it.
fn a_notice_comes_where_its_datagram_was(backend: Backend) {
    own_namespace();
    let socket = listener(16 << 20);
    socket.set_pktinfo(true).unwrap();
    let options = any_sender().buffer_bytes(BUFFER_BYTES);
    let (mut running, id) = start(&Engine::builder().backend(backend), socket, options);
    let below = MalformedReason::LengthBelowHeader { length_bytes: 0 };
    let bad = (datagram(&[(20, 20), (0, 64)]), Seen::Malformed(20, below));
    let long = |bytes| (vec![1; bytes], Seen::Truncated(bytes, Some(1)));
    let table = [long(700), bad, long(2000), long(800)];
    let mut source = Source::new(64);
    let mut due = Vec::new();
    for (bytes, notice) in table.iter().cycle().take(50 * table.len()) {
        for _ in 0..source.sent_count % 3 {
            due.push(Seen::Message(source.sent_count));
            source.send();
        }
        due.extend(matches!(notice, Seen::Malformed(..)).then_some(Seen::Message(1)));
        source.send_bytes(bytes);
        due.push(*notice);
    }
    let mut seen = Vec::new();
    common::turn_until_event(&mut running, |event, _| {
        match event {
            Event::Messages(_, list) => {
                seen.extend(list.iter().map(|message| Seen::Message(message.sequence())));
            }
            Event::Notice(_, Notice::Malformed(malformed)) => {
                seen.push(Seen::Malformed(malformed.offset_bytes, malformed.reason));
            }
            Event::Notice(_, Notice::Truncated { real_bytes, group }) => {
                seen.push(Seen::Truncated(real_bytes, group));
            }
            Event::Notice(_, Notice::Starved) => {} // a slow machine: nothing is lost
            event => panic!("{event:?}"),
        }
        seen.len() >= due.len()
    });
    assert_eq!(seen, due);
    // Each that is not reported counts as unread.
    let received = running.statistics(id).unwrap().received;
    assert_eq!(received, u64::from(source.sent_count));
    for bytes in [10, 5000, 64] {
        source.send_bytes(&vec![0; bytes]);
    }
    let statistics = running.discard()[0].statistics;
    assert_eq!((statistics.received, statistics.unread), (received, 3));
}

fn a_foreign_sender_is_dropped_and_counted(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(16 << 20),
        AddOptions::new(),
    );
    let mut source = Source::new(100);
    let mut long = Source::new(20_000); // foreign, not truncated: the engine does not read a stranger's datagram
    source.send_many(300, None);
    long.send();
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |running, _| {
        running.statistics(id).unwrap().received == 301
    });
    turn_until_idle(&mut running, &mut tally);
    let reported: u64 = tally.foreign.iter().map(|(count, _)| count).sum();
    assert_eq!(reported, 301);
    assert_eq!(tally.foreign.last().unwrap().1, long.port_id());
    assert!(tally.messages.is_empty() && tally.truncated.is_empty());
    let statistics = running.statistics(id).unwrap();
    assert_eq!(
        (
            statistics.foreign,
            statistics.messages,
            statistics.truncated
        ),
        (301, 0, 0)
    );
}

fn a_foreign_sender_that_is_accepted_is_delivered_with_its_port_id(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 16 << 20);
    let mut senders = [Source::new(100), Source::new(100)];
    for _ in 0..50 {
        for sender in &mut senders {
            sender.send();
        }
    }
    let own_port_id = running.socket(id).unwrap().port_id().unwrap();
    senders[1].send_to(own_port_id);
    let mut from = Vec::new();
    common::turn_until_event(&mut running, |event, _| {
        let Event::Messages(_, list) = event else {
            panic!("{event:?}")
        };
        from.extend(
            list.datagrams()
                .iter()
                .map(nlring::Datagram::sender_port_id),
        );
        from.len() >= 101
    });
    let port_ids = [senders[0].port_id(), senders[1].port_id()];
    assert_ne!(port_ids[0], port_ids[1]);
    let mut due = port_ids.repeat(50);
    due.push(port_ids[1]);
    assert_eq!(from, due);
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.foreign, statistics.messages), (0, 101));
}

fn the_group_of_each_datagram_is_reported(backend: Backend) {
    own_namespace();
    for pktinfo in [false, true] {
        let socket = listener(16 << 20);
        socket.add_membership(3u32).unwrap();
        socket.set_pktinfo(pktinfo).unwrap();
        let port_id = socket.port_id().unwrap();
        let (mut running, _) = start(&Engine::builder().backend(backend), socket, any_sender());
        let sender = Socket::builder(Protocol::USERSOCK).open().unwrap();
        let mut message = Vec::new();
        MessageBuilder::new(&mut message, 100, 0).finish().unwrap();
        for mask in [1, 4, 4, 1] {
            let _ = sender.send_to(&message, 0, mask); // nobody listens at port ID 0
        }
        sender.send_to(&message, port_id, 0).unwrap();
        let mut groups = Vec::new();
        common::turn_until_event(&mut running, |event, _| {
            let Event::Messages(_, list) = event else {
                panic!("{event:?}")
            };
            groups.extend(list.datagrams().iter().map(nlring::Datagram::group));
            groups.len() >= 5
        });
        let due = [1, 3, 3, 1, 0].map(|group| pktinfo.then_some(group));
        assert_eq!(groups, due);
    }
}

/// An engine that listens to events of the kernel in these groups, with default options, and a socket for requests.
fn kernel_events(backend: Backend, protocol: Protocol, groups: &[u32]) -> Running {
    let socket = Socket::builder(protocol)
        .groups(groups.iter().copied())
        .recv_buffer_bytes(4 << 20)
        .open()
        .unwrap();
    start(
        &Engine::builder().backend(backend),
        socket,
        AddOptions::new(),
    )
    .0
}

/// Turns until `f` has found `count` values. Only messages may come.
fn find<T>(
    running: &mut Running,
    count: usize,
    mut f: impl FnMut(&nlring::Message<'_>) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    common::turn_until_event(running, |event, _| {
        let Event::Messages(_, list) = event else {
            panic!("{event:?}");
        };
        found.extend(list.iter().filter_map(|message| f(&message)));
        found.len() >= count
    });
    found
}

fn a_route_of_64_hops_arrives_whole(backend: Backend) {
    own_namespace();
    if !ip("link set lo up") {
        return skip("a_route_of_64_hops_arrives_whole", "needs ip (iproute2)");
    }
    ip("link add veth0 type veth peer name veth1");
    ip("address add 10.0.0.1/24 dev veth0");
    ip("address add fd00::1/64 dev veth0 nodad");
    ip("link set veth0 up");
    ip("link set veth1 up");
    let mut running = kernel_events(
        backend,
        Protocol::ROUTE,
        &[
            route::Group::Ipv4Route.number(),
            route::Group::Ipv6Route.number(),
        ],
    );
    let (mut ipv4, mut ipv6) = (String::new(), String::new());
    for host in 2..66 {
        write!(ipv4, " nexthop via 10.0.0.{host} dev veth0 weight {host}").unwrap();
        write!(ipv6, " nexthop via fd00::{host:x} dev veth0 weight {host}").unwrap();
    }
    ip(&format!("route add 10.1.0.0/16 {ipv4}"));
    ip(&format!("-6 route add fd01::/64 {ipv6}"));
    let addresses = ["10.1.0.0", "fd01::"].map(|address| address.parse::<IpAddr>().unwrap());
    let routes = find(&mut running, 2, |message| {
        let route = route::Route::decode(message)?;
        let address = route.dst.and_then(|dst| dst.ip())?;
        let gateways = route.nexthops.filter(|hop| hop.hop.gateway.is_some());
        addresses
            .contains(&address)
            .then(|| (address, gateways.count()))
    });
    assert_eq!(routes, addresses.map(|address| (address, 64)));
}

/// All next hops are in one attribute, whose length has 16 bits.
fn a_route_with_the_largest_number_of_hops_arrives_whole(backend: Backend) {
    own_namespace();
    if !ip("link set lo up") {
        let name = "a_route_with_the_largest_number_of_hops_arrives_whole";
        return skip(name, "needs ip (iproute2)");
    }
    ip("link add veth0 type veth peer name veth1");
    ip("address add 10.0.0.1/8 dev veth0");
    ip("link set veth0 up");
    ip("link set veth1 up");
    let group = route::Group::Ipv4Route.number();
    let mut running = kernel_events(backend, Protocol::ROUTE, &[group]);
    let socket = Socket::builder(Protocol::ROUTE).open().unwrap();
    let device = common::device_index("veth0");
    for (hop_count, third) in [(1000, 1u8), (4090, 2)] {
        let mut hops = Vec::new();
        for hop in 0..hop_count {
            let gateway = u32::from(std::net::Ipv4Addr::new(10, 0, 0, 2)) + hop;
            hops.extend(16u16.to_ne_bytes()); // struct rtnexthop
            hops.extend([0, 0]);
            hops.extend(device.to_ne_bytes());
            hops.extend([8u16, 5 /* RTA_GATEWAY */].map(u16::to_ne_bytes).concat());
            hops.extend(gateway.to_be_bytes());
        }
        let header = [2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]; // struct rtmsg: IPv4, /24, main, unicast
        let made = common::request(&socket, 24, flags::CREATE, &header, |builder| {
            let builder = builder.attribute(1 /* RTA_DST */, &[10, 200, third, 0]);
            builder.attribute(9 /* RTA_MULTIPATH */, &hops)
        });
        made.unwrap();
        let counts = find(&mut running, 1, |message| {
            let route = route::Route::decode(message)?;
            Some(route.nexthops.count())
        });
        assert_eq!(counts, [hop_count as usize]);
    }
}

fn a_link_arrives_whole(backend: Backend) {
    own_namespace();
    let mut running = kernel_events(backend, Protocol::ROUTE, &[route::Group::Link.number()]);
    set_loopback(&Socket::builder(Protocol::ROUTE).open().unwrap(), true);
    let links = find(&mut running, 1, |message| {
        let name = message.attributes(16).get(3)?.as_str()?.to_owned(); // IFLA_IFNAME
        // The last attributes are there, and end with the message.
        let attributes_bytes: usize = message
            .attributes(16)
            .map(|attribute| (4 + attribute.bytes().len()).next_multiple_of(4))
            .sum();
        assert_eq!(16 + 16 + attributes_bytes, message.bytes().len());
        assert_eq!(message.message_type(), 16); // RTM_NEWLINK
        Some((name, message.bytes().len()))
    });
    let (name, length_bytes) = &links[0];
    assert_eq!(name, "lo");
    assert!(*length_bytes > 500, "{length_bytes}");
}

fn conntrack_events_arrive(backend: Backend) {
    const NAME: &str = "conntrack_events_arrive";
    own_namespace();
    let mut running = kernel_events(backend, Protocol::NETFILTER, &[1, 2, 3]);
    let conntrack = |command: &str, more: &str| {
        let entry =
            format!("{command} -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1234 --dport 443 {more}");
        run("conntrack", &entry.split_whitespace().collect::<Vec<_>>())
    };
    let Some(output) = conntrack("-I", "--state ESTABLISHED --timeout 100") else {
        return skip(NAME, "needs conntrack (conntrack-tools)");
    };
    assert!(output.status.success(), "{output:?}");
    assert!(conntrack("-D", "").unwrap().status.success());
    let flows = find(&mut running, 2, |message| {
        let flow = conntrack::Flow::decode(message)?;
        Some((flow.kind, flow.orig.ports()))
    });
    let ports = Some((1234, 443));
    assert_eq!(flows, [(EventKind::New, ports), (EventKind::Delete, ports)]);
}

fn uevents_arrive_as_raw_datagrams(backend: Backend) {
    own_namespace();
    if run("ip", &["-V"]).is_none() {
        return skip("uevents_arrive_as_raw_datagrams", "needs ip (iproute2)");
    }
    let socket = Socket::builder(Protocol::KOBJECT_UEVENT)
        .group(1u32)
        .open()
        .unwrap();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        socket,
        AddOptions::new(),
    );
    ip("link add veth0 type veth peer name veth1");
    common::turn_until_event(&mut running, |event, _| {
        let Event::Messages(_, list) = event else {
            panic!("{event:?}");
        };
        assert_eq!((list.message_count(), list.iter().count()), (0, 0));
        list.datagrams().iter().any(|datagram| {
            datagram.bytes().starts_with(b"add@")
                && datagram.bytes().ends_with(b"\0")
                && String::from_utf8_lossy(datagram.bytes()).contains("INTERFACE=veth0")
        })
    });
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.malformed, statistics.messages), (0, 0));
}
