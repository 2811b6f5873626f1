//! A network namespace of our own, without root where user namespaces are allowed.

use std::fs;
use std::io;

use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use crate::outcome::Failure;

/// Moves this process into a fresh network namespace, and for that into a user namespace unless it is root's.
/// Must come before any thread starts: only the calling thread moves, and a threaded process gets no user namespace.
/// `command` is the one to run as root where that is forbidden.
pub fn enter(command: &str) -> Result<(), Failure> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() && unshare(UnshareFlags::NEWNET).is_ok() {
        return Ok(());
    }
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)
        .map_err(|error| forbidden(command, &format!("unshare(2): {error}")))?;
    // Without this the group cannot be mapped (user_namespaces(7)); before Linux 3.19 the file was not there.
    let _ = fs::write("/proc/self/setgroups", "deny");
    for (file, id) in [("uid_map", user.as_raw()), ("gid_map", group.as_raw())] {
        fs::write(format!("/proc/self/{file}"), format!("0 {id} 1"))
            .map_err(|error| forbidden(command, &format!("write /proc/self/{file}: {error}")))?;
    }
    Ok(())
}

/// Tells that private namespaces are forbidden here, by what has shown it.
pub fn forbidden(command: &str, what: &str) -> Failure {
    Failure::Other(format!(
        "a private network namespace cannot be made here ({what}); where a container, AppArmor or a \
         sysctl forbids user namespaces, use root: sudo nlring {command} (in a container also CAP_SYS_ADMIN)"
    ))
}

#[expect(
    deprecated,
    reason = "its unsafe successor is about CLONE_FILES, which is not used here"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}
