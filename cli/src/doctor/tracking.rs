//! Whether flows are tracked in this namespace, tried by a datagram of our own over the loopback device: the kernel
//! tracks as soon as any rule needs it, and then everywhere but where a rule exempts it. It tells of that only by the
//! list of its hooks, which few kernels have (`CONFIG_NETFILTER_NETLINK_HOOK`).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use nlring::conntrack::Flow;
use nlring::{MessageBuilder, Protocol, RecvFlags, Socket};
use rustix::io::Errno;

use super::ask::{CT_DELETE, CT_GET, ask};
use super::conntrack::GROUPS;
use super::report::{Check, State};

const NAME: &str = "tracking";
/// The loopback device delivers at once; its events are queued before.
const PATIENCE: Duration = Duration::from_millis(500);
/// A table of its own, with a rule that only looks.
const TRACK: &str = "nft 'table inet nlring { chain track { type filter hook output priority 0; ct state new; }; }'";

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
    if !find_entry(CT_GET, address, ports)? {
        return Ok(Seen::Untracked);
    }
    let has_time = event_time(listener, address, ports);
    find_entry(CT_DELETE, address, ports)?; // or the next trial would take it for a flow of somebody's
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

/// Gets or deletes the entry for UDP from one port to the other. False: there is none.
fn find_entry(request: u16, address: IpAddr, ports: (u16, u16)) -> io::Result<bool> {
    let family = if address.is_ipv4() { 2 } else { 10 }; // AF_INET, AF_INET6
    let refusal = ask(request, family, |message| {
        put_tuple(message, address, ports)
    })?;
    match refusal {
        None => Ok(true),
        Some(Errno::NOENT) => Ok(false),
        Some(error) => Err(error.into()),
    }
}

fn put_tuple(
    message: MessageBuilder<'_>,
    address: IpAddr,
    ports: (u16, u16),
) -> MessageBuilder<'_> {
    message.nested(kernel::CTA_TUPLE_ORIG, |tuple| {
        tuple
            .nested(kernel::CTA_TUPLE_IP, |ip| match address {
                IpAddr::V4(address) => ip
                    .attribute(kernel::CTA_IP_V4_SRC, &address.octets())
                    .attribute(kernel::CTA_IP_V4_DST, &address.octets()),
                IpAddr::V6(address) => ip
                    .attribute(kernel::CTA_IP_V6_SRC, &address.octets())
                    .attribute(kernel::CTA_IP_V6_DST, &address.octets()),
            })
            .nested(kernel::CTA_TUPLE_PROTO, |protocol| {
                protocol
                    .attribute_u8(kernel::CTA_PROTO_NUM, kernel::IPPROTO_UDP)
                    .attribute_be16(kernel::CTA_PROTO_SRC_PORT, ports.0)
                    .attribute_be16(kernel::CTA_PROTO_DST_PORT, ports.1)
            })
    })
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

/// Numbers from include/uapi/linux: `netfilter/nfnetlink_conntrack.h`, `in.h`.
mod kernel {
    pub const CTA_TUPLE_ORIG: u16 = 1;
    pub const CTA_TUPLE_IP: u16 = 1;
    pub const CTA_TUPLE_PROTO: u16 = 2;
    pub const CTA_IP_V4_SRC: u16 = 1;
    pub const CTA_IP_V4_DST: u16 = 2;
    pub const CTA_IP_V6_SRC: u16 = 3;
    pub const CTA_IP_V6_DST: u16 = 4;
    pub const CTA_PROTO_NUM: u16 = 1;
    pub const CTA_PROTO_SRC_PORT: u16 = 2;
    pub const CTA_PROTO_DST_PORT: u16 = 3;
    pub const IPPROTO_UDP: u8 = 17;
}
