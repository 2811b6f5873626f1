//! The configuration of an output to a syslog server.

use std::time::Duration;

use serde::Deserialize;

use super::output::Output;
use super::receiver::{Receiver, Transport};
use super::{Config, Span};

/// An output to a syslog server.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Syslog {
    /// The name in the log, in metrics and for the cursor. It is unique among the outputs.
    pub name: String,
    pub transport: Transport,
    /// A host or an address with a port, or the path of a socket.
    pub address: String,
    /// The longest packet over UDP.
    pub mtu: u16,
    /// After this time a stream is closed to find out whether the receiver has read everything.
    pub acknowledge_interval: Span,
    pub records: Vec<Kind>,
    pub facility: Facility,
    pub severity: Severity,
    pub loss_severity: Severity,
    pub format: SyslogFormat,
    /// The name of the structured data.
    pub sd_id: String,
}

/// The kinds of records, as in the column `record`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Flow,
    Open,
    Event,
    Route,
    Loss,
}

/// The part of a message that has the values of a record.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SyslogFormat {
    /// In the structured data.
    Structured,
    /// In the text, as `key=value`.
    Text,
}

/// The facility of RFC 5424, by the names of syslog.conf.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Facility {
    Kern,
    User,
    Mail,
    Daemon,
    Auth,
    Syslog,
    Lpr,
    News,
    Uucp,
    Cron,
    Authpriv,
    Ftp,
    Local0 = 16,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// The severity of RFC 5424, by the names of syslog.conf.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Emerg,
    Alert,
    Crit,
    Err,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Flow, Self::Open, Self::Event, Self::Route, Self::Loss];

    /// The word in the column `record`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Open => "open",
            Self::Event => "event",
            Self::Route => "route",
            Self::Loss => "loss",
        }
    }
}

impl Default for Syslog {
    fn default() -> Self {
        Self {
            name: "syslog".to_owned(),
            transport: Transport::Udp,
            address: "127.0.0.1:514".to_owned(),
            mtu: 1500,
            acknowledge_interval: Span(Duration::from_secs(5)),
            records: Kind::ALL.to_vec(),
            facility: Facility::Local0,
            severity: Severity::Info,
            loss_severity: Severity::Warning,
            format: SyslogFormat::Structured,
            sd_id: "nlring@32473".to_owned(),
        }
    }
}

impl Syslog {
    pub fn target(&self) -> Receiver {
        Receiver {
            transport: self.transport,
            address: self.address.clone(),
            mtu: self.mtu,
        }
    }
}

impl Output for Syslog {
    fn name(&self) -> &str {
        &self.name
    }

    fn receiver(&self) -> String {
        format!("syslog at {}", self.target())
    }

    fn check(&self, _: &Config) -> Result<(), String> {
        let id = self.sd_id.as_bytes();
        let is_letter = |letter: &u8| letter.is_ascii_graphic() && !b"=]\"".contains(letter);
        if id.is_empty() || id.len() > 32 || !id.iter().all(is_letter) {
            return Err(format!(
                "sd_id = {:?}: use 1 to 32 characters without spaces, =, ] and \", such as \"nlring@32473\"",
                self.sd_id
            ));
        }
        check_kinds(&self.records)?;
        check_interval(self.acknowledge_interval)?;
        self.target().check()
    }
}

pub fn check_kinds(kinds: &[Kind]) -> Result<(), String> {
    if kinds.is_empty() {
        return Err("records is empty: name kinds of records, such as \"flow\"".to_owned());
    }
    Ok(())
}

pub fn check_interval(interval: Span) -> Result<(), String> {
    let seconds = Duration::from_secs(1)..=Duration::from_secs(3600);
    if !seconds.contains(&interval.0) {
        return Err("acknowledge_interval: use a time from 1s to 1h, such as 5s".to_owned());
    }
    Ok(())
}
