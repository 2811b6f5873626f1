//! Sampling on a socket: replaces its filter, and reports where in the stream a ratio begins.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use super::SamplingRatio;
use super::rate_limit::{Decision, RateLimit};
use crate::conntrack::{Filter, Split, Term, message_type};
#[cfg(doc)]
use crate::engine::Event;
use crate::engine::Missing;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::mirror::Barrier;
use crate::socket::{Protocol, Socket};
use crate::timestamp::Timestamp;

/// Keeps the events of a socket near a limit: above it, the kernel samples whole flows.
///
/// While fewer events than the limit arrive, all flows are kept. When more arrive within a second, the sampler replaces
/// the socket's filter with one that keeps the events of one flow in 2, 4, 8, … 65,536, chosen by a hash of the flow.
/// All events of a flow have the same hash, so they are kept or left out together. Events left out are not losses, and
/// no counter includes them.
///
/// # Which flows are whole
///
/// Each change of the ratio is a [`Sampling`] at its place in the stream. A flow that begins and ends between two of
/// them is complete or absent. A flow that is alive at a change may be cut:
///
/// - When the ratio is lowered, all events that the kernel sent under the previous ratio come before the [`Sampling`].
///   A flow whose end was not received before it may have no further event.
/// - When the ratio is raised, no event of the flows that are added comes before the [`Sampling`]. A flow whose first
///   event after it is not its beginning may lack its earlier events.
///
/// Every larger ratio also keeps the flows of a smaller one, so the other flows are not cut. [`Sampling::filter`]
/// matches the flows that are kept.
///
/// # How the ratio follows the rate
///
/// - It is lowered when more events than the limit arrived within a second, to a ratio that keeps 80 % of the limit at
///   the rate of the busier of the last two tenths of a second. Two lowerings are at least 250 ms apart.
/// - It is raised when no second had more events than 40 % of the limit for 5 s, to a ratio that would have kept 80 %
///   of the limit in the busiest of these seconds. If it has to be lowered again within a minute, these 5 s become 10,
///   20, 40 and 60 s, until raising lasts longer.
/// - After the first second of a rise in the rate, no second has more than 1.25 times the limit. Events that are queued
///   when the ratio is lowered are still delivered, in addition.
/// - If the rate stays below half of a limit of at least 100, sampling ends within 20 s; within two minutes if the rate
///   had been swinging around the limit. With a smaller limit it takes up to four times as long, because few events say
///   little about the rate.
///
/// The full rate is not measured while events are left out. It is estimated as the rate of the received and lost
/// events, times the number of flows of which one is kept. This is right on average over many flows. A flow with many
/// more events than others distorts it: the rate is overestimated if that flow is kept, and underestimated if not.
///
/// The limit counts events of flows. Expectations are not sampled.
///
/// # Example
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::{Duration, Instant};
///
/// use nlring::conntrack::{Filter, Flow, Group, Sampler};
/// use nlring::{Engine, ErrorKind, Event, Protocol, Socket};
///
/// let builder = Socket::builder(Protocol::NETFILTER).groups([Group::New, Group::Destroy]);
/// let socket = match builder.recv_buffer_bytes(8 << 20).open() {
///     Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()), // without CAP_NET_ADMIN
///     opened => opened?,
/// };
/// let mut engine = Engine::builder().build()?;
/// let id = engine.add(socket)?;
/// let mut running = engine.start()?;
///
/// let mut sampler = Sampler::new(Filter::default(), 50_000)?;
/// let end = Instant::now() + Duration::from_millis(50); // a collector goes on
/// while Instant::now() < end {
///     let due = sampler.due().map_or(end, |due| due.min(end));
///     let timeout = due.saturating_duration_since(Instant::now());
///     let _ = running.poll(Some(timeout), |event, _| {
///         if let Some(missing) = event.missing() {
///             sampler.note_missing(&missing);
///         }
///         if let Event::Messages(_, list) = &event {
///             for message in list {
///                 if let Some(sampling) = sampler.feed_message(&message) {
///                     println!("{sampling}");
///                 }
///                 if let Some(flow) = Flow::decode(&message) {
///                     println!("{:?} {} -> {}", flow.kind, flow.orig.src, flow.orig.dst);
///                 }
///             }
///         }
///         ControlFlow::<()>::Continue(())
///     })?;
///     if let Some(sampling) = sampler.advance(running.socket(id).expect("it is not removed"))? {
///         println!("{sampling}");
///     }
/// }
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Sampler {
    /// The socket's filter apart from the share.
    filter: Filter,
    max_rate: u32,
    seed: u32,
    limit: RateLimit,
    barrier: Barrier,
    /// A lowered ratio that is in effect in the kernel, while older events are still queued.
    lowered: Option<Sampling>,
    /// Whether the awaited acknowledgement may be lost.
    must_ask_again: bool,
}

/// A change of the ratio at which a [`Sampler`] keeps flows, at its place in the stream of events.
///
/// Its `Display` is a sentence for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The ratio that begins. With [`SamplingRatio::ALL`] sampling ends.
    pub ratio: SamplingRatio,
    /// The ratio that ends. With [`SamplingRatio::ALL`] sampling begins.
    pub before: SamplingRatio,
    /// The estimated rate of the events of all flows, in events per second: when the ratio is lowered, that of the
    /// busiest tenth of a second; when it is raised, that of the busiest second since the rate fell.
    pub rate: u64,
    /// The limit, in events per second.
    pub max_rate: u32,
    /// When the kernel began to use the ratio (`CLOCK_REALTIME`).
    pub since: Timestamp,
    /// The seed of the hash that chooses the flows.
    pub seed: u32,
}

impl Sampling {
    /// Which flows are kept.
    pub fn filter(&self) -> Filter {
        kept(self.ratio, self.seed)
    }
}

fn kept(ratio: SamplingRatio, seed: u32) -> Filter {
    if ratio.is_all() {
        return Filter::default();
    }
    let split = Split::new(ratio.one_in()).seed(seed);
    Filter::from(Term::share(split, 0..1))
}

/// Differs from call to call, and cannot be guessed.
fn random_seed() -> u32 {
    let bits = RandomState::new().hash_one(());
    u32::try_from(bits >> 32).unwrap_or(0)
}

impl std::fmt::Display for Sampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.ratio.is_all() {
            f.write_str("sampling ends, all flows are kept")?;
        } else {
            write!(f, "{} flows is kept, the others are left out", self.ratio)?;
        }
        let Self { rate, max_rate, .. } = self;
        write!(f, ": about {rate} events/s, and the limit is {max_rate}")
    }
}

impl Sampler {
    /// The least limit, in events per second.
    pub const LEAST_RATE: u32 = 10;

    /// A sampler for a socket with a filter, which keeps all flows at first. The socket must have the program of the
    /// filter, or none if the filter is empty.
    ///
    /// The hash that chooses flows starts from a random seed, so no outsider can know which flows are left out.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidInput`]: the limit is less than [`LEAST_RATE`](Self::LEAST_RATE), or the filter has no
    ///   room for the share ([`Filter::program`]).
    /// - `ENOMEM`: the kernel accepts no program of this size ([`Socket::set_filter`]).
    pub fn new(filter: Filter, max_rate: u32) -> Result<Self> {
        if max_rate < Self::LEAST_RATE {
            let text = format!("a limit of {max_rate} events per second is too low to be measured");
            let error = Error::explained("sample flows", ErrorKind::InvalidInput, text);
            return Err(error.with_remedy("let it be at least 10"));
        }
        let this = Self {
            filter,
            max_rate,
            seed: random_seed(),
            limit: RateLimit::new(max_rate, Instant::now()),
            barrier: Barrier::of_sampler(),
            lowered: None,
            must_ask_again: false,
        };
        let socket = Socket::open(Protocol::NETFILTER)?;
        for ratio in [SamplingRatio::ALL, SamplingRatio::LEAST, SamplingRatio::ALL] {
            this.set_filter(&socket, ratio)?;
        }
        Ok(this)
    }

    /// The same sampler with this seed. Samplers with the same seed keep the same flows. Anyone who knows the seed can
    /// calculate which flows are kept.
    #[must_use]
    pub fn seed(self, seed: u32) -> Self {
        Self { seed, ..self }
    }

    /// Takes a message of the socket, whatever its type. Returns a lowered ratio once all events that the kernel sent
    /// before it have been fed: it belongs before this message.
    #[inline]
    pub fn feed_message(&mut self, message: &Message<'_>) -> Option<Sampling> {
        if self.lowered.is_some() {
            return self.feed_barrier(message);
        }
        let is_event = matches!(
            message.message_type(),
            message_type::CT_NEW | message_type::CT_DELETE
        );
        self.limit.note(is_event.into());
        None
    }

    /// Until the barrier is met, events do not count, because it is not known at which ratio they were sent.
    fn feed_barrier(&mut self, message: &Message<'_>) -> Option<Sampling> {
        if !self.barrier.is_met_by(message) {
            return None;
        }
        let lowered = self.lowered.take()?;
        self.limit.begin(lowered.ratio, Instant::now());
        Some(lowered)
    }

    /// Records that events of the socket are missing ([`Event::missing`]). Lost events count as received ones, because
    /// the kernel has sent them.
    pub fn note_missing(&mut self, missing: &Missing) {
        if self.lowered.is_some() {
            self.must_ask_again = true;
        } else if let Missing::Lost(loss) = missing {
            self.limit.note(loss.count);
        }
    }

    /// Changes the ratio if that is due, by replacing the socket's filter. Call it after each turn of the engine, and
    /// when it is [due](Self::due).
    ///
    /// Returns a raised ratio: it belongs before the next event. [`feed_message`](Self::feed_message) returns a lowered
    /// one later.
    ///
    /// # Errors
    ///
    /// Those of [`Socket::set_filter`] and [`Socket::send`]. The sampler remains usable. It tries again after it has
    /// measured the rate anew.
    pub fn advance(&mut self, socket: &Socket) -> Result<Option<Sampling>> {
        let now = Instant::now();
        if self.lowered.is_some() {
            if std::mem::take(&mut self.must_ask_again) || self.barrier.is_overdue(now) {
                self.barrier.ask(socket, now)?;
            }
            return Ok(None);
        }
        match self.limit.decide(now) {
            Some(decision) if decision.ratio < self.ratio() => {
                self.lower(socket, &decision, now)?;
                Ok(None)
            }
            Some(decision) => self.raise(socket, &decision, now).map(Some),
            None => Ok(None),
        }
    }

    fn lower(&mut self, socket: &Socket, decision: &Decision, now: Instant) -> Result<()> {
        let sampling = self.change(socket, decision, now)?;
        self.lowered = Some(sampling);
        // The next call repeats a request that could not be sent.
        self.must_ask_again = self.barrier.ask(socket, now).is_err();
        Ok(())
    }

    fn raise(&mut self, socket: &Socket, decision: &Decision, now: Instant) -> Result<Sampling> {
        let sampling = self.change(socket, decision, now)?;
        self.limit.begin(sampling.ratio, now);
        Ok(sampling)
    }

    fn change(&mut self, socket: &Socket, decision: &Decision, now: Instant) -> Result<Sampling> {
        if let Err(error) = self.set_filter(socket, decision.ratio) {
            self.limit.measure_again(now);
            return Err(error);
        }
        Ok(Sampling {
            ratio: decision.ratio,
            before: self.ratio(),
            rate: decision.rate,
            max_rate: self.max_rate,
            since: Timestamp::now(),
            seed: self.seed,
        })
    }

    fn set_filter(&self, socket: &Socket, ratio: SamplingRatio) -> Result<()> {
        let filter = self.filter.clone().and(kept(ratio, self.seed));
        if filter.is_all() {
            socket.clear_filter()
        } else {
            socket.set_filter(&filter.program()?)
        }
    }

    /// When [`advance`](Self::advance) has something to do if no event arrives earlier. None: never.
    pub fn due(&self) -> Option<Instant> {
        match self.lowered {
            Some(_) if self.must_ask_again => Some(Instant::now()),
            Some(_) => self.barrier.ask_again_at(),
            None => self.limit.due(),
        }
    }

    /// The ratio of the last [`Sampling`] that was returned.
    pub fn ratio(&self) -> SamplingRatio {
        self.limit.ratio()
    }

    /// A lowered ratio that [`feed_message`](Self::feed_message) has not returned, if there is one. Call it when the
    /// socket's last message has been fed.
    pub fn finish(&mut self) -> Option<Sampling> {
        self.lowered.take()
    }

    /// How many requests the sampler has made on the socket. The acknowledgement of each is among the socket's received
    /// or dropped datagrams, but is not an event.
    pub fn request_count(&self) -> u64 {
        self.barrier.request_count
    }
}
