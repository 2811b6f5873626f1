//! Part 3 of the tour: a mirror of the kernel's table loses events and heals, and is compared with the kernel's table.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nlring::MirrorOptions;
use nlring::Protocol;
use nlring::SocketId;
use nlring::conntrack::{Change, DumpFilter, Flow, Key, Mirror, ProtocolState, Tuple};
use nlring_print::Style;

use super::burst::SMALL_BUFFER_BYTES;
use super::flows::Flows;
use super::follower::{Counts, Follower, Receiving, listen};
use super::stage::Stage;
use crate::outcome::Failure;

/// The numbers of the connections at first, of those that end in the burst, and of those that begin in it.
const FIRST: std::ops::Range<u16> = 0..300;
const ENDING: std::ops::Range<u16> = 100..200;
const BEGINNING: std::ops::Range<u16> = 300..700;
const BURST_EVENTS: u64 = 500;
/// How long to wait until the mirror is correct. A dump of this small table takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn show(stage: &mut Stage, how: Receiving) -> Result<(), Failure> {
    stage.part(
        "3. A table that heals",
        "With --mirror, nlring keeps the kernel's table of connections in memory by the events alone, and after a loss it \
         reads the kernel's table again and reports what was missed.",
    )?;
    let mut show = Show::open(how)?;
    show.fill(stage)?;
    show.burst(stage)?;
    show.heal(stage)
}

struct Show {
    flows: Flows,
    follower: Follower,
    socket: SocketId,
    mirror: Mirror,
}

/// Entries by their key, with the values that a comparison looks at.
type Entries = HashMap<Key, Kept>;

/// The values of an entry, without its timeout, which decreases without events.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    reply: Option<Tuple>,
    status: Option<u32>,
    state: Option<ProtocolState>,
    mark: u32,
}

impl Show {
    fn open(how: Receiving) -> Result<Self, Failure> {
        let mut engine = how.engine()?;
        let socket = engine.add(listen(
            Protocol::NETFILTER,
            SMALL_BUFFER_BYTES,
            Mirror::GROUPS,
        )?)?;
        Ok(Self {
            flows: Flows::open()?,
            follower: Follower::start(engine)?,
            socket,
            mirror: Mirror::new(MirrorOptions::new().resync_interval(Duration::from_millis(100))),
        })
    }

    /// Lets the mirror read the table, then follow it.
    fn fill(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        self.sync()?;
        for number in FIRST {
            self.flows.make_all(number..number + 1)?;
            self.receive(1)?;
        }
        self.compare(stage, "The mirror follows")
    }

    /// Makes a burst and loses most of its events.
    fn burst(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        stage.say(&format!(
            "A burst as above: {} connections end and {} begin.",
            ENDING.len(),
            BEGINNING.len()
        ))?;
        self.flows.remove_all(ENDING)?;
        self.flows.make_all(BEGINNING)?;
        let counts = self.receive(BURST_EVENTS)?;
        let wrong = self.difference()?;
        stage.say(&format!(
            "{} events were lost, so the mirror is wrong now: it differs from the kernel's table in {wrong} entries.",
            counts.lost
        ))
    }

    /// Lets the mirror read the kernel's table, so that it is correct again.
    fn heal(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        let lines = self.sync()?;
        stage.events(&lines)?;
        self.compare(stage, "The mirror has healed")
    }

    fn receive(&mut self, count: u64) -> Result<Counts, Failure> {
        let mirror = &mut self.mirror;
        self.follower
            .receive(count, |event| mirror.feed(event, |_| ()))
    }

    /// Lets the mirror work until it equals the kernel's table. Returns the lines that report this.
    fn sync(&mut self) -> Result<String, Failure> {
        let give_up_at = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while !self.mirror.is_synced() || lines.is_empty() {
            if Instant::now() >= give_up_at {
                return Err(Failure::Other(format!(
                    "the mirror has not healed in {PATIENCE:?}"
                )));
            }
            let write = |change: Change<'_>| {
                if let Change::Resynced(resync) = change {
                    Style::Text.write_resync(&mut lines, &resync);
                }
            };
            self.mirror
                .advance(self.follower.socket(self.socket)?, write)?;
            self.receive(0)?;
        }
        Ok(String::from_utf8_lossy(&lines).into_owned())
    }

    /// Compares the mirror with a dump of the kernel's table.
    fn compare(&mut self, stage: &mut Stage, what: &str) -> Result<(), Failure> {
        let count = self.kernel_entries()?.len();
        let wrong = self.difference()?;
        stage.check(
            wrong == 0,
            &format!(
                "{what}: {} entries, the kernel's table has {count}; {wrong} differ.",
                self.mirror.len()
            ),
        )
    }

    /// The number of entries in which the mirror and the kernel's table differ.
    fn difference(&mut self) -> Result<usize, Failure> {
        let kernel = self.kernel_entries()?;
        let mut mirror = Entries::new();
        self.mirror
            .iter()
            .for_each(|flow| insert(&mut mirror, &flow));
        let missing = kernel.keys().filter(|key| !mirror.contains_key(key));
        let wrong = mirror
            .iter()
            .filter(|(key, entry)| kernel.get(key) != Some(entry));
        Ok(missing.count() + wrong.count())
    }

    fn kernel_entries(&mut self) -> Result<Entries, Failure> {
        let requests = self.flows.requests();
        Ok(requests.dump(&DumpFilter::new(), insert)?.items)
    }
}

fn insert(entries: &mut Entries, flow: &Flow<'_>) {
    let kept = Kept {
        reply: flow.reply,
        status: flow.status,
        state: flow.state,
        mark: flow.mark.unwrap_or(0), // a dump leaves a mark of 0 out
    };
    entries.insert(flow.key(), kept);
}
