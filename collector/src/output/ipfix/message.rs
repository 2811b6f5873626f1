//! Messages of IPFIX: a header, and sets of templates and of data records.

use std::time::{Duration, Instant};

use nlring::Timestamp;

use super::template::{Data, Templates};
use crate::failure::Result;

const VERSION: u16 = 10;
const HEADER: usize = 16;
const SET_HEADER: usize = 4;

/// Makes messages of data records.
pub struct Messages {
    templates: Templates,
    domain: u32,
    /// The longest message.
    limit: usize,
    /// How many data records were sent before this message: in the whole domain over UDP, on the connection over TCP.
    sequence: u32,
    message: Vec<u8>,
    /// The set that is being written: where it begins, and the place of its template.
    set: Option<(usize, usize)>,
    record_count: u32,
    /// Which templates the receiver has.
    known: Vec<bool>,
    refresh: Option<Refresh>,
}

/// When templates are repeated, because the receiver may have lost them.
#[derive(Clone, Copy)]
pub struct Refresh {
    pub interval: Duration,
    pub messages: u32,
    last: Instant,
    message_count: u32,
}

impl Refresh {
    pub fn new(interval: Duration, messages: u32) -> Self {
        Self {
            interval,
            messages,
            last: Instant::now(),
            message_count: 0,
        }
    }
}

impl Messages {
    /// `refresh` is `None` if the receiver cannot lose a template.
    pub fn new(domain: u32, is_biflow: bool, refresh: Option<Refresh>) -> Self {
        let templates = Templates::new(domain, is_biflow);
        Self {
            domain,
            limit: usize::from(u16::MAX),
            sequence: 0,
            message: Vec::new(),
            set: None,
            record_count: 0,
            known: vec![false; templates.len()],
            templates,
            refresh,
        }
    }

    /// Begins for a receiver that knows no templates, after this many data records.
    pub fn begin(&mut self, limit: usize, sequence: u32) {
        self.limit = limit.min(usize::from(u16::MAX));
        self.sequence = sequence;
        self.clear();
        self.forget_templates();
    }

    /// How many data records were sent.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    fn forget_templates(&mut self) {
        self.known.fill(false);
        if let Some(refresh) = &mut self.refresh {
            *refresh = Refresh::new(refresh.interval, refresh.messages);
        }
    }

    /// Appends a data record. If the message is full, it is sent first.
    pub fn add(&mut self, data: &Data, send: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let place = data.template();
        if !self.message.is_empty() && self.message.len() + self.needed(place) > self.limit {
            self.flush(send)?;
        }
        if self.message.is_empty() {
            self.begin_message();
        }
        if !self.known[place] {
            self.end_set();
            let template = self.templates.get(place);
            let begin = self.message.len();
            self.message
                .extend_from_slice(&template.set_id().to_be_bytes());
            self.message.extend_from_slice(&[0; 2]);
            self.message.extend_from_slice(&template.definition);
            set_length(&mut self.message, begin + 2, begin);
            self.known[place] = true;
        }
        if self.set.is_none_or(|(_, current)| current != place) {
            self.end_set();
            self.set = Some((self.message.len(), place));
            let id = self.templates.get(place).id;
            self.message.extend_from_slice(&id.to_be_bytes());
            self.message.extend_from_slice(&[0; 2]);
        }
        self.templates.write(place, data, &mut self.message);
        self.record_count += 1;
        Ok(())
    }

    /// How many bytes a record of this template takes, including what must precede it.
    fn needed(&self, place: usize) -> usize {
        let template = self.templates.get(place);
        let record = SET_HEADER + template.length;
        if self.known[place] {
            return record;
        }
        record + SET_HEADER + template.definition.len()
    }

    fn begin_message(&mut self) {
        let is_due = |refresh: &Refresh| {
            refresh.message_count >= refresh.messages || refresh.last.elapsed() >= refresh.interval
        };
        if self.refresh.as_ref().is_some_and(is_due) {
            self.forget_templates();
        }
        if let Some(refresh) = &mut self.refresh {
            refresh.message_count += 1;
        }
        self.message.extend_from_slice(&VERSION.to_be_bytes());
        self.message.extend_from_slice(&[0; HEADER - 2]);
    }

    fn end_set(&mut self) {
        if let Some((begin, _)) = self.set.take() {
            set_length(&mut self.message, begin + 2, begin);
        }
    }

    /// Sends the message if it has anything.
    pub fn flush(&mut self, send: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.message.is_empty() {
            return Ok(());
        }
        self.end_set();
        set_length(&mut self.message, 2, 0);
        let seconds = Timestamp::now().as_ns() / 1_000_000_000;
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.message[4..8].copy_from_slice(&seconds.to_be_bytes());
        self.message[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        self.message[12..16].copy_from_slice(&self.domain.to_be_bytes());
        send(&self.message)?;
        self.sequence = self.sequence.wrapping_add(self.record_count);
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.message.clear();
        self.set = None;
        self.record_count = 0;
    }
}

/// Writes the length from `begin` to the end at this place.
fn set_length(message: &mut [u8], place: usize, begin: usize) {
    // No message is longer.
    let length = u16::try_from(message.len() - begin).unwrap_or(u16::MAX);
    message[place..place + 2].copy_from_slice(&length.to_be_bytes());
}
