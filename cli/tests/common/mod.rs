//! What the tests of the command share: the real binary in network namespaces, and a known number of events.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

mod command;
mod events;
mod groups;
pub mod json;
mod malformed;
mod peer;

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nlring_testing::raise_loopback;
pub use nlring_testing::{PATIENCE, await_that, best_of_3, leave_out, must, run, skip};
use rustix::thread::UnshareFlags;
use serde_json::Value;

pub use self::command::{Ended, Follower, Lost, NLRING, Run, say};
pub use self::events::{
    Load, Requests, flush_flows, make_flows, make_routes, mark_flows, remove_flows, remove_routes,
};
pub use self::groups::{Events, Groups};
pub use self::malformed::assert_refused_at;
pub use self::peer::{Peer, assert_same_lines, lines_until};

/// The command ends within this time, whatever the cause.
pub const END_LIMIT: Duration = Duration::from_secs(2);

/// Moves this thread, and what it starts, into a network namespace of its own with its loopback device up.
pub fn own_namespace() {
    nlring_testing::own_namespace();
    raise_loopback();
}

#[expect(
    deprecated,
    reason = "its unsafe successor is about CLONE_FILES, which is not used here"
)]
pub fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

/// Whether this process is root of the whole machine, not of a user namespace.
pub fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let map: Vec<&str> = map.split_whitespace().collect();
    rustix::process::geteuid().is_root() && map == ["0", "0", "4294967295"]
}

/// A directory that is removed when dropped. Everybody may write to it, as to /tmp.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nlring-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("its permissions");
        Self(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn is_installed(program: &str) -> bool {
    run(program, &["--version"])
        .or_else(|| run(program, &["-V"]))
        .is_some()
}

/// The text of a file. Empty: it does not exist, or is a device.
fn text_of(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::read_to_string(path).expect("a text"),
        _ => String::new(),
    }
}

/// Whole lines of a file that is being written.
pub fn whole_lines(file: &Path) -> Vec<String> {
    let text = text_of(file);
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// Adds a device with this name and these addresses, sets it up, and waits until its routes are there. False: this
/// kernel has no suitable kind of device.
pub fn add_device(name: &str, addresses: &[&str]) -> bool {
    let kinds = [
        format!("link add {name} type dummy"),
        format!("link add {name} type veth peer name {name}-peer"),
    ];
    // Keeps the kernel from adding addresses, and so routes.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1");
    let add = |kind: &String| {
        let words: Vec<&str> = kind.split(' ').collect();
        run("ip", &words).is_some_and(|output| output.status.success())
    };
    if !kinds.iter().any(add) {
        return false;
    }
    let _ = run("ip", &["link", "set", &format!("{name}-peer"), "up"]); // if there is one
    must(&format!("ip link set {name} up"));
    for address in addresses {
        let no_dad = if address.contains(':') { "nodad" } else { "" };
        must(&format!("ip address add {address} dev {name} {no_dad}"));
    }
    // The kernel adds IPv6 routes later, from a work queue.
    let ipv6 = addresses.iter().filter(|address| address.contains(':'));
    let ipv6 = ipv6.filter_map(|address| address.split('/').next());
    let mut awaited: Vec<String> = ipv6.map(|address| format!("local {address} ")).collect();
    awaited.push("multicast ff00::/8 ".to_owned());
    await_that("the device's IPv6 routes", || {
        let shown = run("ip", &["-6", "route", "show", "table", "all", "dev", name]);
        let shown = String::from_utf8_lossy(&shown.expect("ip").stdout).into_owned();
        awaited.iter().all(|route| shown.contains(route))
    });
    true
}

/// Makes a namespace with the devices d0 and d1. False, after a skip: this kernel has no such devices.
pub fn namespace_with_devices(name: &str) -> bool {
    if !is_installed("ip") {
        skip(name, "no ip");
        return false;
    }
    own_namespace();
    let has_both = add_device("d0", &["10.1.0.1/16", "fd01::1/64"])
        && add_device("d1", &["10.2.0.1/16", "fd02::1/64"]);
    if !has_both {
        skip(name, "neither dummy nor veth devices in this kernel");
    }
    has_both
}

/// Adds firewall rules by nft.
pub fn add_rules(rules: &str) {
    let mut nft = Command::new("nft");
    let mut nft = nft
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    let mut stdin = nft.stdin.take().expect("its input");
    stdin.write_all(rules.as_bytes()).expect("rules");
    drop(stdin);
    assert!(nft.wait().expect("nft").success());
}

/// The names of a JSON object's fields.
pub fn field_names(value: &Value) -> HashSet<&str> {
    let fields = value.as_object().expect("an object");
    fields.keys().map(String::as_str).collect()
}
