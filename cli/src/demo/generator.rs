//! Makes what the demo follows: conntrack entries and routes. Each request waits for its acknowledgement.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use nlring::route::protocol;
use nlring::{conntrack, route};

use crate::load::entry::{self, kernel};
use crate::load::route::{loopback_up, over_loopback};
use crate::outcome::Failure;

const FLOW_COUNT: u16 = 400;
/// How many flows there are per route.
const FLOWS_PER_ROUTE: u16 = 4;
/// How many steps after its creation each flow or route is removed.
const LIFE: u16 = 40;
/// The pause after each step. A step makes at most four events, and a receive buffer of 208 KiB holds about 160.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes and removes flows and routes.
pub struct Generator {
    flows: conntrack::Requests,
    routes: route::Requests,
}

/// What a generator made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Generated {
    /// How many requests the kernel acknowledged. Each causes one event.
    pub event_count: u64,
    /// False: it ended early.
    pub is_whole: bool,
}

#[derive(Clone, Copy)]
enum Doing {
    Make,
    Remove,
}

impl Generator {
    /// Opens the sockets for requests, and brings the loopback device up, so that routes can lead over it.
    pub fn open() -> Result<Self, Failure> {
        let mut routes = route::Requests::open()?;
        loopback_up(routes.requester())?;
        Ok(Self {
            flows: conntrack::Requests::open()?,
            routes,
        })
    }

    /// Makes and removes everything, or ends early once `is_over` returns true.
    pub fn run(mut self, is_over: impl Fn() -> bool) -> Result<Generated, Failure> {
        let mut made = Generated::default();
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

    /// Makes or removes one flow and, with every [`FLOWS_PER_ROUTE`] flows, one route. Returns how many events that
    /// caused.
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
        let src = (Ipv4Addr::new(198, 18, high, low), 10_000 + number);
        let dst = (Ipv4Addr::new(198, 18, 128, 1), 443);
        let key = entry::key(kernel::IPPROTO_TCP, src, dst);
        match doing {
            Doing::Make => Ok(self.flows.add(&entry::connection(&key))?),
            Doing::Remove => removed(self.flows.delete(&key, None)?, "conntrack entry"),
        }
    }

    fn route(&mut self, number: u16, doing: Doing) -> Result<(), Failure> {
        let [_, low] = number.to_be_bytes();
        let route = over_loopback(Ipv4Addr::new(198, 19, low, 0), 24, protocol::STATIC);
        match doing {
            Doing::Make => Ok(self.routes.add(&route)?),
            Doing::Remove => removed(self.routes.delete(&route)?, "route"),
        }
    }
}

fn removed(was_there: bool, what: &str) -> Result<(), Failure> {
    if was_there {
        return Ok(());
    }
    let message = format!("remove a {what}: another program has removed it");
    Err(Failure::Other(message))
}
