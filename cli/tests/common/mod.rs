//! What the tests of the command share: the real binary in network namespaces, and a known number of events.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub mod json;

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nlring::message::flags;
use nlring::{Content, MessageBuilder, Protocol, RecvFlags, Socket};
use nlring_testing::raise_loopback;
pub use nlring_testing::{PATIENCE, await_that, best_of_3, leave_out, must, run, skip};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::UnshareFlags;
use serde_json::Value;

pub const NLRING: &str = env!("CARGO_BIN_EXE_nlring");

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

/// The kinds of events that the command follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    Conntrack,
    Route,
}

/// Multicast groups of a protocol, as /proc/net/netlink shows them.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    protocol: &'static str,
    mask: u32,
}

impl Groups {
    /// The groups of these events.
    pub fn of(events: Events) -> Self {
        let (protocol, mask) = match events {
            Events::Conntrack => ("12", 0b111), // new, update, destroy
            Events::Route => ("0", 1 << 6 | 1 << 10 | 1 << 26), // IPv4, IPv6, MPLS
        };
        Self { protocol, mask }
    }

    /// The groups of expectations: the new ones, and those that end.
    pub const EXPECTATIONS: Self = Self {
        protocol: "12",
        mask: 0b10_1000,
    };

    /// The groups that the command joins with these arguments. It joins them one by one, so a test must await all.
    fn wanted(arguments: &str) -> Self {
        if arguments.starts_with("route") {
            return Self::of(Events::Route);
        }
        let mut groups = Self::of(Events::Conntrack);
        let mut words = arguments.split_whitespace().map(str::to_lowercase);
        let mut chosen = 0;
        while let Some(word) = words.next() {
            if word == "-e" || word == "--events" {
                for event in words.next().unwrap_or_default().split(',') {
                    chosen |= match event {
                        "new" => 0b1,
                        "update" | "updates" => 0b10,
                        "destroy" => 0b100,
                        "expect" => Self::EXPECTATIONS.mask,
                        _ => groups.mask,
                    };
                }
            }
        }
        if chosen != 0 {
            groups.mask = chosen;
        }
        groups
    }

    /// The port IDs of the sockets in this thread's network namespace that are in all of these groups.
    pub fn listeners(self) -> Vec<u32> {
        self.column(2)
    }

    /// How many datagrams the kernel has dropped because the receive buffers of those sockets were full.
    pub fn drop_count(self) -> u32 {
        self.column(8).iter().sum()
    }

    /// A column of the kernel's table of netlink sockets, for those that are in all of these groups.
    fn column(self, index: usize) -> Vec<u32> {
        // Columns: address, protocol, port ID, groups, received and sent bytes, dump, references, drops, inode.
        let table = fs::read_to_string("/proc/thread-self/net/netlink").expect("netlink sockets");
        let number = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let groups = u32::from_str_radix(words[3], 16).expect("groups");
            let listens = words[1] == self.protocol && groups & self.mask == self.mask;
            listens.then(|| words[index].parse().expect("a number"))
        };
        table.lines().skip(1).filter_map(number).collect()
    }

    /// Whether a socket listens that is not among those before, some of which may be closing.
    pub fn has_more_than(self, before: &[u32]) -> bool {
        let listeners = self.listeners();
        listeners.iter().any(|listener| !before.contains(listener))
    }
}

/// The command, before it runs. Its output and its statistics go to files, unless the arguments say otherwise.
pub struct Run {
    pub command: Command,
    directory: Directory,
    output: PathBuf,
    stats: PathBuf,
    groups: Groups,
}

impl Run {
    /// The command with these arguments, which are separated by spaces.
    pub fn new(arguments: &str) -> Self {
        Self::under("", arguments)
    }

    /// The command, started by another program, which then becomes nlring.
    pub fn under(launcher: &str, arguments: &str) -> Self {
        let directory = Directory::new();
        let words = launcher.split_whitespace().chain([NLRING]);
        let mut words = words.chain(arguments.split_whitespace());
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        let mut file = |option: &str, name| {
            let mut words = arguments.split_whitespace();
            if words.any(|word| word == option) {
                return PathBuf::from(words.next().unwrap_or_default());
            }
            let file = directory.0.join(name);
            command.arg(option).arg(&file);
            file
        };
        let output = file("--output", "output");
        let stats = file("--stats", "stats");
        Self {
            groups: Groups::wanted(arguments),
            command,
            output,
            stats,
            directory,
        }
    }

    /// Runs it without waiting for anything.
    pub fn spawn(self) -> Follower {
        let errors = File::create(self.errors_file()).expect("a file");
        self.spawn_with_errors(errors)
    }

    fn errors_file(&self) -> PathBuf {
        self.directory.0.join("errors")
    }

    fn spawn_with_errors(mut self, errors: File) -> Follower {
        self.command.stdin(Stdio::null()).stderr(errors);
        let started = Instant::now();
        let child = self.command.spawn().expect("nlring runs");
        Follower {
            child,
            errors: self.errors_file(),
            output: self.output,
            stats: self.stats,
            started,
            _directory: self.directory,
        }
    }

    /// Runs it, and waits until it listens.
    pub fn start(self) -> Follower {
        let errors = File::create(self.errors_file()).expect("a file");
        self.start_with_errors(errors)
    }

    /// Runs the command with this file as its standard error, and waits until it listens.
    pub fn start_with_errors(self, errors: File) -> Follower {
        let groups = self.groups;
        let before = groups.listeners();
        let mut follower = self.spawn_with_errors(errors);
        await_that("nlring listens", || {
            let ended = follower.child.try_wait().expect("its status");
            assert!(ended.is_none(), "{ended:?}: {}", follower.errors());
            groups.has_more_than(&before)
        });
        follower
    }

    /// Runs it to its end.
    pub fn run_to_end(self) -> Ended {
        self.spawn().wait()
    }
}

/// The command, running.
pub struct Follower {
    pub child: Child,
    pub output: PathBuf,
    stats: PathBuf,
    errors: PathBuf,
    started: Instant,
    _directory: Directory,
}

impl Follower {
    pub fn start(arguments: &str) -> Self {
        Run::new(arguments).start()
    }

    pub fn errors(&self) -> String {
        text_of(&self.errors)
    }

    /// The whole lines that the command has written so far.
    pub fn lines(&self) -> Vec<String> {
        whole_lines(&self.output)
    }

    #[track_caller]
    pub fn await_lines(&self, count: usize) {
        let wanted = format!("{count} lines");
        await_that(&wanted, || self.lines().len() >= count);
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process ID");
        let id = Pid::from_raw(id).expect("a process ID");
        kill_process(id, signal).expect("a signal sent");
    }

    /// Stops the process. From then on the kernel drops what its receive buffer does not hold.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        await_that("the process stops", || self.state() == Some('T'));
    }

    /// The process's state: S is sleeping, T is stopped (proc_pid_stat(5)).
    pub fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("its status");
        stat.rsplit(") ").next()?.chars().next()
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the command as Ctrl-C does.
    pub fn end(self) -> Ended {
        self.end_by(Signal::INT)
    }

    /// Ends the command by a signal, from which its time to the end counts.
    pub fn end_by(mut self, signal: Signal) -> Ended {
        self.started = Instant::now();
        self.signal(signal);
        self.wait()
    }

    /// Waits for the end of the command.
    pub fn wait(mut self) -> Ended {
        let mut code = None;
        await_that("nlring ends", || {
            let status = self.child.try_wait().expect("its status");
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        let took = self.started.elapsed();
        let stats = text_of(&self.stats);
        Ended {
            code,
            took,
            errors: self.errors(),
            output: text_of(&self.output),
            stats: serde_json::from_str(&stats).unwrap_or(Value::Null),
        }
    }

    /// Restarts the measurement of the time to the end.
    pub fn count_time(&mut self) {
        self.started = Instant::now();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command after its end.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub took: Duration,
    pub errors: String,
    pub output: String,
    /// The statistics. Null: there are none.
    pub stats: Value,
}

impl Ended {
    /// A number of the statistics.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let number = self.stats[name].as_u64();
        number.unwrap_or_else(|| panic!("{name} is a number: {self:#?}"))
    }

    /// A number of the summary.
    #[track_caller]
    pub fn summary(&self, name: &str) -> u64 {
        let number = self.errors.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix(": ")?;
            rest.split(' ').next()?.parse().ok()
        });
        number.unwrap_or_else(|| panic!("{name} is in the summary: {self:#?}"))
    }

    /// Lines of events.
    pub fn event_count(&self) -> u64 {
        self.output.lines().filter(|line| !is_gap(line)).count() as u64
    }

    /// How many datagrams the last line reports as unread; 0 if it reports none.
    pub fn reported_unread(&self) -> u64 {
        let last = self.output.lines().last().unwrap_or_default();
        let count = last.strip_prefix(" [UNREAD] ");
        count.map_or(0, |rest| {
            let count = rest.split(' ').next().expect("a word");
            count.parse().expect("a count")
        })
    }

    pub fn losses(&self) -> Vec<Lost> {
        let lines = self.output.lines().filter(|line| is_loss(line));
        lines.map(Lost::parse).collect()
    }

    /// What the command reports as wrong.
    pub fn failures(&self) -> Vec<&str> {
        let lines = self.errors.lines();
        let reported = lines.filter(|line| line.starts_with("nlring: "));
        reported
            .filter(|line| !line.starts_with("nlring: warning: "))
            .collect()
    }

    /// Asserts a good end: no error, a summary that agrees with the statistics, and every line written.
    #[track_caller]
    pub fn assert_good(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_eq!(self.failures(), [""; 0]);
        for (reported, stat) in [
            ("events", "events"),
            ("received", "received"),
            ("lost", "dropped"),
        ] {
            assert_eq!(self.summary(reported), self.stat(stat), "{self:#?}");
        }
    }
}

/// A line that reports a loss.
#[derive(Debug)]
pub struct Lost {
    pub count: u64,
    pub since: jiff::Timestamp,
    pub until: jiff::Timestamp,
}

fn is_loss(line: &str) -> bool {
    line.starts_with(" [LOST] ")
}

/// Whether the line reports something missing, for any reason.
fn is_gap(line: &str) -> bool {
    let names = [
        "LOST",
        "DELAYED",
        "TRUNCATED",
        "MALFORMED",
        "MISSING",
        "UNREAD",
    ];
    let name = line
        .strip_prefix(" [")
        .and_then(|rest| rest.split_once(']'));
    name.is_some_and(|(name, _)| names.contains(&name))
}

impl Lost {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            "",
            "[LOST]",
            count,
            "datagrams",
            "between",
            since,
            "and",
            until,
        ] = words[..]
        else {
            panic!("a loss: {line:?}");
        };
        let time = |text: &str| {
            assert!(text.contains('T') && text.ends_with('Z'), "UTC: {text}");
            text.parse().expect("RFC 3339")
        };
        Self {
            count: count.parse().expect("a count"),
            since: time(since),
            until: time(until),
        }
    }
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

/// Another program that follows the same events.
pub struct Peer {
    child: Child,
    output: PathBuf,
    _directory: Directory,
}

impl Peer {
    /// Starts a program that follows these events, and waits until it listens. None: it is not installed.
    pub fn start(events: Events, line: &str) -> Option<Self> {
        Self::start_in(Groups::of(events), line)
    }

    /// Starts a program that joins these groups, and waits until it listens. None: it is not installed.
    pub fn start_in(groups: Groups, line: &str) -> Option<Self> {
        let directory = Directory::new();
        let output = directory.0.join("output");
        let mut words = line.split_whitespace();
        let before = groups.listeners();
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("{line}: {error}"),
        };
        let peer = Self {
            child,
            output,
            _directory: directory,
        };
        await_that("the peer listens", || groups.has_more_than(&before));
        Some(peer)
    }

    pub fn lines(&self) -> Vec<String> {
        whole_lines(&self.output)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a line with the mark, and returns all lines up to the last such line.
#[track_caller]
pub fn lines_until(mark: &str, lines: impl Fn() -> Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    await_that(&format!("a line with {mark:?}"), || {
        found = lines();
        found.iter().any(|line| line.contains(mark))
    });
    let last = found.iter().rposition(|line| line.contains(mark));
    found.truncate(last.map_or(0, |last| last + 1));
    found
}

/// Asserts that two programs wrote the same lines. The failure shows the first difference.
#[track_caller]
pub fn assert_same_lines(ours: &[String], theirs: &[String]) {
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "line {index}");
    }
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}\n{theirs:#?}");
}

/// Requests to the kernel, many in one datagram, each acknowledged.
pub struct Requests {
    socket: Socket,
    datagram: Vec<u8>,
    count: usize,
}

impl Requests {
    /// More acknowledgements than these could exceed the receive buffer.
    const MOST: usize = 64;

    pub fn new(protocol: Protocol) -> Self {
        Self {
            socket: Socket::builder(protocol).open().expect("a socket"),
            datagram: Vec::new(),
            count: 0,
        }
    }

    pub fn add(
        &mut self,
        message_type: u16,
        more_flags: u16,
        fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
    ) {
        let flags = flags::REQUEST | flags::ACK | more_flags;
        let message = MessageBuilder::new(&mut self.datagram, message_type, flags);
        fill(message).finish().expect("a request");
        self.count += 1;
        if self.count == Self::MOST {
            self.send();
        }
    }

    /// Sends the added requests, and waits until the kernel has acknowledged all.
    pub fn send(&mut self) {
        if self.count == 0 {
            return;
        }
        self.socket.send(&self.datagram).expect("requests sent");
        let mut answer = vec![0; 32 << 10];
        while self.count > 0 {
            let list = self
                .socket
                .recv(&mut answer, RecvFlags::NONE)
                .expect("answers");
            for message in &list {
                match message.content() {
                    Content::Ack(_) => self.count -= 1,
                    Content::Error(answer) => panic!("a request is refused: {answer:?}"),
                    _ => {}
                }
            }
        }
        self.datagram.clear();
    }
}

const CREATE: u16 = flags::CREATE | flags::EXCL;

/// Makes conntrack entries by number, with one event for each.
pub fn make_flows(numbers: Range<u32>) {
    let mut requests = Requests::new(Protocol::NETFILTER);
    for number in numbers {
        let (src, dst) = ends(number);
        requests.add(0x100, CREATE, |message| {
            let message = message
                .bytes(&[2, 0, 0, 0]) // struct nfgenmsg: AF_INET
                .nested(1, |tuple| put_tuple(tuple, src, dst)) // CTA_TUPLE_ORIG
                .nested(2, |tuple| put_tuple(tuple, dst, src)) // CTA_TUPLE_REPLY
                .attribute_be32(7, 600); // CTA_TIMEOUT
            message.nested(4, |info| info.nested(1, |tcp| tcp.attribute_u8(1, 3))) // established
        });
    }
    requests.send();
}

/// Marks entries of [`make_flows`], with one update for each.
pub fn mark_flows(numbers: Range<u32>, mark: u32) {
    let mut requests = Requests::new(Protocol::NETFILTER);
    for number in numbers {
        let (src, dst) = ends(number);
        requests.add(0x100, 0, |message| {
            let message = message.bytes(&[2, 0, 0, 0]);
            let message = message.nested(1, |tuple| put_tuple(tuple, src, dst));
            message.attribute_be32(8, mark) // CTA_MARK
        });
    }
    requests.send();
}

/// Removes entries of [`make_flows`], with one event for each.
pub fn remove_flows(numbers: Range<u32>) {
    let mut requests = Requests::new(Protocol::NETFILTER);
    for number in numbers {
        let (src, dst) = ends(number);
        requests.add(0x102, 0, |message| {
            let message = message.bytes(&[2, 0, 0, 0]);
            message.nested(1, |tuple| put_tuple(tuple, src, dst))
        });
    }
    requests.send();
}

/// Removes all conntrack entries of this namespace with one request. The kernel makes one event for each, at its full
/// speed.
pub fn flush_flows() {
    let mut requests = Requests::new(Protocol::NETFILTER);
    requests.add(0x102, 0, |message| message.bytes(&[2, 0, 0, 0]));
    requests.send();
}

type End = (Ipv4Addr, u16);

fn ends(number: u32) -> (End, End) {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
    ((address, 40_000), (Ipv4Addr::new(198, 51, 100, 1), 443))
}

fn put_tuple(tuple: MessageBuilder<'_>, src: End, dst: End) -> MessageBuilder<'_> {
    let tuple = tuple.nested(1, |ip| {
        let ip = ip.attribute(1, &src.0.octets());
        ip.attribute(2, &dst.0.octets())
    });
    tuple.nested(2, |protocol| {
        let protocol = protocol.attribute_u8(1, 6); // TCP
        protocol.attribute_be16(2, src.1).attribute_be16(3, dst.1)
    })
}

/// Makes routes over the loopback device by number, with one event for each.
pub fn make_routes(numbers: Range<u32>) {
    change_routes(24, CREATE, numbers); // RTM_NEWROUTE
}

/// Removes routes of [`make_routes`], with one event for each.
pub fn remove_routes(numbers: Range<u32>) {
    change_routes(25, 0, numbers); // RTM_DELROUTE
}

fn change_routes(message_type: u16, more_flags: u16, numbers: Range<u32>) {
    let mut requests = Requests::new(Protocol::ROUTE);
    for number in numbers {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
        requests.add(message_type, more_flags, |message| {
            message
                // struct rtmsg: AF_INET, /32, table main, protocol static, scope link, unicast
                .bytes(&[2, 32, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0])
                .attribute(1, &address.octets()) // RTA_DST
                .attribute_u32(4, 1) // RTA_OIF: the loopback device
        });
    }
    requests.send();
}

/// Makes events at full speed in another thread until it is dropped.
pub struct Load {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub fn start(events: Events) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_there = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !is_over_there.load(Ordering::Relaxed) {
                match events {
                    Events::Conntrack => {
                        make_flows(0..512);
                        remove_flows(0..512);
                    }
                    Events::Route => {
                        make_routes(0..512);
                        remove_routes(0..512);
                    }
                }
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let result = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(result, Some(Ok(()))), "the load went on");
        }
    }
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

/// The names of a JSON object's fields.
pub fn field_names(value: &Value) -> HashSet<&str> {
    let fields = value.as_object().expect("an object");
    fields.keys().map(String::as_str).collect()
}
