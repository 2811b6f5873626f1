//! `--filter` and `--in-table` of `nlring monitor` restrict routes and nothing else.

use super::common::{
    Follower, Run, is_installed, leave_out, lines_until, must, own_namespace, skip,
};
use super::{LAST, add_multicast_routes, end};

/// The labels of the lines, and the lines of routes.
fn labels_and_routes(lines: &[String]) -> (Vec<String>, Vec<String>) {
    let labels = lines
        .iter()
        .filter_map(|line| line.split(']').next()?.strip_prefix('['));
    let routes = lines.iter().filter_map(|line| line.strip_prefix("[ROUTE]"));
    (
        labels.map(str::to_owned).collect(),
        routes.map(str::to_owned).collect(),
    )
}

#[test]
fn routes_are_selected_and_all_other_objects_are_shown() {
    let name = "routes_are_selected_and_all_other_objects_are_shown";
    if !is_installed("ip") {
        return skip(name, "no ip");
    }
    own_namespace();
    must("ip link set lo up");
    let text = "dst 203.0.113.0/24 or-longer and not proto bgp";
    let run = Run::new("monitor -o label --in-table 5").args(&["--filter", text]);
    let follower = run.start();
    let by_device = Run::new("monitor route --dev lo").args(&["--filter", "table 5 and dev lo"]);
    let by_device = by_device.start();
    must("ip rule add priority 77 lookup 3");
    must("ip addr add 10.0.0.1/32 dev lo");
    must("ip route add 203.0.113.1 dev lo");
    must("ip route add 203.0.113.2 dev lo table 5 proto bgp");
    must("ip route add 203.0.113.3 dev lo table 5");
    must("ip route add blackhole 203.0.113.4 table 5");
    must("ip route add 198.51.100.1 dev lo table 5");
    let daemon = add_multicast_routes();
    if daemon.is_none() {
        leave_out(name, "multicast routes");
    }
    must("ip route del 203.0.113.3 table 5");
    must(&format!("ip route add {LAST} dev lo table 5"));
    let lines = lines_until(LAST, || follower.lines());
    let (labels, routes) = labels_and_routes(&lines);
    let starts = [
        "203.0.113.3 ",
        "blackhole 203.0.113.4 ",
        "Deleted 203.0.113.3 ",
        LAST,
    ];
    assert_eq!(routes.len(), starts.len(), "{lines:#?}");
    assert!(
        routes
            .iter()
            .zip(starts)
            .all(|(route, start)| route.starts_with(start)),
        "{routes:#?}"
    );
    let has = |label: &str| labels.iter().any(|known| known == label);
    assert!(has("RULE") && has("ADDR"), "{lines:#?}");
    assert_eq!(has("MROUTE"), daemon.is_some(), "{lines:#?}");
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(
        ended.stat("not_shown"),
        0,
        "the kernel leaves out the other routes"
    );
    let lines = lines_until(LAST, || by_device.lines());
    let starts = lines
        .iter()
        .map(|line| line.split(" dev ").next().unwrap_or_default());
    let starts: Vec<&str> = starts.map(str::trim_end).collect();
    let wanted = [
        "203.0.113.2",
        "203.0.113.3",
        "198.51.100.1",
        "Deleted 203.0.113.3",
        LAST,
    ];
    assert_eq!(starts, wanted, "{lines:#?}");
    by_device.end().assert_good();
    end(daemon);
}

#[test]
fn a_filter_without_routes_is_refused() {
    own_namespace();
    for (arguments, text, reason) in [
        ("monitor link rule", "table 5", "add route to the objects"),
        (
            "monitor mroute --in-table 5",
            "all",
            "add route to the objects",
        ),
        ("monitor", "dev nosuch", "there is no device nosuch here"),
        (
            "monitor --all-netns",
            "dev lo",
            "choose a namespace with --netns",
        ),
        ("monitor", "table", "expected"),
    ] {
        let ended = Run::new(arguments).args(&["--filter", text]).run_to_end();
        assert_eq!(ended.code, Some(2), "{arguments} {text}");
        assert!(
            ended.errors.contains(reason),
            "{arguments}: {}",
            ended.errors
        );
    }
    let follower = Follower::start("monitor r --in-table main");
    must("ip link set lo up");
    must(&format!("ip route add {LAST} dev lo"));
    follower.await_lines(1);
    let ended = follower.end();
    ended.assert_good();
    assert!(ended.output.starts_with(LAST), "{}", ended.output);
}
