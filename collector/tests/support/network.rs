//! Network namespaces around a hub that forwards between them, and what it does not let through.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use nlring_testing::{cannot_run, must, own_names, own_namespace, raise_loopback, run};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces, each with one device to the hub. The hub is the namespace of the thread that made them.
pub struct Network {
    names: Vec<&'static str>,
}

impl Network {
    /// Moves this thread to the hub, and makes the others. They go with the thread and the programs in them.
    pub fn new(names: &[&'static str]) -> Self {
        if run("nft", &["--version"]).is_none() {
            cannot_run("no nft: install it (apt-get install nftables)".to_owned());
        }
        own_names();
        own_namespace();
        raise_loopback();
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a sysctl");
        must("nft add table ip hub");
        nft("add chain ip hub forward { type filter hook forward priority 0 ; }");
        let network = Self {
            names: names.to_vec(),
        };
        for name in names {
            network.join(name);
        }
        network
    }

    fn join(&self, name: &str) {
        let (address, hub) = (self.address(name), self.hub(name));
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add to-{name} type veth peer name hub netns {name}"),
            format!("ip addr add {hub}/24 dev to-{name}"),
            format!("ip link set to-{name} up"),
            format!("ip -n {name} link set lo up"),
            format!("ip -n {name} addr add {address}/24 dev hub"),
            format!("ip -n {name} link set hub up"),
            format!("ip -n {name} route add default via {hub}"),
        ] {
            must(&line);
        }
    }

    fn number(&self, name: &str) -> usize {
        let number = self.names.iter().position(|other| *other == name);
        number.expect("a namespace of this network")
    }

    /// The address in a namespace.
    pub fn address(&self, name: &str) -> String {
        format!("10.99.{}.2", self.number(name))
    }

    /// The address of the hub that this namespace sees.
    pub fn hub(&self, name: &str) -> String {
        format!("10.99.{}.1", self.number(name))
    }

    /// Lets nothing through between these, in both directions, and tells neither side.
    pub fn cut(&self, from: &[&str], to: &[&str]) {
        for from in from {
            for to in to.iter().filter(|to| *to != from) {
                let (from, to) = (self.address(from), self.address(to));
                nft(&format!(
                    "add rule ip hub forward ip saddr {from} ip daddr {to} drop"
                ));
                nft(&format!(
                    "add rule ip hub forward ip saddr {to} ip daddr {from} drop"
                ));
            }
        }
    }

    /// Lets everything through again.
    pub fn heal() {
        nft("flush chain ip hub forward");
    }
}

fn nft(command: &str) {
    must(&format!("nft {command}"));
}

/// Runs this in a namespace of the network. Programs that it starts stay there.
pub fn inside<T: Send>(name: &str, job: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(name);
            job()
        });
        thread.join()
    });
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Moves this thread into a namespace of the network.
pub fn enter(name: &str) {
    let namespace = File::open(Path::new("/run/netns").join(name)).expect("a namespace");
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), kind).expect("a change of the namespace");
}
