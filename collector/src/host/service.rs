//! What systemd is told: that records are written, that the collector works, and that it ends (sd_notify(3)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

use crate::failure::{Failure, Result};

/// Shows that the collector works. Those that could hang beat it at least once a second.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    start: Instant,
    /// When it was last beaten: milliseconds after the start.
    beaten_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            beaten_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    pub fn beat(&self) {
        self.beaten_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long ago it was last beaten.
    pub fn age(&self) -> Duration {
        let beaten_ms = self.beaten_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(beaten_ms))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Reports that records are written, to the service manager that has started this process, if one has. If it has a
/// watchdog, a thread reports from now on that the heart beats.
pub fn begin(heartbeat: &Heartbeat) -> Result<()> {
    notify(NotifyState::Ready);
    if let Some(interval) = sd_notify::watchdog_enabled() {
        let heartbeat = heartbeat.clone();
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&heartbeat, interval))
            .map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    }
    Ok(())
}

/// Reports that it ends, which may take as long as the outputs need.
pub fn end() {
    notify(NotifyState::Stopping);
}

/// Reports three times in the watchdog's interval, while the heart beats.
fn watch(heartbeat: &Heartbeat, interval: Duration) {
    loop {
        if heartbeat.age() < interval {
            notify(NotifyState::Watchdog);
        }
        thread::sleep(interval / 3);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("the service manager cannot be notified: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_as_old_as_its_last_beat() {
        let heartbeat = Heartbeat::new();
        let elsewhere = heartbeat.clone();
        thread::sleep(Duration::from_millis(20));
        assert!(heartbeat.age() >= Duration::from_millis(20));
        elsewhere.beat();
        assert!(heartbeat.age() < Duration::from_millis(20));
    }
}
