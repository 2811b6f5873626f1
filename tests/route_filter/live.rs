//! Filters on real events and dumps of routes, which ip(8) makes.

use nlring::message::flags;
use nlring::route::{DumpFilter, Filter, Group, Requests, Route, message_type};
use nlring::{Family, Messages, Protocol, RecvFlags, Socket};
use nlring_testing::{await_that, must, own_namespace};

const GROUPS: [Group; 3] = [Group::Ipv4Route, Group::Ipv6Route, Group::Link];

/// Two devices that are up, and nexthop objects. The kernel gives them no addresses of its own.
const DEVICES: [&str; 16] = [
    "link set lo up",
    "link add d0 type veth peer name p0",
    "link add d1 type veth peer name p1",
    "link set d0 addrgenmode none",
    "link set d1 addrgenmode none",
    "link set p0 addrgenmode none",
    "link set p1 addrgenmode none",
    "link set d0 up",
    "link set d1 up",
    "link set p0 up",
    "link set p1 up",
    "address add 10.0.0.1/24 dev d0",
    "address add fd00::1/64 dev d0 nodad",
    "nexthop add id 1 via 10.0.0.2 dev d0",
    "nexthop add id 2 via fd00::2 dev d0",
    "nexthop add id 3 group 1",
];

/// Every way to change routes: also those that change several at once, or routes of several hops.
const CHANGES: [&str; 27] = [
    "route add 10.1.0.0/16 via 10.0.0.2 table 1000 proto bgp metric 7",
    "route add 10.1.2.0/24 dev d0 proto static",
    "route append 10.1.2.0/24 dev d1 proto static",
    "route replace 10.1.2.0/24 dev d1 proto bgp",
    "route add 10.2.0.0/16 nexthop via 10.0.0.2 dev d0 nexthop dev d1",
    "route add 10.3.0.0/16 via inet6 fd00::5 dev d0",
    "route add 10.4.0.0/16 nhid 3",
    "route add blackhole 10.5.0.0/16",
    "route add default via 10.0.0.3 metric 200",
    "-6 route add fd01::/64 via fd00::2 metric 7",
    "-6 route append fd01::/64 via fd00::3 metric 7",
    "-6 route add fd02::/64 nexthop via fd00::2 nexthop via fd00::3",
    "-6 route replace fd02::/64 nexthop via fd00::4 nexthop via fd00::5",
    "-6 route add fd03::/64 nhid 2",
    "-6 route add default via fd00::9 table 1000",
    "-6 route add unreachable fd04::/32",
    "-6 route del fd01::/64 via fd00::3 metric 7",
    "-6 route del fd02::/64",
    "nexthop replace id 1 via 10.0.0.7 dev d0",
    "nexthop del id 2",
    "nexthop del id 3",
    "route del 10.1.2.0/24 dev d1",
    "route flush table 1000",
    "-6 route flush table 1000",
    "link set d1 down",
    "address del 10.0.0.1/24 dev d0",
    "link del d0",
];

fn filters(device: u32) -> Vec<String> {
    let device_texts = ["dev", "family ipv6 and oif", "not dev"];
    let of_device = device_texts.map(|text| format!("{text} {device}"));
    let others = [
        "all",
        "event delete",
        "event {replace, append}",
        "event new and not event {replace, append}",
        "family ipv6",
        "table 1000",
        "table main and not proto kernel",
        "proto {bgp, static}",
        "type {blackhole, unreachable}",
        "scope link or scope host",
        "dst 10.1.2.0/24",
        "dst 10.0.0.0/8 or-longer and table main",
        "dst 10.1.2.3 or-shorter",
        "dst {fd01::1, fd02::1} or-shorter",
        "dst default",
        "via 10.0.0.2",
        "via fd00::/64 and not via fd00::3",
        "metric {7, 200}",
        "metric 0",
        "portid 0",
        "not portid 0",
    ];
    let others = others.map(str::to_owned);
    others.into_iter().chain(of_device).collect()
}

/// Makes the devices, and waits until they have a carrier, which the kernel notes later.
fn make_devices() {
    for commands in DEVICES {
        must(&format!("ip {commands}"));
    }
    let mut requests = Requests::open().expect("a requester");
    await_that("the devices have a carrier", || {
        let dump = requests.links(|up_count: &mut usize, link| {
            *up_count += usize::from(link.oper_state == Some(6));
        });
        dump.expect("a dump").items == 4
    });
}

fn listener(filter: Option<&Filter>) -> Socket {
    let mut builder = Socket::builder(Protocol::ROUTE)
        .groups(GROUPS)
        .recv_buffer_bytes(4 << 20)
        .nonblocking(true);
    if let Some(filter) = filter {
        builder = builder.filter(&filter.program().expect("a program"));
    }
    builder.open().expect("a socket")
}

/// The routes that a socket has received, and how many other messages. Each datagram has one message.
fn received(socket: &Socket) -> (Vec<Vec<u8>>, usize) {
    let mut buffer = vec![0; 1 << 16];
    let (mut routes, mut other_count) = (Vec::new(), 0);
    while let Ok(list) = socket.recv(&mut buffer, RecvFlags::NONE) {
        assert_eq!((list.message_count(), list.malformed()), (1, None));
        let message = list.iter().next().expect("a message");
        if Route::decode(&message).is_some() {
            routes.push(list.datagrams()[0].bytes().to_vec());
        } else {
            other_count += 1;
        }
    }
    assert_eq!(socket.drops().expect("a count"), 0);
    (routes, other_count)
}

fn with_route<T>(bytes: &[u8], f: impl FnOnce(&Route<'_>) -> T) -> T {
    let message = Messages::new(bytes).next().expect("a message");
    f(&Route::decode(&message).expect("a route"))
}

fn index_of(device: &str) -> u32 {
    let mut requests = Requests::open().expect("a requester");
    let dump = requests.links(|found: &mut Option<u32>, link| {
        if link.name == Some(device.as_bytes()) {
            *found = Some(link.index);
        }
    });
    dump.expect("a dump").items.expect("the device")
}

#[test]
fn a_filtered_socket_receives_the_events_that_match() {
    own_namespace();
    make_devices();
    let texts = filters(index_of("d0"));
    let sockets: Vec<_> = texts
        .iter()
        .map(|text| {
            let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let socket = listener(Some(&filter));
            (filter, socket)
        })
        .collect();
    let unfiltered = listener(None);
    for commands in CHANGES {
        must(&format!("ip {commands}"));
    }
    let (all, _) = received(&unfiltered);
    assert!(all.len() > 30, "{}", all.len());
    for (filter, socket) in &sockets {
        let (came, other_count) = received(socket);
        assert!(other_count > 0, "events of devices pass `{filter}`");
        let is_wanted = |bytes: &&Vec<u8>| with_route(bytes, |route| filter.matches(route));
        let expected: Vec<_> = all.iter().filter(is_wanted).collect();
        let wanted: Vec<_> = came.iter().filter(is_wanted).collect();
        assert_eq!(wanted, expected, "{filter}");
        if !filter.needs_user_space() {
            assert_eq!(came.len(), expected.len(), "{filter}");
        }
        assert!(!expected.is_empty(), "no event matches `{filter}`");
        assert!(
            filter.is_all() || expected.len() < all.len(),
            "all events match `{filter}`"
        );
    }
}

/// The routes of a dump that match, as bytes, and how many the kernel sent.
fn dumped(requests: &mut Requests, asked: &DumpFilter, filter: &Filter) -> (Vec<String>, usize) {
    let dump = requests.dump(
        asked,
        |(routes, count): &mut (Vec<String>, usize), route| {
            *count += 1;
            if filter.matches(route) {
                routes.push(format!("{route:?}"));
            }
        },
    );
    dump.expect("a dump").items
}

#[test]
fn a_filtered_dump_has_the_routes_that_match() {
    own_namespace();
    make_devices();
    for commands in &CHANGES[..16] {
        must(&format!("ip {commands}"));
    }
    let device = index_of("d0");
    let mut requests = Requests::open().expect("a requester");
    let all = DumpFilter::new();
    for (text, is_picked_by_kernel) in [
        ("table 1000".to_owned(), true),
        ("proto bgp and family ipv4".to_owned(), true),
        ("type blackhole".to_owned(), true),
        (format!("dev {device} and not proto kernel"), true),
        (
            format!("dev {device} and table main and dst ::/0 or-longer"),
            true,
        ),
        ("dst 10.1.2.3 or-shorter".to_owned(), true),
        ("metric 7".to_owned(), false),
        ("table 1000 or dst default".to_owned(), false),
    ] {
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
        let (expected, all_count) = dumped(&mut requests, &all, &filter);
        let (found, count) = dumped(&mut requests, &filter.dump_filter(), &filter);
        assert_eq!(found, expected, "{text}");
        assert!(!found.is_empty(), "no route matches `{text}`");
        assert_eq!(
            count < all_count,
            is_picked_by_kernel,
            "{text}: {count} of {all_count}"
        );
        let sent = sent_by_kernel(&mut requests, &filter.dump_filter());
        assert!(
            sent < all_count || !is_picked_by_kernel,
            "{text}: the kernel sent {sent}"
        );
    }
    for nothing in [
        "table 4000000000",
        "table 77 and family ipv6",
        "dev 12345",
        "family ipv6 and dev 12345",
    ] {
        let filter: Filter = nothing.parse().expect("a filter");
        let (found, _) = dumped(&mut requests, &filter.dump_filter(), &filter);
        assert!(found.is_empty(), "{nothing}");
    }
    let mut replies = requests.dump_replies(&all.oif(12345)).expect("sent");
    let refusal = replies.next_message().expect_err("there is no such device");
    assert_eq!(refusal.raw_os_error(), Some(libc::ENODEV));
    drop(replies);
    let families = [Family::INET, Family::INET6].map(|family| all.family(family));
    assert!(
        families
            .iter()
            .all(|asked| sent_by_kernel(&mut requests, asked) > 0)
    );
}

/// How many routes the kernel sends for a dump.
fn sent_by_kernel(requests: &mut Requests, asked: &DumpFilter) -> usize {
    let mut replies = requests.dump_replies(asked).expect("sent");
    let mut count = 0;
    while let Some(message) = replies.next_message().expect("a reply") {
        assert!(message.flags() & flags::MULTI != 0);
        count += usize::from(message.message_type() == message_type::NEW_ROUTE);
    }
    count
}
