//! `--json` together with losses, files, counts and pipes.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::json::{has_all, objects, parse};
use common::{
    Directory, Events, Follower, Run, await_that, make_flows, make_routes, own_namespace,
    remove_routes,
};
use serde_json::{Value, json};

fn make(events: Events, numbers: std::ops::Range<u32>) {
    match events {
        Events::Conntrack => make_flows(numbers),
        Events::Route => make_routes(numbers),
    }
}

const COMMANDS: [(&str, Events); 2] = [("conntrack", Events::Conntrack), ("route", Events::Route)];

#[test]
fn a_loss_is_an_object_of_its_own() {
    for (command, events) in COMMANDS {
        own_namespace();
        let began = jiff::Timestamp::now().as_nanosecond();
        let follower = Follower::start(&format!("{command} --json --recv-buffer 1"));
        follower.freeze();
        make(events, 0..500);
        follower.thaw();
        await_that("the loss is reported while it runs", || {
            follower
                .lines()
                .iter()
                .any(|line| line.starts_with(r#"{"event":"lost","#))
        });
        let ended = follower.end();
        ended.assert_good();
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        let objects = objects(events, &lines);
        let (lost, reported): (Vec<Value>, Vec<Value>) = objects
            .into_iter()
            .partition(|object| object["event"] == "lost");
        let count: u64 = lost.iter().filter_map(|loss| loss["count"].as_u64()).sum();
        assert!(count > 400, "{lost:?}");
        assert_eq!(count, ended.stat("dropped"));
        assert_eq!(count + reported.len() as u64, 500);
        for loss in &lost {
            assert_eq!(common::field_names(loss).len(), 4, "{loss}");
            let [since, until] =
                ["since_ns", "until_ns"].map(|name| loss[name].as_u64().map(i128::from));
            assert!(Some(began) <= since && since <= until, "{loss}");
            assert!(
                until <= Some(jiff::Timestamp::now().as_nanosecond()),
                "{loss}"
            );
        }
    }
}

/// If the kernel gives no time, the time is within the test's. A missing field has no name.
#[test]
fn json_works_with_a_file_and_a_count() {
    for (command, events) in COMMANDS {
        own_namespace();
        let directory = Directory::new();
        let file = directory.file("events");
        let before = jiff::Timestamp::now().as_nanosecond();
        let follower = Follower::start(&format!("{command} --json --count 3 --output {file}"));
        make(events, 0..5);
        let ended = follower.wait();
        assert_eq!(
            (ended.code, ended.stat("events")),
            (Some(0), 3),
            "{ended:?}"
        );
        let lines = common::whole_lines(file.as_ref());
        let mut objects = objects(events, &lines);
        objects.retain(|object| object["event"] != "unread"); // the other two, if they came late
        assert_eq!(objects.len(), 3, "{lines:?}");
        for (number, object) in objects.iter().enumerate() {
            let wanted = match events {
                Events::Conntrack => {
                    json!({"event": "new", "orig": {"src": format!("10.0.0.{number}")}})
                }
                Events::Route => json!({"event": "new", "dst": format!("10.0.0.{number}/32")}),
            };
            assert!(has_all(object, &wanted), "{object}");
            assert_eq!(object["time_source"], "receive");
            let time = object["time_ns"].as_u64().map(i128::from);
            assert!(Some(before) <= time && time <= Some(jiff::Timestamp::now().as_nanosecond()));
            for absent in [
                "nat", "zone", "labels", "start_ns", "metrics", "nexthops", "helper",
            ] {
                assert_eq!(object.get(absent), None, "{object}");
            }
        }
    }
}

#[test]
fn json_refuses_fields_that_only_text_has() {
    for arguments in [
        "conntrack --json -o id",
        "conntrack -o timestamp --json",
        "conntrack --json --json",
    ] {
        let ended = Run::new(arguments).run_to_end();
        assert_eq!(ended.code, Some(2), "{arguments}: {ended:?}");
        assert!(ended.errors.contains("--json"), "{ended:?}");
        assert_eq!(ended.output, "", "{arguments}");
    }
}

#[test]
fn the_command_ends_when_its_reader_ends() {
    own_namespace();
    let mut run = Run::new("route --json --output -");
    run.command.stdout(Stdio::piped());
    let mut follower = run.start();
    let mut stdout = BufReader::new(follower.child.stdout.take().expect("its output"));
    make_routes(0..1);
    let mut line = String::new();
    stdout
        .read_line(&mut line)
        .expect("a line, though nothing follows it");
    assert_eq!(parse(line.trim_end())["dst"], "10.0.0.0/32");
    drop(stdout);
    let mut number = 0;
    await_that("nlring ends", || {
        make_routes(number + 1..number + 2);
        remove_routes(number + 1..number + 2);
        number += 1;
        follower.child.try_wait().expect("its status").is_some()
    });
    let ended = follower.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.failures(), [""; 0]);
}
