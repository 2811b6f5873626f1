//! The warning about flows that make no events, for a user who would wait for these.

use crate::host::listeners::NetlinkSockets;
use crate::host::sysctl;

const EVENTS: &str = "net.netfilter.nf_conntrack_events";
const COUNT: &str = "net.netfilter.nf_conntrack_count";

/// The warning about flows in this namespace that make no events, if there are any. Call it before this program
/// listens, because from then on all new flows make events.
pub fn warning(audits: bool) -> Option<String> {
    warning_of(sysctl::read(EVENTS)?, sysctl::read(COUNT)?, audits, || {
        NetlinkSockets::read().conntrack_listener_count()
    })
}

/// `audits`: whether the audits of a mirror show what becomes of such flows.
fn warning_of(
    events: i64,
    flow_count: i64,
    audits: bool,
    listener_count: impl FnOnce() -> usize,
) -> Option<String> {
    let set = format!("sysctl -w {EVENTS}=1");
    match events {
        // A rule can still ask for events: nf_ct_ecache_ext_add in net/netfilter/nf_conntrack_ecache.c.
        0 => Some(format!(
            "nf_conntrack_events is 0: new flows make no events, unless a rule asks for them (nft's ct event set); \
             {set} makes later flows report their events"
        )),
        2 if flow_count > 0 && listener_count() == 0 => {
            let mirror = if audits {
                "the mirror's audits show what becomes of them"
            } else {
                "--mirror shows what becomes of them"
            };
            Some(format!(
                "{flow_count} flows exist already: those that began while no program listened to conntrack events make \
                 no events, not even at their end; {mirror}, and {set} makes every later flow report its events"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_only_about_flows_that_make_no_events() {
        for (events, flow_count, listener_count, words) in [
            (0, 0, 0, Some("nf_conntrack_events is 0")),
            (0, 5, 3, Some("nf_conntrack_events is 0")),
            (1, 5, 0, None),
            (2, 0, 0, None),
            (2, 5, 1, None),
            (2, 5, 0, Some("5 flows exist already")),
        ] {
            let warning = warning_of(events, flow_count, false, || listener_count);
            let starts = |words: &str| warning.as_ref().is_some_and(|text| text.starts_with(words));
            assert_eq!(warning.is_some(), words.is_some(), "{warning:?}");
            assert!(words.is_none_or(starts), "{warning:?}");
        }
        let remedy = |audits| warning_of(2, 5, audits, || 0).unwrap();
        assert!(remedy(false).contains("; --mirror shows"));
        assert!(remedy(true).contains("; the mirror's audits show"));
    }
}
