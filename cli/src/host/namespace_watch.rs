//! Notices at once when names of namespaces are added or deleted: inotify(7) on /run/netns.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use super::known_namespaces::NAMES;

/// How often the thread tries again to end the engine's wait. A signal that comes just before the wait ends none.
const AGAIN: Duration = Duration::from_millis(5);
/// After this many tries nobody waits any more.
const MOST_TRIES: u32 = 200;

/// A thread that waits for changes of /run/netns. It ends with the process.
pub struct NamespaceWatch {
    inotify: Option<Arc<OwnedFd>>,
    has_changed: Arc<AtomicBool>,
}

impl NamespaceWatch {
    /// Starts to watch. /run/netns need not exist: see [`attach`](Self::attach).
    pub fn start() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let has_changed = Arc::new(AtomicBool::new(false));
        // A signal ends the engine's wait. Its handler only keeps the signal from ending the process.
        signal_hook::flag::register(signal_hook::consts::SIGIO, Arc::default())?;
        let watch = Self {
            inotify: Some(Arc::clone(&inotify)),
            has_changed: Arc::clone(&has_changed),
        };
        thread::Builder::new()
            .name("namespaces".to_owned())
            .spawn(move || wait_for_changes(&inotify, &has_changed))?;
        Ok(watch)
    }

    /// Nothing is watched.
    pub fn none() -> Self {
        Self {
            inotify: None,
            has_changed: Arc::default(),
        }
    }

    /// Watches /run/netns if it exists by now. Call it before each look at the names. To watch it again does no harm.
    pub fn attach(&self) {
        if let Some(inotify) = &self.inotify {
            let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
            // Where there is no directory there are no names, and the next call tries again.
            let _ = inotify::add_watch(inotify.as_fd(), NAMES, changes);
        }
    }

    /// Whether names were added or deleted after the last call.
    pub fn take_changed(&self) -> bool {
        self.has_changed.swap(false, Ordering::AcqRel)
    }
}

fn wait_for_changes(inotify: &OwnedFd, has_changed: &AtomicBool) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        match reader.next() {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return, // the names are still looked at every second
        }
        has_changed.store(true, Ordering::Release);
        for _ in 0..MOST_TRIES {
            if !has_changed.load(Ordering::Acquire) {
                break;
            }
            let _ = kill_process(getpid(), Signal::IO);
            thread::sleep(AGAIN);
        }
    }
}
