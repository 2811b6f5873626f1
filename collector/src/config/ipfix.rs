//! The configuration of an output to an IPFIX collector.

use std::time::Duration;

use serde::Deserialize;

use super::output::Output;
use super::receiver::{Receiver, Transport};
use super::syslog::{Kind, check_interval, check_kinds};
use super::{Config, Span};

/// An output to an IPFIX collector.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Ipfix {
    /// The name in the log, in metrics and for the cursor. It is unique among the outputs.
    pub name: String,
    pub transport: Transport,
    /// A host or an address, with a port.
    pub address: String,
    /// The longest packet over UDP.
    pub mtu: u16,
    /// After this time a TCP connection is closed to find out whether the receiver has read everything.
    pub acknowledge_interval: Span,
    /// The kinds of records. Open flows and routes cannot be sent in IPFIX.
    pub records: Vec<Kind>,
    pub observation_domain: u32,
    /// Whether one record has both directions of a flow.
    pub biflow: bool,
    /// Over UDP, templates are repeated after this time and after this many messages.
    pub template_interval: Span,
    pub template_messages: u32,
}

impl Default for Ipfix {
    fn default() -> Self {
        Self {
            name: "ipfix".to_owned(),
            transport: Transport::Udp,
            address: "127.0.0.1:4739".to_owned(),
            mtu: 1500,
            acknowledge_interval: Span(Duration::from_secs(5)),
            records: vec![Kind::Flow, Kind::Event, Kind::Loss],
            observation_domain: 1,
            biflow: true,
            template_interval: Span(Duration::from_secs(60)),
            template_messages: 1000,
        }
    }
}

impl Ipfix {
    pub fn target(&self) -> Receiver {
        Receiver {
            transport: self.transport,
            address: self.address.clone(),
            mtu: self.mtu,
        }
    }
}

impl Output for Ipfix {
    fn name(&self) -> &str {
        &self.name
    }

    fn receiver(&self) -> String {
        format!("IPFIX at {}", self.target())
    }

    fn check(&self, _: &Config) -> Result<(), String> {
        if self.transport.is_unix() {
            return Err(
                "IPFIX has no transport over unix sockets: use \"udp\" or \"tcp\"".to_owned(),
            );
        }
        if let Some(kind) = self.records.iter().find(|kind| has_no_form(**kind)) {
            let name = kind.name();
            return Err(format!(
                "records has {name:?}, which has no form in IPFIX: use \"flow\", \"event\" and \"loss\""
            ));
        }
        if self.template_interval.0.is_zero() || self.template_messages == 0 {
            return Err(
                "template_interval or template_messages is 0: use a time such as 1m, a number such as 1000"
                    .to_owned(),
            );
        }
        check_kinds(&self.records)?;
        check_interval(self.acknowledge_interval)?;
        self.target().check()
    }
}

fn has_no_form(kind: Kind) -> bool {
    matches!(kind, Kind::Open | Kind::Route)
}
