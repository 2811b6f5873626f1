//! How long a turn waits, what ends its wait, and what each policy changes.
#![allow(unsafe_code)] // signals

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, SOON, Source, Tally, any_sender, assert_all_in_order, engine_with_listener, listener,
    own_namespace, start, turn_until, turn_until_idle,
};
use nlring::{Backend, Engine, Event, Running, Turn, Wait};
use nlring_testing::{ThreadId, best_of_3};

on_each_backend!(
    a_timeout_of_zero_never_waits,
    a_turn_delivers_all_that_is_queued,
    a_timeout_is_kept,
    a_wait_ends_with_the_first_datagram,
    a_policy_never_outlasts_the_timeout,
    a_signal_ends_a_wait_as_idle,
    each_policy_delivers_all,
    a_batch_gathers_datagrams,
    a_delay_is_cut_to_the_smallest_buffer,
    a_stop_ends_each_policys_wait,
);

const POLICIES: [Wait; 4] = [
    Wait::Auto,
    Wait::Prompt,
    Wait::Batch(Duration::from_millis(50)),
    Wait::Spin,
];

fn with_policy(backend: Backend, wait: Wait) -> (Running, nlring::SocketId) {
    start(
        &Engine::builder().backend(backend).wait(wait),
        listener(512 << 20), // no delay is cut
        any_sender(),
    )
}

fn idle(running: &mut Running, timeout: Duration) -> Turn<String> {
    running
        .poll(Some(timeout), |event, _| {
            ControlFlow::Break(format!("{event:?}"))
        })
        .unwrap()
}

/// Waits until the thread sleeps in its wait for datagrams. A thread that spins never sleeps.
fn await_wait(waiter: ThreadId, wait: Wait) {
    if wait != Wait::Spin {
        waiter.await_sleep();
    }
}

fn a_timeout_of_zero_never_waits(backend: Backend) {
    own_namespace();
    for wait in POLICIES {
        let (mut running, _) = with_policy(backend, wait);
        let start = Instant::now();
        for _ in 0..1000 {
            assert_eq!(idle(&mut running, Duration::ZERO), Turn::Idle);
        }
        assert!(start.elapsed() < SOON, "{wait:?}: {:?}", start.elapsed()); // waits of 10 ms would be 10 s
    }
}

fn a_turn_delivers_all_that_is_queued(backend: Backend) {
    own_namespace();
    let count = match backend {
        Backend::Multishot => 100, // more than one call brings
        _ => 20,                   // fewer than a chain is long
    };
    for wait in POLICIES {
        for timeout in [Duration::ZERO, PATIENCE] {
            let (mut running, id) = with_policy(backend, wait);
            Source::new(64).send_many(count, None);
            let mut tally = Tally::default();
            let turn = running.poll(Some(timeout), |event, _| {
                tally.note(event);
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(turn.unwrap(), Turn::Delivered);
            assert_all_in_order(&tally.sequences(id), count);
        }
    }
}

fn a_timeout_is_kept(backend: Backend) {
    const TIMEOUT: Duration = Duration::from_millis(150);
    own_namespace();
    for wait in POLICIES {
        let (mut running, _) = with_policy(backend, wait);
        turn_until_idle(&mut running, &mut Tally::default()); // the drop counters are read
        let start = Instant::now();
        // A spinning wait ends in slices, each an idle turn.
        loop {
            assert_eq!(
                idle(&mut running, TIMEOUT.saturating_sub(start.elapsed())),
                Turn::Idle
            );
            if wait != Wait::Spin || start.elapsed() >= TIMEOUT {
                break;
            }
        }
        let waited = start.elapsed();
        assert!(waited >= TIMEOUT, "{wait:?}: {waited:?}");
        assert!(waited < SOON, "{wait:?}: {waited:?}");
    }
}

fn a_wait_ends_with_the_first_datagram(backend: Backend) {
    own_namespace();
    for wait in POLICIES {
        let (mut running, _) = with_policy(backend, wait);
        turn_until_idle(&mut running, &mut Tally::default());
        let waiter = ThreadId::current();
        let sender = std::thread::spawn(move || {
            await_wait(waiter, wait);
            Source::new(64).send();
        });
        let start = Instant::now();
        let mut is_delivered = false;
        while !is_delivered {
            let turn = running.poll(Some(Duration::from_secs(60)), |event, _| {
                is_delivered |= matches!(event, Event::Messages(..));
                ControlFlow::<()>::Continue(())
            });
            let _ = turn.unwrap();
        }
        assert!(start.elapsed() < SOON, "{wait:?}: {:?}", start.elapsed());
        sender.join().unwrap();
    }
}

fn a_policy_never_outlasts_the_timeout(backend: Backend) {
    own_namespace();
    let (mut running, _) = start(
        &Engine::builder()
            .backend(backend)
            .wait(Wait::Batch(Duration::from_secs(3600))),
        listener(1 << 30),
        any_sender(),
    );
    let longest = running.longest_delay().unwrap();
    assert!(longest > Duration::from_millis(500), "{longest:?}");
    Source::new(64).send();
    let start = Instant::now();
    let count = 50;
    for _ in 0..count {
        let _ = running.poll(Some(Duration::from_millis(1)), |_, _| {
            ControlFlow::<()>::Continue(())
        });
    }
    assert!(
        start.elapsed() < longest * count / 2,
        "{:?}",
        start.elapsed()
    );
}

fn a_signal_ends_a_wait_as_idle(backend: Backend) {
    extern "C" fn nothing(_: libc::c_int) {}
    own_namespace();
    // SAFETY: sigaction is integers and pointers, for which all zeroes is a value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the pointer is to a filled-in action; the handler touches nothing.
    let result = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
    for wait in [
        Wait::Auto,
        Wait::Prompt,
        Wait::Batch(Duration::from_millis(50)),
    ] {
        let (mut running, id) = with_policy(backend, wait);
        let mut tally = Tally::default();
        turn_until_idle(&mut running, &mut tally);
        // SAFETY: pthread_self takes nothing and cannot fail.
        let this_thread = unsafe { libc::pthread_self() } as u64;
        let done = Arc::new(AtomicBool::new(false));
        let signaller = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                // It repeats the signal, because the first may come before the wait.
                while !done.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(10));
                    // SAFETY: that thread lives until it has joined this one.
                    unsafe { libc::pthread_kill(this_thread, libc::SIGUSR1) };
                }
            }
        });
        let start = Instant::now();
        assert_eq!(idle(&mut running, Duration::from_secs(60)), Turn::Idle);
        assert!(start.elapsed() < SOON, "{wait:?}: {:?}", start.elapsed());
        // Signals lose no datagram.
        let sender = std::thread::spawn(|| Source::new(64).send_many(500, Some(10_000)));
        turn_until(&mut running, &mut tally, |_, tally| {
            tally.messages.len() == 500
        });
        sender.join().unwrap();
        done.store(true, Ordering::Release);
        signaller.join().unwrap();
        assert_all_in_order(&tally.sequences(id), 500);
    }
}

fn each_policy_delivers_all(backend: Backend) {
    own_namespace();
    for wait in POLICIES {
        let (mut running, id) = with_policy(backend, wait);
        let sender = std::thread::spawn(|| {
            let mut source = Source::new(64);
            source.send_many(100, Some(1_000));
            source.send_many(5000, Some(50_000));
            source.send_many(5000, None);
        });
        let mut tally = Tally::default();
        turn_until(&mut running, &mut tally, |_, tally| {
            tally.messages.len() == 10_100
        });
        sender.join().unwrap();
        assert_all_in_order(&tally.sequences(id), 10_100);
        assert_eq!(running.statistics(id).unwrap().dropped, 0);
    }
}

fn a_batch_gathers_datagrams(backend: Backend) {
    const COUNT: u32 = 20; // fewer than a chain is long
    own_namespace();
    // A machine that stops the sender for half a second spoils an attempt.
    best_of_3(|| {
        let wait = Wait::Batch(Duration::from_millis(500));
        let (mut running, id) = with_policy(backend, wait);
        let mut tally = Tally::default();
        turn_until_idle(&mut running, &mut tally);
        let waiter = ThreadId::current();
        let sender = std::thread::spawn(move || {
            waiter.await_sleep();
            Source::new(64).send_many(COUNT, None);
        });
        let mut turn_count = 0;
        while tally.messages.len() < COUNT as usize {
            let turn = running.poll(Some(PATIENCE), |event, _| {
                tally.note(event);
                ControlFlow::<()>::Continue(())
            });
            turn_count += u32::from(turn.unwrap() == Turn::Delivered);
        }
        sender.join().unwrap();
        assert_all_in_order(&tally.sequences(id), COUNT);
        if turn_count == 1 {
            Ok(())
        } else {
            Err(format!("{COUNT} datagrams came in {turn_count} turns"))
        }
    });
}

fn a_delay_is_cut_to_the_smallest_buffer(backend: Backend) {
    own_namespace();
    let delay = Duration::from_millis(5);
    let builder = Engine::builder().backend(backend).wait(Wait::Batch(delay));
    let (mut running, roomy) = start(&builder, listener(64 << 20), any_sender());
    assert_eq!(running.longest_delay(), Some(delay));
    let small = listener(64 << 10);
    let granted_bytes = small.recv_buffer_bytes().unwrap();
    let small = running.add_with(small, any_sender()).unwrap();
    let cut = running.longest_delay().unwrap();
    // The kernel charges at most 1280 bytes for an event, and makes about one event per microsecond.
    let absorbed = Duration::from_micros(granted_bytes as u64 / 1280);
    assert!(
        cut > Duration::ZERO && cut <= absorbed,
        "{cut:?} of {absorbed:?}"
    );
    running.remove(small).unwrap();
    turn_until(&mut running, &mut Tally::default(), |_, tally| {
        tally.removed == [small]
    });
    assert_eq!(
        running.longest_delay(),
        Some(delay),
        "the small buffer is gone"
    );
    assert!(running.socket(roomy).is_some());
    for (wait, longest) in [
        (Wait::Prompt, None),
        (Wait::Spin, None),
        (Wait::Auto, Some(Duration::from_millis(1))),
    ] {
        let (running, _) = with_policy(backend, wait);
        assert_eq!(running.longest_delay(), longest, "{wait:?}");
    }
    let (running, _) = engine_with_listener(backend, 64 << 10);
    assert!(
        running.longest_delay().unwrap() <= absorbed,
        "auto is cut too"
    );
}

fn a_stop_ends_each_policys_wait(backend: Backend) {
    own_namespace();
    for wait in POLICIES {
        let (mut running, _) = with_policy(backend, wait);
        let stop = running.stop_handle();
        let waiter = ThreadId::current();
        let stopper = std::thread::spawn(move || {
            await_wait(waiter, wait);
            stop.stop();
        });
        let start = Instant::now();
        let outcome = running.run(|event, _| ControlFlow::Break(format!("{event:?}")));
        assert_eq!(outcome.unwrap(), None);
        assert!(start.elapsed() < SOON, "{wait:?}: {:?}", start.elapsed());
        stopper.join().unwrap();
    }
}
