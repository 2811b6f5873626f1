//! What `nlringd run` says if it cannot start: what is wrong, and the remedy.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use nlring_testing::{own_namespace, run, skip};

use support::{NLRINGD, scratch};

/// A user that owns nothing.
const NOBODY: u32 = 65534;

/// What nlringd says when it ends at once. It is started by a command that takes another command as its last arguments.
#[track_caller]
fn refusal(by: &[&str], directory: &Path, config: &str) -> String {
    let path = directory.join("nlringd.toml");
    fs::write(&path, format!("{config}\n[http]\naddress = \"off\"\n")).expect("a configuration");
    // If it did start, it would not end.
    let output = Command::new("timeout")
        .arg("20")
        .args(by)
        .args([NLRINGD, "run", "--config"])
        .arg(&path)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

fn places(spool: &Path, records: &Path) -> String {
    let (spool, records) = (spool.display(), records.display());
    format!("[spool]\ndirectory = \"{spool}\"\n[[files]]\ndirectory = \"{records}\"")
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn without_the_capability_it_says_which_one() {
    own_namespace();
    let directory = scratch("refused-capability");
    if run("setpriv", &["--version"]).is_none() {
        return skip("without_the_capability_it_says_which_one", "no setpriv");
    }
    let without = ["setpriv", "--bounding-set", "-net_admin"];
    let places = places(&directory.join("spool"), &directory.join("records"));
    let text = refusal(&without, &directory, &places);
    assert_says(
        &text,
        &["CAP_NET_ADMIN", "run as root or grant the capability"],
    );
}

#[test]
fn a_namespace_that_does_not_exist_is_named() {
    let directory = scratch("refused-namespace");
    let places = places(&directory.join("spool"), &directory.join("records"));
    let config = format!("namespaces = [\"nobody-has-it\"]\n{places}");
    let text = refusal(&[], &directory, &config);
    assert_says(&text, &["nobody-has-it", "`ip netns list` shows the names"]);
}

/// This includes root: nlringd needs no capability to write.
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    own_namespace();
    let directory = scratch("refused-directory");
    let (closed, open) = (directory.join("closed"), directory.join("open"));
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("a mode");
    if chown(&closed, Some(NOBODY), None).is_err() {
        return skip(
            "a_directory_that_cannot_be_written_is_named",
            "no other user",
        );
    }
    for places in [
        places(&closed.join("spool"), &open),
        places(&open, &closed.join("records")),
        places(&closed, &open),
    ] {
        let text = refusal(&[], &directory, &places);
        let closed = closed.display().to_string();
        assert_says(
            &text,
            &[
                "Permission denied",
                &closed,
                "root needs access by owner or mode",
            ],
        );
    }
}

#[test]
fn a_directory_below_a_file_is_named() {
    own_namespace();
    let directory = scratch("refused-file");
    let file = directory.join("file");
    fs::write(&file, "").expect("a file");
    let places = places(&file.join("spool"), &directory.join("records"));
    let text = refusal(&[], &directory, &places);
    let path = file.display().to_string();
    assert_says(&text, &[&path, "a part of this path is a file"]);
}
