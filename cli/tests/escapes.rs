//! Names from outside reach neither a terminal nor JSON with characters that control a terminal or change how a line
//! reads.

mod common;

use std::fs;
use std::path::Path;
use std::thread;

use common::{
    Directory, Follower, NLRING, Run, add_device, is_installed, lines_until, must, own_namespace,
    run, skip,
};
use nlring_testing::{bind_name, own_names};
use serde_json::Value;

/// Characters that erase a display, begin a control sequence, and reverse the direction of text.
const STEERING: [char; 3] = ['\u{1b}', '\u{9b}', '\u{202e}'];

#[track_caller]
fn assert_harmless(text: &str) {
    assert!(!text.contains(STEERING), "{text:?}");
}

#[test]
fn messages_repeat_arguments_and_file_names_escaped() {
    let name = "\u{1b}[2J\u{9b}31m\u{202e}\nnlring: warning: not ours";
    let file = format!("/nonexistent/{name}");
    let escaped = r"\x1b[2J\xc2\x9b31m\xe2\x80\xae";
    for arguments in [
        &[name][..],
        &["route", "--wait", name],
        &["route", "--count", "1", name],
        &["route", "--output", &file],
        &["route", "--stats", &file],
        &["route", "--mirror", "--table", &file],
        &["latency", "--svg", &file],
        &["latency", "--hgrm", &format!("/proc/{name}")],
    ] {
        let output = run(NLRING, arguments).expect("nlring");
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        assert_harmless(&errors);
        assert!(errors.contains(escaped), "{arguments:?}: {errors}");
        assert!(!output.status.success(), "{arguments:?}: {errors}");
        if arguments[1..]
            .iter()
            .any(|argument| argument.starts_with('/'))
        {
            let own = |line: &str| line.starts_with("nlring: warning: not ours");
            assert!(!errors.lines().any(own), "a line of its own: {errors}");
        }
    }
}

/// Starts a command that finds these names of tables and protocols in iproute2's directory. None, after a skip: this
/// process may not mount.
fn with_names(directory: &Directory, arguments: &str) -> Option<Follower> {
    let place = ["/etc/iproute2", "/usr/share/iproute2"];
    let Some(place) = place.into_iter().find(|place| Path::new(place).is_dir()) else {
        skip("names_of_tables", "no directory of iproute2's names");
        return None;
    };
    let script = directory.file("script");
    let names = directory.0.display();
    let text = format!("mount --bind {names} {place} && exec \"$@\"\n");
    fs::write(&script, text).expect("a file");
    let launcher = format!("unshare --mount sh {script}");
    if !run("unshare", &["--mount", "true"]).is_some_and(|output| output.status.success()) {
        skip("names_of_tables", "no mount namespace");
        return None;
    }
    Some(Run::under(&format!("{launcher} "), arguments).start())
}

#[test]
fn names_of_tables_protocols_and_realms_are_escaped() {
    own_namespace();
    let directory = Directory::new();
    for (file, line) in [
        ("rt_tables", &b"1000 evil\x1b[2J\n"[..]),
        ("rt_protos", "77 \u{202e}lgb\n".as_bytes()),
        ("rt_realms", b"5 \xff\xc2\x9b31m\n"),
    ] {
        fs::write(directory.0.join(file), line).expect("a file");
    }
    let Some(follower) = with_names(&directory, "route") else {
        return;
    };
    must("ip route add 192.0.2.0/24 dev lo table 1000 proto 77 realm 5");
    let line = lines_until("192.0.2.0/24", || follower.lines())
        .pop()
        .expect("a line");
    let want = r"192.0.2.0/24 dev lo table evil\x1b[2J proto \xe2\x80\xaelgb scope link realm \xff\xc2\x9b31m ";
    assert_eq!(line, want);
    follower.end().assert_good();
}

#[test]
fn names_of_devices_are_escaped() {
    own_namespace();
    let name = "a\u{202e}\u{9b}1\u{1b}";
    if !add_device(name, &[]) {
        return skip("names_of_devices_are_escaped", "no kind of device");
    }
    let text = Follower::start("route");
    let json = Follower::start("route --json");
    must(&format!("ip route add 192.0.2.0/24 dev {name}"));
    let line = lines_until("192.0.2.0/24", || text.lines())
        .pop()
        .expect("a line");
    assert_eq!(
        line,
        r"192.0.2.0/24 dev a\xe2\x80\xae\xc2\x9b1\x1b scope link "
    );
    let line = lines_until("192.0.2.0/24", || json.lines())
        .pop()
        .expect("a line");
    assert_harmless(&line);
    assert!(line.contains(r#""dev":"a\u202e\u009b1\u001b""#), "{line}");
    let value: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["dev"], name, "it comes back from a parser");
    text.end().assert_good();
    json.end().assert_good();
}

/// The name of a namespace can have any character but a slash: in lines, and in messages, of which it begins none.
#[test]
fn names_of_namespaces_are_escaped() {
    const NAME: &str = "names_of_namespaces_are_escaped";
    if !is_installed("ip") || !is_installed("conntrack") {
        return skip(NAME, "ip or conntrack is not installed");
    }
    own_namespace();
    own_names();
    let name = "a\u{202e}\u{9b}1\u{1b}\nlost: 9";
    let escaped = r"a\xe2\x80\xae\xc2\x9b1\x1b\x0alost: 9";
    let bind = || {
        own_namespace();
        bind_name(name);
    };
    thread::spawn(bind).join().expect("a namespace");
    let inside = |command: &str| {
        let words = ["netns", "exec", name].into_iter();
        let words: Vec<&str> = words.chain(command.split(' ')).collect();
        let output = run("ip", &words).expect("ip");
        assert!(output.status.success(), "{command}: {output:?}");
    };
    inside("conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -t 100");
    let text = Follower::start("conntrack --all-netns");
    let json = Follower::start("conntrack --all-netns --json");
    inside("conntrack -I -p udp -s 10.0.0.3 -d 10.0.0.4 --sport 1 --dport 2 -t 100");
    let line = lines_until("10.0.0.3", || text.lines())
        .pop()
        .expect("a line");
    assert!(line.starts_with(&format!("[netns {escaped}]")), "{line}");
    let line = lines_until("10.0.0.3", || json.lines())
        .pop()
        .expect("a line");
    assert_harmless(&line);
    let value: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["netns"], name, "it comes back from a parser");
    json.end().assert_good();
    let ended = text.end();
    ended.assert_good();
    assert_harmless(&ended.errors);
    let words = format!(" exist already in the network namespace {escaped}: ");
    assert!(ended.errors.contains(&words), "{}", ended.errors);
}
