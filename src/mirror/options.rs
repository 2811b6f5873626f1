//! How a mirror behaves.

use std::time::Duration;

use super::schedule::{INTERVAL, Intervals};
#[cfg(doc)]
use super::{MirrorHealth, ResyncReason};

/// The least time between the beginnings of two dumps after changes that no event reports, by default.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// How a mirror behaves: a [`conntrack::Mirror`](crate::conntrack::Mirror) or a
/// [`route::Mirror`](crate::route::Mirror).
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use nlring::MirrorOptions;
/// use nlring::conntrack::Mirror;
///
/// let options = MirrorOptions::new()
///     .resync_interval(Duration::from_secs(30))
///     .audit_interval(Duration::MAX) // never
///     .memory_bytes(256 << 20);
/// let mirror = Mirror::new(options);
/// assert!(mirror.is_empty() && !mirror.is_synced());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MirrorOptions {
    resync_interval: Duration,
    /// `None`: the default.
    change_interval: Option<Duration>,
    /// `None`: it depends on how long rounds take.
    audit_interval: Option<Duration>,
    pub(crate) memory_bytes: usize,
}

impl MirrorOptions {
    /// The default options.
    pub const fn new() -> Self {
        Self {
            resync_interval: INTERVAL,
            change_interval: None,
            audit_interval: None,
            memory_bytes: usize::MAX,
        }
    }

    /// The least time between the beginnings of two dumps after losses. The default is 10 s, because a dump delays the
    /// events.
    ///
    /// While losses continue and rounds fail, the time doubles with each failure, up to 8 intervals. After the last
    /// loss it is one interval again. Zero means as soon as losses pause for 50 ms. With [`Duration::MAX`] losses are
    /// never repaired.
    #[must_use]
    pub fn resync_interval(mut self, interval: Duration) -> Self {
        self.resync_interval = interval;
        self
    }

    /// The least time between the beginnings of two dumps after changes of routes that no event reports. The default is
    /// 1 s, or [`resync_interval`](Self::resync_interval) if that is shorter. Zero means as soon as changes pause for
    /// 50 ms. With [`Duration::MAX`] such changes are left to audits.
    ///
    /// A [`conntrack::Mirror`](crate::conntrack::Mirror) always leaves them to audits, because nothing shows when they
    /// happen.
    #[must_use]
    pub fn change_interval(mut self, interval: Duration) -> Self {
        self.change_interval = Some(interval);
        self
    }

    /// How often the mirror compares its table with the kernel's while nothing is known to be wrong: the time between
    /// the beginnings of two such audits. [`Duration::MAX`] means never.
    ///
    /// By default it is 100 times as long as the last round took, so that audits take at most 1 % of the time, and at
    /// least 15 s. A million flows, whose round takes about 3 s, are audited about every five minutes.
    #[must_use]
    pub fn audit_interval(mut self, interval: Duration) -> Self {
        self.audit_interval = Some(interval);
        self
    }

    /// How much memory the entries may take: about 180 bytes per flow, and 150 per simple route.
    ///
    /// This includes the events that a [`conntrack::Mirror`](crate::conntrack::Mirror) holds for the first dump. It
    /// excludes the ends of flows that it remembers (up to 9 MiB), and entries that end while a dump is read: 18 bytes
    /// for each flow, and the whole route, until the dump is merged.
    ///
    /// By default the mirror has no limit of its own: the kernel limits its tables (flows with
    /// `net.netfilter.nf_conntrack_max`), and a smaller limit would leave entries out. With 0 no entry is kept.
    ///
    /// When the limit is reached, new entries are not kept. Their events are still handed out as the kernel sends them,
    /// and nothing is made up for them: a flow whose NEW was lost may begin with an update. The mirror is then not
    /// synced, and [`MirrorHealth::is_full`] says why. When an eighth of the memory is free again, a round makes the
    /// table complete ([`ResyncReason::Room`]).
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The intervals of a table in which nothing shows a change without an event.
    pub(crate) fn intervals(&self) -> Intervals {
        Intervals {
            loss: self.resync_interval,
            change: self.resync_interval,
            audit: self.audit_interval,
        }
    }

    /// The intervals of a table in which something may show a change without an event.
    pub(crate) fn intervals_with_changes(&self) -> Intervals {
        let default = CHANGE_INTERVAL.min(self.resync_interval);
        Intervals {
            change: self.change_interval.unwrap_or(default),
            ..self.intervals()
        }
    }
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_changes_is_no_longer_than_that_of_losses_unless_it_is_set() {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(60));
        let change = |options: MirrorOptions| options.intervals_with_changes().change;
        let options = MirrorOptions::new();
        assert_eq!(change(options), CHANGE_INTERVAL);
        assert_eq!(change(options.resync_interval(short)), short);
        assert_eq!(change(options.resync_interval(long)), CHANGE_INTERVAL);
        let set = options.change_interval(Duration::MAX);
        assert_eq!(change(set.resync_interval(short)), Duration::MAX);
    }
}
