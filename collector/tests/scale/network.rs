//! Hosts, each with a cable to the hub: network namespaces.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use nlring::Namespace;
use nlring::conntrack::Requests;
use nlring_testing::must;

/// A host. The hub is the namespace of the thread that connects it.
pub struct Host {
    pub name: String,
    number: u8,
}

/// The bytes of the frames that a device has received and sent.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub received: u64,
    pub sent: u64,
}

impl Host {
    /// A new host. Its number is part of its addresses.
    pub fn connect(number: u8) -> Self {
        let name = format!("host{number}");
        let cable = format!("to-{name}");
        must(&format!("ip netns add {name}"));
        must(&format!(
            "ip link add {cable} type veth peer name eth0 netns {name}"
        ));
        must(&format!("ip address add 10.255.{number}.1/30 dev {cable}"));
        must(&format!(
            "ip -n {name} address add 10.255.{number}.2/30 dev eth0"
        ));
        must(&format!("ip link set {cable} up"));
        must(&format!("ip -n {name} link set eth0 up"));
        must(&format!("ip -n {name} link set lo up"));
        Self { name, number }
    }

    pub fn number(&self) -> u8 {
        self.number
    }

    /// The address of the hub, as the host sees it.
    pub fn hub(&self) -> String {
        format!("10.255.{}.1", self.number)
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::from_name(&self.name).expect("a namespace")
    }

    /// A command that runs this program in the host.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Has conntrack report all flows, with what they count and when they begin and end.
    pub fn report_all_flows(&self) {
        // A request loads conntrack, and with it come the sysctls.
        let loaded = Requests::open_in(&self.namespace());
        let loaded = loaded.and_then(|mut requests| requests.table_statistics());
        loaded.expect("conntrack");
        for name in ["events", "acct", "timestamp"] {
            let set = format!("echo 1 > /proc/sys/net/netfilter/nf_conntrack_{name}");
            let status = self.command("sh").args(["-c", &set]).status();
            assert!(status.expect("a shell").success(), "{set}");
        }
    }

    /// The traffic of the hub's end of the cable.
    pub fn traffic(&self, traffic: &HashMap<String, Traffic>) -> Traffic {
        traffic[&format!("to-{}", self.name)]
    }
}

/// The traffic of this namespace's devices.
pub fn traffic() -> HashMap<String, Traffic> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("counters of devices");
    let devices = text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let mut counters = counters.split_whitespace().map(str::parse);
        let traffic = Traffic {
            received: counters.next()?.ok()?,
            sent: counters.nth(7)?.ok()?,
        };
        Some((name.trim().to_owned(), traffic))
    });
    devices.collect()
}
