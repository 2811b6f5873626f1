//! The formats of flows and expectations.

use nlring::Timestamp;
use nlring::conntrack::{Expectation, Flow};

use super::label_names::LabelNames;
use super::text::{self, TextOptions};
use super::{expectation, json};
use crate::style::Style;

/// How flows and expectations are written.
///
/// ```
/// use nlring::conntrack::Flow;
/// use nlring::{MessageBuilder, MessageList, Timestamp};
/// use nlring_print::conntrack::{FlowFormat, LabelNames};
///
/// // The kernel's message of a UDP flow that ends (`IPCTNL_MSG_CT_DELETE`), as this program could receive it.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 0x102, 0)
///     .bytes(&[2, 0, 0, 0])
///     .nested(1, |tuple| {
///         let tuple = tuple.nested(1, |ip| ip.attribute(1, &[192, 0, 2, 1]).attribute(2, &[192, 0, 2, 2]));
///         tuple.nested(2, |ports| ports.attribute_u8(1, 17).attribute_be16(2, 4000).attribute_be16(3, 53))
///     })
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let message = list.iter().next().expect("one message");
/// let flow = Flow::decode(&message).expect("a flow");
///
/// let (mut line, received_at) = (Vec::new(), Timestamp::from_ns(1_700_000_000_000_000_000));
/// FlowFormat::default().write_event(&mut line, &flow, received_at);
/// assert_eq!(line, b"[DESTROY] udp      17 src=192.0.2.1 dst=192.0.2.2 sport=4000 dport=53\n");
///
/// line.clear();
/// FlowFormat::Json(LabelNames::default()).write_event(&mut line, &flow, received_at);
/// assert!(line.starts_with(br#"{"event":"destroy","time_ns":1700000000000000000,"#));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub enum FlowFormat {
    /// The lines of `conntrack -E`, and of `conntrack -L` for entries of the table.
    Text(TextOptions),
    /// JSON objects, with these names of labels. A label without a name is shown as its number.
    Json(LabelNames),
}

impl FlowFormat {
    /// The style of these lines, which writes gaps and resyncs among them.
    pub fn style(&self) -> Style {
        match self {
            Self::Text(_) => Style::Text,
            Self::Json(_) => Style::Json,
        }
    }

    /// Appends a flow's event and a newline.
    ///
    /// `received_at` is when the event was received. It is shown if the kernel reported no time.
    pub fn write_event(&self, out: &mut Vec<u8>, flow: &Flow<'_>, received_at: Timestamp) {
        match self {
            Self::Text(options) => text::write_line(out, flow, options, received_at),
            Self::Json(labels) => json::write_flow(out, flow, labels, received_at),
        }
    }

    /// Appends an entry of the kernel's or a mirror's table, which is not an event, and a newline.
    ///
    /// `now` is the time at which the age of the flow is shown.
    pub fn write_entry(&self, out: &mut Vec<u8>, flow: &Flow<'_>, now: Timestamp) {
        match self {
            Self::Text(options) => text::write_entry(out, flow, options, now),
            Self::Json(labels) => json::write_entry(out, flow, labels),
        }
    }

    /// Appends an expectation's event and a newline.
    ///
    /// `received_at` is when the event was received: the kernel reports no time for expectations.
    pub fn write_expectation(
        &self,
        out: &mut Vec<u8>,
        expectation: &Expectation<'_>,
        received_at: Timestamp,
    ) {
        match self {
            Self::Text(options) => {
                expectation::write_line(out, expectation, options, received_at);
            }
            Self::Json(_) => json::write_expectation(out, expectation, received_at),
        }
    }
}

impl Default for FlowFormat {
    /// Text without further fields.
    fn default() -> Self {
        Self::Text(TextOptions::default())
    }
}
