//! Dumps of real flows.

use nlring::conntrack::{
    DumpFilter, Filter, Flow, Key, Layer4, NewFlow, Requests, Tuple, Zone, ZoneDirection, status,
};
use nlring_testing::Random;

use super::common::own_namespace;
use super::expressions;

/// Flows with the addresses, ports, marks and zones of the random expressions.
fn add_flows(requests: &mut Requests, random: &mut Random) {
    let mut added_count = 0;
    while added_count < 300 {
        let texts = super::events::ADDRESSES[random.index(2)];
        let address = |random: &mut Random| texts[random.index(5)].parse().expect("an address");
        let port = |random: &mut Random| [53, 80, 443, 1024, 1500][random.index(5)];
        let layer4 = Layer4::Ports {
            src: port(random),
            dst: port(random),
        };
        let protocol = [6, 17, 132][random.index(3)];
        let orig = Tuple::new(address(random), address(random), protocol, layer4);
        let bits = [0, status::ASSURED | status::SEEN_REPLY, status::SEEN_REPLY][random.index(3)];
        let mut flow = NewFlow::new(orig, 600).status(bits);
        if random.one_in(2) {
            flow = flow.mark([1, 7, 0x10, 0x17][random.index(4)]);
        }
        if random.one_in(3) {
            let directions = [
                ZoneDirection::Both,
                ZoneDirection::Orig,
                ZoneDirection::Reply,
            ];
            flow = flow.zone(Zone::new(
                [3, 5][random.index(2)],
                directions[random.index(3)],
            ));
        }
        added_count += usize::from(requests.add(&flow).is_ok()); // not if the tuple is there
    }
}

#[test]
fn a_filtered_dump_lacks_no_flow_that_matches() {
    own_namespace();
    let mut requests = Requests::open().expect("a requester");
    let mut random = Random::new(17);
    add_flows(&mut requests, &mut random);
    let mut dump = |filter: &Filter, wider: &DumpFilter| {
        let take = |(keys, count): &mut (Vec<Key>, usize), flow: &Flow<'_>| {
            *count += 1;
            if filter.matches(flow) {
                keys.push(flow.key());
            }
        };
        let (mut keys, count) = requests.dump(wider, take).expect("a dump").items;
        keys.sort_by_key(|key| format!("{key}"));
        (keys, count)
    };
    // Each field that the kernel can pick by, alone and together.
    for (text, is_picked) in [
        ("family ipv4 and proto tcp", true),
        ("family ipv6 and proto udp and dport 53", true),
        ("family ipv6 and proto sctp and dport 53", false),
        ("src 10.0.0.1", true),
        ("dst 10.0.0.2 and proto tcp and sport 80", true),
        ("src fd00::1", false), // the kernel compares IPv6 addresses the wrong way round
        ("proto tcp and sport 80", false), // it needs a family
    ] {
        let filter: Filter = text.parse().expect("a filter");
        let wider = filter.dump_filter();
        let (found, count) = dump(&filter, &wider);
        assert_eq!(found, dump(&filter, &DumpFilter::new()).0, "{text}");
        assert!(!found.is_empty() && count == found.len(), "{text}");
        let mut replies_count = 0;
        let mut others = Requests::open().expect("a requester");
        let mut replies = others.dump_replies(&wider).expect("a dump");
        while let Some(message) = replies.next_message().expect("a reply") {
            replies_count += usize::from(Flow::decode(&message).is_some());
        }
        assert_eq!(replies_count == found.len(), is_picked, "{text}");
    }
    // Flows have zones of one direction too, and each flow is in zone 0 of the other one.
    let sides = ["", "orig ", "reply "].into_iter();
    let zones = sides.flat_map(|side| [0, 3, 5].map(|id| format!("{side}zone {id}")));
    // Of two bits that are not both set, one may be.
    for text in zones.chain(["not status 0x6".to_owned()]) {
        let filter: Filter = text.parse().expect("a filter");
        let found = dump(&filter, &filter.dump_filter()).0;
        assert_eq!(found, dump(&filter, &DumpFilter::new()).0, "{text}");
        assert!(!found.is_empty(), "{text}");
    }
    let mut left_out_count = 0;
    for _ in 0..100 {
        let expression = expressions::any(&mut random, 2);
        let filter: Filter = expression.to_string().parse().expect("a filter");
        let (all, all_count) = dump(&filter, &DumpFilter::new());
        let (found, count) = dump(&filter, &filter.dump_filter());
        assert_eq!(found, all, "{filter}");
        left_out_count += all_count - count;
    }
    assert!(left_out_count > 1000, "{left_out_count}");
}
