//! Traffic of a gateway: records of flows of clients behind NAT, in the order of their ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nlring::conntrack::{Counters, Layer4, Nat, ProtocolState, Tuple, status, tcp_state};
use nlring::{EventKind, Timestamp};

use super::random::{Random, mix};
use crate::record::{Body, FlowBody, Record};

const CLIENTS: u32 = 20_000;
const PUBLIC_ADDRESSES: u32 = 16;
const SERVERS: u32 = 500_000;
const SECOND: f64 = 1e9;
/// No flow lasts longer.
pub const LONGEST_FLOW: Duration = Duration::from_secs(12 * 3600);

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Records of flows, without end.
pub struct Traffic {
    random: Random,
    begin: Timestamp,
    now: f64,
    mean_distance: f64,
}

/// What kind of flow it is.
struct Service {
    protocol: u8,
    port: u16,
    /// The median of the flow's length.
    median: f64,
    spread: f64,
    packets: f64,
}

impl Traffic {
    /// Traffic that begins at this time, with this number of flows per second.
    pub fn new(seed: u64, begin: Timestamp, per_second: f64) -> Self {
        Self {
            random: Random::new(mix(seed)),
            begin,
            now: begin.as_ns() as f64,
            mean_distance: SECOND / per_second,
        }
    }

    /// The record of the flow that ends next.
    pub fn next_flow(&mut self) -> Record {
        self.now += self.random.exponential(self.mean_distance);
        let received = self.now as u64;
        let service = self.service();
        let (orig, nat) = self.tuples(&service);
        let duration = self.random.log_normal(service.median, service.spread);
        let duration = duration.clamp(1e6, LONGEST_FLOW.as_nanos() as f64) as u64;
        // The delay until the event is received.
        let stop = received - self.random.exponential(30_000.0) as u64;
        let start = Timestamp::from_ns(stop - duration);
        let (sent, answered) = self.counters(&service);
        // As on a host without nf_conntrack_timestamp, which does not know when earlier flows began.
        let is_observed = self.random.one_in(50);
        let observed_start = (start >= self.begin).then_some(start);
        let is_resynced = self.random.one_in(2000);
        let since = received - u64::from(self.random.below(5_000_000));
        let body = FlowBody {
            kind: EventKind::Delete,
            orig,
            nat,
            zone: None,
            id: Some(self.random.bits() as u32),
            status: Some(status_of(&service, nat.is_some())),
            state: (service.protocol == TCP).then_some(ProtocolState::Tcp(tcp_state::TIME_WAIT)),
            timeout_seconds: None,
            mark: None,
            counters_orig: Some(sent),
            counters_reply: Some(answered),
            start: (!is_observed).then_some(start),
            observed_start: observed_start.filter(|_| is_observed),
            stop: (!is_observed && !is_resynced).then_some(Timestamp::from_ns(stop)),
            details: None,
            ended_between: is_resynced
                .then(|| (Timestamp::from_ns(since), Timestamp::from_ns(received))),
        };
        Record {
            time: Timestamp::from_ns(received),
            namespace: 0,
            body: Body::Flow(body),
        }
    }

    fn service(&mut self) -> Service {
        let service = |protocol, port, seconds, spread, packets| Service {
            protocol,
            port,
            median: seconds * SECOND,
            spread,
            packets,
        };
        match self.random.below(100) {
            0..52 => service(TCP, 443, 12.0, 2.0, 18.0),
            52..66 => service(UDP, 443, 25.0, 1.6, 25.0),
            66..80 => service(UDP, 53, 0.03, 1.0, 1.0),
            80..88 => service(TCP, 80, 2.0, 1.5, 8.0),
            88..92 => service(TCP, 993, 600.0, 2.0, 60.0),
            92..94 => service(TCP, 22, 300.0, 2.5, 200.0),
            94..97 => {
                let port = 1024 + self.random.below(64_512) as u16;
                service(UDP, port, 40.0, 2.0, 40.0)
            }
            _ => service(ICMP, 0, 3.0, 1.2, 3.0),
        }
    }

    /// The original tuple, and the translation if there is one: IPv6 has none.
    fn tuples(&mut self, service: &Service) -> (Tuple, Option<Nat>) {
        let client = self.random.rank(CLIENTS);
        let servers = if service.port == 53 { 8 } else { SERVERS };
        let server = self.random.rank(servers) + u32::from(service.port) * 1000;
        let port = 1024 + self.random.below(64_512) as u16;
        if self.random.below(100) < 12 {
            let protocol = if service.protocol == ICMP {
                ICMPV6
            } else {
                service.protocol
            };
            let (src, dst) = (client_v6(client), server_v6(server));
            let layer4 = layer4(service, port, 128);
            return (Tuple::new(src, dst, protocol, layer4), None);
        }
        let (src, dst) = (client_v4(client), server_v4(server));
        let orig = Tuple::new(src, dst, service.protocol, layer4(service, port, 8));
        // The gateway keeps a client's port where it can.
        let is_taken = self.random.one_in(4);
        let public_port = if is_taken {
            1024 + self.random.below(64_512) as u16
        } else {
            port
        };
        let answers = match service.protocol {
            ICMP => layer4(service, public_port, 0),
            _ => Layer4::Ports {
                src: service.port,
                dst: public_port,
            },
        };
        let public = Ipv4Addr::from(0xcb00_7101 + client % PUBLIC_ADDRESSES);
        let reply = Tuple::new(dst, public.into(), service.protocol, answers);
        (orig, Nat::between(&orig, &reply))
    }

    fn counters(&mut self, service: &Service) -> (Counters, Counters) {
        let sent = self.random.log_normal(service.packets, 1.2).max(1.0);
        let answered = sent * self.random.log_normal(1.1, 0.4);
        let mut counters = |packets: f64, median: f64| {
            let mut counters = Counters::default();
            counters.packets = packets as u64;
            counters.bytes =
                (packets * self.random.log_normal(median, 0.5).clamp(60.0, 1500.0)) as u64;
            counters
        };
        (counters(sent, 110.0), counters(answered, 600.0))
    }
}

fn status_of(service: &Service, is_translated: bool) -> u32 {
    let nat = if is_translated {
        status::SRC_NAT | status::SRC_NAT_DONE
    } else {
        0
    };
    let assured = if service.protocol == TCP {
        status::ASSURED
    } else {
        0
    };
    status::SEEN_REPLY | status::CONFIRMED | status::DST_NAT_DONE | status::DYING | nat | assured
}

fn layer4(service: &Service, port: u16, icmp_type: u8) -> Layer4 {
    match service.protocol {
        ICMP => Layer4::Icmp {
            icmp_type,
            code: 0,
            id: port,
        },
        _ => Layer4::Ports {
            src: port,
            dst: service.port,
        },
    }
}

fn client_v4(client: u32) -> IpAddr {
    // An odd factor gives each client an address of its own in 10.0.0.0/8.
    let host = client.wrapping_mul(0x9e_3779) & 0xff_ffff;
    Ipv4Addr::from(0x0a00_0000 | host).into()
}

fn server_v4(server: u32) -> IpAddr {
    let bits = mix(server.into()) as u32;
    // From 16.0.0.0 to 79.255.255.255, which are public.
    Ipv4Addr::from(0x1000_0000 + (bits & 0x3fff_ffff)).into()
}

fn client_v6(client: u32) -> IpAddr {
    let host = u128::from(mix(client.into()));
    Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(client) << 64 | host)
        .into()
}

fn server_v6(server: u32) -> IpAddr {
    let host = u128::from(mix(server.into()) & 0xffff_ffff);
    Ipv6Addr::from(0x2a00_1450_0000_0000_0000_0000_0000_0000 | host).into()
}
