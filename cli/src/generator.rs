//! What the demo follows: conntrack entries and routes, made and removed by requests, each with its acknowledgement.

use std::thread::sleep;
use std::time::Duration;

use nlring::route::{family, protocol, route_type, scope, table};
use nlring::{MessageBuilder, Protocol, flags};

use crate::outcome::Failure;
use crate::request::Requester;

const FLOW_COUNT: u16 = 400;
/// One route comes with so many flows.
const FLOWS_PER_ROUTE: u16 = 4;
/// Each is removed so many steps after it was made.
const LIFE: u16 = 40;
/// The pause after each step. A step makes at most four events, and a receive buffer of 208 KiB holds about 160.
const PAUSE: Duration = Duration::from_millis(5);

/// A new namespace's first device.
const LOOPBACK_INDEX: u32 = 1;

/// Makes and removes flows and routes.
pub struct Generator {
    flows: Requester,
    routes: Requester,
}

/// What a generator has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Requests that the kernel acknowledged; each makes one event.
    pub event_count: u64,
    /// False when it ended early.
    pub is_whole: bool,
}

#[derive(Clone, Copy)]
enum Doing {
    Make,
    Remove,
}

impl Generator {
    /// Opens the sockets to ask by, and brings the loopback device up, to have routes over it.
    pub fn open() -> Result<Self, Failure> {
        let mut routes = Requester::open(Protocol::ROUTE)?;
        routes.ask("bring the loopback device up", |buffer| {
            MessageBuilder::new(buffer, kernel::RTM_NEWLINK, flags::REQUEST | flags::ACK)
                .bytes(&link_up(LOOPBACK_INDEX))
        })?;
        Ok(Self {
            flows: Requester::open(Protocol::NETFILTER)?,
            routes,
        })
    }

    /// Makes and removes everything, unless `is_over` says to end early.
    pub fn run(mut self, is_over: impl Fn() -> bool) -> Result<Made, Failure> {
        let mut made = Made::default();
        for step in 0..FLOW_COUNT + LIFE {
            if is_over() {
                return Ok(made);
            }
            if step < FLOW_COUNT {
                made.event_count += self.step(step, Doing::Make)?;
            }
            if let Some(old) = step.checked_sub(LIFE) {
                made.event_count += self.step(old, Doing::Remove)?;
            }
            sleep(PAUSE);
        }
        made.is_whole = true;
        Ok(made)
    }

    /// One flow and, with every so many of them, one route. Returns how many events that made.
    fn step(&mut self, number: u16, doing: Doing) -> Result<u64, Failure> {
        self.flow(number, doing)?;
        if !number.is_multiple_of(FLOWS_PER_ROUTE) {
            return Ok(1);
        }
        self.route(number / FLOWS_PER_ROUTE, doing)?;
        Ok(2)
    }

    fn flow(&mut self, number: u16, doing: Doing) -> Result<(), Failure> {
        let [high, low] = number.to_be_bytes();
        let client = End {
            address: [198, 18, high, low],
            port: 10_000 + number,
        };
        let server = End {
            address: [198, 18, 128, 1],
            port: 443,
        };
        let (message_type, operation) = match doing {
            Doing::Make => (kernel::CTNL_NEW, "make a conntrack entry"),
            Doing::Remove => (kernel::CTNL_DELETE, "remove a conntrack entry"),
        };
        self.flows.ask(operation, |buffer| {
            let message = MessageBuilder::new(buffer, message_type, doing.flags())
                .bytes(&[family::INET, 0, 0, 0]) // struct nfgenmsg
                .nested(kernel::CTA_TUPLE_ORIG, |tuple| {
                    put_tuple(tuple, client, server)
                });
            match doing {
                Doing::Make => put_state(message.nested(kernel::CTA_TUPLE_REPLY, |tuple| {
                    put_tuple(tuple, server, client)
                })),
                Doing::Remove => message,
            }
        })
    }

    fn route(&mut self, number: u16, doing: Doing) -> Result<(), Failure> {
        let [_, low] = number.to_be_bytes();
        let [.., main_table] = table::MAIN.to_be_bytes();
        let (message_type, operation) = match doing {
            Doing::Make => (kernel::RTM_NEWROUTE, "make a route"),
            Doing::Remove => (kernel::RTM_DELROUTE, "remove a route"),
        };
        self.routes.ask(operation, |buffer| {
            MessageBuilder::new(buffer, message_type, doing.flags())
                // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags
                .bytes(&[
                    family::INET,
                    24,
                    0,
                    0,
                    main_table,
                    protocol::STATIC,
                    scope::LINK,
                    route_type::UNICAST,
                    0,
                    0,
                    0,
                    0,
                ])
                .attribute(kernel::RTA_DST, &[198, 19, low, 0])
                .attribute_u32(kernel::RTA_OIF, LOOPBACK_INDEX)
        })
    }
}

impl Doing {
    fn flags(self) -> u16 {
        let making = match self {
            Self::Make => flags::CREATE | flags::EXCL,
            Self::Remove => 0,
        };
        flags::REQUEST | flags::ACK | making
    }
}

/// One end of a TCP flow.
#[derive(Clone, Copy)]
struct End {
    address: [u8; 4],
    port: u16,
}

fn put_tuple(tuple: MessageBuilder<'_>, src: End, dst: End) -> MessageBuilder<'_> {
    tuple
        .nested(kernel::CTA_TUPLE_IP, |ip| {
            ip.attribute(kernel::CTA_IP_V4_SRC, &src.address)
                .attribute(kernel::CTA_IP_V4_DST, &dst.address)
        })
        .nested(kernel::CTA_TUPLE_PROTO, |proto| {
            proto
                .attribute_u8(kernel::CTA_PROTO_NUM, kernel::IPPROTO_TCP)
                .attribute_be16(kernel::CTA_PROTO_SRC_PORT, src.port)
                .attribute_be16(kernel::CTA_PROTO_DST_PORT, dst.port)
        })
}

/// An established connection, kept for longer than the demo takes.
fn put_state(message: MessageBuilder<'_>) -> MessageBuilder<'_> {
    message
        .attribute_be32(kernel::CTA_TIMEOUT, 600)
        .nested(kernel::CTA_PROTOINFO, |info| {
            info.nested(kernel::CTA_PROTOINFO_TCP, |tcp| {
                tcp.attribute_u8(
                    kernel::CTA_PROTOINFO_TCP_STATE,
                    kernel::TCP_CONNTRACK_ESTABLISHED,
                )
            })
        })
}

/// `struct ifinfomsg` that sets `IFF_UP`: family and type, index, flags, mask of the flags to change.
fn link_up(index: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    for (place, value) in fixed
        .chunks_exact_mut(4)
        .zip([0, index, kernel::IFF_UP, kernel::IFF_UP])
    {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    fixed
}

/// Numbers from include/uapi/linux: `netfilter/nfnetlink_conntrack.h`, `netfilter/nf_conntrack_tcp.h`, `rtnetlink.h`,
/// `if.h`.
mod kernel {
    /// Subsystem 1 (`NFNL_SUBSYS_CTNETLINK`), messages 0 (`IPCTNL_MSG_CT_NEW`) and 2 (`IPCTNL_MSG_CT_DELETE`).
    pub const CTNL_NEW: u16 = 0x100;
    pub const CTNL_DELETE: u16 = 0x102;
    pub const CTA_TUPLE_ORIG: u16 = 1;
    pub const CTA_TUPLE_REPLY: u16 = 2;
    pub const CTA_PROTOINFO: u16 = 4;
    pub const CTA_TIMEOUT: u16 = 7;
    pub const CTA_TUPLE_IP: u16 = 1;
    pub const CTA_TUPLE_PROTO: u16 = 2;
    pub const CTA_IP_V4_SRC: u16 = 1;
    pub const CTA_IP_V4_DST: u16 = 2;
    pub const CTA_PROTO_NUM: u16 = 1;
    pub const CTA_PROTO_SRC_PORT: u16 = 2;
    pub const CTA_PROTO_DST_PORT: u16 = 3;
    pub const CTA_PROTOINFO_TCP: u16 = 1;
    pub const CTA_PROTOINFO_TCP_STATE: u16 = 1;
    pub const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
    pub const IPPROTO_TCP: u8 = 6;
    pub const RTM_NEWLINK: u16 = 16;
    pub const RTM_NEWROUTE: u16 = 24;
    pub const RTM_DELROUTE: u16 = 25;
    pub const RTA_DST: u16 = 1;
    pub const RTA_OIF: u16 = 4;
    pub const IFF_UP: u32 = 1;
}
