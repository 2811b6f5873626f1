//! The output to an IPFIX collector (RFC 7011), over UDP or TCP. It has its own encoder, because crates for IPFIX
//! allocate for each record and element.

mod flow;
mod message;
mod template;

use arrow_array::RecordBatch;
use arrow_array::types::{TimestampNanosecondType, UInt64Type};

use self::flow::{Flows, Words, column, value};
use self::message::{Messages, Refresh};
use self::template::{Data, Event, Loss};
use super::{Output, link::Link};
use crate::config::{self, Kind};
use crate::failure::Result;
use crate::record::batch;
use crate::spool::{Acknowledged, Position, Tally};

/// The longest message on a TCP connection: some readers have buffers of this length.
const STREAM_MESSAGE: usize = 8 << 10;

/// Sends records to an IPFIX collector.
pub struct Ipfix {
    config: config::Ipfix,
    link: Link,
    messages: Messages,
    /// The place after the last batch taken.
    taken: Acknowledged,
    /// How many events or records are missing from everything that was sent.
    lost_count: u64,
}

impl Ipfix {
    pub fn new(config: &config::Ipfix) -> Self {
        let refresh = (!config.transport.is_stream())
            .then(|| Refresh::new(config.template_interval.0, config.template_messages));
        Self {
            link: Link::new(config.target(), config.acknowledge_interval.0),
            messages: Messages::new(config.observation_domain, config.biflow, refresh),
            taken: Acknowledged::default(),
            lost_count: 0,
            config: config.clone(),
        }
    }

    fn send_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let kind = |word: &str| Kind::ALL.into_iter().find(|kind| kind.name() == word);
        let (Some(flows), Some(kinds), Some(events), Some(subjects)) = (
            Flows::of(batch),
            Words::of(batch, "record", kind),
            Words::of(batch, "event", event),
            Words::of(batch, "subject", |subject| Some(subject == "routes")),
        ) else {
            return Ok(());
        };
        for row in 0..batch.num_rows() {
            let kind = kinds
                .value(row)
                .filter(|kind| self.config.records.contains(kind));
            match kind {
                Some(Kind::Flow) => {
                    let Some(flow) = flows.flow(row) else {
                        continue;
                    };
                    self.send(&Data::Flow(flow))?;
                    let has_reply = flow
                        .counters
                        .is_some_and(|counters| counters.reply_packets > 0);
                    if has_reply && !self.config.biflow {
                        self.send(&Data::Flow(flow.reverse()))?;
                    }
                }
                Some(Kind::Event) => {
                    let Some((flow, event)) = flows.flow(row).zip(events.value(row)) else {
                        continue;
                    };
                    // A translation never changes.
                    if event != Event::Updated || flow.nat.is_none() {
                        self.send(&Data::Event(flow, event))?;
                    }
                }
                // A collector of flows does not need to know about missing routes.
                Some(Kind::Loss) if subjects.value(row) != Some(true) => {
                    if let Some(loss) = self.loss(batch, row) {
                        self.send(&Data::Loss(loss))?;
                    }
                }
                _ => {}
            }
        }
        let link = &mut self.link;
        self.messages.flush(&mut |message| link.send(message))
    }

    fn send(&mut self, data: &Data) -> Result<()> {
        if self.link.open()? {
            let limit = self.link.limit().unwrap_or(STREAM_MESSAGE);
            // A connection counts its own data records.
            let is_stream = self.config.transport.is_stream();
            let sequence = if is_stream {
                0
            } else {
                self.messages.sequence()
            };
            self.messages.begin(limit, sequence);
        }
        let link = &mut self.link;
        self.messages.add(data, &mut |message| link.send(message))
    }

    fn loss(&mut self, batch: &RecordBatch, row: usize) -> Option<Loss> {
        let count = value(column::<UInt64Type>(batch, "count")?, row).unwrap_or(0);
        self.lost_count = self.lost_count.saturating_add(count);
        let instant = |name| {
            let ns = value(column::<TimestampNanosecondType>(batch, name)?, row)?;
            u64::try_from(ns).ok()
        };
        Some(Loss {
            since_ns: instant("since_ns")?,
            until_ns: instant("until_ns")?,
            total_count: self.lost_count,
        })
    }
}

fn event(word: &str) -> Option<Event> {
    match word {
        "new" => Some(Event::Created),
        "update" => Some(Event::Updated),
        "destroy" => Some(Event::Deleted),
        _ => None,
    }
}

impl Output for Ipfix {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn resume(&mut self, saved: Acknowledged) -> Result<()> {
        self.taken = saved;
        self.lost_count = saved.tally.lost;
        self.messages.begin(STREAM_MESSAGE, saved.tally.sent);
        self.link.resume(saved);
        Ok(())
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        self.link.check()?;
        self.send_batch(batch)?;
        self.taken = Acknowledged {
            position: behind,
            covered: batch::last_mark(batch).or(self.taken.covered),
            tally: Tally {
                sent: self.messages.sequence(),
                lost: self.lost_count,
            },
        };
        self.link.note_sent(self.taken)
    }

    fn finish(&mut self) -> Result<()> {
        self.link.finish()
    }

    fn acknowledged(&self) -> Acknowledged {
        self.link.acknowledged()
    }
}

#[cfg(test)]
mod tests;
