//! When to wake up. A wake-up is the most expensive step, so under load a wait gathers datagrams, but no longer than
//! the sockets' receive buffers can absorb.

use std::time::{Duration, Instant};

/// How an engine waits for datagrams. This trades latency against CPU, because most of the cost is in waking up.
///
/// ```
/// use std::time::Duration;
/// use nlring::{Engine, Protocol, Socket, Wait};
///
/// let mut engine = Engine::builder().wait(Wait::Batch(Duration::from_millis(5))).build()?;
/// let socket = Socket::builder(Protocol::ROUTE).recv_buffer_bytes(64 << 10).open()?;
/// engine.add(socket)?;
/// // A receive buffer of 64 KiB cannot absorb 5 ms of events.
/// let longest = engine.start()?.longest_delay().expect("it gathers");
/// assert!(longest < Duration::from_millis(5));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Wakes for the first datagram when there are few. Gathers for up to 1 ms under load.
    #[default]
    Auto,
    /// Wakes for the first datagram. Does not sleep while datagrams arrive so fast that a late wake-up could overrun
    /// the receive buffer.
    Prompt,
    /// Sleeps for this long from the start of each wait, then takes what has arrived, or waits for the first datagram.
    /// The engine shortens the delay to what the receive buffers can hold
    /// ([`Running::longest_delay`](crate::Running::longest_delay)), and does not sleep after a turn that brought more
    /// than an eighth of what the smallest one holds.
    Batch(Duration),
    /// Never sleeps. Has the lowest latency, and fully occupies one CPU core.
    Spin,
}

/// The parameters of one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Sleep this long first, even if datagrams arrive.
    pub gather: Duration,
    /// The longest time of the whole wait. `None`: no limit. Zero: do not wait.
    pub timeout: Option<Duration>,
    /// Wake up about this long after the first wait that set it, to do deferred work. `None`: no work is deferred.
    pub alarm: Option<Duration>,
    pub spin: bool,
    /// The next datagram is due so soon that polling for it costs less than sleeping.
    pub is_near: bool,
}

impl Plan {
    /// The earlier of time-out and alarm, for a wait that sets a timer in any case.
    pub(super) fn timeout_or_alarm(&self) -> Option<Duration> {
        [self.timeout, self.alarm].into_iter().flatten().min()
    }
}

/// The longest spinning wait, because a signal cannot end one.
pub(super) const SPIN_SLICE: Duration = Duration::from_millis(100);

/// The CPU time of a wake-up, for receiver and sender together (seen in a VM: 17 to 20 µs and 5 to 10 µs).
pub(super) const WAKE_COST: Duration = Duration::from_micros(30);

/// How late a wake-up may be on a busy machine (seen in a VM: 1 to 3 ms, once in a thousand).
const LATE_WAKE: Duration = Duration::from_millis(5);

/// The longest that [`Wait::Auto`] gathers.
const AUTO_DELAY: Duration = Duration::from_millis(1);
/// [`Wait::Auto`] starts to gather when its delay would bring this many datagrams, and stops below half of that.
const AUTO_WORTH: f64 = 4.0;
/// After a turn that brought more than one part in this many of the smallest receive buffer, the next does not sleep.
const FLOOD_PART: usize = 8;
/// The most that the kernel charges against a receive buffer for an event (seen on Linux 6.18: 830 to 1280 bytes).
const EVENT_BYTES: usize = 1280;
/// The time over which the rate is averaged.
const RATE_WINDOW: Duration = Duration::from_millis(2);

/// Plans the waits of an engine, by its policy and the rate of datagrams.
#[derive(Debug)]
pub(super) struct Pacer {
    policy: Wait,
    /// How long the smallest receive buffer can absorb events.
    limit: Duration,
    /// How many events the smallest receive buffer holds.
    capacity: usize,
    /// Datagrams per second.
    rate: f64,
    gathering: bool,
    is_flooded: bool,
    last_turn: Instant,
}

impl Pacer {
    pub(super) fn new(policy: Wait, now: Instant) -> Self {
        Self {
            policy,
            limit: Duration::ZERO,
            capacity: 0,
            rate: 0.0,
            gathering: false,
            is_flooded: false,
            last_turn: now,
        }
    }

    /// Limits delays to what a receive buffer of this size can hold. The kernel makes at most about one event per
    /// microsecond, and half of the buffer serves as a margin. `None`: there is no socket, so the limit is zero.
    pub(super) fn set_smallest_buffer(&mut self, granted_bytes: Option<usize>) {
        self.capacity = granted_bytes.unwrap_or(0) / EVENT_BYTES;
        self.limit = Duration::from_micros(self.capacity as u64 / 2);
    }

    pub(super) fn longest_delay(&self) -> Option<Duration> {
        match self.policy {
            Wait::Auto => Some(AUTO_DELAY.min(self.limit)),
            Wait::Batch(delay) => Some(delay.min(self.limit)),
            Wait::Prompt | Wait::Spin => None,
        }
    }

    pub(super) fn plan(&self, timeout: Option<Duration>, alarm: Option<Duration>) -> Plan {
        let gather = match self.policy {
            Wait::Auto if !self.gathering => Duration::ZERO,
            _ if self.is_flooded => Duration::ZERO,
            _ => self.longest_delay().unwrap_or_default(),
        };
        let gather = timeout.map_or(gather, |timeout| gather.min(timeout));
        Plan {
            gather,
            timeout,
            alarm,
            spin: self.policy == Wait::Spin,
            is_near: self.is_flooded || self.policy == Wait::Prompt && self.is_tight(),
        }
    }

    /// Whether polling for the next datagram costs less than sleeping, and a late wake-up would lose datagrams.
    fn is_tight(&self) -> bool {
        let capacity = f64::from(u32::try_from(self.capacity).unwrap_or(u32::MAX));
        self.rate * WAKE_COST.as_secs_f64() >= 1.0 && self.rate * LATE_WAKE.as_secs_f64() > capacity
    }

    /// Updates the rate after a turn that brought this many datagrams.
    pub(super) fn note_turn(&mut self, datagram_count: usize, now: Instant) {
        let elapsed = now
            .saturating_duration_since(self.last_turn)
            .max(Duration::from_nanos(1));
        self.last_turn = now;
        self.is_flooded = datagram_count > self.capacity / FLOOD_PART;
        let recent =
            f64::from(u32::try_from(datagram_count).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
        let weight = elapsed.as_secs_f64() / (elapsed + RATE_WINDOW).as_secs_f64();
        self.rate += (recent - self.rate) * weight;
        let expected = self.rate * AUTO_DELAY.min(self.limit).as_secs_f64();
        self.gathering = expected
            >= if self.gathering {
                AUTO_WORTH / 2.0
            } else {
                AUTO_WORTH
            };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    /// Records `turns` turns of `count` datagrams, one turn per `every`.
    fn run(pacer: &mut Pacer, start: &mut Instant, turns: usize, count: usize, every: Duration) {
        for _ in 0..turns {
            *start += every;
            pacer.note_turn(count, *start);
        }
    }

    #[test]
    fn auto_is_prompt_when_quiet_and_gathers_under_load() {
        let mut now = Instant::now();
        let mut pacer = Pacer::new(Wait::Auto, now);
        pacer.set_smallest_buffer(Some(16 << 20));
        assert_eq!(pacer.plan(SECOND, None).gather, Duration::ZERO);
        run(&mut pacer, &mut now, 1000, 1, Duration::from_millis(1)); // 1 k/s
        assert_eq!(pacer.plan(SECOND, None).gather, Duration::ZERO);
        run(&mut pacer, &mut now, 1000, 1, Duration::from_micros(20)); // 50 k/s
        assert_eq!(pacer.plan(SECOND, None).gather, AUTO_DELAY);
        run(&mut pacer, &mut now, 100, 50, Duration::from_millis(1)); // the same, gathered
        assert_eq!(pacer.plan(SECOND, None).gather, AUTO_DELAY);
        run(&mut pacer, &mut now, 3, 1, Duration::from_millis(100)); // quiet again
        assert_eq!(pacer.plan(SECOND, None).gather, Duration::ZERO);
    }

    #[test]
    fn a_single_burst_does_not_wait_for_its_second_datagram() {
        let mut now = Instant::now();
        let mut pacer = Pacer::new(Wait::Auto, now);
        run(&mut pacer, &mut now, 1, 1, Duration::from_secs(5));
        run(&mut pacer, &mut now, 3, 1, Duration::from_micros(50));
        assert_eq!(pacer.plan(None, None).gather, Duration::ZERO);
    }

    #[test]
    fn delays_are_cut_to_the_buffer_and_to_the_timeout() {
        let mut pacer = Pacer::new(Wait::Batch(Duration::from_secs(1)), Instant::now());
        assert_eq!(pacer.longest_delay(), Some(Duration::ZERO));
        pacer.set_smallest_buffer(Some(usize::MAX));
        assert_eq!(pacer.longest_delay(), SECOND);
        pacer.set_smallest_buffer(Some(212_992)); // the kernel's default
        assert_eq!(pacer.longest_delay(), Some(Duration::from_micros(83)));
        assert_eq!(pacer.plan(None, None).gather, Duration::from_micros(83));
        assert_eq!(
            pacer.plan(Some(Duration::from_micros(5)), None).gather,
            Duration::from_micros(5)
        );
        assert_eq!(
            pacer.plan(Some(Duration::ZERO), None).gather,
            Duration::ZERO
        );
    }

    #[test]
    fn auto_gathers_only_where_its_delay_brings_enough() {
        let mut now = Instant::now();
        let mut pacer = Pacer::new(Wait::Auto, now);
        pacer.set_smallest_buffer(Some(212_992)); // allows 83 µs
        run(&mut pacer, &mut now, 1000, 1, Duration::from_micros(50)); // 20 k/s
        assert_eq!(pacer.plan(SECOND, None).gather, Duration::ZERO);
        run(&mut pacer, &mut now, 5000, 1, Duration::from_micros(10)); // 100 k/s
        assert_eq!(pacer.plan(SECOND, None).gather, Duration::from_micros(83));
    }

    #[test]
    fn a_flood_is_not_slept_through() {
        let (mut now, batch) = (Instant::now(), Duration::from_micros(80));
        let mut pacer = Pacer::new(Wait::Batch(batch), now);
        pacer.set_smallest_buffer(Some(212_992)); // holds 166 events
        run(&mut pacer, &mut now, 1, 20, batch);
        assert_eq!(pacer.plan(SECOND, None).gather, batch);
        run(&mut pacer, &mut now, 1, 21, batch);
        assert_eq!(pacer.plan(SECOND, None).gather, Duration::ZERO);
        run(&mut pacer, &mut now, 1, 1, batch);
        assert_eq!(pacer.plan(SECOND, None).gather, batch);
    }

    #[test]
    fn prompt_looks_for_the_next_where_a_late_wake_up_would_lose_some() {
        let near = |granted_bytes, every| {
            let mut now = Instant::now();
            let mut pacer = Pacer::new(Wait::Prompt, now);
            pacer.set_smallest_buffer(Some(granted_bytes));
            run(&mut pacer, &mut now, 1000, 1, every);
            pacer.plan(SECOND, None).is_near
        };
        assert!(near(212_992, Duration::from_micros(20))); // 50 k/s, and room for 3 ms
        assert!(!near(212_992, Duration::from_micros(50)));
        assert!(!near(16 << 20, Duration::from_micros(20)));
    }

    #[test]
    fn prompt_and_spin_never_gather() {
        for policy in [Wait::Prompt, Wait::Spin] {
            let pacer = Pacer::new(policy, Instant::now());
            assert_eq!(pacer.longest_delay(), None);
            let plan = Plan {
                gather: Duration::ZERO,
                timeout: SECOND,
                alarm: None,
                spin: policy == Wait::Spin,
                is_near: false,
            };
            assert_eq!(pacer.plan(SECOND, None), plan);
        }
    }
}
