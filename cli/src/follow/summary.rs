//! The summary of a run: as text for people, and as JSON for --stats.

use std::fmt;
use std::time::Duration;

use nlring::{MirrorHealth, RecvBuffer, Statistics};
use serde::Serialize;

use super::sampled::Sampled;
use crate::units::{Bytes, rate, ratio};

/// All counts are in datagrams unless stated otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    pub received: u64,
    pub dropped: u64,
    /// With --reliable: including those that succeeded later.
    pub delivery_failures: u64,
    pub truncated: u64,
    pub malformed: u64,
    /// Receives that returned fewer bytes than a datagram has. No kernel is known to do this.
    #[serde(skip_serializing_if = "is_zero")]
    pub short: u64,
    pub foreign: u64,
    pub starved: u64,
    /// System calls that failed and were repeated.
    pub retried: u64,
    pub unread: u64,
    /// Whether more datagrams may have been unread than were counted.
    pub unread_is_incomplete: bool,
    /// With --reliable: repeated ends of flows, which are left out.
    pub repeated: u64,
    /// The requests of mirrors, and those of --max-rate, on the events' socket. The answer to each is among `received`
    /// or `dropped`, but is not an event.
    pub requests: u64,
    /// With --max-rate: how long flows were sampled.
    pub sampled: Sampled,
    /// Received messages about devices and, with --mirror, about addresses and nexthop objects. They have no lines.
    pub other_events: u64,
    /// With --mirror: how often it compared its table with the kernel's although nothing was known to be wrong.
    pub audits: u64,
    /// With --mirror: the entries in which audits found the table different from the kernel's.
    pub audit_differences: u64,
    /// Dumps of the mirror that failed.
    pub failed_dumps: u64,
    /// Why the last attempt to dump the kernel's table failed. None: it succeeded.
    pub mirror_error: Option<String>,
    /// How often the mirror's memory had no room for an entry.
    pub not_kept: u64,
    /// With --all-netns: named network namespaces that were gone before they could be followed.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed_namespaces: u64,
    /// Events written.
    pub events: u64,
    /// Events that could not be written.
    pub not_written: u64,
    /// Messages that were not written as events when they arrived, because they were not selected or because the mirror
    /// reports them.
    pub not_shown: u64,
    /// Full lengths, including those of truncated datagrams.
    pub bytes: u64,
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
    /// User and system time of the receiving thread per received datagram.
    pub cpu_ns_per_event: Option<u64>,
    pub backend: Option<String>,
    pub backend_reason: Option<String>,
    pub recv_buffer_requested_bytes: usize,
    pub recv_buffer_granted_bytes: usize,
    /// The capabilities that the process kept after startup.
    pub capabilities: Vec<String>,
    /// Other programs with reliable sockets, for which the kernel resends events to all listeners, including this
    /// command.
    #[serde(skip)]
    pub reliable_others: Vec<String>,
    /// Events that the demo made.
    #[serde(skip)]
    pub created: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// In whole microseconds, because finer fractions are written with 17 digits.
pub(super) fn as_seconds<S: serde::Serializer>(
    time: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    serializer.serialize_f64(ratio(micros, 1_000_000))
}

impl Summary {
    pub fn add_health(&mut self, health: &MirrorHealth<'_>) {
        self.audits += health.audit_count;
        self.audit_differences += health.audit_difference_count;
        self.failed_dumps += health.failed_total_count;
        self.not_kept += health.left_out_count;
        self.mirror_error = (health.error.map(str::to_owned)).or(self.mirror_error.take());
    }

    /// Adds the counts of sockets and mirrors that are gone.
    pub fn add_ended(&mut self, ended: &Self) {
        self.received += ended.received;
        self.dropped += ended.dropped;
        self.delivery_failures += ended.delivery_failures;
        self.truncated += ended.truncated;
        self.malformed += ended.malformed;
        self.short += ended.short;
        self.foreign += ended.foreign;
        self.starved += ended.starved;
        self.retried += ended.retried;
        self.unread += ended.unread;
        self.unread_is_incomplete |= ended.unread_is_incomplete;
        self.bytes += ended.bytes;
        self.repeated += ended.repeated;
        self.requests += ended.requests;
        self.sampled.add_all(&ended.sampled);
        self.other_events += ended.other_events;
        self.audits += ended.audits;
        self.audit_differences += ended.audit_differences;
        self.failed_dumps += ended.failed_dumps;
        self.not_kept += ended.not_kept;
        self.missed_namespaces += ended.missed_namespaces;
    }

    pub fn add(&mut self, statistics: &Statistics) {
        self.received += statistics.received;
        self.dropped += statistics.dropped;
        self.delivery_failures += statistics.delivery_failures;
        self.truncated += statistics.truncated;
        self.malformed += statistics.malformed;
        self.short += statistics.short;
        self.foreign += statistics.foreign;
        self.starved += statistics.starved;
        self.retried += statistics.retried;
        self.unread += statistics.unread;
        self.unread_is_incomplete |= statistics.unread_is_incomplete;
        self.bytes += statistics.bytes;
    }

    pub fn set_recv_buffer(&mut self, buffer: RecvBuffer) {
        self.recv_buffer_requested_bytes = buffer.requested_bytes;
        self.recv_buffer_granted_bytes = buffer.granted_bytes;
    }

    /// Records the size to which a socket's receive buffer has grown.
    pub fn note_granted(&mut self, granted_bytes: usize) {
        self.recv_buffer_granted_bytes = self.recv_buffer_granted_bytes.max(granted_bytes);
    }

    /// What became of the events when a write failed, for a message.
    pub fn fate_of_events(&self) -> String {
        let Self {
            events,
            not_written,
            ..
        } = self;
        format!(
            "events received but not written: {not_written}, written: {events}, datagrams left unread: {}",
            self.unread_text()
        )
    }

    /// The number of unread datagrams, and whether there may be more.
    pub fn unread_text(&self) -> String {
        let reserve = if self.unread_is_incomplete {
            " (not counted to the end)"
        } else {
            ""
        };
        format!("{}{reserve}", self.unread)
    }

    pub fn set_cpu(&mut self, cpu: Duration) {
        let cpu_ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns_per_event = cpu_ns.checked_div(self.received.saturating_sub(self.requests));
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(created) = self.created {
            writeln!(f, "created: {created}")?;
        }
        let (seconds, per_second) = (self.time.as_secs_f64(), rate(self.events, self.time));
        writeln!(
            f,
            "events: {} in {seconds:.2} s, {per_second} events/s",
            self.events
        )?;
        writeln!(
            f,
            "received: {} datagrams, {}",
            self.received,
            Bytes(self.bytes)
        )?;
        writeln!(f, "lost: {}", self.dropped)?;
        if !self.reliable_others.is_empty() {
            writeln!(
                f,
                "lost may include copies of DESTROY events, so fewer events are missing: the kernel resends them \
                 to every listener for the reliable socket of {}",
                self.reliable_others.join(", ")
            )?;
        }
        for (name, count) in [
            (
                "delivery failures (the kernel resends a DESTROY)",
                self.delivery_failures,
            ),
            ("truncated", self.truncated),
            ("malformed", self.malformed),
            ("short", self.short),
            ("foreign", self.foreign),
            ("starved (no loss)", self.starved),
            ("not written", self.not_written),
            ("received but not shown", self.not_shown),
            ("retried (failed calls that were repeated)", self.retried),
            ("repeated (left out)", self.repeated),
            (
                "answers to requests of nlring (among those received)",
                self.requests,
            ),
            (
                "about devices, addresses and nexthops (among those received)",
                self.other_events,
            ),
            ("audits of the mirror", self.audits),
            ("differences found by audits", self.audit_differences),
            ("failed dumps of the mirror", self.failed_dumps),
            (
                "entries not kept because the mirror is full (--mirror-memory)",
                self.not_kept,
            ),
            (
                "network namespaces that were gone before they could be followed",
                self.missed_namespaces,
            ),
        ] {
            if count > 0 {
                writeln!(f, "{name}: {count}")?;
            }
        }
        if !self.sampled.is_empty() {
            writeln!(f, "sampled, so that flows are left out: {}", self.sampled)?;
        }
        if self.unread > 0 || self.unread_is_incomplete {
            writeln!(f, "unread: {}", self.unread_text())?;
        }
        if let (Some(backend), Some(reason)) = (&self.backend, &self.backend_reason) {
            writeln!(f, "backend: {backend} ({reason})")?;
        }
        if let Some(cpu_ns) = self.cpu_ns_per_event {
            writeln!(
                f,
                "CPU per event: {:.2} µs (receiving thread, user + system)",
                ratio(cpu_ns, 1000)
            )?;
        }
        let bytes = |bytes: usize| Bytes(bytes as u64);
        write!(
            f,
            "receive buffer: {} requested, {} granted",
            bytes(self.recv_buffer_requested_bytes),
            bytes(self.recv_buffer_granted_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json, to_value};

    #[test]
    fn the_json_has_these_fields_and_no_others() {
        let summary = Summary {
            created: Some(1),
            time: Duration::from_millis(1500),
            ..Summary::default()
        };
        assert_eq!(
            to_value(&summary).unwrap(),
            json!({
                "received": 0, "dropped": 0, "delivery_failures": 0, "truncated": 0, "malformed": 0, "foreign": 0,
                "starved": 0, "retried": 0, "unread": 0, "unread_is_incomplete": false, "repeated": 0, "requests": 0, "sampled": [], "capabilities": [], "other_events": 0, "audits": 0, "audit_differences": 0, "failed_dumps": 0,
                "mirror_error": null, "not_kept": 0, "events": 0, "not_written": 0, "not_shown": 0, "bytes": 0, "seconds": 1.5, "cpu_ns_per_event": null,
                "backend": null, "backend_reason": null,
                "recv_buffer_requested_bytes": 0, "recv_buffer_granted_bytes": 0,
            })
        );
    }

    /// Each count is at its place in the sum, and none is left out.
    #[test]
    fn the_counts_of_ended_namespaces_and_of_all_mirrors_are_added() {
        let ended = Summary {
            received: 1,
            dropped: 2,
            delivery_failures: 3,
            truncated: 4,
            malformed: 5,
            short: 6,
            foreign: 7,
            starved: 8,
            retried: 9,
            unread: 10,
            unread_is_incomplete: true,
            repeated: 11,
            requests: 12,
            other_events: 13,
            audits: 14,
            audit_differences: 15,
            failed_dumps: 16,
            not_kept: 17,
            missed_namespaces: 18,
            bytes: 19,
            ..Summary::default()
        };
        let mut sum = Summary::default();
        for times in 1..=2 {
            sum.add_ended(&ended);
            let (sum, ended) = (to_value(&sum).unwrap(), to_value(&ended).unwrap());
            let names = sum.as_object().unwrap().keys();
            let counts = names.filter(|name| ended[*name].is_u64());
            for name in counts {
                let wanted = times * ended[name].as_u64().unwrap();
                assert_eq!(sum[name].as_u64(), Some(wanted), "{name}");
            }
            assert_eq!(sum["unread_is_incomplete"], true);
        }

        let mut health = MirrorHealth::default();
        (health.audit_count, health.audit_difference_count) = (1, 2);
        (health.failed_total_count, health.left_out_count) = (3, 4);
        let mut sum = Summary::default();
        sum.add_health(&health);
        sum.add_health(&health);
        let counts = (
            sum.audits,
            sum.audit_differences,
            sum.failed_dumps,
            sum.not_kept,
        );
        assert_eq!(counts, (2, 4, 6, 8));
    }

    #[test]
    fn cpu_is_by_received_and_null_at_none() {
        let mut summary = Summary::default();
        summary.set_cpu(Duration::from_micros(10));
        assert_eq!(to_value(&summary).unwrap()["cpu_ns_per_event"], Value::Null);
        (summary.received, summary.requests) = (7, 3);
        summary.set_cpu(Duration::from_micros(10));
        assert_eq!(
            summary.cpu_ns_per_event,
            Some(2500),
            "answers are no events"
        );
    }

    #[test]
    fn the_text_shows_what_is_not_zero() {
        let mut summary = Summary {
            events: 10,
            received: 10,
            time: Duration::from_secs(2),
            ..Summary::default()
        };
        let text = summary.to_string();
        assert!(
            text.contains("events: 10 in 2.00 s, 5 events/s\n"),
            "{text}"
        );
        assert!(
            text.contains("lost: 0\n")
                && ["unread", "failures", "repeated"].map(|name| text.contains(name)) == [false; 3],
            "{text}"
        );
        summary.unread_is_incomplete = true;
        let text = summary.to_string();
        assert!(
            text.contains("unread: 0 (not counted to the end)\n"),
            "{text}"
        );
        summary.unread_is_incomplete = false;
        (summary.unread, summary.delivery_failures, summary.repeated) = (3, 4, 5);
        let text = summary.to_string();
        for line in [
            "unread: 3\n",
            "delivery failures (the kernel resends a DESTROY): 4\n",
            "repeated (left out): 5\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
