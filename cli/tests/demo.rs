//! `nlring demo`, as a new user tries it: the tour, and with --events the plain stream.

mod common;
#[path = "common/terminal.rs"]
mod terminal;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use common::{
    Directory, Ended, NLRING, Run, await_that, best_of_3, is_real_root, own_namespace, run, skip,
};
use nlring::{Protocol, RecvFlags, Socket};
use serde_json::Value;
use terminal::Terminal;

/// The text of a tour that a program reads.
struct Tour(String);

impl Tour {
    #[track_caller]
    fn run(arguments: &[&str]) -> Self {
        let output = tour(arguments).output().expect("timeout");
        let errors = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(output.status.code(), Some(0), "{errors}{text}");
        assert_eq!(errors, "");
        Self(text)
    }

    /// The numbers of the only line with this text.
    #[track_caller]
    fn numbers(&self, part: &str) -> Vec<u64> {
        let mut lines = self.0.lines().filter(|line| line.contains(part));
        let line = lines.next().unwrap_or_else(|| panic!("{part}: {}", self.0));
        assert_eq!(lines.next(), None, "{part}");
        line.split(|character: char| !character.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    }

    /// Asserts that the statements of the tour agree with its numbers.
    #[track_caller]
    fn assert_facts(&self) {
        let text = &self.0;
        for part in [
            "    [NEW] tcp      6 600 ESTABLISHED src=192.0.2.10 dst=198.51.100.20 ",
            " [UNREPLIED] src=10.0.0.5 dst=192.0.2.11 sport=8443 dport=41000",
            "    [DESTROY] tcp      6 ",
            "    198.51.100.0/24 dev lo proto static scope link\n",
            "    Deleted 198.51.100.0/24 dev lo proto static scope link\n",
            "\nAll checks are OK.\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\x1b') && !text.contains("FAILED"), "{text}");
        self.assert_json();

        let [sent, received, lost] = self.numbers(" sent = ")[..] else {
            panic!("{text}")
        };
        assert!(sent == received + lost && lost > 0, "{text}");
        assert_eq!(self.numbers("[LOST]")[0], lost);

        let [burst_lost, wrong] = self.numbers("the mirror is wrong now")[..] else {
            panic!("{text}")
        };
        // Each event of the burst is of another flow.
        assert!(burst_lost == wrong && wrong > 0, "{text}");
        let resynced = self.numbers("[RESYNCED]");
        let [entries, new, changed, gone] = resynced[..4] else {
            panic!("{text}")
        };
        assert_eq!((new + gone, changed), (wrong, 0), "{text}");
        assert_eq!(self.numbers("has healed"), [entries, entries, 0]);
        let [made, accounted] = self.numbers(" events made, ")[..] else {
            panic!("{text}")
        };
        assert!(made > 0 && made == accounted, "{text}");
    }

    #[track_caller]
    fn assert_json(&self) {
        let line = self.0.lines().find(|line| line.starts_with("    {"));
        let event: Value = serde_json::from_str(line.expect("JSON")).expect("JSON");
        assert_eq!(event["event"], "new");
        assert_eq!(event["nat"]["dst"], "10.0.0.5");
        assert_eq!(event["nat"]["dport"], 8443);
    }
}

/// The command for a tour. timeout(1) ends it if it hangs.
fn tour(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["30", NLRING, "demo"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

#[test]
fn the_tour_shows_correct_numbers() {
    let tours = ["multishot", "oneshot:4", "recvmmsg"];
    let tours =
        tours.map(|backend| thread::spawn(move || (backend, Tour::run(&["--backend", backend]))));
    for tour in tours {
        let (backend, tour) = tour.join().expect("a tour");
        tour.assert_facts();
        let reported = format!("Received with the backend {backend} (asked for).");
        assert!(tour.0.contains(&reported), "{}", tour.0);
    }
}

#[test]
fn the_tour_touches_nothing_outside_its_namespace() {
    own_namespace();
    let listen = |protocol, groups: &[u32]| {
        let builder = Socket::builder(protocol).groups(groups.iter().copied());
        builder.nonblocking(true).open().expect("a listener")
    };
    let listeners = [
        listen(Protocol::NETFILTER, &[1, 2, 3]),
        listen(Protocol::ROUTE, &[1, 7, 11]), // links, IPv4 and IPv6 routes
    ];
    Tour::run(&[]).assert_facts();
    for listener in &listeners {
        let mut buffer = vec![0; Socket::buffer_size()];
        let came = listener.recv(&mut buffer, RecvFlags::NONE);
        let came = came.map(|list| list.datagrams().len());
        assert!(
            came.as_ref()
                .is_err_and(|error| error.kind() == nlring::ErrorKind::WouldBlock),
            "{came:?}"
        );
        assert_eq!(listener.drops().expect("drops"), 0);
    }
}

/// Runs the tour on a terminal, and returns the text that the terminal received.
fn on_terminal(columns: u16, variables: &[(&str, &str)]) -> String {
    let terminal = Terminal::with_columns(columns);
    let mut command = tour(&[]);
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command.envs(variables.iter().copied());
    let status = command.stdout(terminal.slave()).status().expect("timeout");
    assert!(status.success(), "{status}: {}", terminal.text());
    await_that("its end", || terminal.text().contains("nlring --help"));
    terminal.text().replace("\r\n", "\n")
}

#[test]
fn on_a_terminal_the_tour_fits_and_has_colours() {
    let coloured = thread::spawn(|| on_terminal(80, &[]));
    let plain = thread::spawn(|| on_terminal(80, &[("NO_COLOR", "1")]));
    let dumb = on_terminal(120, &[("TERM", "dumb")]);
    let (coloured, plain) = (
        coloured.join().expect("a tour"),
        plain.join().expect("a tour"),
    );
    assert!(coloured.contains("\x1b[32m[NEW]\x1b[0m tcp"), "{coloured}");
    assert!(coloured.contains("\x1b[33m[LOST]\x1b[0m "), "{coloured}");
    for (text, columns) in [(&plain, 80), (&dumb, 120)] {
        assert!(!text.contains('\x1b'), "{text}");
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns), "{widest:?}: {text}");
    }
}

#[test]
fn a_tour_that_cannot_be_written_is_a_failure_unless_its_reader_has_gone() {
    let full = tour(&[])
        .stdout(File::create("/dev/full").expect("a device"))
        .output()
        .expect("timeout");
    let errors = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{errors}");
    assert!(errors.contains("No space left"), "{errors}");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let gone = tour(&[]).stdout(writer).output().expect("timeout");
    assert_eq!(String::from_utf8_lossy(&gone.stderr), "");
    assert_eq!(gone.status.code(), Some(0));
}

#[test]
fn options_of_the_stream_are_refused_by_the_tour() {
    for options in [
        &["--output", "x"][..],
        &["--truncate"],
        &["--stats", "x"],
        &["--stats-interval", "1s"],
        &["--recv-buffer", "1"],
    ] {
        let output = tour(options).output().expect("timeout");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("--events"), "{errors}");
    }
}

/// Asserts that the demo succeeded, and that it received each event or counted it as lost.
fn assert_whole(demo: &Ended) {
    assert_eq!(demo.code, Some(0), "{demo:#?}");
    assert_eq!(demo.failures(), [""; 0]);
    let (created, received, lost) = (
        demo.summary("created"),
        demo.summary("received"),
        demo.summary("lost"),
    );
    assert!(created > 0);
    assert_eq!(created, received + lost);
    assert_eq!(demo.event_count(), received);
    for (start, end) in [
        (
            "    [NEW] tcp      6 600 ESTABLISHED src=198.18.",
            " portid=",
        ),
        ("[DESTROY] tcp      6 ", " portid="),
        ("198.19.0.0/24 dev lo proto static scope link", " "),
        ("Deleted 198.19.0.0/24 dev lo proto static scope link", " "),
    ] {
        let is_it = |line: &str| line.starts_with(start) && line.contains(end);
        assert!(demo.output.lines().any(is_it), "{start}: {demo:#?}");
    }
    assert!(demo.errors.contains("backend: ") && demo.errors.contains("CPU per event: "));
}

#[test]
fn the_stream_shows_every_event_that_it_makes() {
    assert_whole(&Run::new("demo --events").run_to_end());
    if !is_real_root() {
        return skip("a large receive buffer", "only root can have it");
    }
    // All 1000 events fit, so nothing is lost however busy the machine is.
    let demo = Run::new("demo --events --recv-buffer 8MiB").run_to_end();
    assert_whole(&demo);
    assert_eq!(demo.summary("lost"), 0, "{demo:#?}");
}

#[test]
fn the_stream_works_on_each_backend() {
    let backends = ["multishot", "oneshot:4", "recvmmsg"];
    let demos =
        backends.map(|backend| Run::new(&format!("demo --events --backend {backend}")).spawn());
    for (backend, demo) in backends.iter().zip(demos) {
        let demo = demo.wait();
        assert_whole(&demo);
        assert_eq!(demo.stats["backend"], *backend);
        assert_eq!(demo.stats["backend_reason"], "asked for");
    }
}

#[test]
fn a_copied_binary_works_without_root() {
    const NAME: &str = "a_copied_binary_works_without_root";
    if !is_real_root() {
        return skip(NAME, "only root can become another user");
    }
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut probe = nobody.to_vec();
    probe.extend(["unshare", "-Un", "true"]);
    if !run("setpriv", &probe).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no setpriv, or user namespaces are forbidden here");
    }
    let directory = Directory::new();
    let copy = directory.file("nlring");
    fs::copy(NLRING, &copy).expect("a copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its permissions");
    for arguments in [&["demo"][..], &["demo", "--events"]] {
        let output = Command::new("timeout")
            .args(["30", "setpriv"])
            .args(nobody)
            .arg(&copy)
            .args(arguments)
            .current_dir(&directory.0)
            .env_clear()
            .output()
            .expect("timeout");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("[NEW] tcp      6 600 ESTABLISHED"), "{text}");
        if arguments.len() == 1 {
            Tour(text).assert_facts();
        }
    }
}

#[test]
fn where_user_namespaces_are_forbidden_it_says_to_use_root() {
    const NAME: &str = "where_user_namespaces_are_forbidden_it_says_to_use_root";
    if !run("unshare", &["-Ur", "true"]).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no user namespace in which to forbid others");
    }
    // Runs in a user namespace that allows no others below it, without the capabilities of its root.
    let directory = Directory::new();
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all '{NLRING}' demo --events --stats {}",
        directory.file("stats")
    );
    let demo = run("unshare", &["-Ur", "sh", "-c", &script]).expect("unshare");
    let errors = String::from_utf8_lossy(&demo.stderr);
    assert_eq!(demo.status.code(), Some(1), "{errors}");
    assert!(demo.stdout.is_empty());
    assert_eq!(errors.lines().count(), 1, "one message: {errors}");
    assert!(
        errors.contains("sudo nlring demo") && errors.contains("user namespaces"),
        "{errors}"
    );
    let stats = fs::read_to_string(directory.file("stats")).expect("statistics");
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!(stats["received"], 0);
}

#[test]
fn the_stream_ends_when_it_is_asked_to() {
    best_of_3(|| {
        let demo = Run::new("demo --events").spawn();
        demo.await_lines(10);
        let demo = demo.end();
        demo.assert_good();
        assert!(demo.event_count() >= 10);
        match demo.summary("created") {
            0..1000 => Ok(()),
            // The signal came after the end, because this test had to wait for a CPU for two seconds.
            _ => Err(format!("{demo:#?}")),
        }
    });
}

#[test]
fn a_stream_that_cannot_be_written_is_a_failure() {
    let demo = Run::new("demo --events --output /dev/full").run_to_end();
    assert_eq!(demo.code, Some(1), "{demo:#?}");
    let failures = demo.failures();
    assert_eq!(failures.len(), 1, "{demo:#?}");
    assert!(
        failures[0].contains("/dev/full") && failures[0].contains("No space left"),
        "{failures:?}"
    );
}
