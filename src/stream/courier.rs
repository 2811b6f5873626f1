//! The engine's end of the channel: what is sent, and what is skipped when the channel is full.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::{Item, OwnedList, Skipped, WhenFull};
use crate::engine::{Engine, Event, Reclaimed, Running, SocketId, Turn};
use crate::error::Result;
use crate::message::MessageList;

/// How soon a skip is reported when no event follows it.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// Runs an engine until it is stopped, the stream is dropped, or it fails.
pub(super) fn run(engine: Engine, mut courier: Courier) -> Vec<Reclaimed> {
    match engine.start() {
        Ok(running) => courier.turn(running),
        Err(error) => {
            let _ = courier.send(Err(error));
            Vec::new()
        }
    }
}

pub(super) struct Courier {
    pub sender: Sender<Result<Item>>,
    pub when_full: WhenFull,
    /// What was skipped and not yet reported, for each socket.
    pub unreported: Vec<(SocketId, Skipped)>,
    /// What was skipped in all.
    pub total: Arc<Mutex<Skipped>>,
}

/// The reader is gone.
const GONE: ControlFlow<()> = ControlFlow::Break(());
const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

impl Courier {
    fn turn(&mut self, mut running: Running) -> Vec<Reclaimed> {
        loop {
            let timeout = (!self.unreported.is_empty()).then_some(FLUSH_INTERVAL);
            match running.poll(timeout, |event, _| self.deliver(event)) {
                Ok(Turn::Idle) => {
                    self.report();
                }
                Ok(Turn::Delivered) => {}
                Ok(Turn::Break(())) => return running.discard(),
                Ok(Turn::Stopped) => return self.end(running),
                Err(error) => {
                    let _ = self.send(Err(error));
                    return running.discard();
                }
            }
        }
    }

    /// Delivers what is queued, and reports what was skipped.
    fn end(&mut self, running: Running) -> Vec<Reclaimed> {
        let finished = running.finish(|event, _| self.deliver(event));
        let _ = self.report_waiting();
        for error in finished.outcome.err().into_iter().chain(finished.failure) {
            let _ = self.send(Err(error));
        }
        finished.sockets
    }

    fn deliver(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Messages(id, list) => match self.when_full {
                WhenFull::Wait => self.send(Ok(Item::Messages(id, OwnedList::new(&list)))),
                WhenFull::Skip => self.send_or_skip(id, &list),
            },
            Event::Lost(id, loss) => {
                let skipped = self
                    .unreported
                    .iter_mut()
                    .find(|(skipped, _)| *skipped == id);
                if let Some((_, skipped)) = skipped {
                    skipped.add_loss(loss); // the loss lies among what was skipped
                    self.note(|total| total.add_loss(loss));
                    return GO_ON;
                }
                self.send(Ok(Item::Lost(id, loss)))
            }
            Event::Notice(id, notice) => {
                self.report_waiting()?;
                self.send(Ok(Item::Notice(id, notice)))
            }
        }
    }

    /// Sends an item, and waits until there is room for it.
    fn send(&mut self, item: Result<Item>) -> ControlFlow<()> {
        match self.sender.blocking_send(item) {
            Ok(()) => GO_ON,
            Err(_) => GONE,
        }
    }

    /// Copies and sends a list if there is room for it, otherwise counts it as skipped.
    fn send_or_skip(&mut self, id: SocketId, list: &MessageList<'_>) -> ControlFlow<()> {
        if self.report() {
            match self.sender.try_reserve() {
                Ok(place) => {
                    place.send(Ok(Item::Messages(id, OwnedList::new(list))));
                    return GO_ON;
                }
                Err(TrySendError::Full(())) => {}
                Err(TrySendError::Closed(())) => return GONE,
            }
        }
        if self.sender.is_closed() {
            return GONE;
        }
        let index = self
            .unreported
            .iter()
            .position(|(skipped, _)| *skipped == id);
        let index = index.unwrap_or_else(|| {
            self.unreported.push((id, Skipped::default()));
            self.unreported.len() - 1
        });
        self.unreported[index].1.add_list(list);
        self.note(|total| total.add_list(list));
        GO_ON
    }

    fn note(&self, change: impl FnOnce(&mut Skipped)) {
        change(&mut self.total.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reports what was skipped, as far as there is room. True when everything is reported.
    fn report(&mut self) -> bool {
        while let Some((id, skipped)) = self.unreported.first().copied() {
            let Ok(place) = self.sender.try_reserve() else {
                return false;
            };
            place.send(Ok(Item::Skipped(id, skipped)));
            self.unreported.remove(0);
        }
        true
    }

    /// Reports what was skipped, and waits for room.
    fn report_waiting(&mut self) -> ControlFlow<()> {
        for (id, skipped) in std::mem::take(&mut self.unreported) {
            self.send(Ok(Item::Skipped(id, skipped)))?;
        }
        GO_ON
    }
}
