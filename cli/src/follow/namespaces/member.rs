//! One namespace among those that are followed, from its appearance to its end.

use std::rc::Rc;
use std::time::Duration;

use nlring::{Namespace, Reclaimed, Running, Socket, SocketId};
use nlring_print::Origin;

use super::schedule::Schedule;
use crate::follow::handler::Handler;
use crate::host::known_namespaces::{Found, Label};

/// The pause before checking again whether the queued events of an ending namespace have been received.
pub const PAUSE: Duration = Duration::from_millis(5);

/// A namespace with its socket and handler.
pub struct Member<H> {
    pub found: Found,
    pub namespace: Namespace,
    pub nsid: Option<i32>,
    pub origin: Rc<Origin>,
    pub socket: SocketId,
    pub handler: H,
    /// Whether the handler has had events since it last worked, so that it is scheduled to work.
    pub has_work: bool,
    pub stage: Stage,
}

/// How far the end of a namespace has come.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    Followed,
    /// The namespace can no longer be found. The socket has left its groups, and what is queued is still received,
    /// however long a slow reader of the output delays that.
    Leaving,
    /// The engine is asked to return the socket.
    Removed,
    /// The socket is closed.
    Ended,
}

impl<H: Handler> Member<H> {
    /// Begins the end: no more events arrive.
    pub fn leave(&mut self, running: &Running) {
        if let Some(socket) = running.socket(self.socket) {
            for group in socket.groups().unwrap_or_default() {
                let _ = socket.drop_membership(group); // if it fails, events go on until the queue is empty once
            }
        }
        self.stage = Stage::Leaving;
    }

    /// Advances the end by a step. Returns the socket when the engine has returned it.
    pub fn advance_end(&mut self, running: &mut Running) -> Option<Reclaimed> {
        if matches!(self.stage, Stage::Leaving)
            && running.socket(self.socket).is_none_or(is_drained)
        {
            let _ = running.remove(self.socket);
            self.stage = Stage::Removed;
        }
        if matches!(self.stage, Stage::Removed)
            && let Ok(ended) = running.reclaim(self.socket)
        {
            self.stage = Stage::Ended;
            return Some(ended);
        }
        None
    }

    /// Schedules the handler to work after the turn.
    pub fn note_work(&mut self, place: usize, schedule: &mut Schedule<usize>) {
        if !self.has_work && matches!(self.stage, Stage::Followed) {
            self.has_work = true;
            schedule.plan_now(place);
        }
    }
}

/// The origin of a namespace's lines.
pub fn origin(label: &Label, nsid: Option<i32>) -> Origin {
    Origin::new(label.name().as_deref(), nsid)
}

/// Whether the receive queue is empty (`SK_MEMINFO_RMEM_ALLOC`, the first number of `SO_MEMINFO`; Linux 4.12).
fn is_drained(socket: &Socket) -> bool {
    const SOL_SOCKET: i32 = 1;
    const SO_MEMINFO: i32 = 55;
    let mut queued_bytes = [0; 4];
    let read = socket.option(SOL_SOCKET, SO_MEMINFO, &mut queued_bytes);
    read.is_ok() && queued_bytes == [0; 4]
}
