//! What each signal requests:
//! - SIGINT, SIGTERM, SIGQUIT: the first one requests an orderly end, the second one an immediate end.
//! - SIGHUP: the --output file is reopened by its name. Without such a file it requests an orderly end, because the
//!   terminal is gone. It never causes an immediate end, because a terminal that closes may send it twice.
//! - SIGUSR1: the --stats and --table files are written.
//! - SIGXFSZ is ignored, so that a write beyond the file size limit fails with an error.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use nlring::StopHandle;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals as Incoming;

/// The signal handlers. Signals that arrive before [`forward_to`](Self::forward_to) wait for it.
pub struct Signals {
    incoming: Incoming,
    requests: StopRequests,
    files: FileRequests,
}

/// How many times the end was requested, and when first.
#[derive(Clone, Debug, Default)]
pub struct StopRequests(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    count: AtomicUsize,
    first_at: OnceLock<Instant>,
    /// Stopped by each further request, see [`StopRequests::stop_on_next`].
    on_next: OnceLock<StopHandle>,
}

impl StopRequests {
    /// When an orderly end was first requested.
    pub fn stop_since(&self) -> Option<Instant> {
        self.0.first_at.get().copied()
    }

    /// Whether the run must end at once.
    pub fn stop_at_once(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) > 1
    }

    pub fn add(&self) {
        self.0.first_at.get_or_init(Instant::now);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        if let Some(stop) = self.0.on_next.get() {
            stop.stop();
        }
    }

    /// Makes each further request stop this handle. It is for waits during an orderly end, which the first request
    /// caused. Only the first call has an effect.
    pub fn stop_on_next(&self, stop: StopHandle) {
        let stop = self.0.on_next.get_or_init(|| stop);
        if self.stop_at_once() {
            stop.stop(); // the request came just before
        }
    }

    /// Counts a request only if there was none before.
    fn add_first(&self) {
        if self.stop_since().is_none() {
            self.add();
        }
    }
}

/// What signals requested for the files. A signal ends the engine's wait, so that it is done soon.
#[derive(Debug, Default)]
pub struct FileRequests {
    report: Arc<AtomicBool>,
    reopen: Arc<AtomicBool>,
}

impl FileRequests {
    /// Whether --stats and --table were requested since the last call.
    pub fn take_report(&self) -> bool {
        self.report.swap(false, Ordering::Relaxed)
    }

    /// Whether reopening --output was requested since the last call.
    pub fn take_reopen(&self) -> bool {
        self.reopen.swap(false, Ordering::Relaxed)
    }
}

/// Makes a write beyond the file size limit an error. Without a handler its signal would end the process.
pub fn ignore_file_size_signal() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?; // the flag is not read
    Ok(())
}

impl Signals {
    /// Installs the handlers. Starts no thread.
    pub fn install(requests: StopRequests, can_reopen: bool) -> io::Result<Self> {
        let files = FileRequests::default();
        let mut ends = ends();
        if can_reopen {
            signal_hook::flag::register(SIGHUP, Arc::clone(&files.reopen))?;
            ends.retain(|&signal| signal != SIGHUP);
        }
        let incoming = Incoming::new(ends)?;
        signal_hook::flag::register(SIGUSR1, Arc::clone(&files.report))?;
        Ok(Self {
            incoming,
            requests,
            files,
        })
    }

    /// Starts the thread that counts the requests for an end. Each request also ends the engine's wait.
    pub fn forward_to(mut self, stop: StopHandle) -> io::Result<FileRequests> {
        let forward = move || {
            for signal in self.incoming.forever() {
                match signal {
                    SIGHUP => self.requests.add_first(),
                    _ => self.requests.add(),
                }
                stop.stop();
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(forward)?;
        Ok(self.files)
    }
}

/// The signals that request an end.
pub fn ends() -> Vec<i32> {
    let mut ends = vec![SIGINT, SIGTERM, SIGQUIT];
    if !is_hangup_ignored() {
        ends.push(SIGHUP);
    }
    ends
}

/// Whether the process was started to survive its terminal (nohup(1)).
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_request_ends_the_waits_of_an_orderly_end() {
        // The end was begun by --duration or by the first request.
        for before in [0, 1] {
            let requests = StopRequests::default();
            (0..before).for_each(|_| requests.add());
            let stop = StopHandle::new().unwrap();
            requests.stop_on_next(stop.clone());
            assert!(!stop.is_stopped(), "{before}");
            requests.add();
            assert!(stop.is_stopped(), "{before}");
        }
        let requests = StopRequests::default();
        (0..2).for_each(|_| requests.add());
        let stop = StopHandle::new().unwrap();
        requests.stop_on_next(stop.clone());
        assert!(stop.is_stopped(), "the second request stopped it");
    }
}
