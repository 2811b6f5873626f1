//! Tests of an engine whose backend fails by a script.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::backend::{Backend, Choice};
use super::event::{Event, Notice, Turn};
use super::options::AddOptions;
use super::receive::{Receive, Taken};
use super::running::Running;
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::{Plan, Wait};
use crate::error::{Error, Result};
use crate::message::{MessageBuilder, NOOP, flags};
use crate::socket::{Protocol, Socket};
use crate::sys::socket::{Received, discard};

/// The errors that successive calls return. When none is left, the calls succeed.
#[derive(Default)]
struct Script {
    wait: Vec<i32>,
    arm: Vec<i32>,
    /// How often a receive was armed.
    armed_count: usize,
    wait_count: usize,
    /// After this many waits, queued datagrams are received.
    receives_at: usize,
}

struct Scripted(Arc<Mutex<Script>>);

fn next(errors: &mut Vec<i32>, operation: &'static str) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(errors.remove(0));
    Err(Error::failed_call(operation, error))
}

impl Receive for Scripted {
    fn start(&mut self, _stop: &StopHandle) -> io::Result<()> {
        Ok(())
    }

    fn attach(&mut self, _slot: u16, _options: AddOptions) -> io::Result<usize> {
        Ok(1)
    }

    fn arm(&mut self, _slot: u16, _fd: BorrowedFd<'_>) -> Result<()> {
        let mut script = self.0.lock().unwrap();
        next(&mut script.arm, "arm")?;
        script.armed_count += 1;
        Ok(())
    }

    fn cancel(&mut self, _slot: u16, _fd: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }

    fn is_quiet(&self, _slot: u16) -> bool {
        true
    }

    fn detach(&mut self, _slot: u16) {}

    fn submit(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, _plan: Plan) -> Result<()> {
        let mut script = self.0.lock().unwrap();
        script.wait_count += 1;
        next(&mut script.wait, "wait")
    }

    fn drain(&mut self, sockets: &mut Sockets, _taken: &mut Vec<Taken>, _room: usize) {
        let script = self.0.lock().unwrap();
        if script.wait_count == script.receives_at {
            for entry in sockets.iter() {
                let _ = discard(entry.socket.as_fd()); // most of them have nothing
            }
        }
    }

    fn datagram(&self, _taken: Taken) -> Option<(Received, &[u8])> {
        None
    }

    fn recycle(&mut self, _delivered: &[Taken]) {}

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn set_readable(&self, _readable: bool) {}
}

/// An engine with two sockets.
fn engine(script: Script) -> (Running, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(script));
    let choice = Choice {
        receive: Box::new(Scripted(Arc::clone(&script))),
        backend: Backend::Recvmmsg,
        reason: "scripted".into(),
    };
    let mut sockets = Sockets::new();
    for _ in 0..2 {
        let socket = Socket::builder(Protocol::ROUTE).open().unwrap();
        sockets.insert(socket, AddOptions::default()).unwrap();
    }
    let stop = StopHandle::new().unwrap();
    let running = Running::start(choice, sockets, stop, Wait::Prompt).unwrap();
    (running, script)
}

/// Takes turns, and returns the notices as text.
fn notices(running: &mut Running, turn_count: usize) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    for _ in 0..turn_count {
        let _: Turn<()> = running.poll(Some(Duration::from_millis(1)), |event, _| {
            let text = match event {
                Event::Notice(id, notice) => format!("{id}: {notice}"),
                event => panic!("{event:?}"),
            };
            notices.push(text);
            ControlFlow::Continue(())
        })?;
    }
    Ok(notices)
}

#[test]
fn a_wait_that_fails_is_reported_once_and_counted_each_time() {
    let wait = vec![libc::EAGAIN, libc::ENOMEM, libc::ENOMEM];
    let (mut running, script) = engine(Script {
        wait,
        ..Script::default()
    });
    let reported = notices(&mut running, 10).unwrap();
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].starts_with("socket 1: stalled") && reported[0].contains("wait: "),
        "{reported:?}"
    );
    script.lock().unwrap().wait = vec![libc::ENOMEM];
    assert_eq!(notices(&mut running, 10).unwrap().len(), 1, "a later one");
    let retried = running
        .discard()
        .iter()
        .map(|ended| ended.statistics.retried)
        .sum::<u64>();
    assert_eq!(retried, 4);
}

#[test]
fn a_wait_that_cannot_work_is_an_error_at_once() {
    let (mut running, _) = engine(Script {
        wait: vec![libc::EBADF],
        ..Script::default()
    });
    let error = notices(&mut running, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn an_arm_that_fails_is_made_again_and_the_socket_goes_on() {
    let arm = vec![libc::ENOMEM, libc::EAGAIN, libc::EBUSY, libc::EAGAIN];
    let (mut running, script) = engine(Script {
        arm,
        ..Script::default()
    });
    let reported = notices(&mut running, 10).unwrap();
    assert_eq!(reported.len(), 2, "once for each socket: {reported:?}");
    assert!(
        reported.iter().all(|text| text.contains("stalled")),
        "{reported:?}"
    );
    assert_eq!(script.lock().unwrap().armed_count, 2);
    for ended in running.discard() {
        assert_eq!(ended.statistics.retried, 2);
        assert!(ended.failure.is_none());
    }
}

#[test]
fn an_arm_that_cannot_work_is_the_failure_of_its_socket() {
    let (mut running, script) = engine(Script {
        arm: vec![libc::EINVAL],
        ..Script::default()
    });
    let reported = notices(&mut running, 3).unwrap();
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].starts_with("socket 1: failed: arm"),
        "{reported:?}"
    );
    assert_eq!(script.lock().unwrap().armed_count, 1);
}

/// Neither the backend's failure nor the callback's hides the other.
#[test]
fn an_end_goes_on_while_something_is_queued_although_a_turn_receives_nothing() {
    let (running, script) = engine(Script {
        receives_at: 4,
        ..Script::default()
    });
    let socket = &running.sockets.iter().next().unwrap().socket;
    let mut request = Vec::new();
    let builder = MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK);
    builder.finish().unwrap();
    socket.send(&request).unwrap(); // its answer is queued
    let finished = running.finish(|event, _| ControlFlow::Break(format!("{event:?}")));
    assert_eq!(finished.outcome.unwrap(), None);
    assert_eq!(script.lock().unwrap().wait_count, 4);
}

#[test]
fn an_end_reports_two_failures() {
    let (running, _) = engine(Script {
        wait: vec![libc::EBADF],
        arm: vec![libc::ENOMEM],
        ..Script::default()
    });
    let finished = running.finish(|event, _| match event {
        Event::Notice(_, Notice::Stalled(error)) => ControlFlow::Break(error.to_string()),
        event => panic!("{event:?}"),
    });
    let value = finished.outcome.unwrap().unwrap();
    assert!(value.starts_with("arm: "), "{value}");
    let failure = finished.failure.unwrap();
    assert_eq!(failure.raw_os_error(), Some(libc::EBADF));
}

/// A failure that no notice has reported is in the reclaimed socket.
#[test]
fn an_end_reports_the_failure_of_a_socket_that_was_not_delivered() {
    let (running, _) = engine(Script {
        arm: vec![libc::EINVAL],
        ..Script::default()
    });
    let ended = running.discard();
    let failures = ended
        .iter()
        .map(|ended| ended.failure.as_ref().map(Error::raw_os_error));
    assert_eq!(
        failures.collect::<Vec<_>>(),
        [Some(Some(libc::EINVAL)), None]
    );
}
