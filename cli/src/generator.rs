//! What the demo follows: conntrack entries and routes, made and removed by requests, each with its acknowledgement.

use std::thread::sleep;
use std::time::Duration;

use nlring::route::protocol;
use nlring::{Protocol, flags};

use crate::load::entry::{self, End, Tuple};
use crate::load::route::{self, Destination};
use crate::outcome::Failure;
use crate::request::Requester;

const FLOW_COUNT: u16 = 400;
/// One route comes with so many flows.
const FLOWS_PER_ROUTE: u16 = 4;
/// Each is removed so many steps after it was made.
const LIFE: u16 = 40;
/// The pause after each step. A step makes at most four events, and a receive buffer of 208 KiB holds about 160.
const PAUSE: Duration = Duration::from_millis(5);

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
        route::loopback_up(&mut routes)?;
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
        let tuple = Tuple {
            protocol: entry::kernel::IPPROTO_TCP,
            src: End {
                address: [198, 18, high, low],
                port: 10_000 + number,
            },
            dst: End {
                address: [198, 18, 128, 1],
                port: 443,
            },
        };
        match doing {
            Doing::Make => self.flows.ask("make a conntrack entry", |buffer| {
                entry::make(buffer, tuple, flags::ACK)
            }),
            Doing::Remove => self.flows.ask("remove a conntrack entry", |buffer| {
                entry::remove(buffer, tuple, flags::ACK)
            }),
        }
    }

    fn route(&mut self, number: u16, doing: Doing) -> Result<(), Failure> {
        let [_, low] = number.to_be_bytes();
        let to = Destination {
            address: [198, 19, low, 0],
            prefix_len: 24,
            protocol: protocol::STATIC,
        };
        match doing {
            Doing::Make => self
                .routes
                .ask("make a route", |buffer| route::make(buffer, to, flags::ACK)),
            Doing::Remove => self.routes.ask("remove a route", |buffer| {
                route::remove(buffer, to, flags::ACK)
            }),
        }
    }
}
