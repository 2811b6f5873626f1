//! Notices at once when names of namespaces are added or deleted: inotify(7) on /run/netns.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use super::kept::Kept;
use super::known_namespaces::NAMES;

/// How often the thread retries to end the engine's wait. A signal that arrives just before the wait does not end it.
const AGAIN: Duration = Duration::from_millis(5);
/// The number of tries after which nobody waits any longer.
const MOST_TRIES: u32 = 200;

/// A thread that waits for changes of /run/netns. It ends with the process.
pub struct NamespaceWatch {
    inotify: Option<Arc<OwnedFd>>,
    changes: Arc<Changes>,
}

/// What has happened to a name in /run/netns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChange {
    Added(OsString),
    Deleted(OsString),
    /// There were more changes than the kernel keeps.
    Unknown,
}

/// The changes that nobody has taken yet.
#[derive(Default)]
struct Changes {
    has_any: AtomicBool,
    names: Mutex<Vec<NameChange>>,
}

impl Changes {
    fn names(&self) -> MutexGuard<'_, Vec<NameChange>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, change: Option<NameChange>) {
        self.names().extend(change);
        self.has_any.store(true, Ordering::Release);
    }
}

impl NamespaceWatch {
    /// Starts to watch. /run/netns need not exist: see [`attach`](Self::attach).
    pub fn start() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let changes = Arc::<Changes>::default();
        // A signal ends the engine's wait. Its handler only keeps the signal from ending the process.
        signal_hook::flag::register(signal_hook::consts::SIGIO, Arc::default())?;
        let watch = Self {
            inotify: Some(Arc::clone(&inotify)),
            changes: Arc::clone(&changes),
        };
        thread::Builder::new()
            .name("namespaces".to_owned())
            .spawn(move || wait_for_changes(&inotify, &changes))?;
        Ok(watch)
    }

    /// Nothing is watched.
    pub fn none() -> Self {
        Self {
            inotify: None,
            changes: Arc::default(),
        }
    }

    /// Watches /run/netns if it exists by now. Call it before each look at the names. Watching it again does no harm.
    pub fn attach(&self) {
        if let Some(inotify) = &self.inotify {
            let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
            // Without the directory there are no names, and the next call tries again.
            let _ = inotify::add_watch(inotify.as_fd(), NAMES, changes);
        }
    }

    /// The names that were added and deleted after the last call, in this order. None: nothing has changed.
    pub fn take_changes(&self) -> Option<Vec<NameChange>> {
        let has_any = self.changes.has_any.swap(false, Ordering::AcqRel);
        has_any.then(|| std::mem::take(&mut *self.changes.names()))
    }
}

fn wait_for_changes(inotify: &OwnedFd, changes: &Changes) {
    let _ = Kept::NONE.give_up_others(); // if it fails, the session's own attempt warns
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) => changes.add(change(&event)),
            Err(Errno::INTR) => continue,
            Err(_) => return, // the names are still looked at every second
        }
        if !reader.is_buffer_empty() {
            continue;
        }
        for _ in 0..MOST_TRIES {
            if !changes.has_any.load(Ordering::Acquire) {
                break;
            }
            let _ = kill_process(getpid(), Signal::IO);
            thread::sleep(AGAIN);
        }
    }
}

fn change(event: &Event<'_>) -> Option<NameChange> {
    let flags = event.events();
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(NameChange::Unknown);
    }
    let name = OsString::from_vec(event.file_name()?.to_bytes().to_vec());
    if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
        Some(NameChange::Added(name))
    } else {
        Some(NameChange::Deleted(name))
    }
}
