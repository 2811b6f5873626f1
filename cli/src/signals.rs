//! SIGINT and SIGTERM: the first asks for an orderly end, the second for one at once. SIGUSR1: asks for a report. SIGXFSZ: ignored, so that a file at
//! its size limit is a failed write.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use nlring::StopHandle;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals as Incoming;

/// The signals' handlers. What comes before [`forward_to`](Self::forward_to) is kept for it.
pub struct Signals {
    incoming: Incoming,
    requests: StopRequests,
}

/// How often an end was asked for, and when first.
#[derive(Clone, Debug, Default)]
pub struct StopRequests(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    count: AtomicUsize,
    first_at: OnceLock<Instant>,
}

impl StopRequests {
    /// Since when an orderly end is wanted.
    pub fn stop_since(&self) -> Option<Instant> {
        self.0.first_at.get().copied()
    }

    /// Whether an end at once is wanted.
    pub fn stop_at_once(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) > 1
    }

    pub fn add(&self) {
        self.0.first_at.get_or_init(Instant::now);
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether --stats and --table are to be written now.
#[derive(Clone, Debug)]
pub struct ReportRequests(Arc<AtomicBool>);

impl ReportRequests {
    pub fn install() -> io::Result<Self> {
        let is_asked_for = Arc::default();
        signal_hook::flag::register(SIGUSR1, Arc::clone(&is_asked_for))?;
        Ok(Self(is_asked_for))
    }

    /// Whether the signal has come since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Signals {
    /// Installs the handlers. Starts no thread.
    pub fn install(requests: StopRequests) -> io::Result<Self> {
        let incoming = Incoming::new([SIGINT, SIGTERM])?;
        // Whatever it sets is not looked at; without a handler the signal ends the process.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(Self { incoming, requests })
    }

    /// Starts the thread that counts the signals and, with each, ends the engine's wait.
    pub fn forward_to(mut self, stop: StopHandle) -> io::Result<()> {
        let forward = move || {
            for _ in self.incoming.forever() {
                self.requests.add();
                stop.stop();
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(forward)?;
        Ok(())
    }
}
