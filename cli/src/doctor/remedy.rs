//! How to fix a finding. A command is printed only if it can work here: in a container or a namespace some settings
//! belong to the host, and then the text says so.

use std::fs;
use std::path::{Path, PathBuf};

use super::report::Check;
use crate::host::privilege::{Capability, HowToGet, Privilege};
use crate::host::sysctl::can_root_set;

/// The files with settings and modules for after a restart (sysctl.d(5), modules-load.d(5)).
const SYSCTL_FILE: &str = "/etc/sysctl.d/90-nlring.conf";
const MODULES_FILE: &str = "/etc/modules-load.d/nlring.conf";
/// A file that only the initial network namespace has.
const INITIAL_ONLY: &str = "/proc/sys/net/core/netdev_max_backlog";
/// The settings of conntrack. Each network namespace has its own, except those in [`OF_ALL_NAMESPACES`].
const CONNTRACK: &str = "net.netfilter.nf_conntrack_";
const OF_ALL_NAMESPACES: [&str; 3] = [
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_expect_max",
];

impl Check {
    /// Adds how to set a sysctl, by its dotted name.
    pub fn set_sysctl(self, name: &str, value: impl std::fmt::Display) -> Self {
        let command = format!("sysctl -w {name}={value}");
        if can_root_set(name) {
            let lasting = lasting(name, &value.to_string());
            return self.remedy(command).advice(lasting);
        }
        let is_own = name.starts_with(CONNTRACK) && !OF_ALL_NAMESPACES.contains(&name);
        self.advice(if is_own {
            format!(
                "It cannot be set from here: start the container with --sysctl {name}={value} (docker, podman)."
            )
        } else {
            format!(
                "It can be set on the host only: {command}, and the same in {SYSCTL_FILE} there, to keep it after a restart."
            )
        })
    }

    /// Adds how to load a kernel module, or which configuration option the kernel lacks.
    pub fn load_module(self, name: &str, option: &str) -> Self {
        let privilege = Privilege::read();
        if !Path::new("/proc/modules").exists() {
            return self.advice(format!(
                "This kernel has no modules: it must be built with {option}."
            ));
        }
        let is_from_outside = !privilege.has(Capability::SysModule)
            && privilege.how_to_get(Capability::SysModule) != HowToGet::Sudo;
        if is_from_outside || privilege.is_nested() {
            return self.advice(format!("On the host, as root: modprobe {name}"));
        }
        if has_module(name) {
            return self.remedy(format!("modprobe {name}")).advice(format!(
                "To keep it after a restart: {name} in {MODULES_FILE}."
            ));
        }
        self.advice(format!(
            "The module {name} is not installed: the distribution may have it in another package of kernel modules, or the \
             kernel was built without {option}."
        ))
    }

    /// Adds how to get a capability that a command needs. `command` is what follows `nlring`.
    pub fn get_capability(self, capability: Capability, command: &str) -> Self {
        let privilege = Privilege::read();
        match privilege.how_to_get(capability) {
            HowToGet::Sudo => self.remedy(format!("sudo nlring {command}")),
            HowToGet::FromOutside | HowToGet::OtherNamespace => {
                self.advice(capitalised(&privilege.remedy(capability, command)))
            }
        }
    }
}

/// How to make a setting permanent.
fn lasting(name: &str, value: &str) -> String {
    if name.starts_with("net.") && !is_initial_namespace() {
        return "It lasts as long as this network namespace: whatever creates the namespace must set it again.".to_owned();
    }
    let module = if name.starts_with(CONNTRACK) && is_loaded_module("nf_conntrack") {
        format!(", and nf_conntrack in {MODULES_FILE}, because the setting comes with the module")
    } else {
        String::new()
    };
    format!("To keep it after a restart: {name}={value} in {SYSCTL_FILE}{module}.")
}

/// Whether this is the network namespace that the machine started with.
pub fn is_initial_namespace() -> bool {
    Path::new(INITIAL_ONLY).exists()
}

fn is_loaded_module(name: &str) -> bool {
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    modules
        .lines()
        .any(|line| line.split(' ').next() == Some(name))
}

/// Whether the running kernel has this module as a file.
fn has_module(name: &str) -> bool {
    let release = rustix::system::uname();
    let list = Path::new("/lib/modules")
        .join(release.release().to_string_lossy().as_ref())
        .join("modules.dep");
    let list = fs::read_to_string(list).unwrap_or_default();
    list.contains(&format!("/{name}.ko"))
}

/// Whether a program can be run by its name.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from)); // root's
    directories
        .iter()
        .any(|directory| directory.join(program).is_file())
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_gets_a_capital_and_a_full_stop() {
        assert_eq!(capitalised("run it"), "Run it.");
        assert_eq!(capitalised(""), ".");
    }

    #[test]
    fn programs_are_looked_for_in_the_path() {
        assert!(!is_installed("no-such-program"));
        assert!(is_installed("sh"));
    }
}
