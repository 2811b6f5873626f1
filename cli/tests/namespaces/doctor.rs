//! `nlring doctor --netns`: the checks are about the namespace, and so are the remedies.

use serde_json::Value;

use super::common::{NLRING, must, run};
use super::{add_namespace, prepare, words};

/// The check of conntrack's events.
fn events_check(arguments: &str) -> Value {
    let report = run(NLRING, &words(arguments)).expect("nlring").stdout;
    let report: Value = serde_json::from_slice(&report).expect("an object");
    let checks = report["checks"].as_array().expect("checks").iter();
    let mut named = checks.filter(|check| check["name"] == "conntrack_events");
    named.next().expect("the check").clone()
}

#[test]
fn doctor_looks_at_another_namespace_and_its_remedies_work_from_here() {
    if !prepare("doctor_looks_at_another_namespace_and_its_remedies_work_from_here") {
        return;
    }
    add_namespace("blue");
    let off = "sysctl -q -w net.netfilter.nf_conntrack_events=0";
    must(&format!("ip netns exec blue {off}"));
    let here = events_check("doctor --json");
    assert_ne!(here["nf_conntrack_events"], 0, "{here}");
    let there = events_check("doctor --netns blue --json");
    assert_eq!(there["nf_conntrack_events"], 0, "{there}");
    let remedy = there["remedy"].as_str().expect("a remedy");
    assert!(
        remedy.starts_with("nsenter --net=/run/netns/blue sysctl -w "),
        "{remedy}"
    );
    must(remedy);
    let there = events_check("doctor --netns blue --json");
    assert_ne!(there["nf_conntrack_events"], 0, "{there}");
}
