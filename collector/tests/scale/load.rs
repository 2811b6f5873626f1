//! Translated flows, which are made and ended in each host at a fixed rate.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nlring::conntrack::{Key, Layer4, NewFlow, Requests, Tuple};
use nlring::{Batch, Timestamp};
use nlring_testing::Random;

use super::network::Host;

/// How many flows a host has at a time.
const LIVING: usize = 1000;
const CLIENTS: u32 = 2000;
const SERVERS: u32 = 500_000;

/// The flows of a host.
struct Flows {
    /// The host's.
    number: u8,
    requests: Requests,
    batch: Batch,
    random: Random,
    living: VecDeque<Key>,
    made: u64,
}

/// A flow that can be asked about.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The address and port to which its source is translated.
    pub nat: String,
    pub orig_src: String,
    /// It existed then.
    pub at: Timestamp,
}

/// What was made.
pub struct Made {
    pub flows: u64,
    /// How long this took.
    pub seconds: f64,
    pub ended: SystemTime,
    pub sample: Sample,
}

/// Makes flows in all hosts in turn, `rate` per second in each, for this long, and ends them all.
pub fn make_flows(hosts: &[Host], rate: u32, lasts: Duration) -> Made {
    let mut all: Vec<Flows> = hosts.iter().map(Flows::new).collect();
    let begun = Instant::now();
    let due = |number: u32| Duration::from_secs(1) * number / rate;
    let mut sample = None;
    for number in 0.. {
        if due(number) >= lasts {
            break;
        }
        for (place, flows) in all.iter_mut().enumerate() {
            // The hosts' flows do not begin at the same moment.
            let part = Duration::from_secs(1) / rate * u32::try_from(place).unwrap_or(0);
            let due = due(number) + part / u32::try_from(hosts.len()).unwrap_or(1);
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let made = flows.step();
            if due >= lasts / 2 {
                sample.get_or_insert(made);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    Made {
        flows: all.into_iter().map(Flows::end).sum(),
        seconds,
        ended: SystemTime::now(),
        sample: sample.expect("a flow"),
    }
}

impl Flows {
    fn new(host: &Host) -> Self {
        Self {
            number: host.number(),
            requests: Requests::open_in(&host.namespace()).expect("requests"),
            batch: Batch::new(),
            random: Random::new(1 + u64::from(host.number())),
            living: VecDeque::new(),
            made: 0,
        }
    }

    /// Makes a flow, and ends the oldest one if there are enough.
    fn step(&mut self) -> Sample {
        // Among those that exist at the same time, each has a port of its own.
        let port = 1024 + u16::try_from(self.made % 60_000).expect("a port");
        let [_, b, c, d] = self.random.below(CLIENTS).to_be_bytes();
        let src = Ipv4Addr::new(10, b, c, d);
        let public = Ipv4Addr::new(198, 18, self.number, d % 16);
        // From 16.0.0.0 on, which are public.
        let dst = Ipv4Addr::from(0x1000_0000 + self.random.below(SERVERS) * 977);
        let ports = Layer4::Ports {
            src: port,
            dst: [443, 443, 443, 80, 53][self.random.below(5) as usize],
        };
        let protocol = 17;
        let tuple = Tuple::new(IpAddr::V4(src), IpAddr::V4(dst), protocol, ports);
        let flow = NewFlow::new(tuple, 600).src_nat(IpAddr::V4(public), Some(port));
        flow.add_in(&mut self.batch).expect("a request");
        self.living.push_back(flow.key());
        self.made += 1;
        if self.living.len() > LIVING {
            self.end_oldest();
        }
        self.send();
        Sample {
            nat: format!("{public}:{port}"),
            orig_src: src.to_string(),
            at: Timestamp::now(),
        }
    }

    fn end_oldest(&mut self) {
        let oldest = self.living.pop_front().expect("a flow");
        oldest.delete_in(&mut self.batch, None).expect("a request");
    }

    fn send(&mut self) {
        let requester = self.requests.requester();
        let sent = self.batch.send(requester, |_, answer| {
            answer.expect("the kernel refuses no flow");
        });
        sent.expect("answers");
    }

    /// Ends all flows. How many were made.
    fn end(mut self) -> u64 {
        while !self.living.is_empty() {
            for _ in 0..self.living.len().min(10) {
                self.end_oldest();
            }
            self.send();
        }
        self.made
    }
}
