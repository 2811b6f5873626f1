//! Whether the kernel tracks flows in this namespace, tried with a datagram over the loopback device. The kernel tracks
//! all flows once any rule needs it, except those that a rule exempts. It reports this only in the list of its hooks,
//! which few kernels have (`CONFIG_NETFILTER_NETLINK_HOOK`).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use nlring::conntrack::{Flow, Group, Key, Layer4, Requests, Tuple};
use nlring::route::Link;
use nlring::{Protocol, RecvFlags, Requester, Socket};

use super::remedy::{is_initial_namespace, is_installed};
use super::report::{Check, CheckState};
use crate::host::sysctl;

const NAME: &str = "tracking";

/// The groups that a collector of conntrack events joins.
pub const GROUPS: [Group; 3] = [Group::New, Group::Update, Group::Destroy];

const COUNT: &str = "net.netfilter.nf_conntrack_count";
/// How long to wait for a datagram, which the loopback device delivers at once, after it has queued the events.
const PATIENCE: Duration = Duration::from_millis(500);
/// A new table with a rule that needs conntrack and changes nothing.
const TRACK: &str = "nft 'table inet nlring { chain track { type filter hook output priority 0; ct state new; }; }'";

const IPPROTO_UDP: u8 = 17;

/// What to do about a firewall rule that prevents the trial.
const LET_PASS: &str = "Show the rules with nft list ruleset (or iptables-save). Rules such as `oifname \"lo\" accept` and \
                        `iifname \"lo\" accept` before the one that drops the datagrams let them pass.";

const UP: &str = "ip link set lo up";
const LOOPBACK_INDEX: u32 = 1;

/// The results of a datagram of each family.
pub struct LoopbackTrial {
    ipv4: Result<Seen, Untried>,
    ipv6: Result<Seen, Untried>,
}

/// Why there is no result.
enum Untried {
    /// Listening needs a capability.
    Denied,
    /// The kernel refused to send it (`EPERM`): a rule, or a full table.
    Refused,
    /// The loopback device is down.
    Down,
    /// It was sent but did not arrive, although the device is up.
    Dropped,
    Other(String),
}

impl<E: Into<io::Error>> From<E> for Untried {
    fn from(error: E) -> Self {
        Self::Other(error.into().to_string())
    }
}

enum Seen {
    Untracked,
    Tracked {
        /// Whether the event carried the kernel's time. None: no event arrived.
        has_time: Option<bool>,
    },
}

/// How many flows this namespace's table has.
pub fn flow_count() -> Option<i64> {
    sysctl::read(COUNT)
}

impl LoopbackTrial {
    /// Sends a datagram of each family, if it can see the result.
    pub fn run() -> Self {
        let attempt = |address| {
            let listener = listener().map_err(|error| match error.kind() {
                nlring::ErrorKind::PermissionDenied => Untried::Denied,
                _ => error.into(),
            })?;
            try_address(&listener, address)
        };
        Self {
            ipv4: attempt(Ipv4Addr::LOCALHOST.into()),
            ipv6: attempt(Ipv6Addr::LOCALHOST.into()),
        }
    }

    /// Whether the event carried the kernel's time. None: no event arrived.
    pub fn event_has_time(&self) -> Option<bool> {
        let mut seen = [&self.ipv4, &self.ipv6].into_iter().flatten();
        seen.find_map(|seen| match seen {
            Seen::Tracked { has_time } => *has_time,
            Seen::Untracked => None,
        })
    }
}

fn listener() -> nlring::Result<Socket> {
    Socket::builder(Protocol::NETFILTER)
        .groups(GROUPS)
        .no_enobufs(true)
        .recv_buffer_bytes(8 << 20) // room for many events of others
        .open()
}

fn try_address(listener: &Socket, address: IpAddr) -> Result<Seen, Untried> {
    let open = || UdpSocket::bind((address, 0));
    let (sender, receiver) = (open()?, open()?);
    let ports = (sender.local_addr()?.port(), receiver.local_addr()?.port());
    receiver.set_read_timeout(Some(PATIENCE))?;
    send_over_loopback(&sender, &receiver)?;
    let mut requests = Requests::open()?;
    let layer4 = Layer4::Ports {
        src: ports.0,
        dst: ports.1,
    };
    let key = Key {
        orig: Tuple::new(address, address, IPPROTO_UDP, layer4),
        zone: None,
    };
    if requests.get(&key, |_| ())?.is_none() {
        return Ok(Seen::Untracked);
    }
    let has_time = event_time(listener, address, ports);
    requests.delete(&key, None)?; // the next trial must not find it
    Ok(Seen::Tracked { has_time })
}

fn send_over_loopback(sender: &UdpSocket, receiver: &UdpSocket) -> Result<(), Untried> {
    let sent = sender.send_to(b"nlring doctor", receiver.local_addr()?);
    let arrived = sent.and_then(|_| receive(receiver));
    arrived.map(drop).map_err(|error| match error.kind() {
        _ if is_loopback_up() == Some(false) => Untried::Down,
        ErrorKind::PermissionDenied => Untried::Refused,
        ErrorKind::WouldBlock => Untried::Dropped, // the time-out
        _ => error.into(),
    })
}

fn receive(socket: &UdpSocket) -> io::Result<usize> {
    loop {
        match socket.recv(&mut [0; 64]) {
            // If the kernel frees a closed ring only now, it interrupts this wait without any signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether this namespace's loopback device is up. None: the kernel did not answer.
fn is_loopback_up() -> Option<bool> {
    let mut requester = Requester::open(Protocol::ROUTE).ok()?;
    // struct ifinfomsg: family and type, index, flags, mask of the flags to change
    let fixed = [0, LOOPBACK_INDEX, 0, 0].map(u32::to_ne_bytes);
    let mut replies = requester
        .send(kernel::RTM_GETLINK, 0, |message| {
            message.bytes(fixed.as_flattened())
        })
        .ok()?;
    while let Some(message) = replies.next_message().ok()? {
        if let Some(link) = Link::decode(&message) {
            return Some(link.flags & kernel::IFF_UP != 0);
        }
    }
    None
}

/// Numbers from include/uapi/linux: `rtnetlink.h`, `if.h`.
mod kernel {
    pub const RTM_GETLINK: u16 = 18;
    pub const IFF_UP: u32 = 1;
}

/// Whether the flow's event carries the kernel's time. None: the event has not arrived.
fn event_time(listener: &Socket, address: IpAddr, ports: (u16, u16)) -> Option<bool> {
    let mut buffer = vec![0; Socket::buffer_size()];
    let give_up_at = Instant::now() + PATIENCE;
    while Instant::now() < give_up_at {
        let list = match listener.recv(&mut buffer, RecvFlags::DONT_WAIT) {
            Ok(list) => list,
            Err(error) if error.kind() == nlring::ErrorKind::WouldBlock => return None,
            Err(_) => continue,
        };
        let mut flows = list.iter().filter_map(|message| Flow::decode(&message));
        let ours = |flow: &Flow<'_>| flow.orig.src == address && flow.orig.ports() == Some(ports);
        if let Some(flow) = flows.find(ours) {
            return Some(flow.event_time.is_some());
        }
    }
    None
}

pub fn tracking(trial: &LoopbackTrial, flow_count: Option<i64>) -> Check {
    let is_tracked = |result: &Result<Seen, Untried>| {
        let seen = result.as_ref().ok()?;
        Some(matches!(seen, Seen::Tracked { .. }))
    };
    let (ipv4, ipv6) = (is_tracked(&trial.ipv4), is_tracked(&trial.ipv6));
    let is_any = ipv4 == Some(true) || ipv6 == Some(true);
    let event_came = is_any.then(|| trial.event_has_time().is_some());
    let limit = |detail| Check::new(NAME, CheckState::Limit, detail);
    let check = match (&trial.ipv4, ipv4, ipv6) {
        (Err(error), _, None) => untried(error),
        (_, Some(true), Some(false)) => track(limit("active for IPv4, not for IPv6")),
        (_, Some(false), Some(true)) => track(limit("active for IPv6, not for IPv4")),
        _ if !is_any => untracked(flow_count),
        _ if event_came == Some(true) => Check::new(
            NAME,
            CheckState::Ok,
            "active: a datagram over lo was tracked, and its event received",
        ),
        _ => limit("active: a datagram over lo was tracked, but its event did not arrive"),
    };
    check
        .value("ipv4", ipv4)
        .value("ipv6", ipv6)
        .value("event", event_came)
}

fn untried(reason: &Untried) -> Check {
    let unknown = |detail: &str| Check::new(NAME, CheckState::Unknown, detail);
    match reason {
        Untried::Denied => unknown("not tried: that needs CAP_NET_ADMIN"),
        Untried::Down => unknown("cannot be tried: the loopback device is down").remedy(UP),
        Untried::Refused => unknown(
            "cannot be tried: a firewall rule refuses datagrams that go out over lo, or the conntrack table is full",
        )
        .advice(LET_PASS),
        Untried::Dropped => {
            unknown("cannot be tried: a firewall rule drops datagrams over lo").advice(LET_PASS)
        }
        Untried::Other(error) => unknown(&format!("cannot be tried: {error}")),
    }
}

fn untracked(flow_count: Option<i64>) -> Check {
    match flow_count {
        Some(count) if count > 0 => {
            let detail = format!(
                "a datagram over lo was not tracked, but there are flows ({count}): made by hand, left over, \
                 or a rule exempts only lo"
            );
            Check::new(NAME, CheckState::Unknown, detail)
        }
        _ => {
            let detail = "not active: a datagram over lo was not tracked: no rule needs tracking, or one exempts lo";
            track(Check::new(NAME, CheckState::Limit, detail)).advice(
                "If a rule exempts lo (`notrack`), this changes nothing, and other flows may be tracked.",
            )
        }
    }
}

/// Adds the rule that makes the kernel track flows.
fn track(check: Check) -> Check {
    let check = check.remedy(TRACK);
    let check = if is_installed("nft") {
        check
    } else {
        check.advice("nft is in the package nftables, which is not installed.")
    };
    check.advice(if is_initial_namespace() {
        "To keep it after a restart: the same table in /etc/nftables.conf, or the distribution's file for it."
    } else {
        "It lasts as long as this network namespace."
    })
}
