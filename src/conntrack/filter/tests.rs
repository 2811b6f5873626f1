//! Filters on the messages that Linux 6.18 sent to a little-endian machine.

use nlring_testing::datagrams::conntrack::{ICMPV6_NEW, TCP_DESTROY, TCP_NEW, UDP_NEW};

use super::Filter;
use crate::MessageList;
use crate::conntrack::Flow;
use crate::filter::interpreter::run;

/// Whether the message matches; the program and `matches` must agree.
fn matches(text: &str, datagram: &[u8]) -> bool {
    let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{text}");
    let list = MessageList::new(datagram);
    let message = list.iter().next().unwrap();
    let is_match = filter.matches(&Flow::decode(&message).unwrap());
    let program = filter.program().unwrap();
    let returned = run(&program, datagram);
    let expected = if is_match { u32::MAX } else { 0 };
    assert_eq!(returned, Some(expected), "{text}\n{program}");
    is_match
}

#[test]
fn each_term_tells_messages_apart() {
    for (text, tcp_destroy, udp_new, tcp_new, icmpv6_new) in [
        ("all", true, true, true, true),
        ("not all", false, false, false, false),
        ("event new", false, true, true, true),
        ("event update", false, false, false, false),
        ("event destroy", true, false, false, false),
        ("proto tcp", true, false, true, false),
        ("proto {udp, 58}", false, true, false, true),
        ("family ipv4", true, true, true, false),
        ("src 127.0.0.0/8", true, false, true, false),
        ("src fd00::1 and dst fd00::2", false, false, false, true),
        ("host fd00::/16", false, false, false, true),
        ("sport 47152", true, false, false, false),
        ("reply dport 47152", true, false, false, false),
        ("any dport 9000", true, false, false, false),
        ("port {9000, 21}", true, false, false, false),
        ("port 1-65535", true, true, true, false),
        ("icmp-type 128 and icmp-code 0", false, false, false, true),
        ("mark 7", true, false, false, false),
        ("mark 0", false, true, true, true),
        ("mark 0x6/0x6", true, false, false, false),
        ("zone 78", false, true, false, false),
        ("orig zone 78", false, true, false, false),
        ("reply zone 78", false, false, false, false),
        ("reply zone 0", true, true, true, true),
        ("zone 0", true, false, true, true),
        ("status {assured, dying}", true, false, false, false),
        ("status confirmed", true, true, true, true),
        ("state time_wait", true, false, false, false),
        ("state SYN_SENT", false, false, true, false),
        ("nat or label 3", false, false, false, false),
    ] {
        let expected = [tcp_destroy, udp_new, tcp_new, icmpv6_new];
        let datagrams = [TCP_DESTROY, UDP_NEW, TCP_NEW, ICMPV6_NEW];
        let found = datagrams.map(|datagram| matches(text, datagram));
        assert_eq!(found, expected, "{text}");
        let not = format!("not ({text})");
        assert_eq!(datagrams.map(|datagram| !matches(&not, datagram)), expected);
    }
}

#[test]
fn an_explanation_has_both_parts_and_the_program() {
    let filter: Filter = "event destroy and not mark 0x10/0xf0".parse().unwrap();
    let text = filter.explain().unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("filter: event destroy and not mark 0x10/0xf0")
    );
    assert_eq!(lines.next(), Some("in the kernel: all of it"));
    assert_eq!(lines.next(), Some("in user space: nothing"));
    let program = filter.program().unwrap();
    let count = program.instructions().len();
    assert_eq!(
        lines.next(),
        Some(&format!("program: {count} instructions")[..])
    );
    assert_eq!(lines.next(), Some("(000) ldh      [4]"));
    assert_eq!(lines.count(), count - 1);
}

#[test]
fn a_mirrors_filter_has_no_event_and_ignores_what_can_change() {
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    let error = filter("proto tcp and not event new").program_for_mirror();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`event new`"), "{error}");
    let programs = ["proto tcp and mark 7 and not status assured", "proto tcp"]
        .map(|text| filter(text).program_for_mirror().unwrap());
    assert_eq!(programs[0], programs[1]);
}
