//! Tests of the table without a kernel.
#![cfg_attr(fuzzing, allow(unused, reason = "fuzzers use the models only"))]

#[cfg(test)]
mod contents;
#[cfg(test)]
mod filter;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
pub(super) mod kernel;
#[cfg(test)]
mod lifetimes;
mod random;

use std::time::{Duration, Instant};

use super::{Mirror, MirrorOptions};
use crate::conntrack::{Key, Layer4, Tuple};
use crate::mirror::{Resync, ResyncReason, Slice};
use crate::socket::Socket;
use crate::timestamp::Timestamp;

/// An empty result, which [`Follower::count_in`](super::follow::Follower::count_in) fills in.
fn no_resync() -> Resync {
    Resync {
        reason: ResyncReason::Loss,
        lost_count: 0,
        since: Timestamp::UNIX_EPOCH,
        until: Timestamp::UNIX_EPOCH,
        entry_count: 0,
        new_count: 0,
        update_count: 0,
        destroy_count: 0,
        is_interrupted: false,
    }
}

#[test]
fn a_socket_without_its_groups_is_refused() {
    let mut mirror = Mirror::new(MirrorOptions::new());
    let events = Socket::open(crate::Protocol::NETFILTER).unwrap();
    let error = mirror.advance(&events, |_| ()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.contains("groups New, Update, Destroy; "), "{text}");
    assert!(!mirror.is_complete() && mirror.health().error == Some(&text));
    assert!(
        mirror
            .due(Instant::now())
            .is_some_and(|due| due > Instant::now())
    );
}

#[test]
fn a_mirror_that_waits_for_a_dump_that_never_comes_has_nothing_to_do() {
    let options = MirrorOptions::new().resync_interval(Duration::MAX);
    let mut mirror = Mirror::new(options.audit_interval(Duration::MAX));
    mirror.finish(|_| ()).unwrap();
    assert!(mirror.is_synced() && mirror.follower.clear(&mut Slice::endless()));
    let now = Instant::now();
    let key = Key {
        orig: Tuple::new([1; 4].into(), [2; 4].into(), 6, Layer4::None),
        zone: None,
    };
    mirror.follower.contradicted.push(key.into());
    assert!(
        mirror.due(now).is_some(),
        "a question about the flow is due"
    );
    mirror.note_unreadable();
    assert_eq!(mirror.due(now + Duration::from_secs(1)), None);
}
