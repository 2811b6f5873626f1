//! The file of `--table`: when it is written, what happens to the file before it, and that nothing waits for it.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use common::{
    Directory, Follower, Run, await_that, flush_flows, is_installed, json, make_flows, make_routes,
    mark_flows, own_namespace, remove_flows, run, skip,
};

/// Reading and writing this many flows takes a while.
const MANY: u32 = 100_000;
/// The prefix of an unfinished table's name.
const UNFINISHED: &str = ".nlring-";

fn read_table(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the table");
    assert!(text.is_empty() || text.ends_with('\n'), "whole lines");
    text.lines().map(json::parse).collect()
}

fn sources(table: &[Value]) -> BTreeSet<String> {
    let source = |flow: &Value| flow["orig"]["src"].as_str().expect("an address").to_owned();
    let sources: BTreeSet<String> = table.iter().map(source).collect();
    assert_eq!(sources.len(), table.len(), "each flow once");
    sources
}

fn ask(follower: &Follower) {
    follower.signal(Signal::USR1);
}

fn exists(file: &str) -> bool {
    fs::exists(file).expect("a look at the directory")
}

fn resync_count(follower: &Follower) -> usize {
    let lines = follower.lines();
    lines
        .iter()
        .filter(|line| line.contains("[RESYNCED]") && line.contains(" entries: "))
        .count()
}

#[track_caller]
fn await_first_round(follower: &Follower) {
    await_that("the first round is over", || resync_count(follower) > 0);
}

#[track_caller]
fn await_warning(follower: &Follower, words: &str) {
    await_that(words, || {
        let errors = follower.errors();
        let mut lines = errors.lines();
        lines.any(|line| line.starts_with("nlring: warning: ") && line.contains(words))
    });
}

/// The names of unfinished tables.
fn unfinished(directory: &Directory) -> Vec<String> {
    let names = fs::read_dir(&directory.0).expect("a directory");
    let names = names.map(|entry| entry.expect("a name").file_name().into_string());
    let names = names.map(|name| name.expect("UTF-8"));
    names.filter(|name| name.starts_with(UNFINISHED)).collect()
}

#[test]
fn events_are_delivered_while_a_large_table_is_written() {
    const FEW: u32 = 5;
    own_namespace();
    make_flows(1000..1000 + MANY);
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!("conntrack --mirror --table {file}"));
    await_first_round(&follower);
    ask(&follower);
    await_that("the table is being written", || {
        !unfinished(&directory).is_empty()
    });
    for number in 0..FEW {
        let written_bytes = fs::metadata(&follower.output).expect("the output").len();
        make_flows(number..number + 1);
        let source = format!(" src=10.0.0.{number} ");
        await_that("the event is written", || {
            let mut output = File::open(&follower.output).expect("the output");
            output
                .seek(SeekFrom::Start(written_bytes))
                .expect("its end");
            let mut news = String::new();
            output.read_to_string(&mut news).expect("its text");
            news.contains(&source)
        });
        assert!(
            !unfinished(&directory).is_empty(),
            "event {number} came late"
        );
    }
    await_that("the table is written", || exists(&file));
    assert!(read_table(&file).len() >= MANY as usize);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("dropped"), 0);
    assert_eq!(
        read_table(&file).len(),
        (MANY + FEW) as usize,
        "the table at the end"
    );
}

#[test]
fn a_table_requested_early_is_whole_and_equals_the_kernels() {
    own_namespace();
    make_flows(0..MANY);
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!("conntrack --mirror --table {file}"));
    ask(&follower);
    assert_eq!(resync_count(&follower), 0, "the kernel's is being read");
    await_that("the table is written", || exists(&file));
    assert_eq!(
        resync_count(&follower),
        1,
        "not before the kernel's was read"
    );
    let table = sources(&read_table(&file));
    assert_eq!(table.len(), MANY as usize);
    if !is_installed("conntrack") {
        return skip("the kernel's own list", "conntrack is not installed");
    }
    let output = run("conntrack", &["-L"]).expect("conntrack");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let source = |line: &str| {
        let mut words = line.split(' ');
        words.find_map(|word| word.strip_prefix("src=").map(str::to_owned))
    };
    let kernel: BTreeSet<String> = text.lines().filter_map(source).collect();
    assert!(table == kernel, "{} of {}", table.len(), kernel.len());
    follower.end().assert_good();
}

#[test]
fn a_reader_finds_a_whole_table_and_a_second_signal_writes_it_again() {
    own_namespace();
    let count = 30_000;
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!(
        "conntrack --mirror --recv-buffer 8MiB --resync-interval 1s --table {file}"
    ));
    await_first_round(&follower);
    make_flows(0..count); // now, because earlier ones would make no events
    await_that("all flows are known", || {
        let _ = fs::remove_file(&file);
        ask(&follower);
        await_that("the table is written", || exists(&file));
        read_table(&file).len() == count as usize
    });
    fs::remove_file(&file).expect("the table removed");
    ask(&follower);
    // The table may be finished before the directory is read. Then ask for it again.
    await_that("it is being written", || {
        if fs::remove_file(&file).is_ok() {
            ask(&follower);
        }
        !unfinished(&directory).is_empty()
    });
    mark_flows(0..100, 7);
    ask(&follower);
    await_that("it is written again", || {
        if !exists(&file) {
            return false;
        }
        let table = read_table(&file);
        assert_eq!(sources(&table).len(), count as usize, "the table is whole");
        let marked = table.iter().filter(|flow| flow["mark"] == 7);
        marked.count() == 100
    });
    follower.end().assert_good();
    assert_eq!(unfinished(&directory), [""; 0]);
    assert_eq!(read_table(&file).len(), count as usize);
}

#[test]
fn an_end_before_the_first_round_leaves_the_former_file() {
    own_namespace();
    make_routes(0..30_000);
    let directory = Directory::new();
    let file = directory.file("table");
    fs::write(&file, "precious\n").expect("a file");
    // With --mirror route events do not wait for the kernel's table, so the count is reached before the table is
    // read.
    let follower = Follower::start(&format!("route --mirror --count 1 --table {file}"));
    ask(&follower);
    make_routes(30_000..30_001);
    let ended = follower.wait();
    ended.assert_good();
    let words = "the table is not written, because the end came before the kernel's was read";
    assert!(ended.errors.contains(words), "{}", ended.errors);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "precious\n");
    assert_eq!(unfinished(&directory), [""; 0]);
}

#[test]
fn a_table_that_may_be_wrong_comes_with_a_warning() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!(
        "conntrack --mirror --recv-buffer 16KiB --resync-interval 10m --table {file}"
    ));
    await_first_round(&follower);
    ask(&follower);
    await_that("the table is written", || exists(&file));
    assert!(!follower.errors().contains("may be wrong"));
    follower.freeze();
    make_flows(0..1000);
    follower.thaw();
    await_that("the loss is reported", || {
        let lines = follower.lines();
        lines.iter().any(|line| line.starts_with(" [LOST] "))
    });
    fs::remove_file(&file).expect("the table removed");
    ask(&follower);
    await_warning(
        &follower,
        "events were lost, and the mirror is not repaired yet",
    );
    assert!(read_table(&file).len() < 1000);
    follower.end().assert_good();
    assert_eq!(
        read_table(&file).len(),
        1000,
        "the table is repaired at the end"
    );
}

#[test]
fn a_table_that_cannot_be_written_ends_nothing_before_the_end() {
    own_namespace();
    let directory = Directory::new();
    let inner = directory.0.join("inner");
    fs::create_dir(&inner).expect("a directory");
    let file = directory.file("inner/table");
    let follower = Follower::start(&format!("conntrack --mirror --table {file}"));
    await_first_round(&follower);
    fs::remove_dir_all(&inner).expect("the directory removed");
    ask(&follower);
    await_warning(&follower, "write --table to");
    let count = follower.lines().len();
    make_flows(0..3);
    follower.await_lines(count + 3);
    let ended = follower.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let failures = ended.failures();
    assert!(
        failures.len() == 1 && failures[0].contains("write --table to"),
        "{failures:?}"
    );
    assert_eq!(ended.event_count(), count as u64 + 3);
}

#[test]
fn a_full_disk_leaves_nothing_behind_and_the_next_one_is_written() {
    own_namespace();
    if !is_installed("prlimit") {
        return skip("a full disk", "prlimit is not installed");
    }
    let directory = Directory::new();
    let file = directory.file("table");
    fs::write(&file, "former\n").expect("a file");
    // A limit on the file size makes writing fail in the same way. There are no updates, so there is little other
    // output.
    let run = Run::under(
        "prlimit --fsize=100000",
        &format!("conntrack --mirror -e update --recv-buffer 4MiB --table {file}"),
    );
    let follower = run.start();
    await_first_round(&follower);
    make_flows(0..2000);
    mark_flows(1999..2000, 7);
    follower.await_lines(2); // all flows are known
    ask(&follower);
    await_warning(&follower, "File too large");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "former\n");
    assert_eq!(unfinished(&directory), [""; 0]);
    remove_flows(100..2000);
    await_that("it is written when it fits", || {
        ask(&follower);
        fs::metadata(&file).expect("the file").len() > 100
    });
    await_that("it is written again", || {
        ask(&follower);
        read_table(&file).len() == 100
    });
    flush_flows();
    follower.end().assert_good();
    assert!(read_table(&file).is_empty());
    assert_eq!(unfinished(&directory), [""; 0]);
}

#[test]
fn a_link_is_followed() {
    own_namespace();
    let directory = Directory::new();
    let elsewhere = Directory::new();
    let target = elsewhere.file("target");
    let link = directory.file("link");
    // Through another link, which is relative.
    symlink("second", &link).expect("a link");
    symlink(&target, directory.0.join("second")).expect("a link");
    for is_there in [false, true] {
        if is_there {
            fs::write(&target, "former\n").expect("a file");
        }
        let follower = Follower::start(&format!("conntrack --mirror --table {link}"));
        await_first_round(&follower);
        follower.end().assert_good();
        assert_eq!(fs::read_link(&link).expect("a link"), Path::new("second"));
        assert!(fs::symlink_metadata(&target).expect("the target").is_file());
        assert!(read_table(&target).is_empty());
    }
    symlink("loop", directory.0.join("loop")).expect("a link");
    let run = Run::new(&format!(
        "conntrack --mirror --table {}",
        directory.file("loop")
    ));
    let ended = run.run_to_end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.errors.contains("--table"), "{ended:#?}");
}

#[track_caller]
fn assert_is_refused(run: Run, remedy: &str) {
    let ended = run.run_to_end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(
        ended.errors.contains("--table") && ended.errors.contains(remedy),
        "{ended:#?}"
    );
}

#[test]
fn what_cannot_be_a_table_is_wrong_usage() {
    own_namespace();
    let directory = Directory::new();
    let inner = directory.0.display();
    for path in [
        "-".to_owned(),
        format!("{inner}/"),
        format!("{inner}/."),
        format!("{inner}/none/"),
        "..".to_owned(),
        format!("{inner}"),
    ] {
        for command in ["conntrack", "route"] {
            let run = Run::new(&format!("{command} --mirror --table {path}"));
            assert_is_refused(run, "give the name of");
        }
    }
    assert_eq!(fs::read_dir(&directory.0).expect("a directory").count(), 0);
}

#[test]
fn a_table_cannot_be_another_file_of_the_command() {
    own_namespace();
    let remedy = "give each its own";
    for option in ["--output", "--stats"] {
        let directory = Directory::new();
        // A second name of the output is allowed here.
        fs::set_permissions(&directory.0, Permissions::from_mode(0o755)).expect("permissions");
        let file = directory.file("file");
        // Before the file exists, by the same name and by others.
        let dotted = format!("{}/./file", directory.0.display());
        let link = directory.file("link");
        symlink("file", &link).expect("a link");
        for name in [&file, &dotted, &link] {
            let _ = fs::remove_file(&file);
            for (one, other) in [(&file, name), (name, &file)] {
                for command in ["conntrack", "route"] {
                    let arguments = format!("{command} --mirror --table {one} {option} {other}");
                    assert_is_refused(Run::new(&arguments), remedy);
                    let _ = fs::remove_file(&file);
                }
            }
        }
        // The same when the file exists.
        fs::write(&file, "precious\n").expect("a file");
        let hard = directory.file("hard");
        fs::hard_link(&file, &hard).expect("a link");
        for name in [&file, &dotted, &link, &hard] {
            let arguments = format!("route --mirror --table {name} {option} {file}");
            assert_is_refused(Run::new(&arguments), remedy);
        }
        assert_eq!(fs::read_to_string(&file).expect("the file"), "precious\n");
    }
}

#[test]
fn a_table_cannot_be_the_file_of_standard_output() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("file");
    let mut run = Run::new(&format!("route --mirror --output - --table {file}"));
    run.command
        .stdout(Stdio::from(File::create(&file).expect("a file")));
    assert_is_refused(run, "give each its own");
}

/// The mirror of routes is written in slices too.
#[test]
fn a_table_of_routes_is_written_while_they_change() {
    own_namespace();
    make_routes(1000..21_000);
    let directory = Directory::new();
    let file = directory.file("table");
    let follower = Follower::start(&format!("route --mirror --table {file}"));
    await_first_round(&follower);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = || {
            while !is_over.load(Ordering::Relaxed) {
                make_routes(0..500);
                common::remove_routes(0..500);
            }
        };
        scope.spawn(load);
        for _ in 0..5 {
            let _ = fs::remove_file(&file);
            ask(&follower);
            await_that("the table is written", || exists(&file));
            let steady = |route: &Value| {
                let dst = route["dst"].as_str().expect("a destination");
                let address: Result<std::net::Ipv4Addr, _> =
                    dst.split('/').next().unwrap_or_default().parse();
                let number = address.map_or(0, u32::from).wrapping_sub(10 << 24);
                (1000..21_000).contains(&number).then(|| dst.to_owned())
            };
            let table = read_table(&file);
            let routes: Vec<String> = table.iter().filter_map(steady).collect();
            assert_eq!(routes.len(), 20_000, "each route that stays, once");
            assert_eq!(routes.iter().collect::<BTreeSet<_>>().len(), routes.len());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    follower.end().assert_good();
}
