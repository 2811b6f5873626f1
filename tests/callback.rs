//! A list that the callback got counts as delivered as a whole, even if the callback breaks or panics. The next turn
//! continues after it, and no buffer leaks.

mod common;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, SOON, Source, Tally, any_sender, assert_all_in_order, engine_with_listener, listener,
    own_namespace, start, turn_until, turn_until_idle,
};
use nlring::{Backend, Engine, Event, Notice, Running, Timestamp, Turn};

on_each_backend!(
    a_panic_loses_nothing_and_repeats_nothing,
    a_panic_at_each_event_is_survived,
    a_panic_leaks_no_buffer,
    a_panic_does_not_stall_the_next_turn,
    a_panic_on_a_notice_or_a_loss_is_survived,
    a_break_at_each_event_loses_nothing,
    a_break_at_a_notice_goes_on_behind_it,
    undelivered_lists_come_without_waiting,
    a_list_has_the_datagrams_of_one_socket,
    the_callback_learns_the_time_of_the_drain,
);

/// Takes a turn whose callback may panic. Err is the panic's payload; the panic hook prints nothing.
fn turn(
    running: &mut Running,
    timeout: Duration,
    mut f: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Turn<()>, ()> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        running.poll(Some(timeout), |event, _| f(event)).unwrap()
    }));
    result.map_err(|payload| {
        if payload.downcast_ref::<Deliberate>().is_none() {
            resume_unwind(payload); // a failed assertion
        }
    })
}

struct Deliberate;

fn panic_quietly() -> ! {
    resume_unwind(Box::new(Deliberate))
}

fn a_panic_loses_nothing_and_repeats_nothing(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(64 << 20),
        any_sender().buffer_count(128),
    );
    let mut source = Source::new(100);
    source.send_many(2000, None);
    let sender = std::thread::spawn(move || source.send_many(2000, Some(20_000)));
    let mut tally = Tally::default();
    let (mut panic_count, mut call_count) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while tally.messages.len() < 4000 {
        assert!(
            Instant::now() < deadline,
            "{} messages",
            tally.messages.len()
        );
        let result = turn(&mut running, SOON, |event| {
            tally.note(event);
            call_count += 1;
            if call_count % 3 == 0 {
                panic_quietly();
            }
            ControlFlow::Continue(())
        });
        panic_count += usize::from(result.is_err());
    }
    sender.join().unwrap();
    turn_until_idle(&mut running, &mut tally);
    assert!(panic_count > 5, "{panic_count}");
    assert_all_in_order(&tally.sequences(id), 4000);
    let statistics = running.statistics(id).unwrap();
    assert_eq!(
        (statistics.received, statistics.messages, statistics.dropped),
        (4000, 4000, 0)
    );
}

fn a_panic_at_each_event_is_survived(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    Source::new(100).send_many(3000, None);
    let mut tally = Tally::default();
    let deadline = Instant::now() + PATIENCE;
    while tally.messages.len() < 3000 {
        assert!(
            Instant::now() < deadline,
            "{} messages",
            tally.messages.len()
        );
        let _ = turn(&mut running, SOON, |event| {
            tally.note(event);
            panic_quietly()
        });
    }
    assert_all_in_order(&tally.sequences(id), 3000);
    // The end counts them once.
    let ended = running.discard().remove(0);
    assert_eq!(
        (ended.statistics.received, ended.statistics.unread),
        (3000, 0)
    );
}

/// There are many more datagrams than buffers, and each turn panics at its first list.
fn a_panic_leaks_no_buffer(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(64 << 20),
        any_sender().buffer_count(4),
    );
    let mut source = Source::new(100);
    let mut tally = Tally::default();
    for round in 1..=100 {
        source.send_many(7, None);
        let deadline = Instant::now() + PATIENCE;
        while tally.messages.len() < 7 * round {
            assert!(Instant::now() < deadline, "round {round}");
            let _ = turn(&mut running, SOON, |event| {
                tally.note(event);
                panic_quietly()
            });
        }
    }
    source.send_many(1000, None);
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 1700
    });
    assert_all_in_order(&tally.sequences(id), 1700);
}

/// Receives that ended during the turn that panicked are armed again by the next turn, before it waits.
fn a_panic_does_not_stall_the_next_turn(backend: Backend) {
    own_namespace();
    let (mut running, _) = start(
        &Engine::builder()
            .backend(match backend {
                Backend::Oneshot { .. } => Backend::Oneshot { depth: 4 },
                backend => backend,
            })
            .pollable(true),
        listener(16 << 20),
        any_sender().buffer_count(4),
    );
    let mut source = Source::new(100);
    for round in 0..10 {
        source.send_many(8, None);
        let mut tally = Tally::default();
        let start = Instant::now();
        while tally.messages.len() < 8 {
            let _ = turn(&mut running, PATIENCE, |event| {
                tally.note(event);
                panic_quietly()
            });
        }
        assert!(
            start.elapsed() < SOON,
            "round {round}: {:?}",
            start.elapsed()
        );
    }
}

fn a_panic_on_a_notice_or_a_loss_is_survived(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(4096),
        any_sender().buffer_bytes(256),
    );
    let (mut short, mut long) = (Source::new(100), Source::new(1000));
    let mut tally = Tally::default();
    for _ in 0..100 {
        short.send();
        long.send();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let result = turn(&mut running, Duration::from_millis(20), |event| {
            let is_message = matches!(event, Event::Messages(..));
            tally.note(event);
            if is_message {
                ControlFlow::Continue(())
            } else {
                panic_quietly()
            }
        });
        let statistics = running.statistics(id).unwrap();
        if result == Ok(Turn::Idle) && statistics.received + statistics.dropped == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{statistics:?}");
    }
    let statistics = running.statistics(id).unwrap();
    assert!(
        statistics.dropped > 0 && statistics.truncated > 0,
        "{statistics:?}"
    );
    assert_eq!(tally.truncated.len() as u64, statistics.truncated);
    assert_eq!(tally.lost_count(), statistics.dropped);
    assert_eq!(tally.messages.len() as u64, statistics.messages);
}

fn a_break_at_each_event_loses_nothing(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    let mut source = Source::new(100);
    source.send_many(3000, None);
    let sender = std::thread::spawn(move || source.send_many(3000, Some(30_000)));
    let mut tally = Tally::default();
    let mut break_count = 0;
    let start = Instant::now();
    while tally.messages.len() < 6000 {
        let turn = running.poll(Some(SOON), |event, _| {
            tally.note(event);
            break_count += 1;
            ControlFlow::Break(break_count)
        });
        match turn.unwrap() {
            Turn::Idle => {} // a wait may end early to read the drop counters
            turn => assert_eq!(turn, Turn::Break(break_count), "the callback's own value"),
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{} messages",
            tally.messages.len()
        );
    }
    sender.join().unwrap();
    assert!(break_count >= 6000 / 64, "{break_count}");
    assert_all_in_order(&tally.sequences(id), 6000);
    let statistics = running.statistics(id).unwrap();
    assert_eq!((statistics.received, statistics.dropped), (6000, 0));
}

fn a_break_at_a_notice_goes_on_behind_it(backend: Backend) {
    own_namespace();
    let (mut running, id) = start(
        &Engine::builder().backend(backend),
        listener(16 << 20),
        any_sender().buffer_bytes(256),
    );
    let (mut short, mut long) = (Source::new(100), Source::new(1000));
    for _ in 0..100 {
        short.send();
        long.send();
        short.send();
    }
    // Each notice comes between the same messages as without a break.
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 300 {
        assert!(Instant::now() < deadline, "{} events", seen.len());
        let turn = running.poll(Some(SOON), |event, _| match event {
            Event::Messages(_, list) => {
                seen.extend(list.iter().map(|message| Some(message.sequence())));
                ControlFlow::Continue(())
            }
            Event::Notice(_, Notice::Truncated { .. }) => {
                seen.push(None);
                ControlFlow::Break(())
            }
            Event::Notice(_, Notice::Starved) => ControlFlow::Continue(()),
            event => panic!("{event:?}"),
        });
        let _ = turn.unwrap();
    }
    let due: Vec<Option<u32>> = (0..100)
        .flat_map(|round| [Some(2 * round), None, Some(2 * round + 1)])
        .collect();
    assert_eq!(seen, due);
    assert_eq!(running.statistics(id).unwrap().truncated, 100);
}

/// Datagrams in hand are delivered by a turn that must not wait, and by one without a timeout.
fn undelivered_lists_come_without_waiting(backend: Backend) {
    own_namespace();
    for timeout in [Some(Duration::ZERO), None] {
        let (mut running, id) = engine_with_listener(backend, 16 << 20);
        let mut source = Source::new(100);
        let mut long = Source::new(200_000);
        source.send_many(20, None);
        long.send(); // a notice, so that there are two lists
        source.send_many(5, None);
        let mut tally = Tally::default();
        turn_until_break(&mut running, &mut tally, |tally| tally.messages.len() == 20);
        let turn = running.poll(timeout, |event, _| {
            tally.note(event);
            ControlFlow::Break(())
        });
        assert_eq!(turn.unwrap(), Turn::Break(()));
        assert_eq!(tally.truncated, [(200_000, None)]);
        let turn = running.poll(timeout, |event, _| {
            tally.note(event);
            ControlFlow::Break(())
        });
        assert_eq!(turn.unwrap(), Turn::Break(()));
        assert_all_in_order(&tally.sequences(id), 25);
    }
}

/// Turns until `done`, then breaks.
fn turn_until_break(running: &mut Running, tally: &mut Tally, done: impl Fn(&Tally) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(tally) {
        assert!(Instant::now() < deadline, "{tally:?}");
        let turn = running.poll(Some(SOON), |event, _| {
            tally.note(event);
            if done(tally) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let _ = turn.unwrap();
    }
}

fn a_list_has_the_datagrams_of_one_socket(backend: Backend) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let ids = [(); 3].map(|()| engine.add_with(listener(16 << 20), any_sender()).unwrap());
    let mut running = engine.start().unwrap();
    let port_ids = ids.map(|id| running.socket(id).unwrap().port_id().unwrap());
    let mut source = Source::new(64);
    for index in 0..300 {
        source.send_to(port_ids[index % 3]);
    }
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 300
    });
    for (start, id) in (0..).zip(ids) {
        let due: Vec<u32> = (start..300).step_by(3).collect();
        assert_eq!(tally.sequences(id), due);
    }
}

fn the_callback_learns_the_time_of_the_drain(backend: Backend) {
    own_namespace();
    let (mut running, _) = engine_with_listener(backend, 1 << 20);
    let before = Timestamp::now();
    Source::new(64).send();
    let turn = running.poll(Some(SOON), |event, _| match event {
        Event::Messages(_, list) => ControlFlow::Break(list.received_at()),
        event => panic!("{event:?}"),
    });
    let Turn::Break(Some(received_at)) = turn.unwrap() else {
        panic!("no time");
    };
    assert!(before <= received_at && received_at <= Timestamp::now());
}
