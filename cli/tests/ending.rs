//! Whatever ends the command, the end comes soon and is complete.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{
    Directory, END_LIMIT, Ended, Events, Follower, Groups, Load, NLRING, Run, await_that,
    best_of_3, flush_flows, is_installed, is_real_root, make_flows, make_routes, must,
    own_namespace, remove_flows, remove_routes, skip,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// More time than an immediate end needs on a busy machine, and less than the command waits for a reader.
const AT_ONCE: Duration = Duration::from_millis(500);

fn in_time(ended: &Ended, limit: Duration) -> Result<(), String> {
    if ended.took > limit {
        return Err(format!("{:?}: {}", ended.took, ended.errors));
    }
    Ok(())
}

/// Asserts that the file has everything that was received.
#[track_caller]
fn assert_flushed(ended: &Ended) {
    ended.assert_good();
    assert!(ended.output.ends_with('\n'));
    assert_eq!(ended.event_count(), ended.stat("events"));
    let reported: u64 = ended.losses().iter().map(|loss| loss.count).sum();
    assert_eq!(reported, ended.stat("dropped"));
}

#[test]
fn a_signal_ends_it_under_load() {
    own_namespace();
    for (events, command) in [(Events::Route, "route"), (Events::Conntrack, "conntrack")] {
        let load = Load::start(events);
        for signal in [Signal::INT, Signal::TERM] {
            for backend in ["multishot", "oneshot", "recvmmsg"] {
                best_of_3(|| {
                    let follower = Follower::start(&format!("{command} --backend {backend}"));
                    follower.await_lines(100);
                    let ended = follower.end_by(signal);
                    assert_flushed(&ended);
                    assert_eq!(ended.stat("received"), ended.stat("events"));
                    in_time(&ended, END_LIMIT)
                });
            }
        }
        drop(load);
    }
}

#[test]
fn a_signal_ends_it_under_load_even_while_it_loses_events() {
    own_namespace();
    let load = Load::start(Events::Route);
    best_of_3(|| {
        let follower = Follower::start("route --recv-buffer 1");
        follower.await_lines(100);
        follower.freeze();
        await_that("something is dropped", || drops() > 0);
        follower.thaw();
        let ended = follower.end();
        assert_flushed(&ended);
        assert!(ended.stat("dropped") > 0);
        in_time(&ended, END_LIMIT)
    });
    drop(load);
}

/// How many datagrams the listeners for routes in this namespace have lost.
fn drops() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/netlink").expect("netlink sockets");
    let drops = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_listener = words[1] == "0" && words[3] != "00000000";
        is_listener.then(|| words[8].parse::<u64>().expect("a count"))
    };
    table.lines().skip(1).filter_map(drops).sum()
}

#[test]
fn a_count_ends_it_under_load() {
    own_namespace();
    let load = Load::start(Events::Conntrack);
    best_of_3(|| {
        let mut follower = Follower::start("conntrack --count 1000");
        follower.count_time();
        follower.await_lines(1);
        let ended = follower.wait();
        ended.assert_good();
        assert_eq!(ended.event_count(), 1000);
        assert_eq!(ended.stat("events"), 1000);
        in_time(&ended, END_LIMIT + Duration::from_secs(2)) // the load needs its time for this many
    });
    drop(load);
}

#[test]
fn a_signal_ends_it_when_nothing_happens() {
    own_namespace();
    for wait in ["auto", "prompt", "batch:1ms", "spin"] {
        for signal in [Signal::INT, Signal::TERM, Signal::QUIT] {
            best_of_3(|| {
                let ended = Follower::start(&format!("route --wait {wait}")).end_by(signal);
                ended.assert_good();
                assert_eq!(ended.stat("events"), 0);
                in_time(&ended, END_LIMIT)
            });
        }
    }
}

#[test]
fn what_is_queued_at_a_signal_is_written() {
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        own_namespace();
        let follower = Follower::start(&format!("route --backend {backend}"));
        follower.freeze();
        make_routes(0..2_000);
        follower.signal(Signal::TERM); // is delivered when the process continues, with a full queue
        follower.thaw();
        let ended = follower.wait();
        assert_flushed(&ended);
        assert_eq!(
            ended.stat("received") + ended.stat("dropped"),
            2_000,
            "{backend}"
        );
        assert_eq!(ended.stat("unread"), 0);
        if is_real_root() {
            assert_eq!(ended.stat("dropped"), 0); // other users cannot have so large a buffer
        }
    }
}

/// The command with a reader that does not read, and so much output that it waits for the reader.
fn stuck() -> (Follower, PipeReader) {
    let (reader, writer) = pipe().expect("a pipe");
    let mut run = Run::new("conntrack --output -");
    run.command
        .stdout(writer.try_clone().expect("a descriptor"));
    let follower = run.start();
    make_flows(0..4_000);
    remove_flows(0..4_000);
    await_that("the pipe is full", || {
        let now = Timespec::default();
        poll(&mut [PollFd::new(&writer, PollFlags::OUT)], Some(&now)) == Ok(0)
    });
    (follower, reader)
}

#[test]
fn a_reader_that_does_not_read_cannot_hold_up_the_end() {
    own_namespace();
    for signal in [Signal::INT, Signal::TERM] {
        best_of_3(|| {
            let (follower, _reader) = stuck();
            let ended = follower.end_by(signal);
            assert_eq!(ended.code, Some(1), "{ended:#?}");
            let failures = ended.failures();
            assert!(
                failures.len() == 1 && failures[0].contains("its reader does not read"),
                "{ended:#?}"
            );
            assert!(failures[0].contains("written: "), "{ended:#?}");
            let (received, unread) = (ended.stat("received"), ended.stat("unread"));
            assert_eq!(
                received + unread + ended.stat("dropped"),
                8_000,
                "{ended:#?}"
            );
            in_time(&ended, END_LIMIT)
        });
    }
}

#[test]
fn a_duration_ends_it_even_if_its_reader_does_not_read() {
    own_namespace();
    best_of_3(|| {
        let (_reader, writer) = pipe().expect("a pipe");
        let mut run = Run::new("conntrack --output - --duration 500ms");
        run.command.stdout(writer);
        let mut follower = run.start();
        follower.count_time();
        make_flows(0..4_000);
        remove_flows(0..4_000);
        let ended = follower.wait();
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        in_time(&ended, END_LIMIT + Duration::from_millis(500))
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    own_namespace();
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        best_of_3(|| {
            let (mut follower, reader) = stuck();
            follower.signal(first);
            thread::sleep(Duration::from_millis(300));
            if follower.child.try_wait().expect("its status").is_some() {
                return Err("the first signal already ended it".to_owned());
            }
            let ended = follower.end_by(second);
            assert_eq!(ended.code, Some(130), "{ended:#?}");
            assert_eq!(ended.failures(), [""; 0]);
            assert_eq!(ended.summary("events"), ended.stat("events"));
            // The pipe has what counts as written, as whole lines.
            let mut text = Vec::new();
            let mut reader = reader;
            reader.read_to_end(&mut text).expect("the rest");
            let text = String::from_utf8(text).expect("a text");
            let lines = text.matches('\n').count();
            assert_eq!(ended.stat("events"), lines as u64, "{ended:#?}");
            in_time(&ended, AT_ONCE)
        });
    }
}

/// The command gets more signals of other kinds than a pipe or queue holds. They hide the one that ends it neither
/// while it turns, nor while it waits for a reader that does not read.
#[test]
fn a_flood_of_other_signals_does_not_hide_the_end() {
    own_namespace();
    for is_stuck in [false, true] {
        let (follower, _reader) = if is_stuck {
            let (follower, reader) = stuck();
            (follower, Some(reader))
        } else {
            (Follower::start("route"), None)
        };
        let pid = Pid::from_child(&follower.child);
        for _ in 0..20_000 {
            kill_process(pid, Signal::USR1).expect("a signal");
        }
        follower.signal(Signal::INT);
        for _ in 0..20_000 {
            if kill_process(pid, Signal::USR1).is_err() {
                break; // it has ended
            }
        }
        let ended = follower.wait(); // not for ever
        let code = i32::from(is_stuck); // not all that waited is written
        assert_eq!(ended.code, Some(code), "{ended:#?}");
    }
}

#[test]
fn a_reader_that_reads_again_gets_everything() {
    own_namespace();
    let (follower, reader) = stuck();
    let reading = thread::spawn(move || {
        let lines = BufReader::new(reader)
            .lines()
            .map(|line| line.expect("a line"));
        lines.filter(|line| !line.starts_with(" [LOST] ")).count() as u64
    });
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(
        reading.join().expect("a count"),
        ended.stat("events"),
        "{ended:#?}"
    );
    assert_eq!(ended.stat("events"), ended.stat("received"));
    assert_eq!(
        ended.stat("received") + ended.stat("dropped"),
        8_000,
        "{ended:#?}"
    );
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        own_namespace();
        let mut run = Run::new(&format!("route --output - --backend {backend}"));
        run.command.stdout(Stdio::piped());
        let mut follower = run.start();
        let mut stdout = BufReader::new(follower.child.stdout.take().expect("its output"));
        make_routes(0..1);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line"); // as head -1 does
        drop(stdout);
        make_routes(1..100);
        let ended = follower.wait();
        ended.assert_good();
        assert_eq!(ended.stat("events"), 1, "the others were not written");
        let (received, unread) = (ended.stat("received"), ended.stat("unread"));
        assert!((2..=100).contains(&(received + unread)), "{}", ended.errors);
    }
}

/// A terminal that closes sends SIGHUP, and Ctrl-\\ sends SIGQUIT. The command has all three files.
#[test]
fn a_quit_or_a_hangup_without_a_file_to_reopen_ends_it_in_order() {
    own_namespace();
    for (signal, output) in [
        (Signal::HUP, "-"),
        (Signal::HUP, "/dev/null"),
        (Signal::QUIT, "-"),
        (Signal::QUIT, "output"),
    ] {
        let directory = Directory::new();
        let table = directory.file("table");
        let output = output.replace("output", &directory.file("output"));
        let mut run = Run::new(&format!("route --mirror --output {output} --table {table}"));
        run.command.stdout(Stdio::null());
        let follower = run.start();
        make_routes(0..3);
        let ended = follower.end_by(signal);
        ended.assert_good();
        assert_eq!(ended.stat("received") - ended.stat("requests"), 3);
        assert!(fs::metadata(&table).is_ok(), "{signal:?}: the table");
        remove_routes(0..3);
    }
}

#[test]
fn a_second_hangup_changes_nothing_and_ignored_ones_stay_ignored() {
    own_namespace();
    let (follower, reader) = stuck();
    follower.signal(Signal::HUP);
    follower.signal(Signal::HUP);
    let ended = follower.wait();
    assert_eq!(ended.code, Some(1), "not at once: {ended:#?}");
    drop(reader);
    flush_flows();
    let mut run = Run::under("nohup", "route --count 1 --output -");
    run.command.stdout(Stdio::null());
    let follower = run.start();
    follower.signal(Signal::HUP);
    make_routes(0..1);
    follower.wait().assert_good();
    remove_routes(0..1);
}

/// A reader of a named pipe or of a socket is not like `head`: if it goes, the command fails.
#[test]
fn a_reader_of_a_named_pipe_or_socket_that_goes_is_a_failure() {
    let directory = Directory::new();
    let fifo = directory.file("fifo");
    must(&format!("mkfifo {fifo}"));
    for is_socket in [false, true] {
        own_namespace();
        let (reader, run): (Box<dyn Read + Send>, Run) = if is_socket {
            let (here, there) = UnixStream::pair().expect("a socket");
            let mut run = Run::new("route --json --output -");
            run.command.stdout(OwnedFd::from(there));
            (Box::new(here), run)
        } else {
            // Open for reading and writing, so that neither end waits for the other.
            let pipe = fs::File::options().read(true).write(true).open(&fifo);
            let reader = fs::File::open(&fifo).expect("the pipe");
            drop(pipe);
            (
                Box::new(reader),
                Run::new(&format!("route --json --output {fifo}")),
            )
        };
        let follower = run.start();
        make_routes(0..100);
        let mut reader = BufReader::new(reader);
        for _ in 0..100 {
            reader.read_line(&mut String::new()).expect("a line");
        }
        drop(reader);
        follower.freeze();
        make_routes(100..150);
        follower.thaw();
        let ended = follower.wait();
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        let (received, unread) = (ended.stat("received"), ended.stat("unread"));
        assert_eq!(received + unread, 150, "{ended:#?}");
        let failures = ended.failures();
        let counts = format!(
            "its reader has gone; events received but not written: {}, written: 100, datagrams left unread: {unread}",
            received - 100
        );
        assert!(
            failures.len() == 1 && failures[0].ends_with(&counts),
            "{counts}: {ended:#?}"
        );
        assert_eq!(ended.stat("events"), 100);
        assert_eq!(ended.stat("not_written"), received - 100);
    }
}

/// Each failure at the end is reported in its own words. The first one determines the exit code.
#[test]
fn all_failures_are_reported() {
    own_namespace();
    if !is_installed("prlimit") {
        return skip("all_failures_are_reported", "prlimit is not installed");
    }
    let directory = Directory::new();
    let [output, table] = ["output", "table"].map(|name| directory.file(name));
    make_flows(0..200);
    let follower = Run::under(
        "prlimit --fsize=8192",
        &format!("conntrack --snapshot --output {output} --table {table} --stats /dev/full"),
    );
    let ended = follower.run_to_end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let failures = ended.failures();
    let mut parts = vec![
        format!("write the events to {output}: File too large"),
        format!("write --table to {table}: File too large"),
        "write --stats to /dev/full: No space left".to_owned(),
    ];
    if ended
        .errors
        .contains("the table is not written, because the end came before")
    {
        parts.remove(1); // the first write failed while the kernel's table was still being read
    }
    assert_eq!(failures.len(), parts.len(), "{ended:#?}");
    for (failure, part) in failures.iter().zip(parts) {
        assert!(failure.contains(&part), "{part}: {ended:#?}");
    }
    let written = ended.summary("events");
    assert!(
        failures[0].contains(&format!(", written: {written},")),
        "{ended:#?}"
    );
    let lines = ended.output.lines().filter(|line| line.contains(" src="));
    assert_eq!(lines.count() as u64, written);
    assert!(
        ended.output.ends_with('\n'),
        "a part of a line is taken back"
    );
}

#[test]
fn the_command_works_without_standard_error() {
    own_namespace();
    let script = format!("exec '{NLRING}' route --count 2 2>&-");
    let before = Groups::of(Events::Route).listeners();
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh");
    await_that("nlring listens", || {
        Groups::of(Events::Route).has_more_than(&before)
    });
    make_routes(0..2);
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("its output");
    stdout.read_to_string(&mut text).expect("lines");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    remove_routes(0..2); // not before: its events could be reported as unread
}

#[test]
fn waiting_for_a_named_pipe_can_be_ended() {
    let directory = Directory::new();
    let fifo = directory.file("fifo");
    must(&format!("mkfifo {fifo}"));
    own_namespace();
    best_of_3(|| {
        let follower = Run::new(&format!("route --output {fifo}")).spawn();
        await_that("it waits for a reader", || follower.state() == Some('S'));
        // Not SIGINT, because a shell without job control makes its background processes ignore it.
        in_time(&follower.end_by(Signal::TERM), END_LIMIT)
    });
}
