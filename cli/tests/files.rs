//! The files of `--output`, `--stats` and `--table`. No other user chooses which file is written or who reads it,
//! restarts and rotations lose no line, and readers never find half a file.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use common::{
    Directory, Ended, Follower, Run, await_that, is_real_root, make_flows, make_routes, mark_flows,
    must, own_namespace, remove_flows, remove_routes, skip,
};

/// The user who tries to mislead the command.
const OTHER: u32 = 12_345;

/// A directory like /tmp: everybody may write in it, and nobody may remove another user's file.
fn sticky() -> Directory {
    let directory = Directory::new();
    set_mode(&directory.0, 0o1777);
    directory
}

/// A directory in which only its owner may write.
fn private() -> Directory {
    let directory = Directory::new();
    set_mode(&directory.0, 0o755);
    directory
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}

fn mode_of(file: &str) -> u32 {
    fs::symlink_metadata(file).expect("the file").mode() & 0o7777
}

fn read(file: &str) -> String {
    fs::read_to_string(file).expect("a text")
}

/// Starts the command with all three files.
fn following(output: &str, stats: &str, table: &str) -> Run {
    Run::new(&format!(
        "route --mirror --output {output} --stats {stats} --table {table}"
    ))
}

#[track_caller]
fn await_warning(follower: &Follower, words: &str) {
    await_that(words, || {
        let errors = follower.errors();
        let mut lines = errors.lines();
        lines.any(|line| line.starts_with("nlring: warning: ") && line.contains(words))
    });
}

#[track_caller]
fn await_first_round(follower: &Follower) {
    await_that("the first round is over", || {
        let lines = follower.lines();
        lines.iter().any(|line| {
            line.starts_with(" [RESYNCED] ") || line.starts_with(r#"{"event":"resynced""#)
        })
    });
}

#[track_caller]
fn assert_fails(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let failures = ended.failures();
    assert_eq!(failures.len(), 1, "{ended:#?}");
    for words in words {
        assert!(failures[0].contains(words), "{words} in {ended:#?}");
    }
}

/// For each option, a command line with this file for it, and with files of our own for the others.
fn with_each_option(file: &str) -> Vec<(&'static str, Run)> {
    let line = |option: &str| format!("route --mirror {option} {file}");
    ["--output", "--stats", "--table"]
        .map(|option| (option, Run::new(&line(option))))
        .into()
}

#[test]
fn a_link_of_another_user_is_refused() {
    if !is_real_root() {
        return skip(
            "a_link_of_another_user_is_refused",
            "only root can make one",
        );
    }
    own_namespace();
    let directory = sticky();
    let precious = directory.file("precious");
    fs::write(&precious, "precious\n").expect("a file");
    let inner = directory.0.join("inner");
    fs::create_dir(&inner).expect("a directory");
    for (name, target) in [("file", "precious"), ("way", "inner")] {
        symlink(target, directory.0.join(name)).expect("a link");
        lchown(directory.0.join(name), Some(OTHER), Some(OTHER)).expect("its owner");
    }
    for file in ["file", "way/new"] {
        for (option, run) in with_each_option(&directory.file(file)) {
            let ended = run.run_to_end();
            assert_eq!(ended.code, Some(1), "{option} {file}: {ended:#?}");
            let failure = ended.failures().join("\n");
            assert!(
                failure.contains("belongs to another user (uid 12345)"),
                "{option} {file}: {failure}"
            );
        }
    }
    assert_eq!(read(&precious), "precious\n");
    assert_eq!(fs::read_dir(&inner).expect("a directory").count(), 0);
}

#[test]
fn own_links_are_followed_and_stay() {
    own_namespace();
    let directory = sticky();
    fs::create_dir(directory.0.join("inner")).expect("a directory");
    symlink("inner", directory.0.join("way")).expect("a link");
    let inner = |name: &str| directory.file(&format!("inner/{name}"));
    for name in ["output", "stats", "table"] {
        symlink(format!("../way/the-{name}"), inner(name)).expect("a link");
    }
    let way = |name: &str| directory.file(&format!("way/{name}"));
    let follower = following(&way("output"), &way("stats"), &way("table")).start();
    await_first_round(&follower);
    follower.end().assert_good();
    for name in ["output", "stats", "table"] {
        assert!(fs::symlink_metadata(inner(name)).expect("it").is_symlink());
        let target = inner(&format!("the-{name}"));
        assert!(
            fs::metadata(&target).expect("its target").len() > 0,
            "{name}"
        );
    }
}

#[test]
fn a_link_that_is_planted_meanwhile_is_refused() {
    own_namespace();
    let directory = sticky();
    let (precious, table, stats) = (
        directory.file("precious"),
        directory.file("table"),
        directory.file("stats"),
    );
    fs::write(&precious, "precious\n").expect("a file");
    let follower = Run::new(&format!("route --mirror --stats {stats} --table {table}")).start();
    await_first_round(&follower);
    for link in [&table, &stats] {
        symlink(&precious, link).expect("a link");
    }
    follower.signal(Signal::USR1);
    await_warning(&follower, "--table to");
    await_warning(&follower, "--stats to");
    let ended = follower.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let failures = ended.failures();
    assert_eq!(failures.len(), 2, "each is reported: {ended:#?}");
    for (failure, option) in failures.iter().zip(["--table", "--stats"]) {
        assert!(
            failure.contains(option) && failure.contains("a symbolic link, made after the start"),
            "{failure}"
        );
    }
    assert_eq!(read(&precious), "precious\n");
    let names = fs::read_dir(&directory.0).expect("a directory");
    assert_eq!(names.count(), 3, "nothing unfinished is left");
}

#[test]
fn a_file_of_another_user_is_refused_where_others_can_write() {
    const NAME: &str = "a_file_of_another_user_is_refused_where_others_can_write";
    if !is_real_root() {
        return skip(NAME, "only root can make one");
    }
    own_namespace();
    let directory = sticky();
    let file = directory.file("file");
    let pipe = directory.file("pipe");
    must(&format!("mkfifo -m 666 {pipe}"));
    fs::write(&file, "theirs\n").expect("a file");
    for name in [&file, &pipe] {
        chown(name, Some(OTHER), Some(OTHER)).expect("its owner");
    }
    for (option, run) in with_each_option(&file) {
        let ended = run.run_to_end();
        assert_eq!(ended.code, Some(1), "{option}: {ended:#?}");
        assert!(ended.failures().join("\n").contains(&file), "{ended:#?}");
        let metadata = fs::metadata(&file).expect("the file");
        assert_eq!((metadata.uid(), metadata.len()), (OTHER, 7), "{option}");
    }
    // The pipe has a reader, so that opening it does not wait.
    let reader = fs::File::options().read(true).write(true).open(&pipe);
    let reader = reader.expect("the pipe");
    let ended = Run::new(&format!("route --output {pipe}")).run_to_end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    drop(reader);
    // A file to which root could be tricked into appending.
    let passwd = directory.file("passwd");
    fs::write(&passwd, "root\n").expect("a file");
    let hard = directory.file("hard");
    fs::hard_link(&passwd, &hard).expect("a second name");
    let ended = Run::new(&format!("route --output {hard}")).run_to_end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.errors.contains("a second name"), "{ended:#?}");
    assert_eq!(read(&passwd), "root\n");
}

#[test]
fn a_new_file_is_for_its_owner_alone_and_a_former_one_hands_on_its_mode_only_to_the_same_user() {
    own_namespace();
    let directory = private();
    let [output, stats, table] = ["output", "stats", "table"].map(|name| directory.file(name));
    let write = || {
        let follower = following(&output, &stats, &table).start();
        await_first_round(&follower);
        follower.end().assert_good();
    };
    write();
    for file in [&output, &stats, &table] {
        assert_eq!(mode_of(file), 0o600, "{file}");
        set_mode(file, 0o644);
    }
    let before = fs::metadata(&table).expect("the table").ino();
    fs::write(&output, "").expect("emptied, for its own first round");
    write();
    for file in [&output, &stats, &table] {
        assert_eq!(mode_of(file), 0o644, "{file}");
    }
    assert_ne!(fs::metadata(&table).expect("the table").ino(), before);
    if !is_real_root() {
        return skip("files of another user", "only root can make them");
    }
    fs::write(&output, "").expect("emptied");
    for file in [&stats, &table] {
        chown(file, Some(OTHER), Some(OTHER)).expect("its owner");
    }
    write();
    for file in [&stats, &table] {
        let metadata = fs::metadata(file).expect("the file");
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{file}");
        assert_eq!(mode_of(file), 0o600, "{file}");
    }
}

#[test]
fn the_directory_is_opened_once_at_the_start() {
    own_namespace();
    let directory = Directory::new();
    let [here, there] = ["here", "there"].map(|name| directory.0.join(name));
    fs::create_dir(&here).expect("a directory");
    let [stats, table] = ["stats", "table"].map(|name| directory.file(&format!("here/{name}")));
    let follower = Run::new(&format!("route --mirror --stats {stats} --table {table}")).start();
    await_first_round(&follower);
    fs::rename(&here, &there).expect("the directory moved");
    fs::create_dir(&here).expect("another in its place");
    follower.signal(Signal::USR1);
    await_that("the statistics are written", || {
        there.join("stats").exists()
    });
    assert!(there.join("table").exists(), "the table comes first");
    let _ = follower.end();
    assert_eq!(fs::read_dir(&here).expect("a directory").count(), 0);
}

#[test]
fn statistics_are_never_seen_in_part_and_come_at_an_interval() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("stats");
    let follower = Run::new(&format!("route --stats {file} --stats-interval 1ms")).start();
    await_that("the first statistics", || Path::new(&file).exists());
    make_routes(0..100);
    let mut versions = 0;
    let mut last = String::new();
    await_that("20 versions with all events", || {
        let text = read(&file);
        let stats: Value = serde_json::from_str(&text).expect("a whole object");
        versions += u32::from(text != last && stats["events"] == 100);
        last = text;
        versions == 20
    });
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 100);
}

#[test]
fn statistics_are_written_at_an_interval_and_at_a_signal() {
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("stats");
    let follower = Run::new(&format!("route --stats {file} --stats-interval 50ms")).start();
    let remove_and_await = |follower: &Follower, asks: bool| {
        let _ = fs::remove_file(&file);
        if asks {
            follower.signal(Signal::USR1);
        }
        await_that("the statistics are written", || Path::new(&file).exists());
    };
    for _ in 0..3 {
        remove_and_await(&follower, false);
    }
    follower.end().assert_good();
    let follower = Run::new(&format!("route --stats {file}")).start();
    for _ in 0..100 {
        remove_and_await(&follower, true);
    }
    follower.end().assert_good();
}

#[test]
fn the_table_is_written_before_the_statistics_that_count_it() {
    own_namespace();
    let count = 20_000;
    let directory = Directory::new();
    let (stats, table) = (directory.file("stats"), directory.file("table"));
    let follower = Run::new(&format!(
        "conntrack --mirror --recv-buffer 64MiB --stats {stats} --table {table}"
    ))
    .start();
    await_first_round(&follower);
    make_flows(0..count);
    for round in 1..=5 {
        mark_flows(0..10, round);
        follower.await_lines((count + 10 * round) as usize + 1);
        for file in [&stats, &table] {
            let _ = fs::remove_file(file);
        }
        follower.signal(Signal::USR1);
        await_that("the statistics are written", || Path::new(&stats).exists());
        let text = read(&table);
        assert_eq!(text.lines().count(), count as usize);
        assert_eq!(text.matches(&format!("\"mark\":{round},")).count(), 10);
    }
    follower.end().assert_good();
}

/// Makes and removes flows at a steady rate until `is_over`. Returns the number of events.
fn steady_flows(is_over: &std::sync::atomic::AtomicBool) -> u64 {
    let mut count = 0;
    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
        make_flows(0..3);
        remove_flows(0..3);
        count += 6;
        thread::sleep(Duration::from_millis(20)); // the rate: 300 events a second
    }
    count
}

#[test]
fn a_rotation_loses_no_line() {
    own_namespace();
    for command in [
        "conntrack",
        "conntrack --json --backend recvmmsg",
        "conntrack --backend oneshot",
    ] {
        let directory = Directory::new();
        let file = directory.file("flows.log");
        let follower = Run::new(&format!("{command} --output {file}")).start();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let count = thread::scope(|scope| {
            let making = scope.spawn(|| steady_flows(&is_over));
            for number in 1..=8 {
                await_that("lines", || {
                    fs::metadata(&file).is_ok_and(|file| file.len() > 0)
                });
                fs::rename(&file, format!("{file}.{number}")).expect("rotated");
                follower.signal(Signal::HUP);
                await_that("it is opened again", || Path::new(&file).exists());
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            making.join().expect("a count")
        });
        let ended = follower.end();
        ended.assert_good();
        assert_eq!(ended.stat("dropped"), 0, "{ended:#?}");
        let mut lines = 0;
        for number in 0..=8 {
            let name = match number {
                0 => file.clone(),
                number => format!("{file}.{number}"),
            };
            let text = read(&name);
            assert!(
                text.is_empty() || text.ends_with('\n'),
                "{name}: a torn line"
            );
            assert_eq!(mode_of(&name), 0o600);
            let is_whole = |line: &str| {
                if command.contains("--json") {
                    serde_json::from_str::<Value>(line).is_ok()
                } else {
                    line.contains(" src=10.0.0.")
                }
            };
            assert!(text.lines().all(is_whole), "{name}");
            lines += text.lines().count() as u64;
        }
        assert_eq!((lines, ended.stat("events")), (count, count), "{command}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_again_leaves_the_one_before() {
    own_namespace();
    let directory = Directory::new();
    let inner = directory.0.join("inner");
    fs::create_dir(&inner).expect("a directory");
    let file = directory.file("inner/flows.log");
    let follower = Run::new(&format!("route --output {file}")).start();
    let kept = directory.file("kept");
    fs::rename(&file, &kept).expect("moved");
    let lines = || read(&kept).lines().count();
    let again = |what: &str, words: &str, count: usize| {
        let before = follower
            .errors()
            .matches("nlring: warning: reopen ")
            .count();
        follower.signal(Signal::HUP);
        await_that(what, || {
            follower
                .errors()
                .matches("nlring: warning: reopen ")
                .count()
                > before
        });
        let errors = follower.errors();
        assert!(
            errors
                .lines()
                .last()
                .is_some_and(|line| line.contains(words)),
            "{errors}"
        );
        make_routes(0..10);
        remove_routes(0..10);
        await_that("it goes on", || lines() == count);
    };
    symlink("/nonexistent/file", &file).expect("a link");
    again("a link to nowhere", "No such file", 20);
    fs::remove_file(&file).expect("the link removed");
    must(&format!("mkfifo {file}"));
    assert!(fs::metadata(&file).expect("it").file_type().is_fifo());
    again("a pipe without a reader", &file, 40);
    fs::remove_file(&file).expect("the pipe removed");
    fs::create_dir(&file).expect("a directory");
    again("a directory", "Is a directory", 60);
    fs::remove_dir_all(&inner).expect("the directory removed");
    again("no directory", "No such file", 80);
    fs::create_dir(&inner).expect("a directory");
    follower.signal(Signal::HUP);
    await_that("it is opened again", || Path::new(&file).exists());
    make_routes(0..10);
    await_that("it goes on there", || read(&file).lines().count() == 10);
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 90);
}

#[test]
fn a_hangup_with_a_file_ends_nothing() {
    own_namespace();
    let directory = Directory::new();
    let [output, stats, table] = ["output", "stats", "table"].map(|name| directory.file(name));
    let follower = following(&output, &stats, &table).start();
    await_first_round(&follower);
    let before = follower.lines().len();
    for round in 1..=3 {
        follower.signal(Signal::HUP);
        make_routes(0..5);
        remove_routes(0..5);
        follower.await_lines(before + 10 * round);
    }
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("events"), 30);
    for file in [&output, &table, &stats] {
        assert!(fs::metadata(file).expect("the file").len() > 0, "{file}");
    }
}

/// The kernel's own names for descriptors that are open.
#[test]
fn devices_and_open_files_are_written_to_by_name() {
    own_namespace();
    let directory = Directory::new();
    let copy = directory.file("copy");
    for name in ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"] {
        let mut run = Run::new(&format!("route --count 3 --output {name}"));
        run.command.stdout(fs::File::create(&copy).expect("a file"));
        let follower = run.start();
        make_routes(0..3);
        follower.wait().assert_good();
        remove_routes(0..3);
        assert_eq!(read(&copy).lines().count(), 3, "{name}");
    }
    let pipe = directory.file("pipe");
    must(&format!("mkfifo {pipe}"));
    let reading = {
        let pipe = pipe.clone();
        thread::spawn(move || read(&pipe))
    };
    let follower = Run::new(&format!("route --count 3 --output {pipe}")).start();
    make_routes(0..3);
    follower.wait().assert_good();
    assert_eq!(reading.join().expect("lines").lines().count(), 3);
    let ended = Run::new("route --duration 1ms --output /dev/null --stats /dev/null").run_to_end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let started = Instant::now();
    assert_fails(
        &Run::new("route --output /dev/null/x").run_to_end(),
        &["/dev/null/x", "Not a directory"],
    );
    assert!(started.elapsed() < common::PATIENCE);
}

/// The command line of the unit in docs/service.md works unchanged.
#[test]
fn the_unit_in_the_manual_starts() {
    own_namespace();
    let directory = private();
    let manual = include_str!("../../docs/service.md").replace("\\\n", " ");
    let line = manual.lines().find_map(|line| {
        let line = line.strip_prefix("ExecStart=")?;
        line.strip_prefix("/usr/local/bin/nlring ")
    });
    let here = directory.0.to_str().expect("UTF-8");
    let line = line.expect("a command line");
    let line = ["/var/log/nlring", "/run/nlring"]
        .into_iter()
        .fold(line.to_owned(), |line, there| line.replace(there, here));
    let follower = Run::new(&line).start();
    await_first_round(&follower);
    make_flows(0..10);
    follower.await_lines(11);
    follower.end().assert_good();
    let names = ["flows.log", "flows.json", "stats.json"].map(|name| directory.file(name));
    assert!(names.iter().all(|name| Path::new(name).exists()));
}
