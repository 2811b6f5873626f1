//! Conntrack in this namespace: whether its events can be received, what they carry, and how full its table is.

use nlring::conntrack::Requests;
use nlring::{ErrorKind, Protocol, Socket};
use rustix::io::Errno;

use super::report::{Check, State};
use super::tracking::{GROUPS, Trial};
use crate::host::privilege::Capability;
use crate::host::sysctl;

const EVENTS: &str = "net.netfilter.nf_conntrack_events";
const MAX: &str = "net.netfilter.nf_conntrack_max";
const ACCT: &str = "net.netfilter.nf_conntrack_acct";
const TIMESTAMP: &str = "net.netfilter.nf_conntrack_timestamp";

/// What brings ctnetlink: the module, and its option.
const CTNETLINK: (&str, &str) = ("nf_conntrack_netlink", "CONFIG_NF_CT_NETLINK");

pub fn events() -> Check {
    let setting = sysctl::read(EVENTS);
    let fail = |detail: &str| Check::new("conntrack_events", State::Fail, detail);
    let without_ctnetlink = |detail: &str| fail(detail).load_module(CTNETLINK.0, CTNETLINK.1);
    let check = match try_events() {
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied => {
                fail("to join the groups takes CAP_NET_ADMIN in this network namespace")
                    .get_capability(Capability::NetAdmin, "conntrack")
            }
            ErrorKind::Unsupported => without_ctnetlink(&error.to_string()),
            _ => fail(&error.to_string()),
        },
        Ok(false) => without_ctnetlink("this kernel has no ctnetlink"),
        Ok(true) if setting == Some(0) => {
            fail("nf_conntrack_events is 0: flows make no events").set_sysctl(EVENTS, 1)
        }
        Ok(true) => events_as_set(setting),
    };
    check.value("nf_conntrack_events", setting)
}

fn events_as_set(setting: Option<i64>) -> Check {
    let (state, which) = match setting {
        Some(1) => (State::Ok, "every flow makes events"),
        Some(_) => (
            State::Ok,
            "flows that begin while somebody listens make events",
        ),
        None => (
            State::Unknown,
            "whether flows make events cannot be read (nf_conntrack_events)",
        ),
    };
    Check::new(
        "conntrack_events",
        state,
        format!("the groups can be joined; {which}"),
    )
}

/// Joins the groups, and asks for the table's statistics. False: nobody in the kernel knows that request.
fn try_events() -> nlring::Result<bool> {
    Socket::builder(Protocol::NETFILTER).groups(GROUPS).open()?;
    match Requests::open()?.table_statistics() {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
        asked => asked.map(|_| true),
    }
}

/// What there is already, of which some may never make an event.
pub fn flows(count: Option<i64>, listener_count: usize) -> Check {
    const NAME: &str = "flows";
    let setting = sysctl::read(EVENTS);
    let check = match (count, setting) {
        (None, _) => Check::new(NAME, State::Unknown, "the table's count cannot be read"),
        (Some(0), _) => Check::new(NAME, State::Ok, "none yet"),
        (Some(count), Some(1)) => Check::new(
            NAME,
            State::Ok,
            format!("{count} now; nf_conntrack_events is 1, so every new one makes events"),
        ),
        (Some(count), _) => {
            let (state, now) = match listener_count {
                0 => (State::Limit, "nobody listens in this namespace now"),
                _ => (State::Note, "somebody listens now"),
            };
            let detail = format!(
                "{count} now; those that began while nobody listened, in any namespace, make no events, not even at \
                 their end; {now}"
            );
            Check::new(NAME, state, detail)
                .set_sysctl(EVENTS, 1)
                .advice("That is for flows to come: those that are silent now stay silent.")
        }
    };
    check.value("count", count)
}

pub fn table(count: Option<i64>) -> Check {
    fill(count, sysctl::read(MAX))
}

/// From nine tenths on, the table counts as nearly full.
fn fill(count: Option<i64>, max: Option<i64>) -> Check {
    const NAME: &str = "table";
    let check = match (count, max) {
        // A maximum of 0 is none.
        (Some(count), Some(max)) if max > 0 && count >= max - max / 10 => {
            let detail = format!(
                "{count} of {max} entries: when it is full, packets of new flows are dropped"
            );
            Check::new(NAME, State::Limit, detail).set_sysctl(MAX, max.saturating_mul(2))
        }
        (Some(count), Some(max)) => {
            Check::new(NAME, State::Ok, format!("{count} of {max} entries"))
        }
        _ => Check::new(NAME, State::Unknown, "its size cannot be read"),
    };
    check.value("count", count).value("max", max)
}

pub fn counters() -> Check {
    const NAME: &str = "counters";
    let setting = sysctl::read(ACCT);
    let check = match setting {
        None => Check::new(NAME, State::Unknown, "nf_conntrack_acct cannot be read"),
        Some(0) => Check::new(
            NAME,
            State::Note,
            "nf_conntrack_acct is 0: events carry no packets and bytes",
        )
        .set_sysctl(ACCT, 1),
        Some(_) => Check::new(
            NAME,
            State::Ok,
            "a flow's end tells its packets and bytes, if it began with nf_conntrack_acct = 1",
        ),
    };
    check.value("nf_conntrack_acct", setting)
}

pub fn event_time(trial: &Trial) -> Check {
    const NAME: &str = "event_time";
    let setting = sysctl::read(TIMESTAMP);
    let has_time = trial.event_has_time();
    let check = match (setting, has_time) {
        (None, _) => Check::new(
            NAME,
            State::Unknown,
            "nf_conntrack_timestamp cannot be read",
        ),
        (Some(0), _) => Check::new(
            NAME,
            State::Note,
            "nf_conntrack_timestamp is 0: events carry no time of the kernel's",
        )
        .set_sysctl(TIMESTAMP, 1),
        (Some(_), Some(true)) => Check::new(NAME, State::Ok, "events carry the kernel's time"),
        (Some(_), Some(false)) => Check::new(
            NAME,
            State::Note,
            "only a flow's end carries the kernel's time (Linux 6.14 brings it for each event)",
        ),
        (Some(_), None) => Check::new(
            NAME,
            State::Unknown,
            "nf_conntrack_timestamp is on; no event came by which to see the time (Linux 6.14)",
        ),
    };
    check
        .value("nf_conntrack_timestamp", setting)
        .value("in_events", has_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_nearly_full_from_nine_tenths_on() {
        for (count, max, want) in [
            (Some(0), Some(100), State::Ok),
            (Some(89), Some(100), State::Ok),
            (Some(90), Some(100), State::Limit),
            (Some(100), Some(100), State::Limit),
            (Some(1000), Some(0), State::Ok), // without a maximum
            (None, Some(100), State::Unknown),
            (Some(1), None, State::Unknown),
        ] {
            assert_eq!(fill(count, max).state, want, "{count:?} of {max:?}");
        }
        let check = fill(Some(95), Some(100));
        let texts = [check.remedy, check.advice].into_iter().flatten();
        let texts: Vec<String> = texts.collect();
        assert!(
            texts
                .concat()
                .contains("net.netfilter.nf_conntrack_max=200"),
            "{texts:?}"
        );
    }

    #[test]
    fn no_flows_need_no_remedy() {
        assert_eq!(flows(Some(0), 0).state, State::Ok);
        assert_eq!(flows(None, 0).state, State::Unknown);
    }
}
