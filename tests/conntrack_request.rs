//! Requests to conntrack, compared with what conntrack(8) prints about the same flows. Each test has its own
//! namespace.

mod common;

use std::fmt::Write as _;
use std::net::IpAddr;

use nlring::conntrack::{
    DumpFilter, Flow, FlowChange, Key, Layer4, NewFlow, ProtocolState, Requests, Tuple, Zone,
    ZoneDirection, status,
};
use nlring::message::flags;
use nlring::{Batch, ErrorKind, EventKind, Family, Message, MessageBuilder};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ESTABLISHED: u8 = 3;

fn requests() -> Requests {
    common::own_namespace();
    Requests::open().expect("a requester")
}

/// Runs conntrack(8). None: it is not installed.
fn conntrack(arguments: &str) -> Option<String> {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let output = common::run("conntrack", &arguments)?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "conntrack {arguments:?}: {error}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the test if conntrack(8) is installed.
macro_rules! needs_conntrack {
    ($name:literal) => {
        if common::run("conntrack", &["--version"]).is_none() {
            return common::skip($name, "it compares with conntrack(8)");
        }
    };
}

fn tuple(src: &str, dst: &str, protocol: u8, layer4: Layer4) -> Tuple {
    Tuple::new(src.parse().unwrap(), dst.parse().unwrap(), protocol, layer4)
}

fn ports(src: u16, dst: u16) -> Layer4 {
    Layer4::Ports { src, dst }
}

fn udp(port: u16) -> Tuple {
    tuple("10.0.0.1", "10.0.0.2", UDP, ports(port, 53))
}

fn key(orig: Tuple) -> Key {
    Key { orig, zone: None }
}

fn echo(icmp_type: u8) -> Layer4 {
    Layer4::Icmp {
        icmp_type,
        code: 0,
        id: 77,
    }
}

/// Flows of each family, protocol, zone, mark and status that the filters distinguish.
fn some_of_each() -> Vec<NewFlow<'static>> {
    let udp_v6 = tuple("fd00::1", "fd00::2", UDP, ports(5, 53));
    let tcp = tuple("10.0.0.1", "10.0.0.2", TCP, ports(40_000, 443));
    let tcp_v6 = tuple("fd00::1", "fd00::2", TCP, ports(40_000, 443));
    vec![
        NewFlow::new(udp(1), 600),
        NewFlow::new(udp(2), 600).mark(0x17),
        NewFlow::new(udp(3), 600).zone(Zone::new(5, ZoneDirection::Both)),
        NewFlow::new(udp(3), 600)
            .zone(Zone::new(6, ZoneDirection::Orig))
            .mark(0x27),
        NewFlow::new(udp_v6, 600).zone(Zone::new(5, ZoneDirection::Both)),
        NewFlow::new(tcp, 600)
            .tcp_state(ESTABLISHED)
            .status(status::SEEN_REPLY | status::ASSURED),
        NewFlow::new(tcp_v6, 600).tcp_state(ESTABLISHED).mark(0x17),
        NewFlow::new(tuple("10.0.0.1", "10.0.0.2", ICMP, echo(8)), 600),
        NewFlow::new(tuple("fd00::1", "fd00::2", ICMPV6, echo(128)), 600),
        NewFlow::new(tuple("10.0.0.1", "10.0.0.2", 89, Layer4::None), 600),
    ]
}

/// What follows the timeout in a line of `conntrack -L -o id`, without flags and references.
fn written(flow: &Flow<'_>) -> String {
    let mut line = String::new();
    let zone = flow.zone.map(|zone| (zone.direction, zone.id));
    let tuples = [
        (Some(flow.orig), ZoneDirection::Orig, " zone-orig="),
        (flow.reply, ZoneDirection::Reply, " zone-reply="),
    ];
    for (tuple, of, name) in tuples {
        let tuple = tuple.expect("a tuple");
        write!(line, " src={} dst={}", tuple.src, tuple.dst).unwrap();
        match tuple.layer4 {
            Layer4::Ports { src, dst } => write!(line, " sport={src} dport={dst}").unwrap(),
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => write!(line, " type={icmp_type} code={code} id={id}").unwrap(),
            _ => {}
        }
        if let Some((direction, id)) = zone
            && direction == of
        {
            write!(line, "{name}{id}").unwrap();
        }
    }
    write!(line, " mark={}", flow.mark.unwrap_or(0)).unwrap();
    if let Some((ZoneDirection::Both, id)) = zone {
        write!(line, " zone={id}").unwrap();
    }
    write!(line, " id={}", flow.id.expect("an id")).unwrap();
    line
}

/// The part of each line of conntrack(8) that [`line`] gives for a flow.
fn listed(arguments: &str) -> Vec<String> {
    let output = conntrack(arguments).expect("conntrack");
    let mut lines: Vec<_> = output.lines().map(values_of).collect();
    lines.sort();
    lines
}

fn values_of(line: &str) -> String {
    let values = line.split_whitespace().filter(|word| word.contains('='));
    let values = values.filter(|word| !word.starts_with("use="));
    values.fold(String::new(), |line, value| line + " " + value)
}

fn dumped(requests: &mut Requests, filter: &DumpFilter) -> Vec<String> {
    let dump = requests.dump(filter, |lines: &mut Vec<_>, flow| {
        assert_eq!(flow.kind, EventKind::Entry);
        lines.push(written(flow));
    });
    let mut lines = dump.expect("a dump").items;
    lines.sort();
    lines
}

fn create_some_of_each(requests: &mut Requests) {
    for flow in some_of_each() {
        requests.add(&flow).expect("made");
    }
}

#[test]
fn a_dump_returns_the_flows_that_conntrack_lists() {
    needs_conntrack!("a_dump_returns_the_flows_that_conntrack_lists");
    let mut requests = requests();
    create_some_of_each(&mut requests);
    // conntrack(8) lists one family at a time.
    let v4 = dumped(&mut requests, &DumpFilter::new().family(Family::INET));
    assert_eq!(v4, listed("-L -f ipv4 -o id"));
    let v6 = dumped(&mut requests, &DumpFilter::new().family(Family::INET6));
    assert_eq!(v6, listed("-L -f ipv6 -o id"));
    assert_eq!((v4.len(), v6.len()), (7, 3));
    let mut all = [v4, v6].concat();
    all.sort();
    assert_eq!(dumped(&mut requests, &DumpFilter::new()), all);
}

#[test]
fn each_filter_returns_exactly_what_it_selects() {
    needs_conntrack!("each_filter_returns_exactly_what_it_selects");
    let mut requests = requests();
    create_some_of_each(&mut requests);
    let all = || DumpFilter::new();
    let assured = status::SEEN_REPLY | status::ASSURED;
    for (filter, count) in [
        (all(), 10),
        (all().zone(5), 2),
        (all().zone(6), 1),
        (all().zone(0), 7),
        (all().zone(7), 0),
        (all().zone(5).family(Family::INET), 1),
        (all().mark(0x17, u32::MAX), 2),
        (all().mark(0x07, 0x0f), 3),
        (all().mark(0, u32::MAX), 7),
        (all().mark(0x17, u32::MAX).family(Family::INET6), 1),
        (all().mark(0x27, 0xff).zone(6), 1),
        (all().status(assured, assured), 1),
        (all().status(0, status::ASSURED), 9),
        (all().status(status::CONFIRMED, status::CONFIRMED), 10),
    ] {
        assert_eq!(dumped(&mut requests, &filter).len(), count, "{filter:?}");
    }
    // conntrack(8) selects the same flows.
    for (filter, arguments) in [
        (all().family(Family::INET).zone(5), "-L -f ipv4 -w 5 -o id"),
        (
            all().family(Family::INET).mark(0x07, 0x0f),
            "-L -f ipv4 -m 7/15 -o id",
        ),
        (
            all().family(Family::INET).status(2, 2),
            "-L -f ipv4 -u SEEN_REPLY -o id",
        ),
    ] {
        let lines = dumped(&mut requests, &filter);
        assert!(!lines.is_empty());
        assert_eq!(lines, listed(arguments), "{arguments}");
    }
}

#[test]
fn the_kernel_filters_by_zone_mark_and_status() {
    if kernel() < (6, 8) {
        return common::skip("the_kernel_itself_picks", "needs Linux 6.8");
    }
    let mut requests = requests();
    create_some_of_each(&mut requests);
    // (attribute, value, count): CTA_ZONE, CTA_MARK, CTA_STATUS with CTA_STATUS_MASK of the same value.
    for (attribute, value, count) in [(18, 5, 2), (8, 0x17, 2), (3, status::ASSURED, 1)] {
        let dump = requests.requester().dump(
            0x101,
            |request| match attribute {
                18 => request.bytes(&[0; 4]).attribute_be16(18, 5),
                _ => request.bytes(&[0; 4]).attribute_be32(attribute, value),
            },
            |flags_seen: &mut Vec<u16>, message| flags_seen.push(message.flags()),
        );
        let seen = dump.expect("a dump").items;
        assert_eq!(seen.len(), count, "{attribute}");
        assert!(seen.iter().all(|seen| seen & flags::DUMP_FILTERED != 0));
    }
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[test]
fn flows_are_looked_up_one_by_one_and_many_at_once() {
    let mut requests = requests();
    create_some_of_each(&mut requests);
    let flows = some_of_each();
    for flow in &flows {
        let found = requests.get(&flow.key(), |found| (found.kind, found.key(), found.id));
        let (kind, found, id) = found.unwrap().expect("a flow");
        assert_eq!(kind, EventKind::Entry);
        assert_eq!(found, flow.key());
        assert!(id.is_some());
    }
    let in_zone_7 = Key {
        zone: Some(Zone::new(7, ZoneDirection::Both)),
        ..key(udp(1))
    };
    for missing in [key(udp(9)), key(udp(3)), in_zone_7] {
        assert_eq!(requests.get(&missing, |_| ()).unwrap(), None, "{missing:?}");
    }
    // The kernel also finds a flow by its reply tuple. That flow is not the one asked for.
    let reversed = udp(1).reversed().unwrap();
    assert_eq!(requests.get(&key(reversed), |_| ()).unwrap(), None);

    // These are more than one datagram holds, and more than are built at a time. Every third exists.
    let mut batch = Batch::new();
    for port in (0..6000).step_by(3) {
        let flow = NewFlow::new(udp(10_000 + port), 600);
        flow.add_in(&mut batch).expect("built");
    }
    let refused = |index, reply: nlring::Result<Message<'_>>| panic!("{index}: {reply:?}");
    batch.send(requests.requester(), refused).expect("made");
    let keys: Vec<_> = (0..6000).map(|port| key(udp(10_000 + port))).collect();
    let mut reported = vec![None; keys.len()];
    requests
        .get_many(&keys, |index, flow| {
            assert_eq!(reported[index], None, "{index} is reported twice");
            reported[index] = Some(flow.map(Flow::key));
        })
        .unwrap();
    for (index, reported) in reported.iter().enumerate() {
        let wanted = (index % 3 == 0).then_some(keys[index]);
        assert_eq!(*reported, Some(wanted), "{index}");
    }
    for key in &keys[..6] {
        key.delete_in(&mut batch, None).expect("built");
    }
    let mut missing = Vec::new();
    let refused = |index, reply: nlring::Result<Message<'_>>| {
        missing.push((index, reply.err().and_then(|error| error.raw_os_error())));
    };
    batch.send(requests.requester(), refused).expect("removed");
    assert_eq!(
        missing,
        [1, 2, 4, 5].map(|index| (index, Some(libc::ENOENT)))
    );
    assert_eq!(requests.get(&keys[0], |_| ()).unwrap(), None);
    assert!(requests.get(&keys[6], |_| ()).unwrap().is_some());
}

#[test]
fn an_added_flow_has_the_requested_values() {
    needs_conntrack!("an_added_flow_has_the_requested_values");
    let mut requests = requests();
    let tcp = tuple("10.0.0.1", "10.0.0.2", TCP, ports(40_000, 443));
    let flow = NewFlow::new(tcp, 500)
        .tcp_state(ESTABLISHED)
        .status(status::SEEN_REPLY | status::ASSURED)
        .mark(9);
    requests.add(&flow).expect("made");
    let line = conntrack("-L").unwrap();
    assert!(line.starts_with("tcp      6 "), "{line}");
    let timeout: u32 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((495..=500).contains(&timeout), "{line}");
    let shown = "ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=443 \
                 src=10.0.0.2 dst=10.0.0.1 sport=443 dport=40000 [ASSURED] mark=9";
    assert!(line.contains(shown), "{line}");

    let again = requests.add(&flow).unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
    assert!(
        again.to_string().starts_with("make a conntrack entry: "),
        "{again}"
    );
    // An ICMP answer cannot begin a flow.
    let answer = NewFlow::new(tuple("10.0.0.1", "10.0.0.2", ICMP, echo(3)), 5);
    let refused = requests.add(&answer).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn conntrack_and_this_library_find_and_remove_each_others_flows() {
    needs_conntrack!("conntrack_and_this_library_find_and_remove_each_others_flows");
    let mut requests = requests();
    requests.add(&NewFlow::new(udp(1), 600)).expect("made");
    let of_one = "-p udp --orig-src 10.0.0.1 --orig-dst 10.0.0.2 --sport 1 --dport 53";
    let found = listed(&format!("-G {of_one} -o id"));
    let ours = requests.get(&key(udp(1)), written).unwrap();
    assert_eq!(found, [ours.unwrap()]);
    conntrack(&format!("-D {of_one}"));
    assert_eq!(requests.get(&key(udp(1)), |_| ()).unwrap(), None);

    let of_two = "-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 2 --dport 80";
    conntrack(&format!(
        "-I {of_two} -t 300 --state SYN_SENT -u ASSURED,SEEN_REPLY -m 5"
    ));
    let tcp = key(tuple("10.0.0.1", "10.0.0.2", TCP, ports(2, 80)));
    let (state, mark, bits) = requests
        .get(&tcp, |flow| (flow.state, flow.mark, flow.status))
        .unwrap()
        .expect("it was made");
    assert_eq!((state, mark), (Some(ProtocolState::Tcp(1)), Some(5)));
    assert_ne!(bits.unwrap() & status::ASSURED, 0);
    assert!(requests.delete(&tcp, None).unwrap());
    assert_eq!(listed("-L"), [""; 0]);
    assert!(!requests.delete(&tcp, None).unwrap());
}

#[test]
fn an_id_keeps_another_flow_of_the_same_tuple_from_being_removed() {
    let mut requests = requests();
    requests.add(&NewFlow::new(udp(1), 600)).expect("made");
    let id = requests.get(&key(udp(1)), |flow| flow.id.unwrap()).unwrap();
    let id = id.unwrap();
    assert!(!requests.delete(&key(udp(1)), Some(id ^ 1)).unwrap());
    assert!(requests.get(&key(udp(1)), |_| ()).unwrap().is_some());
    assert!(requests.delete(&key(udp(1)), Some(id)).unwrap());
    assert!(requests.get(&key(udp(1)), |_| ()).unwrap().is_none());
    // Of two flows that differ only in their zones, one is deleted.
    for zone in [1, 2] {
        let flow = NewFlow::new(udp(1), 600).zone(Zone::new(zone, ZoneDirection::Both));
        requests.add(&flow).expect("made");
    }
    let of_zone = |id| Key {
        zone: Some(Zone::new(id, ZoneDirection::Both)),
        ..key(udp(1))
    };
    assert!(requests.delete(&of_zone(2), None).unwrap());
    assert!(requests.get(&of_zone(1), |_| ()).unwrap().is_some());
    assert!(requests.get(&of_zone(2), |_| ()).unwrap().is_none());
}

#[test]
fn only_what_was_asked_for_changes_in_a_flow() {
    let mut requests = requests();
    let tcp = tuple("10.0.0.1", "10.0.0.2", TCP, ports(1, 80));
    let flow = NewFlow::new(tcp, 100).tcp_state(1).mark(0xff);
    requests.add(&flow).expect("made");
    let change = FlowChange::new()
        .timeout_seconds(5000)
        .mark(0x01, 0x0f)
        .tcp_state(ESTABLISHED)
        .status(status::SEEN_REPLY | status::ASSURED);
    assert!(requests.update(&key(tcp), &change).unwrap());
    let look = |requests: &mut Requests| {
        let flow = requests.get(&key(tcp), |flow| {
            (flow.timeout_seconds, flow.mark, flow.state, flow.status)
        });
        flow.unwrap().expect("a flow")
    };
    let (timeout, mark, state, bits) = look(&mut requests);
    assert!((4995..=5000).contains(&timeout.unwrap()));
    assert_eq!(
        (mark, state),
        (Some(0xf1), Some(ProtocolState::Tcp(ESTABLISHED)))
    );
    let assured = status::SEEN_REPLY | status::ASSURED;
    assert_eq!(bits.unwrap() & assured, assured);

    let mark_alone = FlowChange::new().mark(0, u32::MAX);
    assert!(requests.update(&key(tcp), &mark_alone).unwrap());
    let (_, mark, state_after, bits_after) = look(&mut requests);
    assert_eq!((mark, state_after, bits_after), (Some(0), state, bits));

    // A status bit that the flow has cannot be removed.
    let without = FlowChange::new().status(status::ASSURED);
    let refused = requests.update(&key(tcp), &without).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
    assert!(!requests.update(&key(udp(9)), &change).unwrap());
}

#[test]
fn a_flush_removes_what_its_filter_selects() {
    let mut requests = requests();
    let assured = status::SEEN_REPLY | status::ASSURED;
    let mut left = |filter: DumpFilter| {
        requests.flush(&DumpFilter::new()).unwrap();
        create_some_of_each(&mut requests);
        requests.flush(&filter).expect("flushed");
        let of_it = dumped(&mut requests, &filter).len();
        let all = dumped(&mut requests, &DumpFilter::new()).len();
        assert_eq!(of_it, 0, "{filter:?}");
        all
    };
    assert_eq!(left(DumpFilter::new()), 0);
    assert_eq!(left(DumpFilter::new().family(Family::INET6)), 7);
    assert_eq!(left(DumpFilter::new().mark(0x07, 0x0f)), 7);
    assert_eq!(
        left(DumpFilter::new().mark(0x17, u32::MAX).family(Family::INET)),
        9
    );
    if kernel() >= (6, 8) {
        assert_eq!(left(DumpFilter::new().zone(5)), 8);
        assert_eq!(left(DumpFilter::new().zone(0)), 3);
        assert_eq!(left(DumpFilter::new().status(assured, assured)), 9);
        assert_eq!(left(DumpFilter::new().zone(99)), 10);
    }
}

#[test]
fn an_older_kernel_refuses_a_flush_by_zone_and_removes_nothing() {
    if kernel() >= (6, 8) {
        return; // From 6.8 on the kernel filters by zone.
    }
    let mut requests = requests();
    create_some_of_each(&mut requests);
    let refused = requests.flush(&DumpFilter::new().zone(5)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(dumped(&mut requests, &DumpFilter::new()).len(), 10);
}

#[test]
fn a_translated_flow_gets_the_matching_reply_tuple() {
    let mut requests = requests();
    let public: IpAddr = "192.0.2.1".parse().unwrap();
    let server: IpAddr = "10.0.0.9".parse().unwrap();
    let flow = NewFlow::new(udp(1), 600).src_nat(public, Some(6000));
    match requests.add(&flow) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return common::skip("translated_flows", "this kernel has no NAT");
        }
        made => made.expect("made"),
    }
    let nat = requests.get(&key(udp(1)), |flow| (flow.nat(), flow.status));
    let (nat, bits) = nat.unwrap().expect("a flow");
    let src = nat.and_then(|nat| nat.src).expect("a translated source");
    assert_eq!((src.address, src.port), (public, Some(6000)));
    assert_ne!(bits.unwrap() & status::SRC_NAT, 0);

    let flow = NewFlow::new(udp(2), 600).dst_nat(server, None);
    requests.add(&flow).expect("made");
    let dst = requests.get(&key(udp(2)), |flow| flow.nat().and_then(|nat| nat.dst));
    let dst = dst.unwrap().flatten().expect("a translated destination");
    assert_eq!((dst.address, dst.port), (server, Some(53)));
    // The reply tuple shows the translation.
    let reply = tuple("10.0.0.2", "10.0.0.7", UDP, ports(53, 3));
    requests
        .add(&NewFlow::new(udp(3), 600).reply(reply))
        .expect("made");
    let found = requests.get(&key(udp(3)), |flow| flow.reply).unwrap();
    assert_eq!(found, Some(Some(reply)));
}

#[test]
fn labels_are_set_and_cleared_if_a_rule_uses_labels() {
    let mut requests = requests();
    let rules = "add table t; add chain t c { type filter hook input priority 0; }; \
                 add rule t c ct label set 1";
    match common::run("nft", &[rules]) {
        None => return common::skip("labels", "it needs nft(8)"),
        Some(output) if !output.status.success() => {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            return common::skip("labels", &error);
        }
        Some(_) => {}
    }
    let flow = NewFlow::new(udp(1), 600).label(3).label(127).label(128);
    requests.add(&flow).expect("made");
    let labels = |requests: &mut Requests| {
        let labels = requests.get(&key(udp(1)), |flow| flow.label_bits().collect::<Vec<_>>());
        labels.unwrap().expect("a flow")
    };
    assert_eq!(labels(&mut requests), [3, 127]);
    let change = FlowChange::new().label(3, false).label(40, true);
    assert!(requests.update(&key(udp(1)), &change).unwrap());
    assert_eq!(labels(&mut requests), [40, 127]);
}

/// The attributes of `enum ctattr_tuple` for IPv4 with ports.
fn put_tuple<'a>(request: MessageBuilder<'a>, number: u16, of: &Tuple) -> MessageBuilder<'a> {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("an IPv4 address"),
    };
    let (src, dst) = of.ports().expect("ports");
    request.nested(number, |tuple| {
        let tuple = tuple.nested(1, |ip| {
            let ip = ip.attribute(1, &octets(of.src));
            ip.attribute(2, &octets(of.dst))
        });
        tuple.nested(2, |protocol| {
            let protocol = protocol.attribute_u8(1, of.protocol);
            protocol.attribute_be16(2, src).attribute_be16(3, dst)
        })
    })
}

#[test]
fn helpers_and_expectations_are_those_that_conntrack_prints() {
    needs_conntrack!("helpers_and_expectations");
    let mut requests = requests();
    let control = tuple("10.0.0.1", "10.0.0.2", TCP, ports(40_000, 21));
    let flow = NewFlow::new(control, 600)
        .tcp_state(ESTABLISHED)
        .helper("ftp");
    match requests.add(&flow) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return common::skip("helpers_and_expectations", "this kernel has no FTP helper");
        }
        made => made.expect("made"),
    }
    let helper = requests.get(&key(control), |flow| flow.helper.map(<[u8]>::to_vec));
    assert_eq!(helper.unwrap().unwrap().as_deref(), Some(&b"ftp"[..]));
    let refused = requests.add(&NewFlow::new(udp(1), 600).helper("no such helper"));
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));

    let data = tuple("10.0.0.2", "10.0.0.1", TCP, ports(0, 5000));
    let any_source_port = tuple("255.255.255.255", "255.255.255.255", TCP, ports(0, 0xffff));
    let create = flags::CREATE | flags::EXCL;
    let asked = requests.requester().ask(0x200, create, |request| {
        let request = put_tuple(request.bytes(&[2, 0, 0, 0]), 1, &control);
        let request = put_tuple(put_tuple(request, 2, &data), 3, &any_source_port);
        request.attribute_be32(4, 100)
    });
    asked.expect("an expectation");
    let shown = conntrack("-L expect").unwrap();
    let wanted = "proto=6 src=10.0.0.2 dst=10.0.0.1 sport=0 dport=5000 \
                  mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 \
                  master-src=10.0.0.1 master-dst=10.0.0.2 sport=40000 dport=21";
    assert!(shown.contains(wanted), "{shown}");
    let dump = requests
        .expectations(Family::UNSPEC, |found: &mut Vec<_>, expectation| {
            assert_eq!(expectation.kind, EventKind::Entry);
            found.push((
                expectation.tuple,
                expectation.mask,
                expectation.master,
                expectation.timeout_seconds,
            ));
        })
        .unwrap();
    assert_eq!(dump.items.len(), 1);
    let (expected, mask, master, timeout_seconds) = dump.items[0];
    assert_eq!((expected, mask), (data, Some(any_source_port)));
    assert_eq!(master, Some(control));
    let shown: u32 = shown.split_whitespace().next().unwrap().parse().unwrap();
    assert!((shown - 5..=shown).contains(&timeout_seconds.unwrap()));
    let none = requests.expectations(Family::INET6, |count: &mut usize, _| *count += 1);
    assert_eq!(none.unwrap().items, 0);
}

#[test]
fn statistics_are_those_that_conntrack_prints() {
    needs_conntrack!("statistics_are_those_that_conntrack_prints");
    let mut requests = requests();
    create_some_of_each(&mut requests);
    // Two things raise a counter: adding an entry that exists, and packets without a flow.
    let table = requests.table_statistics().unwrap();
    assert_eq!(table.entry_count, 10);
    assert_eq!(conntrack("-C").unwrap().trim(), "10");
    let max = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    if let Ok(max) = max {
        assert_eq!(table.max_entry_count, max.trim().parse().ok());
    }
    let all = requests.statistics().unwrap();
    let shown = conntrack("-S").unwrap();
    assert_eq!(shown.lines().count(), all.len());
    for (line, ours) in shown.lines().zip(&all) {
        let mut values = line.split_whitespace().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name, value.parse::<u32>().ok()?))
        });
        assert_eq!(values.next(), Some(("cpu", u32::from(ours.cpu))));
        let ours = [
            ("found", ours.found),
            ("invalid", ours.invalid),
            ("insert", ours.insert),
            ("insert_failed", ours.insert_failed),
            ("drop", ours.drop),
            ("early_drop", ours.early_drop),
            ("error", ours.error),
            ("search_restart", ours.search_restart),
            ("clash_resolve", ours.clash_resolve),
            ("chaintoolong", ours.chain_toolong),
        ];
        for (name, value) in values {
            let (_, ours) = ours.iter().find(|(ours, _)| *ours == name).expect(name);
            assert_eq!(*ours, Some(value), "{name} in {line}");
        }
    }
}

#[test]
fn without_privileges_a_request_is_denied() {
    let mut requests = requests();
    common::give_up_capability(common::CAP_NET_ADMIN);
    let denied = requests.dump(&DumpFilter::new(), |(), _| ()).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
}
