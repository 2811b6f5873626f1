//! Each kind of object that `--json` writes has a name of its own. docs/json.md has all of its fields, and no field
//! appears twice.

mod common;

use std::collections::BTreeSet;

use common::json::objects;
use common::{
    Events, Follower, NLRING, await_that, flush_flows, make_flows, make_routes, mark_flows,
    own_namespace, remove_flows, remove_routes, run,
};

/// Kinds that other tests check, because they need more preparation: json_conntrack/main.rs, namespaces.rs, sampling.rs, and
/// the tests of gaps and of `nlring monitor`.
const ELSEWHERE: [&str; 10] = [
    "appeared",
    "disappeared",
    "miss",
    "unknown",
    "expect-new",
    "expect-destroy",
    "truncated",
    "malformed",
    "missing",
    "sampling",
];
/// A kind that no kernel sends.
const NEVER: &str = "expect-update";

/// The kinds that docs/json.md describes.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../docs/json.md");
    let row = text
        .lines()
        .find(|line| line.starts_with("| `event` | what happened"));
    let words = row
        .expect("the row of `event`")
        .split('`')
        .skip(1)
        .step_by(2)
        .skip(1);
    let is_kind = |word: &&str| !word.starts_with("--") && !word.starts_with("nlring ");
    words.filter(is_kind).map(str::to_owned).collect()
}

/// Checks each line's object, and returns the kinds.
fn kinds(events: Events, lines: &[String]) -> Vec<String> {
    let kind = |object: &serde_json::Value| object["event"].as_str().expect("its kind").to_owned();
    objects(events, lines).iter().map(kind).collect()
}

fn make(events: Events, count: u32) {
    match events {
        Events::Conntrack => make_flows(0..count),
        Events::Route => make_routes(0..count),
    }
}

fn remove(events: Events, count: u32) {
    match events {
        Events::Conntrack => remove_flows(0..count),
        Events::Route => remove_routes(0..count),
    }
}

/// The kinds for events, losses, resyncs, the end, and lists.
fn kinds_of(command: &str, events: Events) -> Vec<String> {
    own_namespace();
    let mut lines = Vec::new();
    let until = |follower: &Follower, part: &str| {
        await_that(part, || {
            follower.lines().iter().any(|line| line.contains(part))
        });
    };
    let follower = Follower::start(&format!("{command} --json"));
    make(events, 1);
    if events == Events::Conntrack {
        mark_flows(0..1, 7);
    }
    remove(events, 1);
    until(&follower, r#""event":"de"#);
    lines.extend(follower.end().output.lines().map(str::to_owned));

    let mirror = "--snapshot --resync-interval 100ms --recv-buffer 1";
    let mirror = Follower::start(&format!("{command} --json {mirror}"));
    until(&mirror, r#""reason":"snapshot""#);
    mirror.freeze();
    make(events, 200);
    mirror.thaw();
    until(&mirror, r#""reason":"loss""#);
    until(&mirror, r#""resynced":true"#);
    lines.extend(mirror.end().output.lines().map(str::to_owned));

    let counted = Follower::start(&format!("{command} --json --count 1"));
    counted.freeze();
    remove(events, 200);
    make(events, 200);
    counted.thaw();
    let ended = counted.wait();
    lines.extend(ended.output.lines().map(str::to_owned));

    let list = run(NLRING, &[command, "--json", "--snapshot", "--once"]);
    let list = String::from_utf8(list.expect("nlring").stdout).expect("UTF-8");
    lines.extend(list.lines().map(str::to_owned));
    kinds(events, &lines)
}

/// The kinds that only `--reliable` writes.
fn kinds_of_delays() -> Vec<String> {
    own_namespace();
    let follower = Follower::start("conntrack --reliable --json -e destroy --recv-buffer 16KiB");
    make_flows(0..200);
    follower.freeze();
    flush_flows();
    follower.thaw();
    await_that("all ends", || {
        let is_end = |line: &&String| line.contains("destroy");
        follower.lines().iter().filter(is_end).count() >= 200
    });
    let ended = follower.end();
    let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
    kinds(Events::Conntrack, &lines)
}

#[test]
fn every_kind_of_object_is_documented_and_has_no_field_twice() {
    let seen = [
        kinds_of("conntrack", Events::Conntrack),
        kinds_of("route", Events::Route),
        kinds_of_delays(),
    ];
    let others = ELSEWHERE.into_iter().chain([NEVER]).map(str::to_owned);
    let all: BTreeSet<String> = seen.concat().into_iter().chain(others).collect();
    assert_eq!(all, documented());
}
