//! Which capabilities this process has, and how it could get one that it lacks. It is not always enough to be root.

use std::fmt;
use std::fs;

use rustix::process::geteuid;

/// A capability (capabilities(7)), by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    NetAdmin = 12,
    SysModule = 16,
    SysAdmin = 21,
}

impl Capability {
    /// The name for Docker's `--cap-add`.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::NetAdmin => "NET_ADMIN",
            Self::SysModule => "SYS_MODULE",
            Self::SysAdmin => "SYS_ADMIN",
        }
    }

    /// The bit in a capability set.
    fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.short_name())
    }
}

/// What this process may do.
#[derive(Clone, Copy, Debug)]
pub struct Privilege {
    is_root: bool,
    /// Whether the process is in a user namespace below the host's.
    is_nested: bool,
    effective: u64,
    /// The capabilities that this process and the programs it starts can get at most, even with sudo.
    bounding: u64,
}

/// How a process gets a capability that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowToGet {
    /// By becoming root.
    Sudo,
    /// The program that started the process must grant it: a container runtime, or systemd.
    FromOutside,
    /// The process has the capability, but only in its own user namespace, and the object belongs to another one.
    OtherNamespace,
}

impl Privilege {
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self::parse(&status, &map, geteuid().is_root())
    }

    fn parse(status: &str, uid_map: &str, is_root: bool) -> Self {
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        };
        Self {
            is_root,
            is_nested: !uid_map
                .split_whitespace()
                .eq(["0", "0", "4294967295"].iter().copied()),
            effective: set("CapEff:").unwrap_or(0),
            bounding: set("CapBnd:").unwrap_or(u64::MAX),
        }
    }

    pub fn is_root(&self) -> bool {
        self.is_root
    }

    pub fn is_nested(&self) -> bool {
        self.is_nested
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.effective & capability.bit() != 0
    }

    /// How the process could get a capability.
    pub fn how_to_get(&self, capability: Capability) -> HowToGet {
        if self.is_nested && self.has(capability) {
            HowToGet::OtherNamespace
        } else if self.is_root || self.bounding & capability.bit() == 0 {
            HowToGet::FromOutside
        } else {
            HowToGet::Sudo
        }
    }

    /// How to get a capability, as a sentence. `command` is what follows `nlring`.
    pub fn remedy(&self, capability: Capability, command: &str) -> String {
        match self.how_to_get(capability) {
            HowToGet::Sudo => format!("run as root: sudo nlring {command}"),
            HowToGet::FromOutside => from_outside(&[capability]),
            HowToGet::OtherNamespace => format!(
                "this process has {capability} only in its user namespace, and the network namespace belongs to another one: \
                 run it as root of the host, or in a network namespace of this user namespace (unshare -n)"
            ),
        }
    }
}

/// A sentence that says how a process gets capabilities from the program that starts it.
pub fn from_outside(capabilities: &[Capability]) -> String {
    let join = |parts: Vec<String>| parts.join(" ");
    let docker = capabilities
        .iter()
        .map(|capability| format!("--cap-add {}", capability.short_name()));
    let systemd = capabilities.iter().map(Capability::to_string);
    format!(
        "this process cannot get it by itself: start the container with {} (docker, podman), or add {} to the systemd \
         unit's CapabilityBoundingSet= and AmbientCapabilities=",
        join(docker.collect()),
        join(systemd.collect())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "         0          0 4294967295\n";
    const NESTED: &str = "         0       1000          1\n";

    fn way(effective: &str, bounding: &str, uid_map: &str, is_root: bool) -> HowToGet {
        let status = format!("Name:\tx\nCapEff:\t{effective}\nCapBnd:\t{bounding}\n");
        Privilege::parse(&status, uid_map, is_root).how_to_get(Capability::NetAdmin)
    }

    #[test]
    fn sudo_is_offered_only_where_it_helps() {
        let (none, all, without) = ("0", "000001ffffffffff", "000001ffffffefff");
        assert_eq!(way(none, all, HOST, false), HowToGet::Sudo);
        assert_eq!(way(none, without, HOST, false), HowToGet::FromOutside);
        assert_eq!(way(without, all, HOST, true), HowToGet::FromOutside);
        assert_eq!(way(without, without, HOST, true), HowToGet::FromOutside);
        assert_eq!(way(all, all, NESTED, true), HowToGet::OtherNamespace);
    }

    #[test]
    fn a_remedy_names_the_capability() {
        let status = "CapEff:\t0\nCapBnd:\t0\n";
        let text = Privilege::parse(status, HOST, true).remedy(Capability::NetAdmin, "conntrack");
        assert!(
            text.contains("--cap-add NET_ADMIN") && text.contains("CAP_NET_ADMIN"),
            "{text}"
        );
        assert!(!text.contains("sudo"), "{text}");
    }
}
