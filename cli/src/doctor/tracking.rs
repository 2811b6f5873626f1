//! Whether flows are tracked in this namespace, tried by a datagram of our own over the loopback device: the kernel
//! tracks as soon as any rule needs it, and then everywhere but where a rule exempts it. It tells of that only by the
//! list of its hooks, which few kernels have (`CONFIG_NETFILTER_NETLINK_HOOK`).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use nlring::conntrack::{Flow, Key, Layer4, Requests, Tuple};
use nlring::{Protocol, RecvFlags, Socket};

use super::conntrack::GROUPS;
use super::report::{Check, State};

const NAME: &str = "tracking";
/// The loopback device delivers at once; its events are queued before.
const PATIENCE: Duration = Duration::from_millis(500);
/// A table of its own, with a rule that only looks.
const TRACK: &str = "nft 'table inet nlring { chain track { type filter hook output priority 0; ct state new; }; }'";

const IPPROTO_UDP: u8 = 17;

const UP: &str = "ip link set lo up";

/// What came of a datagram of each family, or why it could not be tried.
pub struct Trial {
    ipv4: io::Result<Seen>,
    ipv6: io::Result<Seen>,
}

enum Seen {
    Untracked,
    Tracked {
        /// Whether its event carried the kernel's time, if one came.
        has_time: Option<bool>,
    },
}

impl Trial {
    /// Sends nothing where the result could not be seen.
    pub fn run() -> Self {
        let attempt = |address| try_address(&listener()?, address);
        Self {
            ipv4: attempt(Ipv4Addr::LOCALHOST.into()),
            ipv6: attempt(Ipv6Addr::LOCALHOST.into()),
        }
    }

    /// None: no event came.
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
        .recv_buffer_bytes(8 << 20) // others' events may be many
        .open()
}

fn try_address(listener: &Socket, address: IpAddr) -> io::Result<Seen> {
    let open = || UdpSocket::bind((address, 0));
    let (sender, receiver) = (open()?, open()?);
    let ports = (sender.local_addr()?.port(), receiver.local_addr()?.port());
    receiver.set_read_timeout(Some(PATIENCE))?;
    sender.send_to(b"nlring doctor", receiver.local_addr()?)?;
    receive(&receiver)?;
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
    requests.delete(&key, None)?; // or the next trial would take it for a flow of somebody's
    Ok(Seen::Tracked { has_time })
}

fn receive(socket: &UdpSocket) -> io::Result<usize> {
    loop {
        match socket.recv(&mut [0; 64]) {
            // The kernel takes a closed ring apart later, and interrupts a wait for it without any signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Looks for the flow's event among those that have come, and whether it carries the kernel's time.
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
            return Some(flow.event_ns.is_some());
        }
    }
    None
}

pub fn tracking(trial: &Trial, flow_count: Option<i64>) -> Check {
    let is_tracked = |result: &io::Result<Seen>| {
        let seen = result.as_ref().ok()?;
        Some(matches!(seen, Seen::Tracked { .. }))
    };
    let (ipv4, ipv6) = (is_tracked(&trial.ipv4), is_tracked(&trial.ipv6));
    let is_any = ipv4 == Some(true) || ipv6 == Some(true);
    let event_came = is_any.then(|| trial.event_has_time().is_some());
    let limit = |detail| Check::new(NAME, State::Limit, detail);
    let check = match (&trial.ipv4, ipv4, ipv6) {
        (Err(error), _, None) => untried(error),
        (_, Some(true), Some(false)) => limit("active for IPv4, not for IPv6").remedy(TRACK),
        (_, Some(false), Some(true)) => limit("active for IPv6, not for IPv4").remedy(TRACK),
        _ if !is_any => untracked(flow_count),
        _ if event_came == Some(true) => Check::new(
            NAME,
            State::Ok,
            "active: a datagram over lo was tracked, and its event seen",
        ),
        _ => limit("active: a datagram over lo was tracked, and yet its event was not seen"),
    };
    check
        .value("ipv4", ipv4)
        .value("ipv6", ipv6)
        .value("event", event_came)
}

fn untried(error: &io::Error) -> Check {
    let unknown = |detail: &str| Check::new(NAME, State::Unknown, detail);
    match error.kind() {
        ErrorKind::PermissionDenied => unknown("not tried: to see it needs CAP_NET_ADMIN"),
        ErrorKind::NetworkUnreachable => {
            unknown("cannot be tried: the loopback device is down").remedy(UP)
        }
        // The time-out's way to say so.
        ErrorKind::WouldBlock => unknown(
            "cannot be tried: the loopback device is down, or a rule drops what goes over it",
        )
        .remedy(UP),
        _ => unknown(&format!("cannot be tried: {error}")),
    }
}

fn untracked(flow_count: Option<i64>) -> Check {
    match flow_count {
        Some(count) if count > 0 => {
            let detail = format!(
                "a datagram over lo was not tracked, yet there are flows ({count}): made by hand, left over, \
                 or only lo is exempt"
            );
            Check::new(NAME, State::Unknown, detail)
        }
        _ => Check::new(
            NAME,
            State::Limit,
            "not active: a datagram over lo was not tracked, as no rule needs it (or one exempts lo)",
        )
        .remedy(TRACK),
    }
}
