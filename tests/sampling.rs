//! A sampler keeps the events of a socket near its limit, and leaves out whole flows: exactly those that its filter
//! rejects.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::own_namespace;
use nlring::conntrack::{
    Filter, Flow, Group, Layer4, NewFlow, Requests, Sampler, Sampling, SamplingRatio, Tuple,
};
use nlring::{
    Batch, Engine, ErrorKind, Event, Finished, MessageList, Protocol, Running, Socket, SocketId,
};
use nlring_testing::PATIENCE;
use nlring_testing::sampled::{FlowEvent, Segment, assert_sampled, assert_whole};

const MAX_RATE: u32 = 1000;
/// Events per second.
const FLOOD: u32 = 8 * MAX_RATE;
const REST: u32 = MAX_RATE / 16;
/// How many flows live at a time.
const ALIVE: u32 = 200;

/// Makes flows by number, each of which lives until [`ALIVE`] others were made.
struct Maker {
    requests: Requests,
    next: u32,
}

impl Maker {
    fn flow(number: u32) -> NewFlow<'static> {
        let src = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
        let dst = IpAddr::from([192, 0, 2, 1]);
        let ports = |src, dst| Layer4::Ports { src, dst };
        let orig = Tuple::new(src, dst, 17, ports(40_000, 53));
        NewFlow::new(orig, 600).reply(Tuple::new(dst, src, 17, ports(53, 40_000)))
    }

    /// Makes flows until `rate` changes to 0. Two events each, at this rate.
    fn run(mut self, rate: &AtomicU32) {
        let mut batch = Batch::new();
        let mut owed = 0.0;
        let mut before = Instant::now();
        loop {
            let now = Instant::now();
            let per_second = rate.load(Ordering::Relaxed);
            if per_second == 0 {
                break;
            }
            owed += now.duration_since(before).as_secs_f64() * f64::from(per_second) / 2.0;
            before = now;
            while owed >= 1.0 {
                owed -= 1.0;
                Self::flow(self.next).add_in(&mut batch).expect("a flow");
                if let Some(last) = self.next.checked_sub(ALIVE) {
                    let key = Self::flow(last).key();
                    key.delete_in(&mut batch, None).expect("its end");
                }
                self.next += 1;
            }
            let sent = batch.send(self.requests.requester(), |_, reply| {
                reply.expect("carried out");
            });
            sent.expect("sent");
            thread::sleep(Duration::from_millis(2)); // the rate is what is tested
        }
    }
}

/// What two sockets receive: one with a sampler, and one beside it that receives all.
struct Receiver {
    sampler: Sampler,
    sampled: SocketId,
    segments: Vec<Segment>,
    samplings: Vec<Sampling>,
    /// When each event of the sampled socket came.
    times: Vec<Instant>,
    all: Vec<(FlowEvent, Vec<u8>)>,
    matching: Filter,
}

impl Receiver {
    fn feed(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        assert_eq!(event.missing(), None);
        match event {
            Event::Messages(socket, list) if *socket == self.sampled => self.feed_sampled(list),
            Event::Messages(_, list) => {
                for message in list {
                    let flow = Flow::decode(&message).expect("a flow");
                    if self.matching.matches(&flow) {
                        let bytes = message.bytes().to_vec();
                        self.all.push((FlowEvent::of(&flow), bytes));
                    }
                }
            }
            Event::Lost(..) | Event::Notice(..) => {}
        }
        ControlFlow::Continue(())
    }

    fn feed_sampled(&mut self, list: &MessageList<'_>) {
        for message in list {
            if let Some(sampling) = self.sampler.feed_message(&message) {
                self.begin(sampling);
            }
            if let Some(flow) = Flow::decode(&message) {
                self.times.push(Instant::now());
                let segment = self.segments.last_mut().expect("the first one");
                segment.events.push(FlowEvent::of(&flow));
            }
        }
    }

    fn begin(&mut self, sampling: Sampling) {
        assert_eq!(sampling.max_rate, MAX_RATE);
        self.samplings.push(sampling);
        self.segments.push(Segment {
            filter: self.matching.clone().and(sampling.filter()),
            events: Vec::new(),
        });
    }

    fn ratio(&self) -> SamplingRatio {
        self.sampler.ratio()
    }

    /// Receives until `is_over`, which gets the receiver.
    fn receive(&mut self, running: &mut Running, what: &str, is_over: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_over(self) {
            let now = Instant::now();
            assert!(now < deadline, "not in {PATIENCE:?}: {what}");
            let due = self
                .sampler
                .due()
                .map(|due| due.saturating_duration_since(now));
            let timeout = due.unwrap_or(PATIENCE).min(Duration::from_millis(20));
            let _ = running.poll(Some(timeout), |event, _| self.feed(&event));
            let socket = running.socket(self.sampled).expect("it is there");
            if let Some(sampling) = self.sampler.advance(socket).expect("replaced") {
                self.begin(sampling);
            }
        }
    }

    fn receive_for(&mut self, running: &mut Running, seconds: f64) {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        self.receive(running, "the end of a time", |_| Instant::now() >= end);
    }

    /// The most events of the sampled socket in any second between these two instants.
    fn busiest_second(&self, from: Instant, to: Instant) -> usize {
        let first = self.times.partition_point(|&at| at < from);
        let last = self.times.partition_point(|&at| at < to);
        let times = &self.times[first..last];
        let in_second = |(index, &at): (usize, &Instant)| {
            times.partition_point(|&other| other < at + Duration::from_secs(1)) - index
        };
        times.iter().enumerate().map(in_second).max().unwrap_or(0)
    }
}

fn listener(filter: &Filter) -> Socket {
    let builder = Socket::builder(Protocol::NETFILTER)
        .groups([Group::New, Group::Update, Group::Destroy])
        .recv_buffer_bytes(32 << 20);
    let builder = if filter.is_all() {
        builder
    } else {
        builder.filter(&filter.program().expect("a program"))
    };
    builder.open().expect("a socket")
}

/// Receives through rest, flood, rest and flood, and checks every event.
fn follow(filter: &Filter) {
    own_namespace();
    let mut engine = Engine::builder().build().expect("an engine");
    let sampled = engine.add(listener(filter)).expect("added");
    let reference = engine.add(listener(&Filter::default())).expect("added");
    let mut running = engine.start().expect("started");
    let mut receiver = Receiver {
        sampler: Sampler::new(filter.clone(), MAX_RATE).expect("a sampler"),
        sampled,
        segments: vec![Segment {
            filter: filter.clone(),
            events: Vec::new(),
        }],
        samplings: Vec::new(),
        times: Vec::new(),
        all: Vec::new(),
        matching: filter.clone(),
    };
    let rate = AtomicU32::new(REST);
    thread::scope(|scope| {
        let maker = Maker {
            requests: Requests::open().expect("requests"),
            next: 0,
        };
        scope.spawn(|| maker.run(&rate));
        receiver.receive_for(&mut running, 1.5);
        assert_eq!(receiver.samplings, [], "the rate is below the limit");
        rate.store(FLOOD, Ordering::Relaxed);
        let rises = Instant::now();
        receiver.receive_for(&mut running, 3.0);
        assert!(!receiver.ratio().is_all(), "the rate is above the limit");
        rate.store(REST, Ordering::Relaxed);
        let second = Duration::from_secs(1);
        let busiest = receiver.busiest_second(rises + second, Instant::now());
        assert!(busiest <= MAX_RATE as usize * 5 / 4, "{busiest}");
        receiver.receive(&mut running, "sampling ends", |this| this.ratio().is_all());
        receiver.receive_for(&mut running, 0.5);
        rate.store(FLOOD, Ordering::Relaxed);
        receiver.receive(&mut running, "it begins again", |this| {
            !this.ratio().is_all()
        });
        rate.store(0, Ordering::Relaxed);
    });
    let Finished { sockets, .. } = running.finish(|event, _| receiver.feed(&event));
    assert_eq!(receiver.sampler.finish(), None, "its barrier was met");
    check(&receiver);
    for socket in &sockets {
        let statistics = socket.statistics;
        assert_eq!((statistics.dropped, statistics.unread), (0, 0));
        if socket.id == reference {
            assert!(statistics.received >= receiver.all.len() as u64);
        } else {
            let requests = receiver.sampler.request_count();
            assert_eq!(statistics.received, receiver.times.len() as u64 + requests);
        }
    }
}

fn check(receiver: &Receiver) {
    let Receiver {
        all,
        segments,
        samplings,
        ..
    } = receiver;
    let all_flows = SamplingRatio::ALL;
    let (first, last) = (samplings[0], samplings[samplings.len() - 1]);
    assert_eq!(first.before, all_flows);
    assert!(!last.ratio.is_all());
    for pair in samplings.windows(2) {
        assert_eq!(pair[0].ratio, pair[1].before);
        assert!(pair[0].since <= pair[1].since && pair[0].seed == pair[1].seed);
    }
    let begin_count = samplings.iter().filter(|sampling| sampling.before.is_all());
    assert_eq!(begin_count.count(), 2, "{samplings:?}");
    assert_sampled(all, segments);
    let cut_count = assert_whole(all, segments);
    assert!(cut_count > 0, "flows were alive at the changes");
}

#[test]
fn a_sampled_stream_has_exactly_the_flows_that_it_says() {
    follow(&Filter::default());
}

#[test]
fn sampling_combines_with_a_filter() {
    follow(
        &"event {new, destroy} and src 10.0.0.0/8 and not dport 54"
            .parse()
            .expect("a filter"),
    );
}

#[test]
fn a_limit_that_is_too_low_and_a_filter_that_is_too_large_are_refused() {
    let refused = Sampler::new(Filter::default(), Sampler::LEAST_RATE - 1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let ports: Vec<String> = (0..8000).map(|port| (2 * port).to_string()).collect();
    let filter: Filter = format!("dport {{{}}}", ports.join(","))
        .parse()
        .expect("a filter");
    let refused = Sampler::new(filter, MAX_RATE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("instructions"), "{refused}");
}

/// The datagrams that arrive before the change of the filter are delivered before the change is reported.
#[test]
fn a_lowered_ratio_is_reported_behind_what_was_queued() {
    own_namespace();
    let socket = listener(&Filter::default());
    let mut sampler = Sampler::new(Filter::default(), Sampler::LEAST_RATE).expect("a sampler");
    let mut requests = Requests::open().expect("requests");
    let mut buffer = vec![0; 64 << 10];
    let mut feed = |sampler: &mut Sampler, count: u32| {
        let mut changes = Vec::new();
        for index in 0..count {
            let list = socket
                .recv(&mut buffer, nlring::RecvFlags::NONE)
                .expect("a datagram");
            let messages = list.iter();
            let sampling = messages.filter_map(|message| sampler.feed_message(&message));
            changes.extend(sampling.map(|sampling| (index, sampling)));
        }
        changes
    };
    for number in 0..100 {
        requests.add(&Maker::flow(number)).expect("a flow");
    }
    assert_eq!(feed(&mut sampler, 50), []);
    assert_eq!(sampler.advance(&socket).expect("replaced"), None);
    assert_eq!(sampler.ratio(), SamplingRatio::ALL);
    let changes = feed(&mut sampler, 51);
    let [(50, sampling)] = changes[..] else {
        panic!("the acknowledgement comes last: {changes:?}");
    };
    assert_eq!(sampling.ratio, sampler.ratio());
    assert!(sampling.ratio < sampling.before && sampler.due().is_some());
}
