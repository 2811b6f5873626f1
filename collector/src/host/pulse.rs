//! Whether the essential threads are working, waiting for a disk, or hanging.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A disk that does not respond within this time is reported.
const PATIENCE_WITH_DISK: Duration = Duration::from_secs(10);

/// What the receive thread and the spool's thread are doing.
#[derive(Clone, Debug, Default)]
pub struct Pulses {
    pub receive: Pulse,
    pub spool: Pulse,
    /// The thread that syncs the spool.
    pub sync: Pulse,
}

impl Pulses {
    /// How long the receive thread has done nothing, through its own fault or that of the spool's thread. Time that the
    /// spool's thread spends waiting for a disk does not count, because no restart would help.
    pub fn hanging_for(&self) -> Duration {
        if !self.receive.is_waiting() {
            return self.receive.age();
        }
        if self.spool.is_waiting() {
            return Duration::ZERO;
        }
        self.receive.age().min(self.spool.age())
    }

    /// How long the spool's disk has not responded, once that is worth a report.
    pub fn disk_silent_for(&self) -> Option<Duration> {
        let pulses = [&self.spool, &self.sync].into_iter();
        let waiting = pulses.filter(|pulse| pulse.is_waiting());
        let longest = waiting.map(Pulse::age).max();
        longest.filter(|age| *age >= PATIENCE_WITH_DISK)
    }
}

/// When a thread last showed that it works, and whether it has since been waiting for another thread or a disk.
#[derive(Clone, Debug)]
pub struct Pulse {
    start: Instant,
    /// Milliseconds after the start, with [`WAITING`].
    beaten: Arc<AtomicU64>,
}

/// Set while the thread waits.
const WAITING: u64 = 1 << 63;

impl Pulse {
    /// Shows that the thread works.
    pub fn beat(&self) {
        self.beaten.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Does something that waits for another thread or for a disk.
    pub fn wait_for<T>(&self, work: impl FnOnce() -> T) -> T {
        self.beaten
            .store(self.now_ms() | WAITING, Ordering::Relaxed);
        let result = work();
        self.beat();
        result
    }

    /// How long ago it last beat, or began to wait.
    pub fn age(&self) -> Duration {
        let beaten_ms = self.beaten.load(Ordering::Relaxed) & !WAITING;
        Duration::from_millis(self.now_ms().saturating_sub(beaten_ms))
    }

    pub fn is_waiting(&self) -> bool {
        self.beaten.load(Ordering::Relaxed) & WAITING != 0
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX) & !WAITING
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            beaten: Arc::new(AtomicU64::new(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    const A_WHILE: Duration = Duration::from_millis(20);

    #[test]
    fn a_pulse_is_as_old_as_its_last_beat() {
        let pulse = Pulse::default();
        let elsewhere = pulse.clone();
        sleep(A_WHILE);
        assert!(pulse.age() >= A_WHILE);
        elsewhere.beat();
        assert!(pulse.age() < A_WHILE);
    }

    #[test]
    fn the_receive_thread_hangs_unless_it_waits_for_a_disk() {
        let pulses = Pulses::default();
        sleep(A_WHILE);
        assert!(pulses.hanging_for() >= A_WHILE, "it works on something");
        pulses.receive.wait_for(|| {
            sleep(A_WHILE);
            assert!(pulses.hanging_for() >= A_WHILE, "the spool's thread hangs");
            pulses.spool.wait_for(|| {
                sleep(A_WHILE);
                assert_eq!(pulses.hanging_for(), Duration::ZERO, "the disk hangs");
                assert_eq!(pulses.disk_silent_for(), None, "not for long");
            });
            assert!(pulses.hanging_for() < A_WHILE, "the spool's thread works");
        });
        assert!(pulses.hanging_for() < A_WHILE, "it works");
    }
}
