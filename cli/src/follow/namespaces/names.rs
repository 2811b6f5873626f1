//! Counts the named namespaces that were gone before they could be followed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

use crate::host::namespace_watch::NameChange;

/// What is known about the names in /run/netns. A look at the directory may see a change before its notice is read.
#[derive(Debug, Default)]
pub struct Names {
    /// Names that were added, and whose namespaces are not followed yet.
    waiting: HashSet<OsString>,
    /// Names whose namespaces are followed, or could not be, which is reported elsewhere.
    handled: HashSet<OsString>,
}

impl Names {
    /// Records that a look has found the name, and that its namespace is followed or is known not to be.
    pub fn note_handled(&mut self, name: OsString) {
        self.waiting.remove(&name);
        self.handled.insert(name);
    }

    /// Records a change. Returns the name if it is gone and its namespace was never followed.
    pub fn note<'a>(&mut self, change: &'a NameChange) -> Option<&'a OsStr> {
        match change {
            NameChange::Added(name) => {
                if !self.handled.contains(name) {
                    self.waiting.insert(name.clone());
                }
                None
            }
            NameChange::Deleted(name) => {
                self.handled.remove(name);
                self.waiting.remove(name).then_some(name)
            }
            NameChange::Unknown => {
                *self = Self::default(); // deletions may be unnoticed; the next look finds the names that are there
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NameChange::{Added, Deleted, Unknown};

    fn name() -> OsString {
        "blue".into()
    }

    #[test]
    fn a_name_that_is_gone_before_a_look_is_missed_each_time() {
        let mut names = Names::default();
        for _ in 0..2 {
            assert_eq!(names.note(&Added(name())), None);
            assert_eq!(names.note(&Deleted(name())), Some(name().as_os_str()));
        }
        assert_eq!(names.note(&Deleted(name())), None);
    }

    #[test]
    fn a_name_that_was_found_is_not_missed_whenever_its_notice_is_read() {
        let mut names = Names::default();
        names.note_handled(name());
        for change in [Added(name()), Deleted(name()), Added(name())] {
            assert_eq!(names.note(&change), None);
        }
        names.note_handled(name());
        assert_eq!(names.note(&Deleted(name())), None);
        names.note(&Added(name()));
        assert!(names.note(&Deleted(name())).is_some(), "a later one");
    }

    #[test]
    fn names_whose_deletions_are_unnoticed_do_not_pile_up() {
        let mut names = Names::default();
        for number in 0..10 {
            assert_eq!(names.note(&Added(format!("waiting {number}").into())), None);
            names.note_handled(format!("handled {number}").into());
        }
        assert_eq!(names.note(&Unknown), None);
        assert!(names.waiting.is_empty() && names.handled.is_empty());
        assert_eq!(names.note(&Deleted(name())), None);
    }
}
