//! Receives in one of the ways until a stopper ends it.

use std::ops::ControlFlow;
use std::time::Duration;

use nlring::message::NOOP;
use nlring::{
    AddOptions, Backend, Engine, ErrorKind, Event, MessageBuilder, Notice, Protocol, RecvBuffer,
    RecvFlags, Running, Socket, StopHandle, Turn, Wait, conntrack, route,
};

use super::meter::Meter;
use super::plan::Setting;
use crate::args::{Receiver, SourceKind, Way};
use crate::load::USERSOCK_GROUP;
use crate::outcome::Failure;

/// The largest datagram of `usersock`; events are smaller.
const BUFFER_BYTES: usize = 32 << 10;

/// What a receiver got from the kernel.
#[derive(Clone, Debug)]
pub struct Setup {
    pub backend: String,
    /// Why this backend. None: the command line chose it.
    pub backend_reason: Option<String>,
    pub recv_buffer: RecvBuffer,
    /// The shorter delay that the engine uses, if the receive buffer cannot absorb the requested one.
    pub cut_delay: Option<Duration>,
}

/// How many datagrams were received, lost and left unread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Datagrams {
    pub received: u64,
    pub lost: u64,
    pub unread: u64,
}

/// What ends a receiver, from another thread.
pub enum Stopper {
    Engine(StopHandle),
    /// A recv loop wakes up by a NOOP message, which this socket sends to that port ID.
    Recv(Socket, u32),
}

impl Stopper {
    pub fn stop(&self) -> Result<(), Failure> {
        match self {
            Self::Engine(stop) => stop.stop(),
            Self::Recv(socket, port_id) => {
                let mut message = Vec::new();
                MessageBuilder::new(&mut message, NOOP, 0).finish()?;
                socket.send_to(&message, *port_id, 0)?; // unlike an event, it waits for room in the queue
            }
        }
        Ok(())
    }
}

/// Receives the events of the source. It calls `is_ready` when it is ready for the first one. After the stopper is
/// used, it reads what is queued and returns.
pub fn receive(
    setting: Setting,
    way: Way,
    meter: &mut Meter<'_>,
    is_ready: impl FnOnce(Stopper),
) -> Result<(Setup, Datagrams), Failure> {
    let (socket, recv_buffer) = listen(setting)?;
    match way.receiver {
        Receiver::Recv => {
            let setup = Setup {
                backend: way.receiver.to_string(),
                backend_reason: None,
                recv_buffer,
                cut_delay: None,
            };
            Ok((setup, by_recv(&socket, meter, is_ready)?))
        }
        Receiver::Engine(backend) => {
            let wait = way.wait.unwrap_or_default();
            let mut engine = Engine::builder().backend(backend).wait(wait).build()?;
            let options = AddOptions::new()
                .buffer_bytes(BUFFER_BYTES)
                .accept_any_sender(setting.source == SourceKind::Usersock);
            engine.add_with(socket, options)?;
            let running = engine.start()?;
            let setup = Setup {
                backend: running.backend().to_string(),
                backend_reason: (backend == Backend::Auto)
                    .then(|| running.backend_reason().to_owned()),
                recv_buffer,
                cut_delay: cut_delay(&running, wait),
            };
            is_ready(Stopper::Engine(running.stop_handle()));
            Ok((setup, by_engine(running, meter)?))
        }
    }
}

/// A socket in the groups of the source.
fn listen(setting: Setting) -> Result<(Socket, RecvBuffer), Failure> {
    let protocol = protocol(setting.source);
    let groups = match setting.source {
        SourceKind::Usersock => vec![USERSOCK_GROUP],
        SourceKind::Route => vec![route::Group::Ipv4Route.into()],
        SourceKind::Conntrack
        | SourceKind::ConntrackFlows
        | SourceKind::ConntrackTcp
        | SourceKind::ConntrackFlush => {
            vec![
                conntrack::Group::New.into(),
                conntrack::Group::Update.into(),
                conntrack::Group::Destroy.into(),
            ]
        }
    };
    let socket = Socket::open(protocol)?;
    let recv_buffer = socket.set_recv_buffer_bytes(setting.recv_buffer_bytes)?;
    socket.set_no_enobufs(true)?; // as the engine does
    socket.bind(Socket::AUTOPID, 0)?;
    for group in groups {
        socket.add_membership(group)?;
    }
    Ok((socket, recv_buffer))
}

fn protocol(source: SourceKind) -> Protocol {
    match source {
        SourceKind::Usersock => Protocol::USERSOCK,
        SourceKind::Route => Protocol::ROUTE,
        SourceKind::Conntrack
        | SourceKind::ConntrackFlows
        | SourceKind::ConntrackTcp
        | SourceKind::ConntrackFlush => Protocol::NETFILTER,
    }
}

fn cut_delay(running: &Running, wait: Wait) -> Option<Duration> {
    let Wait::Batch(asked) = wait else {
        return None;
    };
    running.longest_delay().filter(|&longest| longest < asked)
}

fn by_engine(mut running: Running, meter: &mut Meter<'_>) -> Result<Datagrams, Failure> {
    loop {
        meter.before_wait()?;
        match running.poll(None, |event, _| record(event, meter))? {
            Turn::Idle | Turn::Delivered => {}
            Turn::Stopped => break,
            Turn::Break(error) => return Err(error.into()),
        }
    }
    meter.stop()?;
    let finished = running.finish(|event, _| record(event, meter));
    if let Some(error) = finished.outcome? {
        return Err(error.into());
    }
    let mut counts = Datagrams::default();
    for ended in finished.sockets {
        counts.received += ended.statistics.received;
        counts.lost += ended.statistics.dropped;
        counts.unread += ended.statistics.unread;
    }
    Ok(counts)
}

fn record(event: Event<'_>, meter: &mut Meter<'_>) -> ControlFlow<nlring::Error> {
    match event {
        Event::Messages(_, list) => list.iter().for_each(|message| meter.record(&message)),
        Event::Notice(_, Notice::Failed(error)) => return ControlFlow::Break(error),
        Event::Lost(..) | Event::Notice(..) => {} // the statistics count it
    }
    ControlFlow::Continue(())
}

/// The loop that a program without an engine would have.
fn by_recv(
    socket: &Socket,
    meter: &mut Meter<'_>,
    is_ready: impl FnOnce(Stopper),
) -> Result<Datagrams, Failure> {
    let waker = Socket::builder(socket.protocol()?).open()?;
    is_ready(Stopper::Recv(waker, socket.port_id()?));
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut received = 0;
    loop {
        meter.before_wait()?;
        match recv(socket, &mut buffer, RecvFlags::NONE, meter)? {
            Came::Event => received += 1,
            Came::Stop => break,
            Came::Nothing => {}
        }
    }
    meter.stop()?;
    for group in socket.groups()? {
        socket.drop_membership(group)?;
    }
    loop {
        match recv(socket, &mut buffer, RecvFlags::DONT_WAIT, meter)? {
            Came::Event => received += 1,
            Came::Stop => {}
            Came::Nothing => break,
        }
    }
    Ok(Datagrams {
        received,
        lost: socket.drops()?.into(),
        unread: 0,
    })
}

enum Came {
    Event,
    Stop,
    Nothing,
}

fn recv(
    socket: &Socket,
    buffer: &mut [u8],
    flags: RecvFlags,
    meter: &mut Meter<'_>,
) -> Result<Came, Failure> {
    let list = match socket.recv(buffer, flags) {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Came::Nothing),
        Err(error) => return Err(error.into()),
    };
    for message in &list {
        if message.message_type() == NOOP {
            return Ok(Came::Stop);
        }
        meter.record(&message);
    }
    Ok(Came::Event)
}
