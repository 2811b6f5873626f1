//! Records: what nlringd writes. A record is a flow at its end, an open flow, an event, a route, a loss, or a mark.

pub mod about;
pub mod batch;
pub mod columns;
pub mod nat_filter;
pub mod recording;
pub mod schema;
pub mod stored;
pub mod stretch;

use std::time::Duration;

use nlring::conntrack::{Counters, Flow, Nat, ProtocolState, Tuple, Zone};
use nlring::{EventKind, Loss, Missing, Timestamp};

/// If time goes back by more than this, the clock was set back. Smaller steps come from the order in which sockets are
/// read.
pub const CLOCK_STEP: Duration = Duration::from_millis(100);

/// A record as the receive thread makes it.
#[derive(Clone, Debug)]
pub struct Record {
    /// When nlringd received what the record is made from.
    pub time: Timestamp,
    /// The network namespace: its place in the configuration's list.
    pub namespace: u16,
    pub body: Body,
}

/// What a record is about.
#[derive(Clone, Debug)]
pub enum Body {
    /// A flow has ended.
    Flow(FlowBody),
    /// A flow exists and has not ended.
    Open(FlowBody),
    /// The kernel sent an event of a flow.
    Event(FlowBody),
    /// A route is new, has changed, is gone, or existed at the start.
    Route(Box<RouteBody>),
    /// Something is missing among the records.
    Loss(LossBody),
    /// Everything that was received before this record's time is in the records before it, or they count it as lost.
    Mark,
    /// A mark while a table of flows is being repaired: flows whose ends were lost earlier may have no record yet.
    MarkBeforeRepair,
    /// A mark at the end of a run: the records before it include every flow that still existed, as an open flow.
    End,
}

/// What is recorded about a flow.
#[derive(Clone, Debug)]
pub struct FlowBody {
    pub kind: EventKind,
    pub orig: Tuple,
    pub nat: Option<Nat>,
    pub zone: Option<Zone>,
    pub id: Option<u32>,
    pub status: Option<u32>,
    pub state: Option<ProtocolState>,
    pub timeout_seconds: Option<u32>,
    pub mark: Option<u32>,
    pub counters_orig: Option<Counters>,
    pub counters_reply: Option<Counters>,
    pub start: Option<Timestamp>,
    pub observed_start: Option<Timestamp>,
    pub stop: Option<Timestamp>,
    /// Names and labels, which few flows have.
    pub details: Option<Box<Details>>,
    /// The kernel sent no event of the end: the flow ended between these times.
    pub ended_between: Option<(Timestamp, Timestamp)>,
}

/// What only few flows have.
#[derive(Clone, Debug, Default)]
pub struct Details {
    pub helper: Option<Vec<u8>>,
    pub labels: Option<Vec<u8>>,
}

/// What is recorded about an event of a route.
#[derive(Clone, Debug)]
pub struct RouteBody {
    pub kind: EventKind,
    /// The prefix, such as `10.0.0.0/8`; with MPLS the label.
    pub dst: String,
    /// The kernel sent no such event: the change was found when the mirror was compared with the kernel's tables.
    pub is_resynced: bool,
    /// The earliest time at which the change may have happened, if it was found.
    pub since: Option<Timestamp>,
    /// All of the event, as `nlring route --json` prints it.
    pub json: String,
}

/// What records are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Flows,
    Routes,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Routes => "routes",
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Flows => Self::Routes,
            Self::Routes => Self::Flows,
        }
    }
}

/// What is missing, and since when.
#[derive(Clone, Debug)]
pub struct LossBody {
    /// What the missing records are about. None: everything.
    pub subject: Option<Subject>,
    pub reason: LossReason,
    /// How many events are missing, if known.
    pub count: Option<u64>,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The kernel dropped datagrams because the receive buffer was full.
    Kernel,
    /// A datagram could not be read.
    Unreadable,
    /// nlringd did not run.
    Stopped,
    /// nlringd ended without recording the open flows. Those that ended before the next start have no records other
    /// than earlier ones as open flows.
    Killed,
    /// The clock was set. The times of flows that existed then may be wrong.
    Clock,
    /// The spool had to remove records before this output read them.
    Spool,
}

impl Body {
    /// The kind, as in the column `record`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flow(_) => "flow",
            Self::Open(_) => "open",
            Self::Event(_) => "event",
            Self::Route(_) => "route",
            Self::Loss(_) => "loss",
            Self::Mark | Self::MarkBeforeRepair | Self::End => "mark",
        }
    }
}

impl LossReason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Unreadable => "unreadable",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Clock => "clock",
            Self::Spool => "spool",
        }
    }
}

impl FlowBody {
    pub fn new(flow: &Flow<'_>) -> Self {
        let has_details = flow.helper.is_some() || flow.labels.is_some();
        Self {
            kind: flow.kind,
            orig: flow.orig,
            nat: flow.nat(),
            zone: flow.zone,
            id: flow.id,
            status: flow.status,
            state: flow.state,
            timeout_seconds: flow.timeout_seconds,
            mark: flow.mark,
            counters_orig: flow.counters_orig,
            counters_reply: flow.counters_reply,
            start: flow.start,
            observed_start: flow.observed_start,
            stop: flow.stop,
            details: has_details.then(|| {
                Box::new(Details {
                    helper: flow.helper.map(<[u8]>::to_vec),
                    labels: flow.labels.map(<[u8]>::to_vec),
                })
            }),
            ended_between: None,
        }
    }
}

impl LossBody {
    /// The loss that an event reports which was received just now.
    pub fn new(subject: Subject, missing: &Missing) -> Self {
        match missing {
            Missing::Lost(loss) | Missing::Delayed(loss) => Self::of_kernel(subject, loss),
            _ => {
                let now = Timestamp::now();
                Self {
                    subject: Some(subject),
                    reason: LossReason::Unreadable,
                    count: None,
                    since: now,
                    until: now,
                }
            }
        }
    }

    fn of_kernel(subject: Subject, loss: &Loss) -> Self {
        Self {
            subject: Some(subject),
            reason: LossReason::Kernel,
            count: Some(loss.count),
            since: loss.since,
            until: loss.until,
        }
    }
}
