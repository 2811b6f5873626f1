//! The commands of the feature `generate`: shell completions and man pages.

#![cfg(feature = "generate")]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{Directory, NLRING};

const COMMANDS: [&str; 7] = [
    "conntrack",
    "route",
    "monitor",
    "demo",
    "flood",
    "latency",
    "doctor",
];

fn nlring(arguments: &[&str]) -> String {
    let output = Command::new(NLRING).args(arguments).output();
    let output = output.expect("nlring");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Whether a program reads a file without complaint. None: the program is not installed.
fn accepts(program: &str, arguments: &[&str]) -> Option<bool> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let is_quiet = output.stderr.is_empty();
    Some(output.status.success() && is_quiet)
}

#[test]
fn every_command_has_a_man_page_with_all_sections() {
    let directory = Directory::new();
    let pages = directory.file("made/pages");
    assert_eq!(nlring(&["man", &pages]), "");
    let names = COMMANDS.map(|command| format!("nlring-{command}"));
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("nlring");
    let mut found: Vec<String> = fs::read_dir(&pages)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut wanted: Vec<String> = names.iter().map(|name| format!("{name}.1")).collect();
    wanted.sort();
    assert_eq!(found, wanted);
    for name in names {
        let path = format!("{pages}/{name}.1");
        let text = fs::read_to_string(&path).expect("a page");
        for section in [
            "NAME",
            "SYNOPSIS",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ] {
            assert!(
                text.contains(&format!(".SH {section}\n")),
                "{name}: {section}"
            );
        }
        assert!(text.is_ascii(), "{name}: groff reads Latin-1");
        assert!(
            !text.contains("completions"),
            "only a build for packagers has it"
        );
        let arguments = ["-man", "-Tutf8", "-ww", "-z", &path];
        assert_ne!(accepts("groff", &arguments), Some(false), "{name}");
    }
}

#[test]
fn shells_can_read_their_completions() {
    let directory = Directory::new();
    for (shell, program) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let script = nlring(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("recv-buffer-max"), "{shell}");
        let path = directory.file(shell);
        fs::write(&path, script).expect("a file");
        assert_ne!(accepts(program, &["-n", &path]), Some(false), "{shell}");
    }
}

#[test]
fn a_shell_that_is_not_known_is_refused() {
    let output = Command::new(NLRING)
        .args(["completions", "dos"])
        .output()
        .expect("nlring");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("bash"), "{errors}");
}
