//! The names of the namespaces that contain the other ends of devices.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nlring::Namespace;
use nlring::route::{Link, Requests};
use nlring_print::route::DeviceNames;

use crate::host::known_namespaces::NAMES;

/// The least time between two looks for an id without a name, because ids are assigned without notice.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// After a look, no other begins for this many times as long as it took, so that thousands of namespaces that come and go
/// do not hold up the events.
const REST: u32 = 3;

/// Looks up the names of namespaces by the ids that a namespace has assigned to them.
#[derive(Default)]
pub struct NamespaceNames {
    /// Sends requests in the namespace of these devices. None: nothing has been requested yet, or that failed.
    requests: Option<Requests>,
    looked_at: Option<Instant>,
    /// The earliest time of the next look.
    rest_until: Option<Instant>,
    /// When /run/netns had last changed before the last look.
    changed_at: Option<SystemTime>,
}

impl NamespaceNames {
    /// Makes sure that the names of the namespaces in a link message are known, if they have any.
    pub fn find(
        &mut self,
        link: &Link<'_>,
        namespace: Option<&Namespace>,
        devices: &mut DeviceNames,
    ) {
        let ids = link.link_netnsid.into_iter().chain(link.new_netnsid);
        for id in ids.filter(|id| *id >= 0) {
            if self.is_look_due(devices.namespace(id).is_some()) {
                devices.set_namespaces(self.look(namespace));
            }
        }
    }

    fn is_look_due(&mut self, is_known: bool) -> bool {
        let now = Instant::now();
        if self.rest_until.is_some_and(|until| now < until) {
            return false;
        }
        let changed_at = fs::metadata(NAMES).and_then(|names| names.modified()).ok();
        let has_changed = std::mem::replace(&mut self.changed_at, changed_at) != changed_at;
        let looked_at = self.looked_at;
        has_changed || !is_known && looked_at.is_none_or(|at| now >= at + LOOK_INTERVAL)
    }

    /// Looks up all names, and rests.
    fn look(&mut self, namespace: Option<&Namespace>) -> Vec<(i32, Box<[u8]>)> {
        let start = Instant::now();
        let names = self.names(namespace);
        self.looked_at = Some(start);
        self.rest_until = Some(Instant::now() + start.elapsed() * REST);
        names
    }

    /// All names whose namespaces have an id. If something fails, the ids stay without names.
    fn names(&mut self, namespace: Option<&Namespace>) -> Vec<(i32, Box<[u8]>)> {
        let mut names = Vec::new();
        if self.requests.is_none() {
            self.requests = match namespace {
                Some(namespace) => Requests::open_in(namespace).ok(),
                None => Requests::open().ok(),
            };
        }
        let Some(requests) = &mut self.requests else {
            return names;
        };
        for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let opened = Namespace::from_path(Path::new(NAMES).join(&name));
            if let Ok(named) = opened
                && let Ok(Some(id)) = requests.namespace_id(&named)
            {
                names.push((id, name.into_vec().into_boxed_slice()));
            }
        }
        names
    }
}
