//! The network namespaces of this host that can be found: those with names, and those of processes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nlring::Namespace;
use nlring_print::text::escaped;

/// Where ip-netns(8) binds namespaces to names.
pub const NAMES: &str = "/run/netns";
const OWN: &str = "/proc/self/ns/net";

/// How a namespace was found. If there are several ways, the first in this order counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// It has a name in /run/netns.
    Name(OsString),
    /// This process is in it.
    Own,
    /// A process is in it, here by its ID.
    Process(u32),
}

/// What distinguishes namespaces: device and inode of their files. Another namespace can have the same pair only after
/// this one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

/// A namespace that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub label: Label,
    pub key: Key,
}

impl Label {
    /// The name for lines. None: it is the namespace of this process.
    pub fn name(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Name(name) => Some(Cow::Borrowed(name.as_bytes())),
            Self::Own => None,
            Self::Process(process_id) => Some(Cow::Owned(format!("pid:{process_id}").into())),
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => Path::new(NAMES).join(name),
            Self::Own => OWN.into(),
            Self::Process(process_id) => format!("/proc/{process_id}/ns/net").into(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "the network namespace {}", escaped(&name)),
            None => f.write_str("this network namespace"),
        }
    }
}

/// The labels for a message: at most some of them by name.
pub fn listed(labels: &[&Label]) -> String {
    const MOST: usize = 5;
    if let [label] = labels {
        return label.to_string();
    }
    let names = labels.iter().take(MOST).map(|label| match label.name() {
        Some(name) => escaped(&name),
        None => "current".to_owned(),
    });
    let names = names.collect::<Vec<_>>().join(", ");
    match labels.len().saturating_sub(MOST) {
        0 => format!("the network namespaces {names}"),
        more => format!("the network namespaces {names} and {more} more"),
    }
}

impl Found {
    /// Opens the namespace. `None`: it is gone, or its label now belongs to another.
    pub fn open(&self) -> nlring::Result<Option<Namespace>> {
        let opened = match &self.label {
            Label::Process(process_id) => Namespace::from_process(*process_id),
            label => Namespace::from_path(label.path()),
        };
        match opened {
            Ok(namespace) => Ok((namespace.inode() == self.key.1).then_some(namespace)),
            Err(error) => match error.kind() {
                nlring::ErrorKind::NotFound | nlring::ErrorKind::InvalidInput => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// The namespaces that can be found now.
#[derive(Debug, Default)]
pub struct Known {
    /// In the order of their labels, each once: this process's namespace is always among them.
    pub namespaces: Vec<Found>,
    /// All names that are bound to a namespace. Several may be of the same.
    pub names: Vec<(OsString, Key)>,
    /// Whether there are names that are bound to no namespace. A name that is just being added briefly looks like this.
    pub has_unbound_names: bool,
}

impl Known {
    /// Looks for the namespaces, including those without a name if requested. It opens none.
    pub fn find(with_processes: bool) -> io::Result<Self> {
        let own = key(Path::new(OWN)).map_err(|error| {
            let remedy = "this needs /proc: mount -t proc proc /proc";
            io::Error::new(error.kind(), format!("{OWN}: {error}; {remedy}"))
        })?;
        let mut known = Self::default();
        let mut labels = Vec::new();
        for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
            labels.push(Label::Name(entry.file_name()));
        }
        labels.sort_unstable();
        labels.push(Label::Own);
        if with_processes {
            labels.extend(process_ids().into_iter().map(Label::Process));
        }
        let mut keys = HashSet::new();
        for label in labels {
            // A file that cannot be examined is gone, or belongs to a process that this one may not examine.
            let Ok(key) = key(&label.path()) else {
                continue;
            };
            if key.0 != own.0 {
                known.has_unbound_names = true; // it is on another file system than those of the kernel's namespaces
                continue;
            }
            if let Label::Name(name) = &label {
                known.names.push((name.clone(), key));
            }
            if keys.insert(key) {
                known.namespaces.push(Found { label, key });
            }
        }
        Ok(known)
    }
}

fn process_ids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids
}

fn key(path: &Path) -> io::Result<Key> {
    let metadata = fs::metadata(path)?;
    Ok(Key(metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_more_than_a_process() {
        let name = |name: &str| Label::Name(name.into());
        let mut labels = [Label::Process(3), Label::Own, name("b"), name("a")];
        labels.sort_unstable();
        assert_eq!(
            labels,
            [name("a"), name("b"), Label::Own, Label::Process(3)]
        );
        assert_eq!(Label::Process(3).name().as_deref(), Some(&b"pid:3"[..]));
    }

    /// A name can belong to another namespace by the time it is opened.
    #[test]
    fn a_namespace_with_another_key_than_the_one_found_is_not_opened() {
        let Key(device, inode) = key(Path::new(OWN)).unwrap();
        for (key, is_it) in [(Key(device, inode), true), (Key(device, inode + 1), false)] {
            let label = Label::Own;
            let opened = Found { label, key }.open().unwrap();
            assert_eq!(opened.is_some(), is_it);
        }
    }

    #[test]
    fn each_namespace_is_found_once_and_the_own_one_always() {
        for with_processes in [false, true] {
            let known = Known::find(with_processes).unwrap();
            let own = key(Path::new(OWN)).unwrap();
            let is_own = |found: &&Found| found.key == own;
            assert_eq!(known.namespaces.iter().filter(is_own).count(), 1);
            let keys: HashSet<Key> = known.namespaces.iter().map(|found| found.key).collect();
            assert_eq!(keys.len(), known.namespaces.len());
        }
    }
}
