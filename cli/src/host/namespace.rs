//! A private network namespace, without root if user namespaces are allowed.

use std::fs;
use std::io;

use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use crate::host::privilege::{Capability, HowToGet, Privilege, from_outside};
use crate::outcome::Failure;

/// Moves this process into a new network namespace, and into a new user namespace if it needs one for that. Call it
/// before any thread starts: only the calling thread moves, and a process with threads cannot enter a user namespace.
/// `command` is what a failure suggests to run as root.
pub fn enter(command: &str) -> Result<(), Failure> {
    let (user, group) = (geteuid(), getegid());
    // Root without CAP_NET_ADMIN could do nothing there, but it can in a user namespace of its own.
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

/// The failure where private namespaces are forbidden, as the error `what` showed.
pub fn forbidden(command: &str, what: &str) -> Failure {
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

#[expect(
    deprecated,
    reason = "its unsafe successor is about CLONE_FILES, which is not used here"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}
