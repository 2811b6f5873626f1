//! `--snapshot`, `--mirror` and `--table`: a table that equals the kernel's, even after losses.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use common::{
    Directory, Events, Follower, Load, Run, add_device, await_that, flush_flows, json, make_flows,
    make_routes, mark_flows, must, own_namespace, remove_flows, remove_routes, run,
};

const BACKENDS: [&str; 3] = ["multishot", "oneshot", "recvmmsg"];
/// Room for about thirty events.
const TINY: &str = "--recv-buffer 16KiB";

fn objects(follower: &Follower) -> Vec<Value> {
    let lines = follower.lines();
    lines.iter().map(|line| json::parse(line)).collect()
}

fn is_resynced_record(object: &Value) -> bool {
    object["event"] == "resynced"
}

fn resyncs(follower: &Follower) -> impl Iterator<Item = Value> {
    objects(follower).into_iter().filter(is_resynced_record)
}

/// Waits for `count` records of a finished round.
#[track_caller]
fn await_resyncs(follower: &Follower, count: usize) {
    await_that("the round is reported", || {
        resyncs(follower).count() >= count
    });
}

/// The mirrored table, which a signal asks for.
#[track_caller]
fn table_now(follower: &Follower, file: &str) -> Vec<Value> {
    let _ = fs::remove_file(file);
    follower.signal(Signal::USR1);
    await_that("the table is written", || fs::exists(file).unwrap_or(false));
    read_table(file)
}

fn read_table(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the table");
    text.lines().map(json::parse).collect()
}

/// What identifies a flow, and what may change: address, port, mark, id, whether replies were seen, and whether it is
/// assured.
type Row = (String, String, String, String, bool, bool);

fn mirrored_flows(table: &[Value]) -> BTreeSet<Row> {
    let row = |flow: &Value| {
        let status = flow["status"].as_array().expect("a status");
        let number = |value: &Value| value.as_u64().unwrap_or(0).to_string();
        (
            flow["orig"]["src"].as_str().expect("an address").to_owned(),
            number(&flow["orig"]["sport"]),
            number(&flow["mark"]),
            number(&flow["id"]),
            status.contains(&"seen-reply".into()),
            status.contains(&"assured".into()),
        )
    };
    let rows: BTreeSet<Row> = table.iter().map(row).collect();
    assert_eq!(rows.len(), table.len(), "each flow once");
    rows
}

/// The flows that `conntrack -L` prints. None: it is not installed.
fn kernel_flows() -> Option<BTreeSet<Row>> {
    let output = run("conntrack", &["-L", "-o", "id"])?;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let row = |line: &str| {
        let field = |name: &str| {
            let mut words = line.split(' ');
            let value = words.find_map(|word| word.strip_prefix(name));
            value.unwrap_or_default().to_owned()
        };
        (
            field("src="),
            field("sport="),
            field("mark="),
            field("id="),
            !line.contains("[UNREPLIED]"),
            line.contains("[ASSURED]"),
        )
    };
    Some(text.lines().map(row).collect())
}

#[track_caller]
fn assert_is_kernels(table: &[Value]) {
    match kernel_flows() {
        Some(kernel) => {
            let mirrored = mirrored_flows(table);
            let difference: Vec<_> = mirrored.symmetric_difference(&kernel).take(5).collect();
            assert!(difference.is_empty(), "{difference:?}");
        }
        None => common::skip("the kernel's own list", "conntrack is not installed"),
    }
}

/// A strict reader of flows: each lifetime has one NEW event, before all others. Returns the flows alive at the end.
#[track_caller]
fn alive(objects: &[Value]) -> BTreeMap<String, u64> {
    let mut alive = BTreeMap::new();
    for object in objects {
        let Some(src) = object["orig"]["src"].as_str() else {
            continue;
        };
        let id = object["id"].as_u64().expect("an id");
        match object["event"].as_str() {
            Some("new") => {
                let before = alive.insert(src.to_owned(), id);
                assert_eq!(before, None, "a second new event: {object}");
            }
            Some("update") => assert!(alive.contains_key(src), "unknown: {object}"),
            _ => assert!(alive.remove(src).is_some(), "unknown: {object}"),
        }
    }
    alive
}

#[test]
fn the_table_comes_first_and_events_follow() {
    for backend in BACKENDS {
        own_namespace();
        make_flows(0..300);
        let follower = Follower::start(&format!("conntrack --snapshot --json --backend {backend}"));
        await_resyncs(&follower, 1);
        make_flows(300..301);
        remove_flows(300..301); // the kernel reports no end of a flow that began before anybody listened
        follower.await_lines(303);
        let ended = follower.end();
        ended.assert_good();
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        let objects = json::objects(Events::Conntrack, &lines);
        for object in &objects[..300] {
            assert_eq!(
                (&object["event"], &object["resynced"]),
                (&"new".into(), &true.into())
            );
        }
        let record = &objects[300];
        assert_eq!(record["reason"], "snapshot", "{record}");
        assert_eq!(
            (&record["entries"], &record["new"]),
            (&300.into(), &300.into())
        );
        assert_eq!(
            (&objects[301]["event"], &objects[301]["resynced"]),
            (&"new".into(), &Value::Null)
        );
        assert_eq!(objects[302]["event"], "destroy");
        assert_eq!(alive(&objects).len(), 300);
    }
}

#[test]
fn the_text_marks_records_that_are_not_events() {
    own_namespace();
    make_flows(0..2);
    let follower = Follower::start("conntrack --snapshot");
    follower.await_lines(3);
    make_flows(2..3);
    follower.await_lines(4);
    let lines = follower.lines();
    assert!(lines[0].starts_with("    [NEW] tcp "), "{lines:?}");
    assert!(lines[0].ends_with(" [RESYNCED]"), "{lines:?}");
    assert!(
        lines[2].starts_with(" [RESYNCED] 2 entries: 2 new, 0 changed, 0 gone, between "),
        "{lines:?}"
    );
    assert!(!lines[3].contains("RESYNCED"), "{lines:?}");
    let routes = Follower::start("route --snapshot");
    await_that("routes are listed", || {
        routes
            .lines()
            .iter()
            .any(|line| line.starts_with(" [RESYNCED] "))
    });
    let lines = routes.lines();
    assert!(
        lines.len() > 1 && lines[0].ends_with(" [RESYNCED]"),
        "{lines:?}"
    );
}

#[test]
fn a_mirror_alone_shows_no_table() {
    own_namespace();
    make_flows(0..5);
    let follower = Follower::start("conntrack --mirror --json -e destroy");
    await_resyncs(&follower, 1);
    make_flows(5..6);
    remove_flows(5..6);
    follower.await_lines(2);
    let events: Vec<Value> = objects(&follower)
        .iter()
        .map(|object| object["event"].clone())
        .collect();
    assert_eq!(events, ["resynced", "destroy"]);
}

#[test]
fn a_count_ends_the_table_too() {
    own_namespace();
    make_flows(0..50);
    let ended = Run::new("conntrack --snapshot --count 7").run_to_end();
    ended.assert_good();
    assert_eq!(ended.event_count(), 7, "{}", ended.output);
}

/// A collector that was stopped recovers what it has missed, and its table equals the kernel's.
#[test]
fn missed_flows_are_recovered() {
    for backend in BACKENDS {
        own_namespace();
        let directory = Directory::new();
        let file = directory.file("table");
        let follower = Follower::start(&format!(
            "conntrack --snapshot --json {TINY} --resync-interval 100ms --backend {backend} --table {file}"
        ));
        await_resyncs(&follower, 1);
        make_flows(0..1000);
        await_that("all flows are known", || {
            table_now(&follower, &file).len() == 1000
        });
        let resync_count = resyncs(&follower).count();
        follower.freeze();
        make_flows(1000..2000);
        remove_flows(0..500);
        mark_flows(500..700, 9);
        follower.thaw();
        await_that("the loss is repaired", || {
            resyncs(&follower).count() > resync_count
        });
        assert_is_kernels(&table_now(&follower, &file));
        flush_flows();
        await_that("all flows have ended", || {
            alive(&objects(&follower)).is_empty()
        });
        let ended = follower.end();
        ended.assert_good();
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        let objects = json::objects(Events::Conntrack, &lines);
        let marked = |event: &str| {
            let is_it = |object: &&Value| object["event"] == event && object["resynced"] == true;
            objects.iter().filter(is_it).count()
        };
        assert!(marked("new") > 900 && marked("destroy") > 100 && marked("update") > 100);
        // Twice 1000 more, 500 fewer, 200 changed, and at last 1500 fewer.
        let sent = 1000 + 1000 + 500 + 200 + 1500;
        assert!(ended.stat("dropped") > 1500, "{}", ended.errors);
        let accounted = ended.stat("received") + ended.stat("dropped") - ended.stat("requests");
        assert_eq!(accounted, sent, "{}", ended.errors);
        assert!(read_table(&file).is_empty(), "written at the end, too");
    }
}

#[test]
fn five_seconds_without_reading_under_load_are_recovered() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("table");
    make_flows(1000..1500);
    let follower = Follower::start(&format!(
        "conntrack --snapshot --json --recv-buffer 64KiB --table {file} --resync-interval 1s"
    ));
    await_resyncs(&follower, 1);
    let load = Load::start(Events::Conntrack);
    follower.freeze();
    let frozen_at = Instant::now();
    await_that("the command did not read for 5 s", || {
        frozen_at.elapsed() >= Duration::from_secs(5)
    });
    make_flows(1500..1600);
    follower.thaw();
    await_that("the loss is reported", || {
        objects(&follower)
            .iter()
            .any(|object| object["event"] == "lost")
    });
    drop(load);
    await_that("the table is the kernel's", || {
        kernel_flows().is_none_or(|kernel| mirrored_flows(&table_now(&follower, &file)) == kernel)
    });
    assert_eq!(alive(&objects(&follower)).len(), 600);
    let ended = follower.end();
    ended.assert_good();
    assert!(ended.stat("dropped") > 1000, "{}", ended.errors);
}

#[test]
fn missed_routes_are_recovered() {
    for backend in BACKENDS {
        own_namespace();
        let directory = Directory::new();
        let file = directory.file("table");
        make_routes(0..1000);
        let follower = Follower::start(&format!(
            "route --snapshot --json {TINY} --resync-interval 100ms --backend {backend} --table {file}"
        ));
        await_resyncs(&follower, 1);
        follower.freeze();
        make_routes(1000..2000);
        remove_routes(0..500);
        follower.thaw();
        await_that("the table is the kernel's", || {
            mirrored_routes(&table_now(&follower, &file)) == kernel_routes()
        });
        assert!(kernel_routes().len() > 1500);
        let ended = follower.end();
        ended.assert_good();
        assert!(ended.stat("dropped") > 1000, "{}", ended.errors);
        let lines: Vec<String> = ended.output.lines().map(str::to_owned).collect();
        json::objects(Events::Route, &lines);
    }
}

fn mirrored_routes(table: &[Value]) -> HashSet<String> {
    let row = |route: &Value| {
        format!(
            "{} {}",
            route["dst"].as_str().unwrap_or("?"),
            route["table"]
        )
    };
    let rows: HashSet<String> = table.iter().map(row).collect();
    assert_eq!(rows.len(), table.len(), "each route once");
    rows
}

/// The mirror is compared with the command's own list, which other tests compare with ip's.
fn kernel_routes() -> HashSet<String> {
    let output = run(common::NLRING, &["route", "--snapshot", "--once", "--json"]);
    let text = String::from_utf8(output.expect("nlring").stdout).expect("UTF-8");
    let table: Vec<Value> = text.lines().map(json::parse).collect();
    mirrored_routes(&table)
}

#[test]
fn routes_that_disappear_without_an_event_are_noticed_soon() {
    own_namespace();
    if !add_device("v0", &["192.0.2.1/24"]) {
        return common::skip("silent routes", "no kind of device");
    }
    must("ip route add 10.0.0.0/8 via 192.0.2.2");
    let follower = Follower::start("route --mirror --json");
    await_resyncs(&follower, 1);
    must("ip link set v0 down");
    await_that("the route's end is reported", || {
        objects(&follower).iter().any(|object| {
            object["event"] == "delete"
                && object["dst"] == "10.0.0.0/8"
                && object["resynced"] == true
        })
    });
}

#[test]
fn a_signal_writes_the_table_and_the_statistics() {
    own_namespace();
    let directory = Directory::new();
    let (table, stats) = (directory.file("table"), directory.file("stats"));
    let follower = Follower::start(&format!(
        "conntrack --mirror --table {table} --stats {stats} --output {}",
        directory.file("output")
    ));
    await_that("the first round is over", || !follower.lines().is_empty()); // before, the table would wait for it
    for count in [10, 20] {
        make_flows(count..count + 10);
        await_that("the flows are in the table", || {
            table_now(&follower, &table).len() == count as usize
        });
        await_that("the statistics are of now", || {
            follower.signal(Signal::USR1);
            let text = fs::read_to_string(&stats).unwrap_or_default();
            serde_json::from_str(&text)
                .is_ok_and(|stats: Value| stats["received"].as_u64() >= Some(count.into()))
        });
    }
    // Its readers keep the file that they have opened.
    let before = fs::File::open(&table).expect("the table");
    flush_flows();
    await_that("the table is empty", || {
        table_now(&follower, &table).is_empty()
    });
    assert!(
        before.metadata().expect("its size").len() > 0,
        "replaced whole"
    );
    follower.end().assert_good();
    let names = fs::read_dir(&directory.0).expect("a directory");
    let names: HashSet<_> = names
        .map(|entry| entry.expect("a name").file_name())
        .collect();
    assert_eq!(names.len(), 3, "nothing is left over: {names:?}");
}

#[test]
fn a_table_that_cannot_be_written_is_reported_before_any_event() {
    own_namespace();
    let directory = Directory::new();
    for (file, code, words) in [
        ("/dev/null".to_owned(), 2, "not a regular file"),
        (directory.0.display().to_string(), 2, "not a regular file"),
        (directory.file("none/table"), 1, "No such file"),
    ] {
        let ended = Run::new(&format!("conntrack --mirror --table {file}")).run_to_end();
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(
            ended.errors.contains(words) && ended.errors.contains("--table"),
            "{ended:#?}"
        );
    }
}

/// Another collector missed some ends, so the kernel sends these again to all.
#[test]
fn a_mirror_leaves_repeated_ends_out() {
    own_namespace();
    let slow = Follower::start(&format!("conntrack --reliable {TINY}"));
    let mirror = Follower::start("conntrack --reliable --mirror --json");
    await_resyncs(&mirror, 1);
    slow.freeze();
    make_flows(0..1000);
    flush_flows();
    await_that("all ends are reported", || {
        let objects = objects(&mirror);
        objects
            .iter()
            .filter(|object| object["event"] == "destroy")
            .count()
            == 1000
    });
    slow.thaw();
    await_that("the kernel has sent all", || {
        let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
        count.is_ok_and(|count| count.trim() == "0")
    });
    let ended = mirror.end();
    ended.assert_good();
    assert!(ended.stat("repeated") > 500, "{}", ended.errors);
    let lines: Vec<Value> = ended.output.lines().map(json::parse).collect();
    assert!(alive(&lines).is_empty());
    slow.end().assert_good();
}

#[test]
fn missed_changes_are_recovered_at_the_end() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!("conntrack --mirror --json {TINY} --table {file}"));
    await_resyncs(&follower, 1);
    follower.freeze();
    make_flows(0..1000);
    follower.thaw();
    let ended = follower.end(); // long before the interval ends
    ended.assert_good();
    assert!(
        !ended.errors.contains("could not compare the mirror"),
        "{}",
        ended.errors
    );
    assert_is_kernels(&read_table(&file));
    let objects: Vec<Value> = ended.output.lines().map(json::parse).collect();
    assert_eq!(alive(&objects).len(), 1000);
    let last = objects.last().expect("a record");
    assert_eq!(
        (&last["event"], &last["entries"]),
        (&"resynced".into(), &1000.into())
    );
}

/// While the first dump is read, events may have to wait for it. None is omitted.
#[test]
fn all_events_are_shown_however_early_the_end_comes() {
    own_namespace();
    make_flows(10_000..30_000);
    make_routes(10_000..30_000);
    for (command, events) in [("conntrack", Events::Conntrack), ("route", Events::Route)] {
        let follower = Follower::start(&format!("{command} --mirror --json"));
        let load = Load::start(events);
        await_that("something happens", || match events {
            Events::Conntrack => fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
                .is_ok_and(|count| count.trim() != "20000"),
            Events::Route => !follower.lines().is_empty(),
        });
        drop(load);
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.stat("dropped"), 0, "{}", ended.errors);
        let objects: Vec<Value> = ended.output.lines().map(json::parse).collect();
        let is_event =
            |object: &&Value| object["event"] != "resynced" && object["resynced"] != true;
        let reported = objects.iter().filter(is_event).count() as u64;
        assert_eq!(
            reported,
            ended.stat("received") - ended.stat("requests"),
            "{command}"
        );
        assert!(reported > 0);
    }
}
