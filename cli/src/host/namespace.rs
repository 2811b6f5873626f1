//! Entering network namespaces: a private one, without root if user namespaces are allowed, or one that exists.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use nlring::Namespace;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::host::known_namespaces::NAMES;
use crate::host::privilege::{Capability, HowToGet, Privilege, from_outside};
use crate::outcome::Failure;

/// Moves this process into a new network namespace, and into a new user namespace if it needs one for that. Call it
/// before any thread starts: only the calling thread moves, and a process with threads cannot enter a user namespace.
/// `command` is what a failure suggests to run as root.
pub fn enter(command: &str) -> Result<(), Failure> {
    let (user, group) = (geteuid(), getegid());
    // Root without CAP_NET_ADMIN could do nothing there, but it can in its own user namespace.
    let is_able = user.is_root() && Privilege::read().has(Capability::NetAdmin);
    if is_able && unshare(UnshareFlags::NEWNET).is_ok() {
        return Ok(());
    }
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)
        .map_err(|error| forbidden(command, &format!("unshare(2): {error}")))?;
    // Without this the group cannot be mapped (user_namespaces(7)). The file exists from Linux 3.19 on.
    let _ = fs::write("/proc/self/setgroups", "deny");
    for (file, id) in [("uid_map", user.as_raw()), ("gid_map", group.as_raw())] {
        fs::write(format!("/proc/self/{file}"), format!("0 {id} 1"))
            .map_err(|error| forbidden(command, &format!("write /proc/self/{file}: {error}")))?;
    }
    Ok(())
}

/// The failure if private namespaces are forbidden, as the error `what` showed.
pub fn forbidden(command: &str, what: &str) -> Failure {
    if !Path::new("/proc/self").exists() {
        return Failure::Other(format!(
            "a private network namespace cannot be made here ({what}): this needs /proc: mount -t proc proc /proc"
        ));
    }
    let privilege = Privilege::read();
    let remedy = match privilege.how_to_get(Capability::SysAdmin) {
        HowToGet::FromOutside if !privilege.is_nested() => {
            from_outside(&[Capability::SysAdmin, Capability::NetAdmin])
        }
        _ => format!("run it as root of the host: sudo nlring {command}"),
    };
    let reason = forbidden_by().map_or(String::new(), |reason| format!("{reason}; "));
    Failure::Other(format!(
        "a private network namespace cannot be made here ({what}): {reason}{remedy}"
    ))
}

/// The setting that forbids user namespaces, if it can be read.
fn forbidden_by() -> Option<&'static str> {
    let is = |name: &str, value: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
        text.trim() == value
    };
    if is("user/max_user_namespaces", "0") {
        Some("user namespaces are forbidden (user.max_user_namespaces is 0)")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        Some("AppArmor forbids user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)")
    } else if is("kernel/unprivileged_userns_clone", "0") {
        Some("user namespaces are forbidden (kernel.unprivileged_userns_clone is 0)")
    } else {
        None
    }
}

/// Finds the namespace that `--netns` names, by the rules of ip-link(8): a text with a slash is a path; other texts are
/// names, or process IDs if there is no such name.
fn find(text: &str) -> nlring::Result<Namespace> {
    if text.contains('/') {
        return Namespace::from_path(text);
    }
    let named = Namespace::from_name(text);
    match text.parse() {
        Ok(process_id) if named.is_err() => Namespace::from_process(process_id),
        _ => named,
    }
}

/// The prefix for a shell command that makes it run in the namespace that `--netns` names.
pub fn launcher(text: &str) -> String {
    let named = Path::new(NAMES).join(text);
    if text.contains('/') {
        format!("nsenter --net={}", quoted(text))
    } else if named.exists() {
        format!("nsenter --net={}", quoted(&named.to_string_lossy()))
    } else {
        format!("nsenter --target {} --net", quoted(text))
    }
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Moves this process into the namespace that `--netns` names, if it is given. Everything that a command examines, such
/// as settings and listeners, then belongs to that namespace. Call it before any thread starts, because only the
/// calling thread moves. `command` is what a failure suggests to run as root.
pub fn move_to(netns: Option<&str>, command: &str) -> Result<(), Failure> {
    let Some(text) = netns else {
        return Ok(());
    };
    let namespace = find(text)?;
    let kind = Some(LinkNameSpaceType::Network);
    if Namespace::current().is_ok_and(|current| current == namespace) {
        return Ok(());
    }
    move_into_link_name_space(namespace.as_fd(), kind).map_err(|error| {
        if error != Errno::PERM {
            return Failure::Other(format!("enter the network namespace {namespace}: {error}"));
        }
        let remedy = Privilege::read().remedy(Capability::SysAdmin, command);
        Failure::Denied(format!(
            "enter the network namespace {namespace}: {error}; it needs CAP_SYS_ADMIN: {remedy}"
        ))
    })
}

/// Calls `work` inside a namespace, on a separate thread. None: it cannot be entered.
pub fn inside<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> Option<T> {
    let kind = Some(LinkNameSpaceType::Network);
    thread::scope(|scope| {
        let work_inside = || {
            move_into_link_name_space(namespace.as_fd(), kind).ok()?;
            Some(work())
        };
        let thread = thread::Builder::new().spawn_scoped(scope, work_inside);
        thread.ok()?.join().ok()?
    })
}

#[expect(
    deprecated,
    reason = "its unsafe successor is about CLONE_FILES, which is not used here"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_words_of_a_shell() {
        assert_eq!(launcher("17"), "nsenter --target 17 --net");
        assert_eq!(launcher("/proc/1/ns/net"), "nsenter --net=/proc/1/ns/net");
        assert_eq!(launcher("/run/it's"), r"nsenter --net='/run/it'\''s'");
    }
}
