//! This crate's engine.

use std::io;
use std::ops::ControlFlow;

use nlring::{AddOptions, Backend, Engine, Event, Running, Socket, Wait};

use crate::tally::Tally;
use crate::{Rest, Way};

pub struct Ours(Running);

impl Ours {
    pub fn new(socket: Socket, backend: Backend, wait: Wait) -> io::Result<Self> {
        let mut engine = Engine::builder().backend(backend).wait(wait).build()?;
        engine.add_with(socket, AddOptions::new().accept_any_sender(true))?;
        Ok(Self(engine.start()?))
    }
}

impl Way for Ours {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        let _delivered = self.0.poll(None, |event, _| {
            if let Event::Messages(_, list) = event {
                let now_ns = tally.now_ns();
                for message in &list {
                    tally.note_message(&message, now_ns);
                }
            }
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<Rest> {
        let [ended] = &self.0.discard()[..] else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(Rest {
            unread: ended.statistics.unread,
            lost: ended.statistics.dropped,
        })
    }
}
