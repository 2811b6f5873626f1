//! Objects of nlring agree with what conntrack's XML says of the same flow or expectation.

use serde_json::Value;

use crate::common::{PATIENCE, Peer, await_that};
use crate::conntrack_xml;

/// The fields of a flow that conntrack's XML lacks. The tests check these themselves.
const ONLY_OURS: [&str; 6] = [
    "time_ns",
    "time_source",
    "nat",
    "master",
    "status",
    "labels_hex",
];
/// The fields of an ICMP tuple that conntrack's XML lacks.
const ONLY_OURS_OF_ICMP: [&str; 3] = ["type", "code", "id"];
/// The fields of an expectation that conntrack's XML lacks.
const ONLY_OURS_OF_EXPECTATIONS: [&str; 6] =
    ["time_ns", "time_source", "nat", "id", "flags", "function"];

#[track_caller]
pub fn assert_flows_agree(ours: Vec<&Value>, theirs: &[String]) {
    let theirs = theirs.iter().filter(|line| line.starts_with("<flow"));
    let theirs: Vec<Value> = theirs.map(|line| conntrack_xml::flow(line)).collect();
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}\n{theirs:#?}");
    for (ours, theirs) in by_id(ours).into_iter().zip(by_id(theirs.iter().collect())) {
        assert_flow_agrees(ours, theirs.clone());
    }
}

/// Compares each flow in its own order, because events from two processors may reach two listeners in different
/// orders.
fn by_id(mut flows: Vec<&Value>) -> Vec<&Value> {
    flows.sort_by_key(|flow| flow["id"].as_u64());
    flows
}

#[track_caller]
fn assert_flow_agrees(ours: &Value, mut theirs: Value) {
    let reported = format!("{ours}\n{theirs}");
    assert_status_agrees(ours, &theirs);
    assert_times_agree(ours, &theirs);
    assert_nat_agrees(ours);
    let mut rest = ours.clone();
    take(&mut rest, &ONLY_OURS);
    take(
        &mut theirs,
        &["is_assured", "is_unreplied", "when_s", "delta_s"],
    );
    match ours["proto"].as_str() {
        Some("icmp" | "icmpv6") => {
            take(&mut rest["orig"], &ONLY_OURS_OF_ICMP);
            take(&mut rest["reply"], &ONLY_OURS_OF_ICMP);
        }
        // In XML conntrack uses the names of TCP states for SCTP.
        Some("sctp") => [&mut rest, &mut theirs]
            .into_iter()
            .for_each(|flow| take(flow, &["state"])),
        _ => {}
    }
    // conntrack omits labels without a name.
    take_labels_without_name(&mut rest);
    assert_eq!(rest, theirs, "{reported}");
}

fn take(object: &mut Value, names: &[&str]) {
    let fields = object.as_object_mut().expect("an object");
    fields.retain(|name, _| !names.contains(&name.as_str()));
}

fn take_labels_without_name(flow: &mut Value) {
    if let Some(labels) = flow.get_mut("labels").and_then(Value::as_array_mut) {
        labels.retain(|label| {
            label
                .as_str()
                .is_some_and(|label| label.parse::<u32>().is_err())
        });
    }
}

fn has_status(flow: &Value, bit: &str) -> bool {
    flow["status"]
        .as_array()
        .expect("a list")
        .contains(&bit.into())
}

#[track_caller]
fn assert_status_agrees(ours: &Value, theirs: &Value) {
    assert_eq!(has_status(ours, "assured"), theirs["is_assured"], "{ours}");
    assert_eq!(
        !has_status(ours, "seen-reply"),
        theirs["is_unreplied"],
        "{ours}"
    );
    assert!(has_status(ours, "confirmed"), "{ours}");
    assert_eq!(
        has_status(ours, "dying"),
        ours["event"] == "destroy",
        "{ours}"
    );
    assert_eq!(
        ours.get("master").is_some(),
        is_first_of_expected(ours),
        "{ours}"
    );
}

fn is_first_of_expected(flow: &Value) -> bool {
    has_status(flow, "expected") && flow["event"] == "new"
}

#[track_caller]
fn assert_times_agree(ours: &Value, theirs: &Value) {
    let seconds = |ns: &Value| ns.as_u64().expect("nanoseconds") / 1_000_000_000;
    let when_s = theirs["when_s"].as_u64().expect("seconds");
    let late = when_s.abs_diff(seconds(&ours["time_ns"]));
    assert!(late <= PATIENCE.as_secs(), "{late} s: {ours}");
    assert_eq!(
        ours.get("stop_ns").is_some(),
        ours["event"] == "destroy",
        "{ours}"
    );
    if let (Some(start), Some(stop)) = (ours["start_ns"].as_u64(), ours["stop_ns"].as_u64()) {
        assert_eq!((stop - start) / 1_000_000_000, theirs["delta_s"], "{ours}");
        assert!(
            stop <= ours["time_ns"].as_u64().expect("nanoseconds"),
            "{ours}"
        );
    }
}

/// Each rule of these tests changes the address, so the status shows which fields there must be.
#[track_caller]
fn assert_nat_agrees(ours: &Value) {
    for (field, bit) in [("src", "src-nat"), ("dst", "dst-nat")] {
        let is_translated = ours.get("nat").is_some_and(|nat| nat.get(field).is_some());
        assert_eq!(is_translated, has_status(ours, bit), "{field}: {ours}");
    }
}

#[track_caller]
pub fn assert_expectations_agree(ours: Vec<&Value>, peer: &Peer) {
    let is_one = |line: &String| line.starts_with("<flow");
    await_that("all expectations are there", || {
        peer.lines().iter().filter(|line| is_one(line)).count() >= ours.len()
    });
    let theirs = peer.lines();
    let theirs: Vec<&String> = theirs.iter().filter(|line| is_one(line)).collect();
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}\n{theirs:#?}");
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        let (mut rest, mut theirs) = (ours.clone(), conntrack_xml::expectation(theirs));
        take(&mut rest, &ONLY_OURS_OF_EXPECTATIONS);
        take(&mut theirs, &["when_s"]);
        assert_eq!(rest, theirs, "{ours}");
    }
}
