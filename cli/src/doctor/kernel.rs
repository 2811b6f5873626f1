//! The kernel: its release, and what later releases add.

use std::fs;

use super::report::{Check, CheckState};

/// Features that nlring uses, and the kernel version that added each. This is only for the text. Other checks try the
/// features, because distributions add them to older kernels.
const BROUGHT: [((u32, u32), &str); 6] = [
    ((5, 6), "single receives on io_uring"),
    ((5, 19), "registered buffer rings"),
    ((6, 0), "multishot receives"),
    ((6, 1), "deferred task work"),
    ((6, 12), "gathering in one system call"),
    ((6, 14), "the time of conntrack events"),
];

pub fn kernel() -> Check {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let missing = version(&release).map(brought_after).unwrap_or_default();
    let check = if missing.is_empty() {
        Check::new("kernel", CheckState::Ok, format!("Linux {release}"))
    } else {
        let missing = missing.join(", ");
        let detail = format!("Linux {release}; later releases add {missing}");
        Check::new("kernel", CheckState::Note, detail)
    };
    check.value("release", release)
}

/// The first two numbers of a release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn brought_after(version: (u32, u32)) -> Vec<String> {
    let later = BROUGHT.iter().filter(|(since, _)| *since > version);
    later
        .map(|((major, minor), what)| format!("{what} ({major}.{minor})"))
        .collect()
}

/// The seccomp mode of this process: 0 none, 1 strict, 2 filters (proc_pid_status(5)).
pub fn seccomp_mode() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_by_their_first_two_numbers() {
        for (release, want) in [
            ("6.18.44", Some((6, 18))),
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.4-rc2", Some((5, 4))),
            ("7.0", Some((7, 0))),
            ("next", None),
            ("6", None),
        ] {
            assert_eq!(version(release), want, "{release}");
        }
    }

    #[test]
    fn only_missing_features_are_listed() {
        assert_eq!(brought_after((6, 14)), [""; 0]);
        let missing = brought_after((6, 1));
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].contains("6.12") && missing[1].contains("6.14"));
        assert_eq!(brought_after((4, 19)).len(), BROUGHT.len());
    }
}
