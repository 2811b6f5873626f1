//! Receives the events of the tour in the thread that makes them.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::{Backend, Engine, Event, Notice, Protocol, Running, Socket, SocketId, Turn, Wait};

use crate::args::CommonArguments;
use crate::outcome::Failure;

/// How long to wait for events. The kernel queues an event before it acknowledges the request that caused it.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this time without an event, the engine reads the kernel's drop counter.
const LOOK: Duration = Duration::from_millis(20);

/// How to receive, from the options.
#[derive(Clone, Copy)]
pub struct Receiving {
    pub backend: Backend,
    pub wait: Wait,
}

impl Receiving {
    pub fn of(arguments: &CommonArguments) -> Self {
        Self {
            backend: arguments.backend,
            wait: arguments.wait,
        }
    }

    pub fn engine(self) -> Result<Engine, Failure> {
        let builder = Engine::builder().backend(self.backend).wait(self.wait);
        Ok(builder.build()?)
    }
}

/// Opens a socket in these groups.
pub fn listen(
    protocol: Protocol,
    recv_buffer_bytes: usize,
    groups: impl IntoIterator<Item = impl Into<u32>>,
) -> Result<Socket, Failure> {
    let builder = Socket::builder(protocol)
        .recv_buffer_bytes(recv_buffer_bytes)
        .groups(groups);
    Ok(builder.open()?)
}

/// How many events were received and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub lost: u64,
}

pub struct Follower {
    running: Running,
}

impl Follower {
    pub fn start(engine: Engine) -> Result<Self, Failure> {
        Ok(Self {
            running: engine.start()?,
        })
    }

    pub fn socket(&self, id: SocketId) -> Result<&Socket, Failure> {
        let socket = self.running.socket(id);
        socket.ok_or_else(|| Failure::Other("the engine has lost a socket".to_owned()))
    }

    /// The backend, and why the engine chose it.
    pub fn backend(&self) -> String {
        let (backend, reason) = (self.running.backend(), self.running.backend_reason());
        format!("{backend} ({reason})")
    }

    /// Receives until `count` datagrams have come or are known to be lost, and until no more come.
    pub fn receive(
        &mut self,
        count: u64,
        mut f: impl FnMut(&Event<'_>),
    ) -> Result<Counts, Failure> {
        let give_up_at = Instant::now() + PATIENCE;
        let mut counts = Counts::default();
        loop {
            let is_all = counts.received + counts.lost >= count;
            if !is_all && Instant::now() >= give_up_at {
                return Err(Failure::Other(format!(
                    "of {count} events only {} arrived in {PATIENCE:?}, and {} are counted as lost",
                    counts.received, counts.lost
                )));
            }
            let timeout = if is_all { Duration::ZERO } else { LOOK };
            let turn = self.running.poll(Some(timeout), |event, _| {
                counts.add(&event);
                f(&event);
                match event {
                    Event::Notice(_, Notice::Failed(error)) => ControlFlow::Break(error),
                    _ => ControlFlow::Continue(()),
                }
            })?;
            match turn {
                Turn::Break(error) => return Err(error.into()),
                Turn::Idle if is_all => return Ok(counts),
                _ => {}
            }
        }
    }
}

impl Counts {
    fn add(&mut self, event: &Event<'_>) {
        match event {
            Event::Messages(_, list) => self.received += list.datagrams().len() as u64,
            Event::Lost(_, loss) => self.lost += loss.count,
            Event::Notice(..) => {}
        }
    }
}
