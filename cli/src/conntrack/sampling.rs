//! `--max-rate`: samples whole flows while more events than that arrive.

use std::time::Instant;

use nlring::conntrack::{Sampler, Sampling};
use nlring::{Message, Missing, Running, SocketId};
use nlring_print::Style;

use super::filter::Selection;
use crate::args::{ConntrackArguments, ConntrackEvent};
use crate::follow::sampled::Sampled;
use crate::follow::summary::Summary;
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::output::Output;

/// Samples the flows of a socket, and writes the changes of the ratio among their events.
pub struct FlowSampling {
    sampler: Sampler,
    socket: SocketId,
    style: Style,
    /// The times at each ratio until the last change.
    sampled: Sampled,
    /// When the ratio last changed.
    changed_at: Instant,
    /// Whether the user was warned that the ratio cannot be changed.
    has_warned: bool,
}

/// Refuses --max-rate together with options that need all flows.
pub fn check(arguments: &ConntrackArguments) -> Result<(), Failure> {
    let table = &arguments.collector.table;
    let reason = if arguments.max_rate.is_none() {
        return Ok(());
    } else if table.once {
        "--once lists each flow once, at no rate"
    } else if table.snapshot {
        "--snapshot shows all flows, and keeps them in a mirror, which needs all events"
    } else if table.mirror {
        "--mirror keeps the whole table, which needs all events"
    } else if arguments.events.contains(&ConntrackEvent::Expect) {
        "it samples flows, and -e expect follows expectations"
    } else {
        return Ok(());
    };
    Err(Failure::Usage(format!(
        "--max-rate cannot be used here: {reason}"
    )))
}

impl FlowSampling {
    /// Samples one socket. `None`: sampling was not requested.
    pub fn new(
        arguments: &ConntrackArguments,
        selection: &Selection,
        socket: SocketId,
        style: Style,
    ) -> Result<Option<Self>, Failure> {
        let Some(max_rate) = arguments.max_rate else {
            return Ok(None);
        };
        Ok(Some(Self {
            sampler: Sampler::new(selection.in_kernel(), max_rate)?,
            socket,
            style,
            sampled: Sampled::default(),
            changed_at: Instant::now(),
            has_warned: false,
        }))
    }

    /// Takes a message of the socket, before its event is written.
    #[inline]
    pub fn feed(&mut self, message: &Message<'_>, output: &mut Output) {
        if let Some(sampling) = self.sampler.feed_message(message) {
            self.write(&sampling, output);
        }
    }

    pub fn note_missing(&mut self, missing: &Missing) {
        self.sampler.note_missing(missing);
    }

    /// When the ratio may have to be changed, if no event arrives earlier.
    pub fn due(&self) -> Option<Instant> {
        self.sampler.due()
    }

    /// Changes the ratio if that is due.
    pub fn after_turn(&mut self, running: &Running, output: &mut Output, console: &mut Console) {
        let Some(socket) = running.socket(self.socket) else {
            return;
        };
        match self.sampler.advance(socket) {
            Ok(Some(sampling)) => self.write(&sampling, output),
            Ok(None) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    console.warn(format_args!(
                        "--max-rate cannot change what is kept: {error}"
                    ));
                }
            }
        }
    }

    /// Writes a change that still has to be written after the socket's last message.
    pub fn finish(&mut self, output: &mut Output) {
        if let Some(sampling) = self.sampler.finish() {
            self.write(&sampling, output);
        }
    }

    fn write(&mut self, sampling: &Sampling, output: &mut Output) {
        let now = Instant::now();
        let time = now.duration_since(self.changed_at);
        self.sampled.add(sampling.before.one_in(), time);
        self.changed_at = now;
        output.record(|out| self.style.write_sampling(out, sampling));
    }

    pub fn add_to(&self, summary: &mut Summary) {
        let one_in = self.sampler.ratio().one_in();
        summary.sampled.add_all(&self.sampled);
        summary.sampled.add(one_in, self.changed_at.elapsed());
        summary.requests += self.sampler.request_count();
    }
}
