//! With --reliable the output has each end of a flow once, however slow its reader is.

mod common;

use std::collections::HashMap;
use std::fs;

use serde_json::Value;

use common::{Ended, Follower, await_that, flush_flows, make_flows, own_namespace, remove_flows};

const BACKENDS: [&str; 3] = ["multishot", "oneshot", "recvmmsg"];
const FLOW_COUNT: u32 = 1500;
/// Room for about thirty events.
const TINY: &str = "--recv-buffer 16KiB";

fn records(ended: &Ended) -> Vec<Value> {
    let lines = ended.output.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// How often each flow's end was shown, by its source address.
fn destroys(lines: &[Value]) -> HashMap<&str, u32> {
    let mut counts = HashMap::new();
    for line in lines.iter().filter(|line| line["event"] == "destroy") {
        let src = line["orig"]["src"].as_str().expect("an address");
        *counts.entry(src).or_default() += 1;
    }
    counts
}

#[track_caller]
fn assert_each_once(lines: &[Value]) {
    let counts = destroys(lines);
    let reported: u32 = counts.values().sum();
    assert_eq!(reported as usize, counts.len(), "some are reported twice");
    assert_eq!(counts.len(), FLOW_COUNT as usize);
}

#[track_caller]
fn assert_reliable(ended: &Ended) {
    ended.assert_good();
    assert_eq!(ended.stat("dropped"), 0);
    assert_eq!(
        ended.stat("received"),
        ended.stat("events") + ended.stat("repeated")
    );
}

fn destroy_lines(follower: &Follower) -> usize {
    let lines = follower.lines();
    let is_destroy = |line: &&String| line.contains("\"destroy\"") || line.contains("[DESTROY]");
    lines.iter().filter(is_destroy).count()
}

#[track_caller]
fn await_destroys(follower: &Follower, count: u32) {
    await_that("each end is reported", || {
        destroy_lines(follower) >= count as usize
    });
}

/// Waits until the kernel has no flow left. A flow counts until its end is delivered.
#[track_caller]
fn await_no_flows() {
    await_that("all ends are delivered", flow_count_is_0);
}

fn flow_count_is_0() -> bool {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    count.expect("a count").trim() == "0"
}

#[test]
fn each_end_is_shown_once_even_if_another_collector_was_stopped() {
    for backend in BACKENDS {
        own_namespace();
        let slow = Follower::start(&format!(
            "conntrack --reliable --json -e destroy {TINY} --backend {backend}"
        ));
        let quick = Follower::start(&format!("conntrack --reliable --json --backend {backend}"));
        make_flows(0..FLOW_COUNT);
        slow.freeze();
        flush_flows();
        await_destroys(&quick, FLOW_COUNT);
        assert!(
            !flow_count_is_0(),
            "the kernel keeps ends for the slow collector"
        );
        slow.thaw();
        await_destroys(&slow, FLOW_COUNT);
        await_no_flows();
        let (slow, quick) = (slow.end(), quick.end());
        for ended in [&slow, &quick] {
            assert_reliable(ended);
            assert_each_once(&records(ended));
        }
        // The quick collector got again what the slow one missed at first.
        let failures = slow.stat("delivery_failures");
        assert!(failures > 1000, "{backend}: {}", slow.errors);
        assert!(quick.stat("repeated") > 1000, "{backend}: {}", quick.errors);
        assert_eq!(quick.stat("delivery_failures"), 0);
        let reported: u64 = records(&slow)
            .iter()
            .filter(|line| line["event"] == "delayed")
            .map(|delayed| {
                assert!(delayed["since_ns"].as_u64() <= delayed["until_ns"].as_u64());
                delayed["count"].as_u64().expect("a count")
            })
            .sum();
        assert_eq!(reported, failures);
    }
}

/// The kernel sends each end to both, as often as one of them has no room. Only the timestamp shows that it is the
/// same end, because neither collector listens to beginnings.
#[test]
fn each_end_is_shown_once_even_if_both_collectors_were_stopped() {
    own_namespace();
    let arguments = format!("conntrack --reliable --json -e destroy {TINY}");
    let both = [(); 2].map(|()| Follower::start(&arguments));
    fs::write("/proc/sys/net/netfilter/nf_conntrack_timestamp", "1").expect("timestamps");
    make_flows(0..FLOW_COUNT);
    both.iter().for_each(Follower::freeze);
    flush_flows();
    both.iter().for_each(Follower::thaw);
    await_no_flows();
    for follower in both {
        await_destroys(&follower, FLOW_COUNT);
        let ended = follower.end();
        assert_reliable(&ended);
        assert_each_once(&records(&ended));
        assert!(ended.stat("delivery_failures") > 0, "{}", ended.errors);
    }
}

/// A flow that begins after one with the same tuple has ended often gets its memory, and so its id. Nothing else
/// distinguishes the two.
#[test]
fn flows_that_begin_again_are_no_repeats() {
    const ROUNDS: u32 = 200;
    for events in ["all", "destroy", "new,destroy"] {
        own_namespace();
        let follower = Follower::start(&format!("conntrack --reliable --json -e {events}"));
        for _ in 0..ROUNDS {
            make_flows(0..1);
            remove_flows(0..1);
        }
        await_destroys(&follower, ROUNDS);
        let ended = follower.end();
        assert_reliable(&ended);
        let counts: Vec<u32> = destroys(&records(&ended)).into_values().collect();
        assert_eq!((counts, ended.stat("repeated")), (vec![ROUNDS], 0));
    }
}

#[test]
fn delays_are_lines_and_a_plain_collector_has_losses_instead() {
    own_namespace();
    let reliable = Follower::start(&format!("conntrack --reliable -e destroy {TINY}"));
    let plain = Follower::start(&format!("conntrack -e destroy {TINY}"));
    make_flows(0..FLOW_COUNT);
    for follower in [&reliable, &plain] {
        follower.freeze();
    }
    flush_flows();
    for follower in [&reliable, &plain] {
        follower.thaw();
    }
    await_destroys(&reliable, FLOW_COUNT);
    let (reliable, plain) = (reliable.end(), plain.end());
    assert_reliable(&reliable);
    let delays = |ended: &Ended| -> Vec<String> {
        let lines = ended.output.lines();
        let delays = lines.filter_map(|line| line.strip_prefix(" [DELAYED] "));
        delays.map(str::to_owned).collect()
    };
    let mut reported = 0;
    for delay in delays(&reliable) {
        let words: Vec<&str> = delay.split(' ').collect();
        let [count, "deliveries", "between", since, "and", until] = words[..] else {
            panic!("{delay}");
        };
        reported += count.parse::<u64>().expect("a count");
        let time = |text: &str| text.parse::<jiff::Timestamp>().expect("RFC 3339");
        assert!(time(since) <= time(until), "{delay}");
    }
    let failures = reliable.stat("delivery_failures");
    assert_eq!(reported, failures);
    let line = format!("delivery failures (the kernel resends a DESTROY): {failures}");
    assert!(
        failures > 0 && reliable.errors.contains(&line),
        "{}",
        reliable.errors
    );
    plain.assert_good();
    assert!(plain.stat("dropped") > 1000, "{}", plain.errors);
    assert_eq!(delays(&plain), [""; 0]);
    assert!(
        !plain.errors.contains("delivery failures"),
        "{}",
        plain.errors
    );
}

/// The drop counters of the listeners in this namespace.
fn drops() -> Vec<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/netlink").expect("netlink sockets");
    let drops = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_listener = words[3] != "00000000";
        is_listener.then(|| words[8].parse().expect("a count"))
    };
    table.lines().skip(1).filter_map(drops).collect()
}

/// The kernel sends to all listeners what one of them missed. A listener without room counts another failed delivery.
#[test]
fn beside_a_reliable_collector_a_plain_one_counts_failed_deliveries_and_gets_repeats() {
    own_namespace();
    let reliable = Follower::start(&format!("conntrack --reliable -e destroy {TINY}"));
    let plain = Follower::start(&format!("conntrack --json -e destroy {TINY}"));
    let roomy = Follower::start("conntrack --json -e destroy");
    make_flows(0..FLOW_COUNT);
    let slow = [&reliable, &plain];
    slow.into_iter().for_each(Follower::freeze);
    flush_flows();
    await_that("more deliveries fail than there are events", || {
        let failed = drops();
        failed
            .iter()
            .filter(|&&drops| drops > FLOW_COUNT.into())
            .count()
            == slow.len()
    });
    slow.into_iter().for_each(Follower::thaw);
    await_destroys(&reliable, FLOW_COUNT);
    await_no_flows();
    let (plain, roomy) = (plain.end(), roomy.end());
    plain.assert_good();
    let note = "lost may include copies of DESTROY events";
    assert!(plain.errors.contains(note), "{}", plain.errors);
    assert!(
        !roomy.errors.contains(note),
        "the other collector lost nothing"
    );
    assert!(
        plain.stat("dropped") > FLOW_COUNT.into(),
        "{}",
        plain.errors
    );
    let missing = FLOW_COUNT as usize - destroys(&records(&plain)).len();
    assert!(missing as u64 <= plain.stat("dropped"), "{}", plain.errors);
    roomy.assert_good();
    assert_eq!(roomy.stat("dropped"), 0);
    let records = records(&roomy);
    let counts = destroys(&records);
    assert_eq!(counts.len(), FLOW_COUNT as usize);
    assert!(counts.values().sum::<u32>() > FLOW_COUNT + 1000, "repeats");
}
