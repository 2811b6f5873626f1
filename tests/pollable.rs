//! The engine's descriptor under epoll is readable while there is something to do, and only then.

#![allow(unsafe_code)] // epoll(7)

mod common;

use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, SOON, Source, Tally, any_sender, assert_all_in_order, listener, own_namespace, start,
};
use nlring::{Backend, Engine, Event, Notice, Running, SocketId, Turn};
use nlring_testing::ThreadId;

on_each_backend!(
    an_engine_has_no_descriptor_unless_asked_for,
    a_datagram_makes_it_readable_until_it_is_received,
    it_stays_readable_while_something_is_undelivered,
    after_a_panic_it_stays_readable_while_something_is_undelivered,
    a_stop_makes_it_readable,
    no_wake_up_is_lost,
    no_wake_up_is_lost_with_few_buffers,
    a_socket_added_with_a_queue_wakes,
    a_removal_wakes,
    a_removal_by_the_callback_wakes,
    a_loss_wakes,
);

fn pollable(backend: Backend) -> (Running, SocketId) {
    start(
        &Engine::builder().backend(backend).pollable(true),
        listener(64 << 20),
        any_sender(),
    )
}

/// An epoll set with one descriptor, which is what async runtimes use.
struct Epoll(std::os::fd::OwnedFd);

impl Epoll {
    fn of(fd: BorrowedFd<'_>, edge_triggered: bool) -> Self {
        use std::os::fd::FromRawFd;
        // SAFETY: epoll_create1(2) takes a number and touches no memory.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0);
        // SAFETY: the kernel has just made it for this call.
        let this = Self(unsafe { std::os::fd::OwnedFd::from_raw_fd(epoll) });
        let edge = if edge_triggered { libc::EPOLLET } else { 0 };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | edge).cast_unsigned(),
            u64: 0,
        };
        // SAFETY: the pointer is to a local that outlives the call.
        let result =
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
        assert_eq!(result, 0);
        this
    }

    fn of_engine(running: &Running) -> Self {
        Self::of(running.pollable_fd().expect("it is pollable"), false)
    }

    /// Whether the descriptor becomes readable within this time.
    fn wait(&self, timeout: Duration) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        loop {
            let millis = i32::try_from(timeout.as_millis()).unwrap();
            // SAFETY: the pointer is to room for the one event that is asked for.
            let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, millis) };
            match count {
                0 => return false,
                1 => return true,
                _ => assert_eq!(
                    std::io::Error::last_os_error().kind(),
                    std::io::ErrorKind::Interrupted
                ),
            }
        }
    }
}

fn turn(running: &mut Running, tally: &mut Tally) -> Turn<()> {
    let turn = running.poll(Some(Duration::ZERO), |event, _| {
        tally.note(event);
        ControlFlow::Continue(())
    });
    turn.unwrap()
}

/// Turns only when epoll says so, until `done`.
#[track_caller]
fn drive(running: &mut Running, tally: &mut Tally, epoll: &Epoll, done: impl Fn(&Tally) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(tally) {
        assert!(
            epoll.wait(SOON),
            "a wake-up was lost at {} messages",
            tally.messages.len()
        );
        let _ = turn(running, tally);
        assert!(
            Instant::now() < deadline,
            "{} messages",
            tally.messages.len()
        );
    }
}

/// Turns while the descriptor is readable. A few turns may find nothing; after them it must be quiet.
#[track_caller]
fn assert_becomes_quiet(running: &mut Running, epoll: &Epoll) {
    let mut spurious = 0;
    while epoll.wait(Duration::from_millis(20)) {
        let mut tally = Tally::default();
        let _ = turn(running, &mut tally);
        assert!(tally.messages.is_empty(), "{tally:?}");
        spurious += 1;
        assert!(spurious < 10, "it stays readable");
    }
}

fn an_engine_has_no_descriptor_unless_asked_for(backend: Backend) {
    own_namespace();
    let (running, _) = start(
        &Engine::builder().backend(backend),
        listener(1 << 20),
        any_sender(),
    );
    assert!(running.pollable_fd().is_none());
    assert!(pollable(backend).0.pollable_fd().is_some());
}

fn a_datagram_makes_it_readable_until_it_is_received(backend: Backend) {
    own_namespace();
    let (mut running, id) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    assert_becomes_quiet(&mut running, &epoll);
    let mut source = Source::new(64);
    let mut tally = Tally::default();
    for round in 0..50 {
        source.send_many(1 + round % 3, None);
        let sent = source.sent_count as usize;
        drive(&mut running, &mut tally, &epoll, |tally| {
            tally.messages.len() == sent
        });
        assert_becomes_quiet(&mut running, &epoll);
    }
    assert_all_in_order(&tally.sequences(id), source.sent_count);
}

fn it_stays_readable_while_something_is_undelivered(backend: Backend) {
    own_namespace();
    let (mut running, id) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    Source::new(64).send_many(200, None);
    let mut tally = Tally::default();
    while tally.messages.len() < 200 {
        assert!(epoll.wait(SOON), "{} messages", tally.messages.len());
        let turn = running.poll(Some(Duration::ZERO), |event, _| {
            tally.note(event);
            ControlFlow::Break(())
        });
        assert!(matches!(turn.unwrap(), Turn::Break(()) | Turn::Idle));
    }
    assert_all_in_order(&tally.sequences(id), 200);
    assert_becomes_quiet(&mut running, &epoll);
}

fn after_a_panic_it_stays_readable_while_something_is_undelivered(backend: Backend) {
    own_namespace();
    let (mut running, id) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    Source::new(64).send_many(200, None);
    let mut tally = Tally::default();
    while tally.messages.len() < 200 {
        assert!(epoll.wait(SOON), "{} messages", tally.messages.len());
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            running.poll(Some(Duration::ZERO), |event, _| {
                tally.note(event);
                std::panic::resume_unwind(Box::new(())); // a panic that prints nothing
                #[allow(unreachable_code)]
                ControlFlow::<()>::Continue(())
            })
        }));
    }
    assert_all_in_order(&tally.sequences(id), 200);
    assert_becomes_quiet(&mut running, &epoll);
}

fn a_stop_makes_it_readable(backend: Backend) {
    own_namespace();
    let (mut running, _) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    assert_becomes_quiet(&mut running, &epoll);
    let stop = running.stop_handle();
    let waiter = ThreadId::current();
    let stopper = std::thread::spawn(move || {
        waiter.await_sleep();
        stop.stop();
    });
    assert!(epoll.wait(SOON), "a stop wakes");
    stopper.join().unwrap();
    assert_eq!(turn(&mut running, &mut Tally::default()), Turn::Stopped);
}

/// A datagram that comes while a turn drains, delivers or ends must wake again. There are 20,000 chances to miss one.
fn no_wake_up_is_lost(backend: Backend) {
    own_namespace();
    for edge_triggered in [false, true] {
        let (mut running, id) = pollable(backend);
        let epoll = Epoll::of(running.pollable_fd().unwrap(), edge_triggered);
        let sender = std::thread::spawn(|| Source::new(64).send_many(20_000, Some(20_000)));
        let mut tally = Tally::default();
        if edge_triggered {
            let _ = turn(&mut running, &mut tally); // what came before the descriptor was watched
            while tally.messages.len() < 20_000 {
                assert!(
                    epoll.wait(SOON),
                    "lost at {} messages",
                    tally.messages.len()
                );
                while turn(&mut running, &mut tally) != Turn::Idle {}
            }
        } else {
            drive(&mut running, &mut tally, &epoll, |tally| {
                tally.messages.len() == 20_000
            });
        }
        sender.join().unwrap();
        assert_all_in_order(&tally.sequences(id), 20_000);
    }
}

fn no_wake_up_is_lost_with_few_buffers(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder()
            .backend(match backend {
                Backend::Oneshot { .. } => Backend::Oneshot { depth: 2 },
                backend => backend,
            })
            .pollable(true),
        listener(64 << 20),
        any_sender().buffer_count(2),
    );
    let epoll = Epoll::of_engine(&running);
    let mut source = Source::new(64);
    source.send_many(1000, None);
    let sender = std::thread::spawn(move || source.send_many(5000, Some(20_000)));
    let mut tally = Tally::default();
    drive(&mut running, &mut tally, &epoll, |tally| {
        tally.messages.len() == 6000
    });
    sender.join().unwrap();
    assert_all_in_order(&tally.sequences(id), 6000);
    assert_becomes_quiet(&mut running, &epoll);
}

fn a_socket_added_with_a_queue_wakes(backend: Backend) {
    own_namespace();
    let (mut running, _) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    let mut source = Source::new(64);
    let mut tally = Tally::default();
    assert_becomes_quiet(&mut running, &epoll);
    let socket = listener(1 << 20);
    source.send_many(3, None);
    drive(&mut running, &mut tally, &epoll, |tally| {
        tally.messages.len() == 3
    });
    assert_becomes_quiet(&mut running, &epoll);
    let id = running.add_with(socket, any_sender()).unwrap();
    drive(&mut running, &mut tally, &epoll, |tally| {
        tally.sequences(id).len() == 3
    });
}

fn a_removal_wakes(backend: Backend) {
    own_namespace();
    let (mut running, id) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    assert_becomes_quiet(&mut running, &epoll);
    running.remove(id).unwrap();
    let mut tally = Tally::default();
    drive(&mut running, &mut tally, &epoll, |tally| {
        tally.removed == [id]
    });
    running.reclaim(id).unwrap();
}

fn a_removal_by_the_callback_wakes(backend: Backend) {
    own_namespace();
    let (mut running, id) = pollable(backend);
    let epoll = Epoll::of_engine(&running);
    assert_becomes_quiet(&mut running, &epoll);
    Source::new(64).send();
    let (mut messages, mut is_removed) = (0, false);
    while !is_removed {
        assert!(
            epoll.wait(SOON),
            "a wake-up was lost after {messages} messages"
        );
        let turn = running.poll(Some(Duration::ZERO), |event, control| {
            match event {
                Event::Messages(..) => {
                    messages += 1;
                    control.remove(id).unwrap();
                }
                Event::Notice(_, Notice::Removed) => is_removed = true,
                event => panic!("{event:?}"),
            }
            ControlFlow::<()>::Continue(())
        });
        let _ = turn.unwrap();
    }
    assert_eq!(messages, 1);
}

/// A loss is reported once the wake-ups for the datagrams before it are served.
fn a_loss_wakes(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend).pollable(true),
        listener(2048),
        any_sender(),
    );
    let epoll = Epoll::of_engine(&running);
    let mut tally = Tally::default();
    let mut source = Source::new(64);
    for round in 1..=20 {
        source.send_many(100, None);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let statistics = running.statistics(id).unwrap();
            if statistics.received + statistics.dropped == 100 * round
                && tally.lost_count() == statistics.dropped
            {
                break;
            }
            assert!(epoll.wait(SOON), "round {round}: {statistics:?}");
            let _ = turn(&mut running, &mut tally);
            assert!(Instant::now() < deadline, "round {round}: {statistics:?}");
        }
    }
    assert_becomes_quiet(&mut running, &epoll);
}
