//! Receiving: the engine's backends and what they need, the receive buffer, and the groups that every user may join.

use std::ops::ControlFlow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nlring::message::{NOOP, flags};
use nlring::route::Group;
use nlring::{Backend, Engine, ErrorKind, Event, MessageBuilder, Notice, Protocol, Socket, Turn};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::kernel::seccomp_mode;
use super::report::{Check, CheckState};
use crate::host::sysctl::{self, RMEM_MAX};
use crate::units::Bytes;

/// The default of --recv-buffer.
const RECV_BUFFER_BYTES: usize = 8 << 20;
/// The largest share of the receive buffer that a conntrack event takes, including the kernel's bookkeeping.
const EVENT_BYTES: usize = 1280;
/// How long to wait for an answer, which the kernel gives at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How long the kernel takes to release the memory of a closed ring.
const MEMORY_DELAY: Duration = Duration::from_millis(100);

/// The library's errors contain this if locked memory is short.
const MEMORY_LIMIT: &str = "RLIMIT_MEMLOCK";

/// Each backend, tried with an engine that is built as a collector builds it.
pub struct BackendTrials {
    auto: Result<Works, Broken>,
    multishot: Result<Works, Broken>,
    oneshot: Result<Works, Broken>,
    recvmmsg: Result<Works, Broken>,
}

/// The backend that received, and why the engine chose it.
struct Works {
    backend: Backend,
    reason: String,
}

/// Why no backend received.
struct Broken {
    text: String,
    is_denied: bool,
    is_out_of_memory: bool,
}

impl From<nlring::Error> for Broken {
    fn from(error: nlring::Error) -> Self {
        let text = error.to_string();
        Self {
            is_denied: error.kind() == ErrorKind::PermissionDenied,
            // An error that the library explains has no errno.
            is_out_of_memory: error.raw_os_error() == Some(Errno::NOMEM.raw_os_error())
                || text.contains(MEMORY_LIMIT),
            text,
        }
    }
}

impl BackendTrials {
    pub fn run() -> Self {
        let depth = Backend::DEFAULT_DEPTH;
        Self {
            auto: try_backend(Backend::Auto),
            multishot: try_backend(Backend::Multishot),
            oneshot: try_backend(Backend::Oneshot { depth }),
            recvmmsg: try_backend(Backend::Recvmmsg),
        }
    }

    pub fn has_multishot(&self) -> bool {
        self.multishot.is_ok()
    }

    /// Whether a backend does not work because locked memory is short.
    pub fn is_out_of_memory(&self) -> bool {
        let is_short = |result: &Result<Works, Broken>| match result {
            Ok(works) => works.reason.contains(MEMORY_LIMIT),
            Err(broken) => broken.is_out_of_memory,
        };
        [&self.auto, &self.multishot, &self.oneshot]
            .into_iter()
            .any(is_short)
    }
}

/// Whether an engine can use multishot receives now.
pub fn has_multishot() -> bool {
    try_backend(Backend::Multishot).is_ok()
}

fn try_backend(backend: Backend) -> Result<Works, Broken> {
    match receive_with(backend) {
        Err(broken) if broken.is_out_of_memory => {
            sleep(MEMORY_DELAY);
            receive_with(backend)
        }
        result => result,
    }
}

/// Receives one answer from the kernel.
fn receive_with(backend: Backend) -> Result<Works, Broken> {
    let socket = Socket::builder(Protocol::ROUTE).open()?;
    let mut request = Vec::new();
    // Every netlink protocol acknowledges an empty request.
    MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK).finish()?;
    socket.send(&request)?;
    let mut engine = Engine::builder().backend(backend).build()?;
    engine.add(socket).map_err(nlring::Error::from)?;
    let mut running = engine.start()?;
    let give_up_at = Instant::now() + ANSWER_LIMIT;
    while Instant::now() < give_up_at {
        let turn = running.poll(Some(ANSWER_LIMIT), |event, _control| match event {
            Event::Messages(..) => ControlFlow::Break(Ok(())),
            Event::Notice(_, Notice::Failed(error)) => ControlFlow::Break(Err(error)),
            _ => ControlFlow::Continue(()),
        })?;
        if let Turn::Break(result) = turn {
            result?;
            return Ok(Works {
                backend: running.backend(),
                reason: running.backend_reason().to_owned(),
            });
        }
    }
    Err(Broken {
        text: format!("{backend} received nothing in {ANSWER_LIMIT:?}"),
        is_denied: false,
        is_out_of_memory: false,
    })
}

pub fn io_uring(trials: &BackendTrials) -> Check {
    const NAME: &str = "io_uring";
    let disabled = sysctl::read("kernel.io_uring_disabled");
    let check = match (&trials.multishot, &trials.oneshot, &trials.auto) {
        (Ok(_), ..) => Check::new(NAME, CheckState::Ok, "multishot receives work"),
        (Err(broken), Ok(_), _) => {
            let detail = format!("only single receives work; multishot: {}", broken.text);
            Check::new(NAME, CheckState::Limit, detail)
        }
        (Err(broken), Err(_), auto) => {
            let reason = auto.as_ref().map_or(&broken.text, |works| &works.reason);
            let check = Check::new(NAME, CheckState::Limit, reason);
            match disabled {
                Some(1 | 2) if broken.is_denied => check.set_sysctl("kernel.io_uring_disabled", 0),
                _ => check,
            }
        }
    };
    check
        .value("disabled", disabled)
        .value("group", sysctl::read("kernel.io_uring_group"))
        .value("seccomp", seccomp_mode())
}

pub fn backends(trials: &BackendTrials) -> Check {
    let named = [
        ("multishot", &trials.multishot),
        ("oneshot", &trials.oneshot),
        ("recvmmsg", &trials.recvmmsg),
    ];
    let broken: Vec<&str> = named
        .iter()
        .filter_map(|(name, result)| result.is_err().then_some(*name))
        .collect();
    let others = if broken.is_empty() {
        "the others work too".to_owned()
    } else {
        format!("not working: {}", broken.join(", "))
    };
    let check = match &trials.auto {
        Ok(works) => {
            let state = match works.backend {
                Backend::Multishot => CheckState::Ok,
                _ => CheckState::Note,
            };
            Check::new(
                "backends",
                state,
                format!("auto uses {}; {others}", works.backend),
            )
            .value("auto", works.backend.to_string())
            .value("auto_reason", works.reason.as_str())
        }
        Err(broken) => Check::new("backends", CheckState::Fail, &broken.text)
            .value("auto", Value::Null)
            .value("auto_reason", Value::Null),
    };
    named.iter().fold(check, |check, (name, result)| {
        let error = result.as_ref().err().map(|broken| broken.text.as_str());
        check.value(name, json!({ "works": result.is_ok(), "error": error }))
    })
}

pub fn receive_buffer() -> Check {
    const NAME: &str = "receive_buffer";
    let rmem_max = sysctl::read(RMEM_MAX);
    let asked = Bytes(RECV_BUFFER_BYTES as u64);
    let granted = Socket::open(Protocol::ROUTE)
        .and_then(|socket| socket.set_recv_buffer_bytes(RECV_BUFFER_BYTES));
    let check = match granted {
        Err(error) => Check::new(NAME, CheckState::Unknown, error.to_string()),
        Ok(buffer) => {
            let event_count = buffer.granted_bytes / EVENT_BYTES;
            let room = format!("room for about {} events", event_count / 100 * 100);
            let check = if buffer.is_clamped() {
                // The kernel reads back twice what it granted.
                let took = Bytes(buffer.granted_bytes as u64 / 2);
                let detail = format!(
                    "{took} of {asked}, limited by net.core.rmem_max, as for everyone but root of the host: {room}"
                );
                Check::new(NAME, CheckState::Limit, detail).set_sysctl(RMEM_MAX, RECV_BUFFER_BYTES)
            } else {
                Check::new(NAME, CheckState::Ok, format!("{asked} granted: {room}"))
            };
            check
                .value("granted_bytes", buffer.granted_bytes)
                .value("event_count", event_count)
        }
    };
    check
        .value("requested_bytes", RECV_BUFFER_BYTES)
        .value("rmem_max", rmem_max)
}

pub fn route_events() -> Check {
    let groups = [Group::Ipv4Route, Group::Ipv6Route, Group::MplsRoute];
    match Socket::builder(Protocol::ROUTE).groups(groups).open() {
        Ok(_) => Check::new("route_events", CheckState::Ok, "the groups can be joined"),
        Err(error) => Check::new("route_events", CheckState::Fail, error.to_string()),
    }
}

pub fn other_namespaces() -> Check {
    const NAME: &str = "other_namespaces";
    let set = Socket::open(Protocol::ROUTE).and_then(|socket| socket.set_listen_all_nsid(true));
    let check = match &set {
        Ok(()) => Check::new(
            NAME,
            CheckState::Ok,
            "events of namespaces with an nsid here could be received too (CAP_NET_BROADCAST)",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Check::new(
            NAME,
            CheckState::Note,
            "only events of this namespace can be received: CAP_NET_BROADCAST is missing",
        ),
        Err(error) => Check::new(NAME, CheckState::Note, error.to_string()),
    };
    check.value("listen_all_nsid", set.is_ok())
}
