//! Syncs segments to the disk on a separate thread, so that a slow disk does not delay batches that are appended
//! meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::failure::{Failure, Result};
use crate::host::Pulse;
use crate::metrics::{Metrics, Part};

/// A sync that takes longer than this is reported.
const REPORTED_SYNC: Duration = Duration::from_secs(5);

/// Syncs files on another thread. Dropping it waits for the syncs that were requested.
pub struct Syncs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    due: Mutex<Due>,
    changed: Condvar,
}

/// The files to sync.
#[derive(Default)]
struct Due {
    files: Vec<(PathBuf, Arc<File>)>,
    is_over: bool,
}

impl Syncs {
    /// Starts the thread. `pulse` shows whether it waits for the disk.
    pub fn start(pulse: Pulse, metrics: Metrics) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("sync".to_owned()).spawn({
            let shared = shared.clone();
            move || run(&shared, &pulse, &metrics)
        });
        let thread = thread.map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// For tests that do not check metrics.
    #[cfg(test)]
    pub fn of_test() -> Self {
        let metrics = Metrics::new(crate::host::Pulses::default());
        Self::start(Pulse::default(), metrics).expect("a thread")
    }

    /// Requests a sync of the file's current contents.
    pub fn request(&self, path: &Path, file: &Arc<File>) {
        let mut due = self.shared.lock();
        let mut files = due.files.iter();
        if !files.any(|(_, known)| Arc::ptr_eq(known, file)) {
            due.files.push((path.to_owned(), file.clone()));
        }
        self.shared.changed.notify_one();
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for files to sync. None: there will be no more.
    fn next(&self) -> Option<Vec<(PathBuf, Arc<File>)>> {
        let is_idle = |due: &mut Due| due.files.is_empty() && !due.is_over;
        let due = self.changed.wait_while(self.lock(), is_idle);
        let files = std::mem::take(&mut due.unwrap_or_else(PoisonError::into_inner).files);
        (!files.is_empty()).then_some(files)
    }
}

fn run(shared: &Shared, pulse: &Pulse, metrics: &Metrics) {
    let mut is_failing = false;
    while let Some(files) = shared.next() {
        for (path, file) in files {
            let begun = Instant::now();
            let synced = pulse.wait_for(|| file.sync_data());
            let took = begun.elapsed();
            metrics.note_spool_write(took, None);
            if took >= REPORTED_SYNC {
                warn!("a sync of the spool has taken {took:.1?}: its disk is too slow");
            }
            let was_failing = is_failing;
            is_failing = synced.is_err();
            if let Err(error) = synced {
                let failure = Failure::of_file("sync", &path, &error);
                warn!("{failure}; a power failure may take the records since the last sync");
                metrics.count_spool_error();
                metrics.note_health(&Part::Spool, Some(failure.to_string()));
            } else if was_failing {
                info!("the spool is synced again");
                metrics.note_health(&Part::Spool, None);
            }
        }
    }
}
