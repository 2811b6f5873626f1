//! `nlring doctor` reports the state of the host, and its remedies work.

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

use common::{
    Directory, Events, Load, NLRING, field_names, is_installed, is_real_root, make_flows, must,
    own_namespace, remove_flows, run, skip,
};
use nlring::{Protocol, Socket};
use seccomp::deny_io_uring;
use serde_json::Value;

/// A launcher that gives up all capabilities, also those of root.
const WITHOUT_CAPABILITIES: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

const CONNTRACK: &str = "/proc/sys/net/netfilter/nf_conntrack_";

/// The command for the doctor, started by another program. timeout(1) ends it if it hangs.
fn doctor(launcher: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("20").args(launcher).args([NLRING, "doctor"]);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("timeout(1), which runs nlring")
}

/// The doctor's report as JSON, and its exit code.
struct Diagnosis {
    code: Option<i32>,
    report: Value,
}

impl Diagnosis {
    #[track_caller]
    fn make() -> Self {
        Self::of(doctor(&[], &["--json"]))
    }

    #[track_caller]
    fn of(command: Command) -> Self {
        let output = output(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "{:?}", output.status);
        Self {
            code: output.status.code(),
            report: serde_json::from_slice(&output.stdout).expect("JSON"),
        }
    }

    fn checks(&self) -> &[Value] {
        self.report["checks"].as_array().expect("checks")
    }

    #[track_caller]
    fn check(&self, name: &str) -> &Value {
        let check = self.checks().iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("a check {name}: {:#}", self.report))
    }

    #[track_caller]
    fn assert(&self, name: &str, state: &str, part: &str) -> &Value {
        let check = self.check(name);
        let detail = check["detail"].as_str().expect("a detail");
        assert_eq!(check["state"], state, "{check:#}");
        assert!(detail.contains(part), "{part} in: {detail}");
        check
    }

    fn advice(&self, name: &str) -> &str {
        self.check(name)["advice"].as_str().unwrap_or_default()
    }

    /// Asserts that the check has advice with this part, and no command as a remedy.
    #[track_caller]
    fn assert_advice_only(&self, name: &str, part: &str) {
        let check = self.check(name);
        assert_eq!(check["remedy"], Value::Null, "{check:#}");
        assert!(self.advice(name).contains(part), "{part} in: {check:#}");
    }

    /// Runs the command that is the remedy of a check.
    #[track_caller]
    fn follow_remedy(&self, name: &str) {
        let remedy = self.check(name)["remedy"].as_str().expect("a remedy");
        let output = run("sh", &["-c", remedy]).expect("sh");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{remedy}: {errors}");
    }
}

fn set(name: &str, value: u8) {
    fs::write(format!("{CONNTRACK}{name}"), value.to_string()).expect("a setting");
}

fn listen() -> Socket {
    let builder = Socket::builder(Protocol::NETFILTER).groups([1_u32, 2, 3]);
    builder.recv_buffer_bytes(4096).open().expect("a socket")
}

#[test]
fn following_the_remedy_makes_conntrack_active() {
    const NAME: &str = "following_the_remedy_makes_conntrack_active";
    own_namespace();
    let before = Diagnosis::make();
    let check = before.assert("tracking", "limit", "not active");
    assert_eq!(
        (&check["ipv4"], &check["event"]),
        (&Value::from(false), &Value::Null)
    );
    assert_eq!(before.code, Some(0), "a limit is no failure");
    if !is_installed("nft") {
        return skip(NAME, "no nft");
    }
    before.follow_remedy("tracking");
    let after = Diagnosis::make();
    let check = after.assert("tracking", "ok", "active");
    assert_eq!(
        (&check["ipv4"], &check["event"]),
        (&Value::from(true), &Value::from(true))
    );
    assert_eq!(check["remedy"], Value::Null);
    assert_eq!(after.code, Some(0));
    let left = fs::read_to_string(format!("{CONNTRACK}count")).expect("a count");
    assert_eq!(left, "0\n", "its own flows are gone");
}

#[test]
fn a_family_that_is_not_tracked_is_reported() {
    const NAME: &str = "a_family_that_is_not_tracked_is_reported";
    own_namespace();
    if !is_installed("nft") {
        return skip(NAME, "no nft");
    }
    if !fs::exists("/proc/sys/net/ipv6").expect("a look") {
        return skip(NAME, "no IPv6");
    }
    for (family, other) in [("ip", "IPv6"), ("ip6", "IPv4")] {
        let rules = format!(
            "table {family} only {{ chain c {{ type filter hook output priority 0; ct state new; }}; }}"
        );
        let output = run("nft", &[&rules]).expect("nft");
        assert!(output.status.success(), "{output:?}");
        let diagnosis = Diagnosis::make();
        diagnosis.assert("tracking", "limit", &format!("not for {other}"));
        if family == "ip6" {
            diagnosis.follow_remedy("tracking");
            Diagnosis::make().assert("tracking", "ok", "active");
        }
        must(&format!("nft delete table {family} only"));
    }
}

#[test]
fn without_the_loopback_device_tracking_is_unknown() {
    const NAME: &str = "without_the_loopback_device_tracking_is_unknown";
    own_namespace();
    if !is_installed("ip") {
        return skip(NAME, "no ip");
    }
    must("ip link set lo down");
    let diagnosis = Diagnosis::make();
    let check = diagnosis.assert("tracking", "unknown", "loopback device is down");
    assert_eq!(check["ipv4"], Value::Null);
    diagnosis.follow_remedy("tracking");
    Diagnosis::make().assert("tracking", "limit", "not active");
}

#[test]
fn following_the_remedies_corrects_the_settings() {
    const NAME: &str = "following_the_remedies_corrects_the_settings";
    own_namespace();
    for (name, value) in [("acct", 0), ("timestamp", 0), ("events", 0)] {
        set(name, value);
    }
    let before = Diagnosis::make();
    before.assert("counters", "note", "nf_conntrack_acct is 0");
    before.assert("event_time", "note", "nf_conntrack_timestamp is 0");
    let check = before.assert("conntrack_events", "fail", "nf_conntrack_events is 0");
    assert_eq!(check["nf_conntrack_events"], 0);
    assert_eq!(before.code, Some(1));
    if !is_installed("sysctl") || !is_installed("nft") {
        return skip(NAME, "no sysctl or no nft");
    }
    for name in ["counters", "event_time", "conntrack_events", "tracking"] {
        before.follow_remedy(name);
    }
    let after = Diagnosis::make();
    after.assert("counters", "ok", "");
    after.assert("conntrack_events", "ok", "every flow");
    assert_eq!(after.code, Some(0));
    // From Linux 6.14 on each event has a time.
    let check = after.check("event_time");
    match &check["in_events"] {
        Value::Bool(true) => assert_eq!(check["state"], "ok"),
        Value::Bool(false) => assert_eq!(check["state"], "note"),
        other => panic!("an event came: {other}"),
    }
}

#[test]
fn an_event_that_is_switched_off_does_not_come() {
    const NAME: &str = "an_event_that_is_switched_off_does_not_come";
    own_namespace();
    if !is_installed("nft") {
        return skip(NAME, "no nft");
    }
    Diagnosis::make().follow_remedy("tracking");
    set("events", 0);
    set("timestamp", 1);
    let diagnosis = Diagnosis::make();
    let check = diagnosis.assert("tracking", "limit", "did not arrive");
    assert_eq!(
        (&check["ipv4"], &check["event"]),
        (&Value::from(true), &Value::from(false))
    );
    diagnosis.assert("event_time", "unknown", "nf_conntrack_timestamp is on");
}

#[test]
fn the_doctors_own_event_is_found_among_many() {
    const NAME: &str = "the_doctors_own_event_is_found_among_many";
    own_namespace();
    if !is_installed("nft") {
        return skip(NAME, "no nft");
    }
    Diagnosis::make().follow_remedy("tracking");
    let _load = Load::start(Events::Conntrack);
    for _ in 0..10 {
        Diagnosis::make().assert("tracking", "ok", "its event received");
    }
}

#[test]
fn flows_that_began_without_a_listener_are_reported() {
    own_namespace();
    set("events", 2);
    Diagnosis::make().assert("flows", "ok", "none");
    make_flows(0..5);
    let diagnosis = Diagnosis::make();
    assert_eq!(
        diagnosis.assert("flows", "limit", "nobody listens")["count"],
        5
    );
    assert_eq!(diagnosis.assert("table", "ok", "5 of")["count"], 5);
    diagnosis.assert("tracking", "unknown", "flows (5)");
    assert_eq!(
        diagnosis.check("listeners")["conntrack"],
        Value::Array(Vec::new())
    );
    let listener = listen();
    Diagnosis::make().assert("flows", "note", "somebody listens");
    drop(listener);
    if is_installed("sysctl") {
        diagnosis.follow_remedy("flows");
    } else {
        set("events", 1);
    }
    let check = Diagnosis::make()
        .assert("flows", "ok", "every new one")
        .clone();
    assert_eq!(check["remedy"], Value::Null);
    remove_flows(0..5);
}

#[test]
fn losses_of_others_are_reported_with_names_free_of_control_characters() {
    own_namespace();
    fs::write("/proc/self/comm", "e\x1b[2Jv\u{9b}il\n").expect("a name");
    let listener = listen();
    make_flows(0..500);
    let drops = listener.drops().expect("drops");
    assert!(drops > 0, "the buffer is too small");
    let diagnosis = Diagnosis::make();
    let check = diagnosis.assert("drops", "note", &format!("lost {drops}"));
    let socket = &check["sockets"][0];
    assert_eq!(socket["drops"], drops);
    assert_eq!(socket["port_id"], listener.port_id().expect("a port ID"));
    assert_eq!(socket["process_id"], std::process::id());
    assert_eq!(socket["protocol"], "netfilter");
    assert_eq!(socket["program"], "e\x1b[2Jv\u{9b}il");
    assert_eq!(socket["reliable"], false);
    assert_eq!(diagnosis.check("listeners")["conntrack"][0], *socket);
    let text = |arguments: &[&str]| {
        let output = output(doctor(&[], arguments));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let (json, text) = (text(&["--json"]), text(&[]));
    assert!(text.contains(r"e\x1b[2Jv\xc2\x9bil (process "), "{text}");
    for text in [json, text] {
        let is_control = |character: char| character.is_control() && character != '\n';
        assert!(!text.contains(is_control), "{text:?}");
    }
}

#[test]
fn text_and_json_say_the_same() {
    own_namespace();
    let diagnosis = Diagnosis::make();
    let text = output(doctor(&[], &[]));
    assert_eq!(text.status.code(), diagnosis.code);
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    let reported: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(state, rest)| (state, rest.split_whitespace().next().unwrap_or_default()))
        .collect();
    let (verdict, reported) = reported.split_last().expect("lines");
    assert_eq!(*verdict, ("Conntrack", "and"), "{text}");
    let word = |check: &Value, name: &str| check[name].as_str().expect("a word").to_owned();
    let checks = diagnosis.checks().iter();
    let want: Vec<_> = checks
        .map(|check| (word(check, "state"), word(check, "name")))
        .collect();
    assert_eq!(reported.len(), want.len());
    for ((state, name), (want_state, want_name)) in reported.iter().zip(&want) {
        assert_eq!((state, name), (&want_state.as_str(), &want_name.as_str()));
    }
    for check in diagnosis.checks() {
        for field in ["name", "state", "detail", "remedy", "advice"] {
            assert!(field_names(check).contains(field), "{check:#}");
        }
        if let Some(remedy) = check["remedy"].as_str() {
            assert!(text.contains(&format!("\n         $ {remedy}\n")), "{text}");
        }
        if let Some(advice) = check["advice"].as_str() {
            assert!(text.contains(&format!("\n         {advice}\n")), "{text}");
        }
    }
}

#[test]
fn denial_of_io_uring_by_seccomp_is_recognised() {
    own_namespace();
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
        let mut command = doctor(&[], &["--json"]);
        deny_io_uring(&mut command, errno);
        let diagnosis = Diagnosis::of(command);
        let part = format!("seccomp filter ({name})");
        let check = diagnosis.assert("io_uring", "limit", &part);
        assert_eq!(
            (&check["seccomp"], &check["remedy"]),
            (&Value::from(2), &Value::Null)
        );
        let check = diagnosis.assert("backends", "note", "recvmmsg");
        assert_eq!(check["auto"], "recvmmsg");
        assert_eq!(check["multishot"]["works"], false);
        assert_eq!(check["oneshot"]["works"], false);
        assert_eq!(check["recvmmsg"]["works"], true);
        diagnosis.assert("locked_memory", "unknown", "not tried");
        assert_eq!(diagnosis.code, Some(0), "recvmmsg is enough");
    }
}

/// The sysctl belongs to the whole machine, so the test covers its file in a mount namespace.
#[test]
fn denial_of_io_uring_by_the_sysctl_is_recognised() {
    const NAME: &str = "denial_of_io_uring_by_the_sysctl_is_recognised";
    const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";
    own_namespace();
    let directory = Directory::new();
    let file = directory.file("disabled");
    let script = format!("mount --bind '{file}' {SYSCTL} && exec \"$@\"");
    let launcher = ["unshare", "-m", "sh", "-c", &script, "sh"];
    for (value, part) in [(2, "switched off"), (1, "privileged processes only")] {
        fs::write(&file, value.to_string()).expect("a file");
        let probe = [&launcher[1..], &["true"]].concat();
        if !run("unshare", &probe).is_some_and(|output| output.status.success()) {
            return skip(NAME, "no mount namespace, or no such sysctl to cover");
        }
        let mut command = doctor(&launcher, &["--json"]);
        deny_io_uring(&mut command, libc::EPERM);
        let diagnosis = Diagnosis::of(command);
        let check = diagnosis.assert("io_uring", "limit", part);
        assert_eq!(check["disabled"], value);
        assert_eq!(check["remedy"], "sysctl -w kernel.io_uring_disabled=0");
    }
}

/// Whether a process can give up its capabilities here.
fn can_be_without_capabilities() -> bool {
    let (program, arguments) = WITHOUT_CAPABILITIES.split_first().expect("words");
    let arguments = [arguments, &["true"]].concat();
    run(program, &arguments).is_some_and(|output| output.status.success())
}

#[test]
fn without_capabilities_the_doctor_names_the_remedy_and_tries_nothing_forbidden() {
    const NAME: &str =
        "without_capabilities_the_doctor_names_the_remedy_and_tries_nothing_forbidden";
    own_namespace();
    if !can_be_without_capabilities() {
        return skip(NAME, "no setpriv, or it may not give capabilities up");
    }
    let diagnosis = Diagnosis::of(doctor(WITHOUT_CAPABILITIES, &["--json"]));
    assert_eq!(diagnosis.code, Some(1));
    diagnosis.assert("conntrack_events", "fail", "CAP_NET_ADMIN");
    diagnosis.assert_advice_only("conntrack_events", "--cap-add NET_ADMIN");
    diagnosis.assert("tracking", "unknown", "CAP_NET_ADMIN");
    diagnosis.assert("other_namespaces", "note", "CAP_NET_BROADCAST");
    diagnosis.assert("route_events", "ok", "");
    let text = output(doctor(WITHOUT_CAPABILITIES, &[]));
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    assert!(
        text.ends_with("Not all events can be received here: see conntrack_events.\n"),
        "{text}"
    );
}

#[test]
fn sudo_is_advised_only_where_it_helps() {
    const NAME: &str = "sudo_is_advised_only_where_it_helps";
    own_namespace();
    if !is_real_root() || !can_be_without_capabilities() {
        return skip(NAME, "no root, or no setpriv");
    }
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let diagnosis = Diagnosis::of(doctor(&nobody, &["--json"]));
    let check = diagnosis.check("conntrack_events");
    assert_eq!(check["remedy"], "sudo nlring conntrack");
    assert_eq!(check["advice"], Value::Null);
    // In a container without the capability sudo does not help.
    let without = [&nobody[..], &["--bounding-set=-net_admin"]].concat();
    let diagnosis = Diagnosis::of(doctor(&without, &["--json"]));
    diagnosis.assert_advice_only("conntrack_events", "--cap-add NET_ADMIN");
}

/// The root of a user namespace may do less than the host's. Each remedy must work for it.
#[test]
fn in_a_user_namespace_the_remedies_work_there() {
    const NAME: &str = "in_a_user_namespace_the_remedies_work_there";
    own_namespace();
    if !is_real_root()
        || !run(
            "setpriv",
            &[&ORDINARY[1..], &["unshare", "-Ur", "true"]].concat(),
        )
        .is_some_and(|output| output.status.success())
    {
        return skip(NAME, "no root, or user namespaces are forbidden");
    }
    let directory = Directory::new();
    let copy = directory.file("nlring");
    fs::copy(NLRING, &copy).expect("a copy");
    let diagnose = |unshare: &str| {
        let mut command = Command::new("timeout");
        command
            .args(["20"])
            .args(ORDINARY)
            .args(["unshare", unshare]);
        command.args([&copy, "doctor", "--json"]);
        Diagnosis::of(command)
    };
    let outside = diagnose("-Ur");
    outside.assert("conntrack_events", "fail", "CAP_NET_ADMIN");
    outside.assert_advice_only("conntrack_events", "unshare -n");
    // Follows the advice: the network namespace belongs to the user namespace.
    let inside = diagnose("-Urn");
    inside.assert("conntrack_events", "ok", "can be joined");
    if inside.check("receive_buffer")["state"] == "limit" {
        inside.assert_advice_only("receive_buffer", "on the host only");
    }
}

/// A launcher that becomes a user without privileges.
const ORDINARY: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

#[test]
fn a_firewall_is_not_taken_for_a_missing_capability() {
    const NAME: &str = "a_firewall_is_not_taken_for_a_missing_capability";
    own_namespace();
    if !is_installed("nft") {
        return skip(NAME, "no nft");
    }
    for (hook, interface, part) in [
        ("output", "oifname", "refuses"),
        ("input", "iifname", "drops"),
    ] {
        let rules = format!(
            "table inet wall {{ chain c {{ type filter hook {hook} priority 0; policy drop; }}; }}"
        );
        let output = run("nft", &[&rules]).expect("nft");
        assert!(output.status.success(), "{output:?}");
        let diagnosis = Diagnosis::make();
        let check = diagnosis.assert("tracking", "unknown", part);
        let detail = check["detail"].as_str().expect("a detail");
        assert!(
            !detail.contains("CAP_") && !detail.contains("down"),
            "{detail}"
        );
        diagnosis.assert_advice_only("tracking", &format!("{interface} \"lo\" accept"));
        // Follows the advice.
        must(&format!(
            "nft insert rule inet wall c {interface} lo accept"
        ));
        Diagnosis::make().assert("tracking", "limit", "not active");
        must("nft delete table inet wall");
    }
}

#[test]
fn failed_deliveries_of_a_reliable_listener_are_no_losses() {
    own_namespace();
    let listener = Socket::builder(Protocol::NETFILTER)
        .groups([1_u32, 2, 3])
        .recv_buffer_bytes(4096)
        .reliable(true)
        .open()
        .expect("a listener");
    make_flows(0..200);
    assert!(listener.drops().expect("drops") > 0);
    let diagnosis = Diagnosis::make();
    let check = diagnosis.assert("drops", "note", "failed deliveries");
    let is_reliable = &check["sockets"][0]["reliable"];
    if is_reliable.is_null() {
        return skip("failed deliveries", "this kernel has no netlink_diag");
    }
    assert_eq!(*is_reliable, true);
    let detail = check["detail"].as_str().expect("a detail");
    assert!(!detail.contains("lost"), "{detail}");
    drop(listener);
    Diagnosis::make().assert("drops", "ok", "");
}

#[test]
fn a_remedy_says_how_long_it_lasts() {
    const NAME: &str = "a_remedy_says_how_long_it_lasts";
    if is_real_root() {
        // Runs in the initial network namespace, where the doctor only reads.
        let diagnosis = Diagnosis::make();
        for check in diagnosis.checks() {
            let remedy = check["remedy"].as_str().unwrap_or_default();
            if let Some(setting) = remedy.strip_prefix("sysctl -w ") {
                let advice = check["advice"].as_str().unwrap_or_default();
                let kept = format!("{setting} in /etc/sysctl.d/");
                assert!(advice.contains(&kept), "{check:#}");
            }
        }
    } else {
        skip(NAME, "not root of the host");
    }
    own_namespace();
    set("acct", 0);
    let diagnosis = Diagnosis::make();
    let advice = diagnosis.advice("counters");
    assert!(
        advice.contains("as long as this network namespace"),
        "{advice}"
    );
}

#[test]
fn a_clamped_receive_buffer_is_reported() {
    const NAME: &str = "a_clamped_receive_buffer_is_reported";
    // Read first, because Linux 6.1 does not show the limit in another network namespace, though it applies there.
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").expect("a limit");
    let limit: u64 = limit.trim().parse().expect("a number");
    own_namespace();
    if limit >= 8 << 20 || !can_be_without_capabilities() {
        return skip(
            NAME,
            "the limit is high, or capabilities cannot be given up",
        );
    }
    let diagnosis = Diagnosis::of(doctor(WITHOUT_CAPABILITIES, &["--json"]));
    let check = diagnosis.assert("receive_buffer", "limit", "net.core.rmem_max");
    // The limit is visible in this network namespace, but can be set only in the initial one.
    diagnosis.assert_advice_only(
        "receive_buffer",
        "on the host only: sysctl -w net.core.rmem_max=8388608",
    );
    assert_eq!(check["requested_bytes"], 8 << 20);
    assert_eq!(check["granted_bytes"], 2 * limit);
    assert_eq!(check["event_count"], 2 * limit / 1280);
}

#[test]
fn too_little_locked_memory_is_reported() {
    const NAME: &str = "too_little_locked_memory_is_reported";
    own_namespace();
    if !is_installed("prlimit") || !can_be_without_capabilities() {
        return skip(NAME, "no prlimit, or capabilities cannot be given up");
    }
    let launcher = [&["prlimit", "--memlock=0"], WITHOUT_CAPABILITIES].concat();
    let diagnosis = Diagnosis::of(doctor(&launcher, &["--json"]));
    if diagnosis.check("backends")["multishot"]["works"] == true {
        // Some kernels do not count the rings (seen on 6.12).
        diagnosis.assert("locked_memory", "ok", "RLIMIT_MEMLOCK is 0 bytes");
        return;
    }
    let check = diagnosis.assert("locked_memory", "limit", "RLIMIT_MEMLOCK is 0 bytes");
    assert_eq!(check["limit_bytes"], 0);
    diagnosis.assert_advice_only("locked_memory", "LimitMEMLOCK=8M");
    diagnosis.assert("io_uring", "limit", "RLIMIT_MEMLOCK");
    assert_eq!(diagnosis.check("backends")["auto"], "recvmmsg");
    // If the hard limit allows it, a shell can follow the remedy.
    let low = [&["prlimit", "--memlock=0:8388608"], WITHOUT_CAPABILITIES].concat();
    let diagnosis = Diagnosis::of(doctor(&low, &["--json"]));
    let check = diagnosis.assert("locked_memory", "limit", "RLIMIT_MEMLOCK is 0 bytes");
    let remedy = check["remedy"].as_str().expect("a remedy");
    assert!(remedy.starts_with("ulimit -l "), "{remedy}");
    let script = format!("{remedy} && exec \"$@\"");
    let raised = [&low[..], &["bash", "-c", &script, "bash"]].concat();
    let diagnosis = Diagnosis::of(doctor(&raised, &["--json"]));
    diagnosis.assert("locked_memory", "ok", "MiB");
    assert_eq!(diagnosis.check("backends")["auto"], "multishot");
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure_unless_its_reader_has_gone() {
    own_namespace();
    for arguments in [&[][..], &["--json"]] {
        let mut command = doctor(&[], arguments);
        command.stdout(File::create("/dev/full").expect("a device"));
        let full = output(command);
        let errors = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{errors}");
        assert!(
            errors.starts_with("nlring: write the report") && errors.contains("No space left"),
            "{errors}"
        );
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = doctor(&[], arguments);
        command.stdout(writer);
        let gone = output(command);
        assert_eq!(String::from_utf8_lossy(&gone.stderr), "");
        assert_eq!(gone.status.code(), Some(0));
    }
}
