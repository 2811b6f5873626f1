//! Conntrack in this namespace: whether its events can be received, what they carry, and how full its table is.

use nlring::conntrack::Requests;
use nlring::{ErrorKind, Protocol, Socket};
use rustix::io::Errno;

use super::report::{Check, CheckState};
use super::tracking::{GROUPS, LoopbackTrial};
use crate::host::privilege::Capability;
use crate::host::sysctl;

const EVENTS: &str = "net.netfilter.nf_conntrack_events";
const MAX: &str = "net.netfilter.nf_conntrack_max";
const ACCT: &str = "net.netfilter.nf_conntrack_acct";
const TIMESTAMP: &str = "net.netfilter.nf_conntrack_timestamp";

/// The module that contains ctnetlink, and its configuration option.
const CTNETLINK: (&str, &str) = ("nf_conntrack_netlink", "CONFIG_NF_CT_NETLINK");

pub fn events() -> Check {
    let setting = sysctl::read(EVENTS);
    let fail = |detail: &str| Check::new("conntrack_events", CheckState::Fail, detail);
    let without_ctnetlink = |detail: &str| fail(detail).load_module(CTNETLINK.0, CTNETLINK.1);
    let check = match try_events() {
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied => {
                fail("joining the groups needs CAP_NET_ADMIN in this network namespace")
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
        Some(1) => (CheckState::Ok, "every flow makes events"),
        Some(_) => (
            CheckState::Ok,
            "flows that begin while somebody listens make events",
        ),
        None => (
            CheckState::Unknown,
            "nf_conntrack_events cannot be read, so flows may make no events",
        ),
    };
    Check::new(
        "conntrack_events",
        state,
        format!("the groups can be joined; {which}"),
    )
}

/// Joins the groups, and asks for the table's statistics. False: the kernel has no ctnetlink to answer such requests.
fn try_events() -> nlring::Result<bool> {
    Socket::builder(Protocol::NETFILTER).groups(GROUPS).open()?;
    match Requests::open()?.table_statistics() {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
        asked => asked.map(|_| true),
    }
}

/// The flows that exist. Some of them may never make an event.
pub fn flows(count: Option<i64>, listener_count: usize) -> Check {
    const NAME: &str = "flows";
    let setting = sysctl::read(EVENTS);
    let check = match (count, setting) {
        (None, _) => Check::new(
            NAME,
            CheckState::Unknown,
            "the table's count cannot be read",
        ),
        (Some(0), _) => Check::new(NAME, CheckState::Ok, "none yet"),
        (Some(count), Some(1)) => Check::new(
            NAME,
            CheckState::Ok,
            format!("{count} now; nf_conntrack_events is 1, so every new one makes events"),
        ),
        (Some(count), _) => {
            let (state, now) = match listener_count {
                0 => (CheckState::Limit, "nobody listens in this namespace now"),
                _ => (CheckState::Note, "somebody listens now"),
            };
            let detail = format!(
                "{count} now; those that began while nobody listened in any namespace make no events, not even at their \
                 end; {now}"
            );
            Check::new(NAME, state, detail)
                .set_sysctl(EVENTS, 1)
                .advice("This affects new flows only: flows that make no events now never will.")
        }
    };
    check.value("count", count)
}

pub fn table(count: Option<i64>) -> Check {
    fill(count, sysctl::read(MAX))
}

/// A table counts as nearly full if nine tenths of it are used.
fn fill(count: Option<i64>, max: Option<i64>) -> Check {
    const NAME: &str = "table";
    let check = match (count, max) {
        // A maximum of 0 means no limit.
        (Some(count), Some(max)) if max > 0 && count >= max - max / 10 => {
            let detail = format!(
                "{count} of {max} entries: when it is full, packets of new flows are dropped"
            );
            Check::new(NAME, CheckState::Limit, detail).set_sysctl(MAX, max.saturating_mul(2))
        }
        (Some(count), Some(max)) => {
            Check::new(NAME, CheckState::Ok, format!("{count} of {max} entries"))
        }
        _ => Check::new(NAME, CheckState::Unknown, "its size cannot be read"),
    };
    check.value("count", count).value("max", max)
}

pub fn counters() -> Check {
    const NAME: &str = "counters";
    let setting = sysctl::read(ACCT);
    let check = match setting {
        None => Check::new(
            NAME,
            CheckState::Unknown,
            "nf_conntrack_acct cannot be read",
        ),
        Some(0) => Check::new(
            NAME,
            CheckState::Note,
            "nf_conntrack_acct is 0: events carry no packets and bytes",
        )
        .set_sysctl(ACCT, 1),
        Some(_) => Check::new(
            NAME,
            CheckState::Ok,
            "destroy events carry packets and bytes, for flows that began with nf_conntrack_acct = 1",
        ),
    };
    check.value("nf_conntrack_acct", setting)
}

pub fn event_time(trial: &LoopbackTrial) -> Check {
    const NAME: &str = "event_time";
    let setting = sysctl::read(TIMESTAMP);
    let has_time = trial.event_has_time();
    let check = match (setting, has_time) {
        (None, _) => Check::new(
            NAME,
            CheckState::Unknown,
            "nf_conntrack_timestamp cannot be read",
        ),
        (Some(0), _) => Check::new(
            NAME,
            CheckState::Note,
            "nf_conntrack_timestamp is 0: events do not carry the kernel's time",
        )
        .set_sysctl(TIMESTAMP, 1),
        (Some(_), Some(true)) => Check::new(NAME, CheckState::Ok, "events carry the kernel's time"),
        (Some(_), Some(false)) => Check::new(
            NAME,
            CheckState::Note,
            "only destroy events carry the kernel's time (all events do from Linux 6.14 on)",
        ),
        (Some(_), None) => Check::new(
            NAME,
            CheckState::Unknown,
            "nf_conntrack_timestamp is on, but no event came that could show a time (Linux 6.14)",
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
            (Some(0), Some(100), CheckState::Ok),
            (Some(89), Some(100), CheckState::Ok),
            (Some(90), Some(100), CheckState::Limit),
            (Some(100), Some(100), CheckState::Limit),
            (Some(1000), Some(0), CheckState::Ok), // without a maximum
            (None, Some(100), CheckState::Unknown),
            (Some(1), None, CheckState::Unknown),
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
        assert_eq!(flows(Some(0), 0).state, CheckState::Ok);
        assert_eq!(flows(None, 0).state, CheckState::Unknown);
    }
}
