//! What the library's tests share: sources of a known number of datagrams, engines that receive them, and a tally of
//! what came.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]
#![allow(unsafe_code)] // what std does not wrap

use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nlring::message::flags;
use nlring::{
    AddOptions, Backend, Content, Control, Engine, EngineBuilder, Event, Loss, Malformed,
    MessageBuilder, Notice, Protocol, RecvFlags, Running, Socket, SocketId,
};
use nlring_testing::cannot_run;
pub use nlring_testing::{PATIENCE, own_namespace, run, run_or_skip, skip};

pub const ONESHOT: Backend = Backend::Oneshot { depth: 32 };
pub const BACKENDS: [Backend; 3] = [Backend::Multishot, ONESHOT, Backend::Recvmmsg];

/// A limit for things that take milliseconds. They stay below it on a busy machine too.
pub const SOON: Duration = Duration::from_secs(5);

/// Makes a test of each function for each backend. The function gets the backend.
#[macro_export]
macro_rules! on_each_backend {
    ($($name:ident),+ $(,)?) => {
        mod multishot {
            $(#[test] fn $name() {
                let test = || super::$name(nlring::Backend::Multishot);
                nlring_testing::run_or_skip(concat!("multishot::", stringify!($name)), test);
            })+
        }
        mod oneshot {
            $(#[test] fn $name() {
                let test = || super::$name($crate::common::ONESHOT);
                nlring_testing::run_or_skip(concat!("oneshot::", stringify!($name)), test);
            })+
        }
        mod recvmmsg {
            $(#[test] fn $name() {
                let test = || super::$name(nlring::Backend::Recvmmsg);
                nlring_testing::run_or_skip(concat!("recvmmsg::", stringify!($name)), test);
            })+
        }
    };
}

/// Multicasts numbered datagrams to group 1 of `NETLINK_USERSOCK`. Each is one message, with its number as the
/// sequence number.
pub struct Source {
    socket: Socket,
    datagram: Vec<u8>,
    pub sent_count: u32,
}

impl Source {
    pub fn new(datagram_bytes: usize) -> Self {
        let socket = Socket::builder(Protocol::USERSOCK)
            .open()
            .expect("a sender");
        let mut datagram = vec![0; datagram_bytes];
        datagram[..4].copy_from_slice(&u32::try_from(datagram_bytes).unwrap().to_ne_bytes());
        datagram[4..6].copy_from_slice(&100u16.to_ne_bytes());
        Self {
            socket,
            datagram,
            sent_count: 0,
        }
    }

    pub fn port_id(&self) -> u32 {
        self.socket.port_id().expect("its port ID")
    }

    /// Sends to one socket instead of the group.
    pub fn send_to(&mut self, port_id: u32) {
        self.datagram[8..12].copy_from_slice(&self.sent_count.to_ne_bytes());
        self.sent_count += 1;
        self.socket
            .send_to(&self.datagram, port_id, 0)
            .expect("send to a socket");
    }

    /// Sends any bytes to the group, and counts them as sent.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.sent_count += 1;
        let _ = self.socket.send_to(bytes, 0, 1); // the same errors as in `send`
    }

    pub fn send(&mut self) {
        self.datagram[8..12].copy_from_slice(&self.sent_count.to_ne_bytes());
        self.sent_count += 1;
        match self.socket.send_to(&self.datagram, 0, 1) {
            Ok(_) => {}
            // ECONNREFUSED: after the group the datagram goes to port ID 0, where nobody listens on this protocol.
            // ENOBUFS: a listener's queue was full, and its socket has counted the drop.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ECONNREFUSED | libc::ENOBUFS)
                ) => {}
            Err(error) => panic!("send: {error}"),
        }
    }

    /// Sends `count` datagrams, spread evenly. None: at full speed.
    pub fn send_many(&mut self, count: u32, per_second: Option<u32>) {
        let start = Instant::now();
        for index in 0..count {
            if let Some(per_second) = per_second {
                let due = start + Duration::from_secs_f64(f64::from(index) / f64::from(per_second));
                while Instant::now() < due {
                    match due.saturating_duration_since(Instant::now()) {
                        left if left > Duration::from_micros(200) => {
                            std::thread::sleep(left.saturating_sub(Duration::from_micros(100)));
                        }
                        _ => std::hint::spin_loop(),
                    }
                }
            }
            self.send();
        }
    }
}

/// A socket that receives from a [`Source`]. If the kernel does not grant a large buffer the test is skipped, because
/// it would lose datagrams.
pub fn listener(recv_buffer_bytes: usize) -> Socket {
    let builder = Socket::builder(Protocol::USERSOCK).group(1u32);
    let socket = builder
        .open()
        .expect("a listener; needs CAP_NET_ADMIN in its namespace");
    let granted = socket
        .set_recv_buffer_bytes(recv_buffer_bytes)
        .expect("a receive buffer");
    if granted.is_clamped() && recv_buffer_bytes > 1 << 20 {
        cannot_run(format!(
            "needs a receive buffer of {recv_buffer_bytes} bytes: run it as root, or raise net.core.rmem_max"
        ));
    }
    socket
}

/// A started engine with one [`listener`], and the listener's id.
pub fn engine_with_listener(backend: Backend, recv_buffer_bytes: usize) -> (Running, SocketId) {
    start(
        &Engine::builder().backend(backend),
        listener(recv_buffer_bytes),
        any_sender(),
    )
}

pub fn start(builder: &EngineBuilder, socket: Socket, options: AddOptions) -> (Running, SocketId) {
    let mut engine = builder.build().expect("an engine");
    let id = engine.add_with(socket, options).expect("added");
    (engine.start().expect("started"), id)
}

pub fn any_sender() -> AddOptions {
    AddOptions::new().accept_any_sender(true)
}

/// What an engine has delivered and reported, in order.
#[derive(Debug, Default)]
pub struct Tally {
    /// The sequence number of each message, and its socket.
    pub messages: Vec<(SocketId, u32)>,
    pub datagram_count: u64,
    pub list_count: usize,
    pub lost: Vec<(SocketId, Loss)>,
    pub delayed: Vec<Loss>,
    pub truncated: Vec<(usize, Option<u32>)>,
    pub malformed: Vec<Malformed>,
    pub starved: Vec<SocketId>,
    pub foreign: Vec<(u64, u32)>,
    pub removed: Vec<SocketId>,
    pub failed: Vec<(SocketId, String)>,
}

impl Tally {
    pub fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Messages(id, list) => {
                self.list_count += 1;
                self.datagram_count += list.datagrams().len() as u64;
                let before = self.messages.len();
                self.messages
                    .extend(list.iter().map(|message| (id, message.sequence())));
                assert_eq!(self.messages.len() - before, list.message_count());
            }
            Event::Lost(id, loss) => self.lost.push((id, loss)),
            Event::Notice(_, Notice::Delayed(loss)) => self.delayed.push(loss),
            Event::Notice(_, Notice::Truncated { real_bytes, group }) => {
                self.truncated.push((real_bytes, group));
            }
            Event::Notice(_, Notice::Malformed(malformed)) => self.malformed.push(malformed),
            Event::Notice(id, Notice::Starved) => self.starved.push(id),
            Event::Notice(_, Notice::Foreign { count, port_id }) => {
                self.foreign.push((count, port_id));
            }
            Event::Notice(id, Notice::Removed) => self.removed.push(id),
            Event::Notice(id, Notice::Failed(error)) => self.failed.push((id, error.to_string())),
            Event::Notice(id, notice) => panic!("{id}: {notice}"),
        }
    }

    /// The sequence numbers of one socket's messages.
    pub fn sequences(&self, id: SocketId) -> Vec<u32> {
        let own = self.messages.iter().filter(|(socket, _)| *socket == id);
        own.map(|&(_, sequence)| sequence).collect()
    }

    pub fn lost_count(&self) -> u64 {
        self.lost.iter().map(|(_, loss)| loss.count).sum()
    }
}

/// Turns until `done`.
pub fn turn_until(
    running: &mut Running,
    tally: &mut Tally,
    mut done: impl FnMut(&Running, &Tally) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !done(running, tally) {
        assert!(
            Instant::now() < deadline,
            "not done in {PATIENCE:?}: {} messages, {:?} lost, {:?}",
            tally.messages.len(),
            tally.lost_count(),
            (&tally.removed, &tally.failed)
        );
        let _ = running
            .poll(Some(Duration::from_millis(20)), |event, _| {
                tally.note(event);
                ControlFlow::<()>::Continue(())
            })
            .expect("a turn");
    }
}

/// Turns until the callback returns true for an event.
pub fn turn_until_event(
    running: &mut Running,
    mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    let mut done = false;
    while !done {
        assert!(Instant::now() < deadline, "not done in {PATIENCE:?}");
        let _ = running
            .poll(Some(Duration::from_millis(20)), |event, control| {
                done |= f(event, control);
                ControlFlow::<()>::Continue(())
            })
            .expect("a turn");
    }
}

/// Turns until three turns in a row deliver nothing.
pub fn turn_until_idle(running: &mut Running, tally: &mut Tally) {
    let mut idle_count = 0;
    while idle_count < 3 {
        let turn = running.poll(Some(Duration::from_millis(20)), |event, _| {
            tally.note(event);
            ControlFlow::<()>::Continue(())
        });
        idle_count = match turn.expect("a turn") {
            nlring::Turn::Delivered => 0,
            _ => idle_count + 1,
        };
    }
}

/// The sequence numbers of the messages that a socket still holds.
pub fn sequences_left(socket: &Socket) -> Vec<u32> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = Vec::new();
    loop {
        match socket.recv(&mut buffer, RecvFlags::DONT_WAIT) {
            Ok(list) => left.extend(list.iter().map(|message| message.sequence())),
            Err(error) if error.kind() == nlring::ErrorKind::WouldBlock => return left,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asserts that the numbers are 0, 1, 2, … `count` - 1.
#[track_caller]
pub fn assert_all_in_order(sequences: &[u32], count: u32) {
    let wrong = (0..).zip(sequences).find(|(due, got)| due != *got);
    assert_eq!(wrong, None, "(due, got): out of order, lost or twice");
    assert_eq!(sequences.len(), count as usize);
}

#[track_caller]
pub fn assert_ascending(sequences: &[u32]) {
    let wrong = sequences.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(wrong, None, "out of order or twice");
}

/// Sends a request to the kernel and awaits its acknowledgement. `bytes` is the protocol's own header, and `fill`
/// adds the attributes.
pub fn request(
    socket: &Socket,
    message_type: u16,
    more_flags: u16,
    bytes: &[u8],
    fill: impl FnOnce(MessageBuilder<'_>) -> MessageBuilder<'_>,
) -> Result<(), i32> {
    let mut datagram = Vec::new();
    let builder = MessageBuilder::new(
        &mut datagram,
        message_type,
        flags::REQUEST | flags::ACK | more_flags,
    )
    .sequence(1)
    .bytes(bytes);
    fill(builder).finish().expect("a request");
    socket.send(&datagram).expect("sent");
    let mut buffer = vec![0; 32 << 10];
    loop {
        let list = socket
            .recv(&mut buffer, RecvFlags::NONE)
            .expect("an answer");
        for message in &list {
            match message.content() {
                Content::Ack(_) => return Ok(()),
                Content::Error(answer) => return Err(answer.errno().unwrap_or(-1)),
                _ => {}
            }
        }
    }
}

/// Sets the loopback device of this namespace up or down, which makes an `RTM_NEWLINK` event.
pub fn set_loopback(socket: &Socket, up: bool) {
    let mut header = [0; 16]; // struct ifinfomsg
    header[4..8].copy_from_slice(&1i32.to_ne_bytes()); // the first interface of a namespace
    header[8..12].copy_from_slice(&u32::from(up).to_ne_bytes()); // IFF_UP
    header[12..16].copy_from_slice(&1u32.to_ne_bytes());
    request(socket, 16, 0, &header, |builder| builder).expect("the loopback interface set");
}

/// Runs `ip` with arguments that are separated by spaces. False: `ip` is not installed.
pub fn ip(arguments: &str) -> bool {
    let Some(output) = run("ip", &arguments.split_whitespace().collect::<Vec<_>>()) else {
        return false;
    };
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// The index of a device in this thread's namespace.
pub fn device_index(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).expect("a name");
    // SAFETY: the pointer is to a string with a terminating zero that outlives the call, which reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{name:?}: {}", std::io::Error::last_os_error());
    index
}

/// Drops one capability of this thread, by its number in include/uapi/linux/capability.h.
pub fn give_up_capability(number: u32) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let mut header = Header {
        version: 0x2008_0522, // _LINUX_CAPABILITY_VERSION_3
        pid: 0,
    };
    let mut data = [0u32; 6]; // twice: effective, permitted, inheritable
    // SAFETY: capget(2) writes two structs of three words for this version, which `data` has room for.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    assert_eq!(result, 0, "capget");
    let (half, bit) = (3 * (number as usize / 32), 1 << (number % 32));
    data[half] &= !bit;
    // SAFETY: capset(2) reads the header and as much of `data` as capget wrote.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    assert_eq!(result, 0, "capset");
}

pub const CAP_NET_BROADCAST: u32 = 11;
pub const CAP_NET_ADMIN: u32 = 12;
pub const CAP_SYS_ADMIN: u32 = 21;

/// Attaches a classic BPF program to a socket (`SO_ATTACH_FILTER`, socket(7)).
pub fn attach_filter(socket: &Socket, program: &[libc::sock_filter]) {
    let filter = libc::sock_fprog {
        len: program.len().try_into().expect("a short program"),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the pointer and the length describe `filter`, which points to `len` instructions. Both outlive the
    // call, and the kernel only reads them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            libc::socklen_t::try_from(size_of_val(&filter)).expect("a small struct"),
        )
    };
    assert_eq!(
        result,
        0,
        "attach a filter: {}",
        std::io::Error::last_os_error()
    );
}

/// Whether the kernel's dump of all routes fails because one is too large. Linux 6.1 reports no error, and omits that
/// route and the IPv6 routes after it.
pub fn reports_large_routes() -> bool {
    let mut requests = nlring::route::Requests::open().expect("a requester");
    let dump = requests.dump(&nlring::route::DumpFilter::new(), |(), _| ());
    dump.is_err_and(|error| error.kind() == nlring::ErrorKind::EntryTooLarge)
}
