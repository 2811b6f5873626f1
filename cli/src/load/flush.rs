//! Conntrack entries that one request removes, at the kernel's full speed, as when a table is flushed.
//!
//! The entries have a mark, and the request removes only entries with that mark. Other flows stay.

use std::fs;
use std::ops::Range;

use nlring::EventKind;
use nlring::conntrack::{DumpFilter, Requests};
use nlring::{Message, Protocol};

use super::batch::Batch;
use super::entry::{self, Numbered};
use super::{Schedule, Source};
use crate::outcome::Failure;

/// The upper half of the mark. The lower half is from the process ID, so that programs which run at the same time
/// differ.
const MARK: u32 = 0x6e6c_0000;

pub struct Flush {
    requests: Requests,
    batch: Batch,
    numbered: Numbered,
    mark: u32,
    /// Whether the first entry was seen to have the mark.
    is_marked: bool,
    /// How many entries the table takes. It is known after the first ones, which load the kernel's module.
    room_count: u64,
    left_count: u64,
}

impl Flush {
    pub fn open() -> Result<Self, Failure> {
        let batch = Batch::open(
            Protocol::NETFILTER,
            "make conntrack entries",
            entry::REMEDIES,
        )?;
        Ok(Self {
            requests: Requests::open()?,
            batch,
            numbered: Numbered::new(),
            mark: MARK | (std::process::id() & 0xffff),
            is_marked: false,
            room_count: u64::MAX,
            left_count: 0,
        })
    }

    fn check_room(&self) -> Result<(), Failure> {
        if self.left_count < self.room_count {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "the conntrack table has no room for more than {} entries: ask for fewer with --count, or raise \
             net.netfilter.nf_conntrack_max in the initial namespace",
            self.room_count
        )))
    }

    /// Without this check, a kernel that does not know marks would remove all flows.
    fn check_mark(&mut self) -> Result<(), Failure> {
        let first = self.numbered.key(0);
        let mark = self.requests.get(&first, |flow| flow.mark)?;
        self.is_marked = mark.flatten() == Some(self.mark);
        if self.is_marked {
            return Ok(());
        }
        Err(Failure::Other(
            "this kernel has no conntrack marks (CONFIG_NF_CONNTRACK_MARK), which conntrack-flush needs to remove only \
             its own entries: flood conntrack needs none"
                .to_owned(),
        ))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let marked = DumpFilter::new().mark(self.mark, u32::MAX);
        Ok(self.requests.flush(&marked)?)
    }

    fn remove_one_by_one(&mut self) -> Result<(), Failure> {
        for number in 0..self.left_count {
            let key = self.numbered.key(number);
            key.delete_in(self.batch.requests(), None)?;
        }
        self.batch.send()
    }
}

impl Source for Flush {
    fn make(&mut self, indexes: Range<u64>, _schedule: &Schedule) -> Result<(), Failure> {
        for index in indexes {
            self.check_room()?;
            let flow = entry::connection(&self.numbered.key(index)).mark(self.mark);
            flow.add_in(self.batch.requests())?;
            self.left_count += 1;
        }
        self.batch.send()?;
        if !self.is_marked {
            self.check_mark()?;
            self.room_count = self.left_count.saturating_add(room_count());
        }
        Ok(())
    }

    fn clean(&mut self) -> Result<u64, Failure> {
        match self.left_count {
            0 => {}
            _ if self.is_marked => self.flush()?,
            _ => self.remove_one_by_one()?, // the first ones failed
        }
        Ok(std::mem::take(&mut self.left_count))
    }
}

/// How many more entries the table takes. When it is full, the kernel drops flows of others before it refuses a new
/// one.
fn room_count() -> u64 {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match (read("nf_conntrack_max"), read("nf_conntrack_count")) {
        (Some(max), Some(count)) if max > 0 => max.saturating_sub(count),
        _ => u64::MAX,
    }
}

/// The index of an entry's NEW event. Its DESTROY event is not in the schedule.
pub fn index_of(message: &Message<'_>) -> Option<u64> {
    match entry::number_of(message)? {
        (EventKind::New, number) => Some(number),
        _ => None,
    }
}
