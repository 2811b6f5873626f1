//! Part 2 of the tour: a burst into a small receive buffer, with every loss counted.

use nlring::conntrack::{Flow, Group};
use nlring::{Event, Protocol, Timestamp};
use nlring_print::conntrack::FlowFormat;
use nlring_print::{Gap, Style};

use super::flows::Flows;
use super::follower::{Follower, Receiving, listen};
use super::stage::Stage;
use crate::outcome::Failure;

/// The kernel grants twice this size, which holds a few dozen events.
pub const SMALL_BUFFER_BYTES: usize = 16 << 10;
/// How many connections begin and end.
const CONNECTIONS: u16 = 1000;
const EVENTS: u64 = 2 * CONNECTIONS as u64;
/// How many lines are shown at the beginning and at the end.
const SHOWN: usize = 2;

pub fn show(stage: &mut Stage, how: Receiving) -> Result<(), Failure> {
    stage.part(
        "2. A burst, and what is lost",
        &format!(
            "{CONNECTIONS} connections begin and end while nobody reads, and the receive buffer has room for a few dozen \
             events: the kernel drops the others, and nlring reports exactly how many."
        ),
    )?;
    let mut flows = Flows::open()?;
    let mut engine = how.engine()?;
    let groups = [Group::New, Group::Destroy];
    engine.add(listen(Protocol::NETFILTER, SMALL_BUFFER_BYTES, groups)?)?;
    flows.make_all(0..CONNECTIONS)?;
    flows.remove_all(0..CONNECTIONS)?;

    let mut lines = ShownLines::default();
    let counts = Follower::start(engine)?.receive(EVENTS, |event| lines.add(event))?;
    lines.show(stage)?;
    let (received, lost) = (counts.received, counts.lost);
    stage.check(
        received + lost == EVENTS && lost > 0,
        &format!("{EVENTS} sent = {received} received + {lost} lost: no event is unaccounted for."),
    )
}

/// The stream, as the command writes it.
#[derive(Default)]
struct ShownLines {
    events: Vec<String>,
    gaps: Vec<u8>,
}

impl ShownLines {
    fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Messages(_, list) => {
                for flow in list.iter().filter_map(|message| Flow::decode(&message)) {
                    let mut line = Vec::new();
                    FlowFormat::default().write_event(&mut line, &flow, Timestamp::now());
                    self.events
                        .push(String::from_utf8_lossy(&line).into_owned());
                }
            }
            Event::Lost(..) | Event::Notice(..) => {
                if let Some(gap) = Gap::of(event) {
                    Style::Text.write_gap(&mut self.gaps, &gap);
                }
            }
        }
    }

    fn show(&self, stage: &mut Stage) -> Result<(), Failure> {
        for line in self.events.iter().take(SHOWN) {
            stage.events(line)?;
        }
        if let Some(more) = self.events.len().checked_sub(SHOWN + 1) {
            stage.say(&format!("    ... {} more lines of events ...", more + 1))?;
        }
        stage.events(&String::from_utf8_lossy(&self.gaps))
    }
}
