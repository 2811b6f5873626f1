//! Filters on the messages that Linux 6.18 sent to a little-endian machine.

use nlring_testing::datagrams::conntrack::{ICMPV6_NEW, TCP_DESTROY, TCP_NEW, UDP_NEW};

use nlring_testing::cpu_time;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Filter;
use crate::MessageList;
use crate::conntrack::{Flow, Layer4, Split, Term, Tuple};
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
        ("share 0/1", true, true, true, true),
        ("share 0..0/7", false, false, false, false),
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

/// Each event is in one share of eight, however its original tuple is written.
#[test]
fn a_usual_layout_and_any_other_have_the_same_hash() {
    for datagram in [TCP_DESTROY, UDP_NEW, TCP_NEW, ICMPV6_NEW] {
        for seed in ["", "@7"] {
            let is_in = |share| matches(&format!("share {share}/8{seed}"), datagram);
            assert_eq!((0..8).filter(|share| is_in(*share)).count(), 1);
        }
    }
}

/// How many of these tuples are in each share of a division.
fn counts(split: Split, tuples: impl Iterator<Item = Tuple>) -> Vec<u32> {
    let mut counts = vec![0; split.share_count() as usize];
    for tuple in tuples {
        counts[split.share_of(&tuple) as usize] += 1;
    }
    counts
}

const TUPLE_COUNT: u32 = 100_000;

/// The tuple with a number.
type Sequence = Box<dyn Fn(u32) -> Tuple>;

/// Tuples as programs that open many connections make them: something goes up, and all else stays the same.
fn sequences() -> Vec<(&'static str, Sequence)> {
    let tuple = |src: [u8; 4], dst: [u8; 4], protocol, sport: u32, dport: u32| {
        let [src_port, dst_port] = [sport, dport].map(|port| u16::try_from(port % 65_536).unwrap());
        let ports = Layer4::Ports {
            src: src_port,
            dst: dst_port,
        };
        Tuple::new(src.into(), dst.into(), protocol, ports)
    };
    let v6 = |host: u32, sport: u32| {
        let address = |host: u32| Ipv6Addr::from((0xfd00 << 112) | u128::from(host));
        let ports = Layer4::Ports {
            src: u16::try_from(sport % 65_536).unwrap(),
            dst: 443,
        };
        Tuple::new(address(host).into(), address(1).into(), 6, ports)
    };
    let server = [192, 0, 2, 1];
    vec![
        ("source ports, two servers", {
            Box::new(move |number| {
                let dst = [192, 0, 2, u8::try_from(number / 65_536).unwrap()];
                tuple([10, 0, 0, 1], dst, 6, number, 443)
            })
        }),
        ("every second source port", {
            Box::new(move |number| {
                let [_, _, high, low] = (number / 30_000).to_be_bytes();
                tuple([10, 0, high, low], server, 17, 2 * (number % 30_000), 53)
            })
        }),
        ("source addresses", {
            Box::new(move |number| tuple(number.to_be_bytes(), server, 17, 53, 53))
        }),
        ("source networks of 256", {
            Box::new(move |number| tuple((number << 8).to_be_bytes(), server, 6, 40_000, 443))
        }),
        ("destination addresses and ports together", {
            Box::new(move |number| tuple([10, 0, 0, 1], number.to_be_bytes(), 6, number, number))
        }),
        ("destination ports, as a scan makes them", {
            Box::new(move |number| {
                let [_, _, high, low] = (number / 1000).to_be_bytes();
                tuple(
                    [10, 0, 0, 1],
                    [172, 16, high, low],
                    6,
                    55_555,
                    number % 1000,
                )
            })
        }),
        ("identifiers of ICMP", {
            Box::new(move |number| {
                let echo = Layer4::Icmp {
                    icmp_type: 8,
                    code: 0,
                    id: u16::try_from(number % 1000).unwrap(),
                };
                let src = (0x0a00_0000 + number / 1000).to_be_bytes();
                Tuple::new(src.into(), server.into(), 1, echo)
            })
        }),
        ("IPv6 addresses", Box::new(move |number| v6(number, 40_000))),
        ("IPv6 ports", {
            Box::new(move |number| v6(number / 30_000, 30_000 + number % 30_000))
        }),
    ]
}

/// No share is farther from its expected size than 4.5 standard deviations of a fair choice: that is 0.7 % of all tuples
/// for a share of a half, and 0.14 % for one of 1 %.
#[test]
fn sequential_tuples_spread_evenly_over_the_shares() {
    for seed in [0, 1, 0x1234_5678, u32::MAX] {
        for (name, tuple) in sequences() {
            for share_count in [2, 3, 8, 100] {
                let split = Split::new(share_count).seed(seed);
                let counts = counts(split, (0..TUPLE_COUNT).map(&tuple));
                let (all, share) = (f64::from(TUPLE_COUNT), 1.0 / f64::from(share_count));
                let limit = 4.5 * (all * share * (1.0 - share)).sqrt();
                let differences = counts.iter().map(|&count| f64::from(count) - all * share);
                let largest = differences.map(f64::abs).fold(0.0, f64::max);
                assert!(largest < limit, "{name}, seed {seed:#x}: {counts:?}");
            }
        }
    }
}

/// What one division keeps does not depend on what another one with another seed keeps.
#[test]
fn divisions_with_different_seeds_are_independent() {
    for (name, tuple) in sequences() {
        for (first, second) in [(0, 1), (1, 2), (7, 0xffff_0000)] {
            let [first, second] = [first, second].map(|seed| Split::new(8).seed(seed));
            let kept = (0..TUPLE_COUNT)
                .map(&tuple)
                .filter(|tuple| first.share_of(tuple) == 3);
            let counts = counts(second, kept);
            let expected = f64::from(counts.iter().sum::<u32>()) / 8.0;
            let limit = 4.5 * expected.sqrt();
            let is_near = |&count: &u32| (f64::from(count) - expected).abs() < limit;
            assert!(counts.iter().all(is_near), "{name}: {counts:?}");
        }
    }
}

#[test]
fn a_smaller_share_is_inside_a_larger_one_with_the_same_seed() {
    let tuples = sequences()
        .into_iter()
        .flat_map(|(_, tuple)| (0..1000).map(tuple));
    for tuple in tuples {
        let [large, small] = [10, 100].map(|count| Split::new(count).share_of(&tuple));
        assert_eq!(small / 10, large, "{tuple}");
    }
}

#[test]
fn shares_that_do_not_exist_are_left_out() {
    let text = |kept, split| Filter::from(Term::share(split, kept)).to_string();
    assert_eq!(text(2..9, Split::new(4)), "share 2..4/4");
    assert_eq!(text(4..5, Split::new(4)), "share 0..0/4");
    assert_eq!(text(3..4, Split::new(4).seed(0xff)), "share 3/4@0xff");
    assert_eq!(text(0..1, Split::new(0)), "share 0/1");
}

/// The CPU time for reading a text and making the program, the least of three.
fn time_to_compile(text: &str) -> Duration {
    let times = [(); 3].map(|()| {
        let before = cpu_time();
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
        let program = filter.program();
        let spent = cpu_time().saturating_sub(before);
        let refused = program.err().map(|error| error.to_string());
        let remedy = "use prefixes and ranges instead of many addresses and numbers";
        assert!(refused.is_none_or(|refused| refused.ends_with(remedy)));
        spent
    });
    times.into_iter().min().unwrap_or_default()
}

#[test]
fn twenty_times_the_terms_take_no_more_than_about_twenty_times_the_time() {
    type Term = fn(u32) -> String;
    let (address, prefix, pair, nested): (Term, Term, Term, Term) = (
        |number| format!("src {}", Ipv4Addr::from(7 * number)),
        |number| format!("src 2001:db8:{number:x}::/48"),
        |number| format!("src {} and dport {number}", Ipv4Addr::from(7 * number)),
        |number| format!("(mark {number} or not nat and id {number})"),
    );
    for (term, count) in [(address, 200), (prefix, 200), (pair, 200), (nested, 20)] {
        let [few, many] = [count, 20 * count].map(|count| {
            let terms: Vec<_> = (1..=count).map(term).collect();
            time_to_compile(&terms.join(" or "))
        });
        assert!(many < few * 100, "{}: {few:?} {many:?}", term(1)); // the square would be 400 times the time
    }
}
