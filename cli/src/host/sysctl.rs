//! Settings under /proc/sys: their values, and whether they can be set from here. In a container or a namespace some
//! settings belong to the host.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use nlring::RecvBuffer;
use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::host::privilege::{Capability, HowToGet, Privilege};

/// The largest receive buffer of processes without `CAP_NET_ADMIN` over the host.
pub const RMEM_MAX: &str = "net.core.rmem_max";

/// The file of a setting, by its dotted name.
pub fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// The number that a setting has, by its dotted name. None: this kernel or namespace does not have it, or does not show
/// it.
pub fn read(name: &str) -> Option<i64> {
    fs::read_to_string(path(name)).ok()?.trim().parse().ok()
}

/// Whether this process can write a setting, or could as root.
pub fn can_root_set(name: &str) -> bool {
    let path = path(name);
    if OpenOptions::new().write(true).open(&path).is_ok() {
        return true;
    }
    let privilege = Privilege::read();
    let (Ok(metadata), Ok(mount)) = (fs::metadata(&path), statvfs(&path)) else {
        return false;
    };
    let is_read_only =
        metadata.permissions().readonly() || mount.f_flag.contains(StatVfsMountFlags::RDONLY);
    !privilege.is_root() && !privilege.is_nested() && !is_read_only
}

/// The end of a sentence that says how to get a receive buffer of this size in bytes.
pub struct LargerBuffer(pub usize);

impl fmt::Display for LargerBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if can_root_set(RMEM_MAX) {
            ""
        } else {
            " on the host"
        };
        write!(
            f,
            "raise {RMEM_MAX}{place} (sysctl -w {RMEM_MAX}={})",
            self.0
        )?;
        match Privilege::read().how_to_get(Capability::NetAdmin) {
            HowToGet::Sudo => f.write_str(", or run as root"),
            HowToGet::FromOutside | HowToGet::OtherNamespace => Ok(()),
        }
    }
}

/// The warning about a receive buffer that the kernel made smaller.
pub fn clamped(buffer: RecvBuffer) -> String {
    // The kernel reads back twice what it granted.
    let (took, asked) = (buffer.granted_bytes / 2, buffer.requested_bytes);
    format!(
        "the kernel cut the receive buffer from {asked} to {took} bytes: {}, or ask for less with --recv-buffer",
        LargerBuffer(asked)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_cannot_be_set() {
        assert!(!can_root_set("net.core.no_such_setting"));
        assert_eq!(path("kernel.ostype"), Path::new("/proc/sys/kernel/ostype"));
    }

    #[test]
    fn a_larger_buffer_names_the_setting_and_its_value() {
        let text = LargerBuffer(123).to_string();
        assert!(text.contains("sysctl -w net.core.rmem_max=123"), "{text}");
    }
}
