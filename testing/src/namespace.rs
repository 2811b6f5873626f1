//! A network namespace for each test, and names for others.

use std::fs::{self, File};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nlring::message::flags;
use nlring::{Content, MessageBuilder, Protocol, RecvFlags, Socket};

/// Moves the calling thread, and the threads and programs that it starts from now on, into a new network namespace.
///
/// Without root's privileges it also creates a user namespace. Only a process with one thread can do that: a bench can,
/// a test cannot.
///
/// # Panics
///
/// If the kernel refuses both.
#[track_caller]
pub fn own_namespace() {
    let network = CloneFlags::CLONE_NEWNET;
    if let Err(error) = unshare(network) {
        let as_user = unshare(network | CloneFlags::CLONE_NEWUSER);
        assert!(
            as_user.is_ok(),
            "no network namespace: {error}; run the tests as root or under `unshare -Urn`"
        );
    }
}

/// Moves the calling thread, and the threads and programs that it starts from now on, into the network namespace with
/// this name.
///
/// # Panics
///
/// If there is none, or the kernel refuses.
#[track_caller]
pub fn enter_namespace(name: &str) {
    let file = File::open(Path::new("/run/netns").join(name)).expect("a namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("the thread moved");
}

/// Sets the loopback device of this namespace up.
///
/// # Panics
///
/// If the kernel refuses.
#[track_caller]
pub fn raise_loopback() {
    let socket = Socket::open(Protocol::ROUTE).expect("a route socket");
    let mut header = [0; 16]; // struct ifinfomsg
    header[4..8].copy_from_slice(&1_i32.to_ne_bytes()); // the first device of a namespace
    header[8..12].copy_from_slice(&1_u32.to_ne_bytes()); // IFF_UP
    header[12..16].copy_from_slice(&1_u32.to_ne_bytes()); // the flags to change
    let mut datagram = Vec::new();
    MessageBuilder::new(&mut datagram, 16, flags::REQUEST | flags::ACK) // RTM_NEWLINK
        .bytes(&header)
        .finish()
        .expect("a request");
    socket.send(&datagram).expect("the request sent");
    let mut answer = [0; 1024];
    let list = socket
        .recv(&mut answer, RecvFlags::NONE)
        .expect("an answer");
    let is_acknowledged = list
        .iter()
        .any(|message| matches!(message.content(), Content::Ack(_)));
    assert!(is_acknowledged, "the loopback device is up");
}

/// Gives the calling thread, and the threads and programs that it starts from now on, a `/run/netns` of its own, which
/// is empty: `ip netns add` adds names there that no one else sees.
///
/// # Panics
///
/// If the kernel refuses.
#[track_caller]
pub fn own_names() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).expect("mounts that no one else sees");
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/run", tmpfs, MsFlags::empty(), none).expect("an empty /run");
    fs::create_dir("/run/netns").expect("a directory");
}

/// Gives the calling thread's network namespace a name, as ip-netns(8) does.
///
/// # Panics
///
/// If the kernel refuses.
#[track_caller]
pub fn bind_name(name: &str) {
    let file = Path::new("/run/netns").join(name);
    fs::write(&file, "").expect("a file to bind to");
    let none = None::<&str>;
    let namespace = Some("/proc/thread-self/ns/net");
    mount(namespace, &file, none, MsFlags::MS_BIND, none).expect("a name for the namespace");
}

/// Removes the name.
///
/// # Panics
///
/// If there is none.
#[track_caller]
pub fn unbind_name(name: &str) {
    let file = Path::new("/run/netns").join(name);
    umount2(&file, MntFlags::MNT_DETACH).expect("the name's namespace");
    fs::remove_file(&file).expect("the name's file");
}
