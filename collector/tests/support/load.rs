//! Flows that are made and ended at a chosen rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nlring::{Batch, Protocol, Requester, Timestamp};

use super::network::enter;
use super::{Made, flow, report_all_flows};

/// How many flows are made by one datagram.
const AT_ONCE: u32 = 16;

/// A thread that makes flows in a namespace of the network. Each flow has two events: it begins, and it ends.
pub struct Load {
    goes_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Made>>>,
}

impl Load {
    /// Makes this many flows per second.
    pub fn start(namespace: &'static str, flows_per_second: u32) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let thread = thread::spawn({
            let goes_on = goes_on.clone();
            move || {
                enter(namespace);
                report_all_flows();
                make_flows_at(flows_per_second, &goes_on)
            }
        });
        Self {
            goes_on,
            thread: Some(thread),
        }
    }

    /// Ends it. The flows that it has made.
    pub fn end(&mut self) -> Vec<Made> {
        self.goes_on.store(false, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("the load")
    }
}

/// A test that fails ends it too.
impl Drop for Load {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}

fn make_flows_at(flows_per_second: u32, goes_on: &AtomicBool) -> Vec<Made> {
    let mut requester = Requester::open(Protocol::NETFILTER).expect("requests");
    let mut batch = Batch::new();
    let mut made = Vec::new();
    let begun = Instant::now();
    for first in (0..).step_by(AT_ONCE as usize) {
        if !goes_on.load(Ordering::Relaxed) {
            break;
        }
        let due = begun + Duration::from_secs_f64(f64::from(first) / f64::from(flows_per_second));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for number in first..first + AT_ONCE {
            let flow = flow(number);
            flow.add_in(&mut batch).expect("a request");
            flow.key().delete_in(&mut batch, None).expect("a request");
        }
        let before = Timestamp::now();
        let sent = batch.send(&mut requester, |_, reply| {
            reply.expect("no refusal");
        });
        sent.expect("answers");
        let ended = [before, Timestamp::now()];
        made.extend((first..first + AT_ONCE).map(|number| Made { number, ended }));
    }
    made
}
