//! `nlring demo`, as a new user tries it.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use common::{Directory, END_LIMIT, Ended, NLRING, Run, best_of_3, is_real_root, run, skip};

const DEMO_LIMIT: Duration = Duration::from_secs(15);

/// That it went well, but for a loss.
fn assert_whole(demo: &Ended) {
    assert_eq!(demo.code, Some(0), "{demo:#?}");
    assert_eq!(demo.failures(), [""; 0]);
    let (created, received, lost) = (
        demo.told("created"),
        demo.told("received"),
        demo.told("lost"),
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

/// That it went well, and could have gone no better: a busy machine may make it lose.
fn check(demo: &Ended) -> Result<(), String> {
    assert_whole(demo);
    if demo.told("lost") > 0 || demo.took > DEMO_LIMIT {
        return Err(format!("{demo:#?}"));
    }
    Ok(())
}

#[test]
fn it_receives_all_that_it_makes() {
    best_of_3(|| check(&Run::new("demo").run_to_end()));
}

#[test]
fn it_works_on_each_backend() {
    let backends = ["multishot", "oneshot:4", "recvmmsg"];
    let demos = backends.map(|backend| Run::new(&format!("demo --backend {backend}")).spawn());
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
    best_of_3(|| {
        let mut demo = Run::new("demo --output - --stats /dev/null");
        demo.command = Command::new("setpriv");
        demo.command
            .args(nobody)
            .args([&copy, "demo"])
            .current_dir(&directory.0)
            .env_clear();
        let output = directory.file("output");
        demo.command
            .stdout(fs::File::create(&output).expect("a file"));
        let mut demo = demo.run_to_end();
        demo.output = fs::read_to_string(&output).expect("its output");
        check(&demo)
    });
}

#[test]
fn where_user_namespaces_are_forbidden_it_says_to_use_root() {
    const NAME: &str = "where_user_namespaces_are_forbidden_it_says_to_use_root";
    if !run("unshare", &["-Ur", "true"]).is_some_and(|output| output.status.success()) {
        return skip(NAME, "no user namespace in which to forbid others");
    }
    // In a user namespace that may have none below it, and without the capabilities of its root.
    let directory = Directory::new();
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all '{NLRING}' demo --stats {}",
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
fn it_ends_when_it_is_told_to() {
    best_of_3(|| {
        let demo = Run::new("demo").spawn();
        demo.await_lines(10);
        let demo = demo.end();
        demo.assert_good();
        assert!(demo.event_count() >= 10);
        if demo.took > END_LIMIT {
            return Err(format!("{demo:#?}"));
        }
        Ok(())
    });
}

#[test]
fn it_says_that_its_output_is_full() {
    let demo = Run::new("demo --output /dev/full").run_to_end();
    assert_eq!(demo.code, Some(1), "{demo:#?}");
    let failures = demo.failures();
    assert_eq!(failures.len(), 1, "{demo:#?}");
    assert!(
        failures[0].contains("/dev/full") && failures[0].contains("No space left"),
        "{failures:?}"
    );
}
