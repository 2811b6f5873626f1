//! `nlring conntrack` reports at its start which flows will make no events.

mod common;

use std::fs;

use common::{Follower, NLRING, Run, await_that, make_flows, own_namespace, run};

fn set_events(setting: &str) {
    fs::write("/proc/sys/net/netfilter/nf_conntrack_events", setting).expect("the sysctl");
}

fn warnings(arguments: &str) -> Vec<String> {
    let ended = Run::new(arguments).run_to_end();
    ended.assert_good();
    let warnings = ended
        .errors
        .lines()
        .filter(|line| line.starts_with("nlring: warning: "));
    warnings.map(str::to_owned).collect()
}

#[test]
fn flows_that_make_no_events_are_named_at_the_start() {
    own_namespace();
    let briefly = "conntrack --duration 1ms";
    assert_eq!(warnings(briefly), [""; 0], "there is none");
    set_events("0");
    let reported = warnings(briefly);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].contains("nf_conntrack_events is 0: "),
        "{reported:?}"
    );
    assert!(
        reported[0].contains("sysctl -w net.netfilter.nf_conntrack_events=1"),
        "{reported:?}"
    );
    assert_eq!(
        run(NLRING, &["conntrack", "--snapshot", "--once"])
            .expect("nlring")
            .stderr,
        [0; 0],
        "a list needs no events"
    );
    assert_eq!(warnings("conntrack -e expect --duration 1ms"), [""; 0]);
    make_flows(0..2);
    set_events("2");
    for (arguments, remedy) in [
        ("", "; --mirror shows "),
        ("--mirror", "; the mirror's audits "),
    ] {
        let reported = warnings(&format!("{briefly} {arguments}"));
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(
            reported[0].contains("2 flows exist already: "),
            "{reported:?}"
        );
        assert!(reported[0].contains(remedy), "{reported:?}");
    }
    set_events("1");
    assert_eq!(warnings(briefly), [""; 0]);
    set_events("2");
    let other = Follower::start("conntrack");
    assert_eq!(
        warnings(briefly),
        [""; 0],
        "the other may have received their first events"
    );
    await_that("the other follows", || other.state() == Some('S'));
    other.end().assert_good();
}
