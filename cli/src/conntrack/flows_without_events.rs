//! The warnings about flows that cause no events, for a user who would wait for them.

use nlring::Namespace;

use crate::host::known_namespaces::{Label, listed};
use crate::host::{listeners, namespace, sysctl};

const EVENTS: &str = "net.netfilter.nf_conntrack_events";
const COUNT: &str = "net.netfilter.nf_conntrack_count";

/// The warnings about flows in these namespaces that cause no events, if there are any. Call it before this program
/// listens, because from then on all new flows cause events.
pub fn warnings(namespaces: &[(Label, Option<Namespace>)], audits: bool) -> Vec<String> {
    let found = namespaces.iter().filter_map(|(label, namespace)| {
        let settings = match namespace {
            Some(namespace) => namespace::inside(namespace, Settings::read)??,
            None => Settings::read()?,
        };
        Some((label, settings))
    });
    warnings_of(&found.collect::<Vec<_>>(), namespaces.len() > 1, audits)
}

/// The settings that decide about events in a namespace.
struct Settings {
    events: i64,
    flow_count: i64,
    listener_count: usize,
}

impl Settings {
    /// The settings of this thread's namespace. None: the kernel tracks no connections.
    fn read() -> Option<Self> {
        Some(Self {
            events: sysctl::read(EVENTS)?,
            flow_count: sysctl::read(COUNT)?,
            listener_count: listeners::conntrack_listener_count(),
        })
    }
}

/// `names_them`: whether to name the namespaces. `audits`: whether the audits of a mirror show what becomes of such
/// flows.
fn warnings_of(found: &[(&Label, Settings)], names_them: bool, audits: bool) -> Vec<String> {
    let set = format!("sysctl -w {EVENTS}=1");
    let places = |matches: &dyn Fn(&Settings) -> bool| {
        let found = found.iter().filter(|(_, settings)| matches(settings));
        let labels: Vec<&Label> = found.map(|(label, _)| *label).collect();
        match (labels.as_slice(), names_them) {
            ([], _) => None,
            (_, false) => Some(String::new()),
            (labels, true) => Some(format!(" in {}", listed(labels))),
        }
    };
    let there = if names_them { " there" } else { "" };
    let mut warnings = Vec::new();
    // A rule can still request events: nf_ct_ecache_ext_add in net/netfilter/nf_conntrack_ecache.c.
    if let Some(places) = places(&|settings| settings.events == 0) {
        warnings.push(format!(
            "nf_conntrack_events is 0{places}: new flows make no events, unless a rule asks for them (nft's ct event \
             set); {set}{there} makes later flows report their events"
        ));
    }
    // A listener in any namespace counts: nf_ctnetlink_has_listener in net/netfilter/nf_conntrack_ecache.c.
    let is_heard = found
        .iter()
        .any(|(_, settings)| settings.listener_count > 0);
    let is_silent = |settings: &Settings| settings.events == 2 && settings.flow_count > 0;
    if !is_heard && let Some(places) = places(&is_silent) {
        let silent = found.iter().filter(|(_, settings)| is_silent(settings));
        let flow_count: i64 = silent.map(|(_, settings)| settings.flow_count).sum();
        let mirror = if audits {
            "the mirror's audits show what becomes of them"
        } else {
            "--mirror shows what becomes of them"
        };
        warnings.push(format!(
            "{flow_count} flows exist already{places}: those that began while no program listened to conntrack events \
             make no events, not even at their end; {mirror}, and {set}{there} makes every later flow report its events"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(events: i64, flow_count: i64, listener_count: usize) -> Settings {
        Settings {
            events,
            flow_count,
            listener_count,
        }
    }

    #[test]
    fn the_warning_is_only_about_flows_that_make_no_events() {
        for (events, flow_count, listener_count, words) in [
            (0, 0, 0, Some("nf_conntrack_events is 0: new")),
            (0, 5, 3, Some("nf_conntrack_events is 0: new")),
            (1, 5, 0, None),
            (2, 0, 0, None),
            (2, 5, 1, None),
            (2, 5, 0, Some("5 flows exist already: those")),
        ] {
            let own = (&Label::Own, settings(events, flow_count, listener_count));
            let warnings = warnings_of(&[own], false, false);
            assert_eq!(warnings.len(), usize::from(words.is_some()), "{warnings:?}");
            if let Some(words) = words {
                assert!(warnings[0].starts_with(words), "{warnings:?}");
            }
        }
        let remedy = |audits| warnings_of(&[(&Label::Own, settings(2, 5, 0))], false, audits);
        assert!(remedy(false)[0].contains("; --mirror shows"));
        assert!(remedy(true)[0].contains("; the mirror's audits show"));
    }

    #[test]
    fn of_many_namespaces_it_names_those_that_matter() {
        let labels = ["a", "b", "c", "d"].map(|name| Label::Name(name.into()));
        let [a, b, c, d] = &labels;
        let of = |heard| {
            let found = [
                (a, settings(0, 1, 0)),
                (b, settings(2, 3, 0)),
                (c, settings(2, 0, heard)),
                (d, settings(2, 4, 0)),
            ];
            warnings_of(&found, true, false)
        };
        let warnings = of(0);
        assert_eq!(warnings.len(), 2);
        let start = "nf_conntrack_events is 0 in the network namespace a: ";
        assert!(warnings[0].starts_with(start), "{warnings:?}");
        let start = "7 flows exist already in the network namespaces b, d: ";
        assert!(warnings[1].starts_with(start), "{warnings:?}");
        assert_eq!(of(1).len(), 1, "a listener anywhere makes flows report");
    }
}
