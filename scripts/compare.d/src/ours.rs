//! nlring's engine with its defaults, except perhaps the wait policy.

use std::hint::black_box;
use std::io;
use std::ops::ControlFlow;

use nlring::conntrack::Flow;
use nlring::{Engine, Event, MessageList, Running, Socket, Wait};

use crate::Way;
use crate::tally::Tally;

pub struct Ours {
    running: Running,
    /// Reads the messages, and returns how many there are.
    look: fn(&MessageList<'_>) -> usize,
}

pub fn count(list: &MessageList<'_>) -> usize {
    list.message_count()
}

pub fn decode(list: &MessageList<'_>) -> usize {
    let flows = list.iter().filter_map(|message| Flow::decode(&message));
    flows.map(black_box).count()
}

impl Ours {
    pub fn new(
        socket: Socket,
        wait: Wait,
        look: fn(&MessageList<'_>) -> usize,
    ) -> io::Result<Self> {
        let mut engine = Engine::builder().wait(wait).build()?;
        engine.add(socket)?;
        let running = engine.start()?;
        Ok(Self { running, look })
    }
}

impl Way for Ours {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        let _delivered = self.running.poll(None, |event, _| {
            if let Event::Messages(_, list) = event {
                tally.add((self.look)(&list));
            }
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }
}
