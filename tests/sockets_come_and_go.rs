//! Sockets are added and removed while the engine runs under load, and no datagram is lost between two owners.

mod common;

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use common::{
    SOON, Source, Tally, any_sender, assert_all_in_order, engine_with_listener, listener,
    own_namespace, sequences_left, turn_until, turn_until_event, turn_until_idle,
};
use nlring::{AddOptions, Backend, Engine, ErrorKind, Event, RecvFlags, Running, Socket, SocketId};

on_each_backend!(
    a_socket_removed_under_load_keeps_its_queue,
    a_socket_passes_through_engines_without_loss,
    a_socket_added_under_load_receives_from_then_on,
    sockets_come_and_go_beside_one_that_stays,
    the_callback_adds_and_removes,
    if_the_callback_removes_its_socket_the_notice_comes_last,
    an_idle_socket_is_removed_soon,
    removing_leaves_no_group,
    the_id_of_a_removed_socket_cannot_be_used,
    ids_are_not_used_again,
    a_socket_that_comes_back_brings_no_old_drops,
    bad_options_and_sockets_are_refused_and_given_back,
    a_socket_that_cannot_be_armed_fails_alone,
    finish_gives_all_sockets_back,
    an_engine_without_sockets_waits_and_accepts_one,
    a_socket_can_be_added_only_once,
    only_the_engine_receives_from_its_socket,
    options_of_a_lent_socket_do_not_stop_its_engine,
    many_sockets_work_with_little_and_with_much_memory,
);

fn add(running: &mut Running, socket: Socket) -> SocketId {
    running.add_with(socket, any_sender()).unwrap()
}

/// Turns until the notice that the socket is removed.
fn await_removal(running: &mut Running, tally: &mut Tally, id: SocketId) {
    turn_until(running, tally, |_, tally| tally.removed.contains(&id));
}

fn a_socket_removed_under_load_keeps_its_queue(backend: Backend) {
    own_namespace();
    for round in 0..10 {
        let (mut running, id) = engine_with_listener(backend, 256 << 20);
        let sender = std::thread::spawn(|| Source::new(64).send_many(20_000, None));
        let mut tally = Tally::default();
        turn_until(&mut running, &mut tally, |_, tally| {
            tally.messages.len() > 100 * round
        });
        running.remove(id).unwrap();
        await_removal(&mut running, &mut tally, id);
        let at_farewell = tally.messages.len();
        let ended = running.reclaim(id).unwrap();
        assert_eq!(ended.id, id);
        sender.join().unwrap();
        turn_until_idle(&mut running, &mut tally);
        assert_eq!(
            tally.messages.len(),
            at_farewell,
            "nothing comes after the notice"
        );
        let mut sequences = tally.sequences(id);
        assert_eq!(ended.statistics.received, sequences.len() as u64);
        assert_eq!((ended.statistics.dropped, ended.statistics.unread), (0, 0));
        sequences.extend(sequences_left(&ended.socket));
        assert_all_in_order(&sequences, 20_000);
    }
}

/// A socket is removed, reclaimed and added many times while datagrams come. Each datagram arrives once and in order.
fn a_socket_passes_through_engines_without_loss(backend: Backend) {
    own_namespace();
    let (mut one, mut id) = engine_with_listener(backend, 256 << 20);
    let mut other = Engine::builder()
        .backend(backend)
        .build()
        .unwrap()
        .start()
        .unwrap();
    let sender = std::thread::spawn(|| Source::new(64).send_many(30_000, None));
    let mut sequences = Vec::new();
    let mut passes = 0;
    while sequences.len() < 30_000 {
        let mut tally = Tally::default();
        turn_until(&mut one, &mut tally, |_, tally| {
            tally.messages.len() > 200 || sequences.len() + tally.messages.len() == 30_000
        });
        one.remove(id).unwrap();
        await_removal(&mut one, &mut tally, id);
        let ended = one.reclaim(id).unwrap();
        assert_eq!(ended.statistics.received, tally.datagram_count);
        sequences.extend(tally.sequences(id));
        std::mem::swap(&mut one, &mut other);
        id = add(&mut one, ended.socket);
        passes += 1;
    }
    sender.join().unwrap();
    assert!(passes > 5, "{passes}");
    assert_all_in_order(&sequences, 30_000);
}

fn a_socket_added_under_load_receives_from_then_on(backend: Backend) {
    own_namespace();
    let (mut running, first) = engine_with_listener(backend, 256 << 20);
    let sender = std::thread::spawn(|| Source::new(64).send_many(30_000, None));
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() > 50
    });
    let second = add(&mut running, listener(256 << 20));
    turn_until(&mut running, &mut tally, |_, _| sender.is_finished());
    turn_until_idle(&mut running, &mut tally);
    sender.join().unwrap();
    assert_all_in_order(&tally.sequences(first), 30_000);
    let sequences = tally.sequences(second);
    let start = sequences.first().copied().unwrap_or(30_000);
    let due: Vec<u32> = (start..30_000).collect();
    assert_eq!(sequences, due, "every datagram after the socket was added");
    let statistics = running.statistics(second).unwrap();
    assert_eq!(statistics.received, sequences.len() as u64);
}

fn sockets_come_and_go_beside_one_that_stays(backend: Backend) {
    own_namespace();
    let (mut running, stays) = engine_with_listener(backend, 256 << 20);
    let mut source = Source::new(64);
    let mut tally = Tally::default();
    let mut going: Vec<(SocketId, u32)> = Vec::new();
    let mut seen_count = 0;
    for round in 0..60 {
        let id = add(&mut running, listener(1 << 20));
        going.push((id, source.sent_count));
        source.send_many(20, None);
        if round % 3 == 0 {
            turn_until(&mut running, &mut tally, |_, tally| {
                tally.messages.iter().any(|(from, _)| *from == id)
            });
        }
        if going.len() > 4 {
            let (id, joined_at) = going.remove(0);
            running.remove(id).unwrap();
            source.send_many(5, None); // the socket is still in its group
            await_removal(&mut running, &mut tally, id);
            let ended = running.reclaim(id).unwrap();
            let mut sequences = tally.sequences(id);
            assert_eq!(ended.statistics.received, sequences.len() as u64);
            sequences.extend(sequences_left(&ended.socket));
            let due: Vec<u32> = (joined_at..source.sent_count).collect();
            assert_eq!(sequences, due);
            seen_count += 1;
        }
    }
    turn_until_idle(&mut running, &mut tally);
    assert!(seen_count > 50);
    assert_all_in_order(&tally.sequences(stays), source.sent_count);
    assert!(tally.lost.is_empty() && tally.failed.is_empty());
}

fn the_callback_adds_and_removes(backend: Backend) {
    own_namespace();
    let (mut running, first) = engine_with_listener(backend, 64 << 20);
    let mut source = Source::new(64);
    source.send_many(500, None); // several lists
    let mut tally = Tally::default();
    let mut second = None;
    turn_until_event(&mut running, |event, control| {
        let is_message = matches!(event, Event::Messages(..));
        tally.note(event);
        if is_message && second.is_none() {
            let socket = listener(64 << 20);
            socket.set_pktinfo(true).unwrap();
            let port_id = socket.port_id().unwrap();
            let id = control.add_with(socket, any_sender()).unwrap();
            assert_eq!(
                control.socket(id).unwrap().port_id().unwrap(),
                port_id,
                "valid at once"
            );
            second = Some(id);
            source.send_many(100, None);
        }
        let received = tally.messages.len() == 700;
        if received && !tally.removed.contains(&first) {
            let _ = control.remove(first);
        }
        tally.removed.contains(&first)
    });
    let second = second.unwrap();
    assert_all_in_order(&tally.sequences(first), 600);
    let due: Vec<u32> = (500..600).collect();
    assert_eq!(tally.sequences(second), due);
    assert_eq!(tally.removed, [first]);
    running.reclaim(first).unwrap();
    assert!(running.statistics(second).is_some());
}

fn if_the_callback_removes_its_socket_the_notice_comes_last(backend: Backend) {
    const COUNT: u32 = 10_000;
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 64 << 20);
    Source::new(64).send_many(COUNT, None);
    let mut tally = Tally::default();
    let mut remove_results = Vec::new();
    turn_until_event(&mut running, |event, control| {
        tally.note(event);
        assert!(tally.removed.is_empty() || tally.messages.len() == tally.sequences(id).len());
        remove_results.push(control.remove(id).map_err(|error| error.kind()));
        tally.removed.contains(&id)
    });
    let (first, others) = remove_results.split_first().unwrap();
    assert_eq!(*first, Ok(()));
    assert!(
        others
            .iter()
            .all(|result| *result == Err(ErrorKind::NoSuchSocket))
    );
    let ended = running.reclaim(id).unwrap();
    let mut sequences = tally.sequences(id);
    assert!(sequences.len() < COUNT as usize, "not all fit one turn");
    sequences.extend(sequences_left(&ended.socket));
    assert_all_in_order(&sequences, COUNT);
}

fn an_idle_socket_is_removed_soon(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    turn_until_idle(&mut running, &mut Tally::default());
    running.remove(id).unwrap();
    let start = std::time::Instant::now();
    let outcome = running.run(|event, _| match event {
        Event::Notice(of, nlring::Notice::Removed) if of == id => ControlFlow::Break(()),
        event => panic!("{event:?}"),
    });
    assert_eq!(outcome.unwrap(), Some(()));
    assert!(start.elapsed() < SOON);
    running.reclaim(id).unwrap();
}

fn removing_leaves_no_group(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    running.remove(id).unwrap();
    await_removal(&mut running, &mut Tally::default(), id);
    assert_eq!(running.socket(id).unwrap().groups().unwrap(), [1]);
    let socket = running.reclaim(id).unwrap().socket;
    assert_eq!(socket.groups().unwrap(), [1]);
    Source::new(64).send();
    assert_eq!(sequences_left(&socket), [0]);
}

fn the_id_of_a_removed_socket_cannot_be_used(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    let (other, _) = engine_with_listener(backend, 1 << 20);
    let refused = |result: nlring::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NoSuchSocket);
    };
    refused(running.reclaim(id).map(drop)); // the id is in use
    running.remove(id).unwrap();
    refused(running.remove(id));
    await_removal(&mut running, &mut Tally::default(), id);
    refused(running.remove(id));
    assert!(running.statistics(id).is_some());
    running.reclaim(id).unwrap();
    refused(running.reclaim(id).map(drop));
    refused(running.remove(id));
    assert!(running.socket(id).is_none() && running.statistics(id).is_none());
    // Another socket takes the same slot.
    let next = add(&mut running, listener(1 << 20));
    assert_ne!(next, id);
    refused(running.remove(id));
    refused(running.reclaim(id).map(drop));
    assert!(running.socket(id).is_none() && running.socket(next).is_some());
    drop(other);
}

fn ids_are_not_used_again(backend: Backend) {
    own_namespace();
    let mut running = Engine::builder()
        .backend(backend)
        .build()
        .unwrap()
        .start()
        .unwrap();
    let mut ids = std::collections::HashSet::new();
    let mut names = std::collections::HashSet::new();
    let mut socket = listener(1 << 20);
    let mut source = Source::new(64);
    for round in 0..100 {
        let id = running.add_with(socket, any_sender()).unwrap();
        assert!(ids.insert(id) && names.insert(id.to_string()), "{id}");
        source.send();
        let mut tally = Tally::default();
        if round % 2 == 0 {
            turn_until(&mut running, &mut tally, |_, tally| {
                tally.messages.len() == 1
            });
        }
        running.remove(id).unwrap();
        await_removal(&mut running, &mut tally, id);
        assert!(tally.messages.iter().all(|(from, _)| *from == id));
        let ended = running.reclaim(id).unwrap();
        assert_eq!(ended.statistics.received, tally.datagram_count);
        socket = ended.socket;
        sequences_left(&socket);
    }
}

fn a_socket_that_comes_back_brings_no_old_drops(backend: Backend) {
    own_namespace();
    let (mut running, first) = engine_with_listener(backend, 2048);
    let mut source = Source::new(64);
    source.send_many(500, None);
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    running.remove(first).unwrap();
    await_removal(&mut running, &mut tally, first);
    let ended = running.reclaim(first).unwrap();
    let old = ended.statistics.dropped;
    assert!(old > 0);
    assert_eq!(tally.lost_count(), old);
    let second = add(&mut running, ended.socket);
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    assert_eq!(
        running.statistics(second).unwrap(),
        nlring::Statistics::default()
    );
    source.send_many(500, None);
    turn_until(&mut running, &mut tally, |running, _| {
        let statistics = running.statistics(second).unwrap();
        statistics.received + statistics.dropped == 500
    });
    turn_until_idle(&mut running, &mut tally);
    assert_eq!(
        tally.lost_count(),
        running.statistics(second).unwrap().dropped
    );
    // An ending reports no old drops either.
    let socket = running.discard().remove(0).socket;
    let (running, third) = common::start(&Engine::builder().backend(backend), socket, any_sender());
    let finished = running.finish(|event, _| ControlFlow::Break(format!("{event:?}")));
    assert_eq!(finished.outcome.unwrap(), None);
    assert_eq!(finished.sockets[0].id, third);
    assert_eq!(
        finished.sockets[0].statistics,
        nlring::Statistics::default()
    );
}

fn bad_options_and_sockets_are_refused_and_given_back(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    for (options, named) in [
        (AddOptions::new().buffer_count(0), "power of two"),
        (AddOptions::new().buffer_count(3), "power of two"),
        (AddOptions::new().buffer_count(u16::MAX), "power of two"),
        (AddOptions::new().buffer_bytes(0), "from 1 byte"),
        (AddOptions::new().buffer_bytes(usize::MAX), "1 GiB"),
    ] {
        let error = running.add_with(listener(1 << 20), options).unwrap_err();
        assert_eq!(error.error().kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(named), "{error}");
        let socket = error.into_socket();
        let mut is_on = [9; 4];
        let (level, name) = (libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS);
        socket.option(level, name, &mut is_on).unwrap();
        assert_eq!(i32::from_ne_bytes(is_on), 0, "the socket is as it was");
    }
    Source::new(64).send();
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    assert_eq!(tally.messages, [(id, 0)]);
}

/// The buffers exceed the limit on address space. The test runs in a process of its own, because the limit holds for
/// the process.
fn a_socket_that_cannot_be_armed_fails_alone(backend: Backend) {
    const LIMITED: &str = "NLRING_TEST_LIMITED";
    if std::env::var_os(LIMITED).is_none() {
        let module = match backend {
            Backend::Multishot => "multishot",
            Backend::Oneshot { .. } => "oneshot",
            _ => "recvmmsg",
        };
        let output = Command::new("prlimit")
            .arg(format!("--as={}", 16u64 << 30))
            .arg(std::env::current_exe().unwrap())
            .arg("--exact")
            .arg(format!(
                "{module}::a_socket_that_cannot_be_armed_fails_alone"
            ))
            .env(LIMITED, "1")
            .output()
            .expect("prlimit, of util-linux");
        let reported = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && reported.contains(" 1 passed"),
            "{reported}"
        );
        return;
    }
    own_namespace();
    let (mut running, good) = engine_with_listener(backend, 1 << 20);
    let mut tally = Tally::default();
    let options = any_sender().buffer_count(1 << 15).buffer_bytes(1 << 30);
    let bad: Vec<SocketId> = (0..200)
        .map_while(|_| {
            let id = running.add_with(listener(1 << 20), options).unwrap();
            for _ in 0..2 {
                let _ = running
                    .poll(Some(std::time::Duration::ZERO), |event, _| {
                        tally.note(event);
                        ControlFlow::<()>::Continue(())
                    })
                    .unwrap();
            }
            tally.failed.is_empty().then_some(id)
        })
        .collect();
    assert!(!tally.failed.is_empty(), "{} have memory", bad.len());
    let (failed, why) = tally.failed[0].clone();
    assert!(why.contains("arm a receive"), "{why}");
    Source::new(64).send();
    turn_until_idle(&mut running, &mut tally);
    assert_eq!(tally.sequences(good), [0]);
    assert_eq!(tally.failed.len(), 1);
    let ended = running.reclaim(failed).unwrap();
    assert_eq!(ended.statistics, nlring::Statistics::default());
    assert_eq!(sequences_left(&ended.socket), [0]);
}

fn finish_gives_all_sockets_back(backend: Backend) {
    own_namespace();
    let (mut running, first) = engine_with_listener(backend, 1 << 20);
    let second = add(&mut running, listener(1 << 20));
    let third = add(&mut running, listener(1 << 20));
    let reclaimed = add(&mut running, listener(1 << 20));
    let mut source = Source::new(64);
    source.send_many(3, None);
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 12
    });
    running.remove(second).unwrap();
    running.remove(reclaimed).unwrap();
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.removed.len() == 2
    });
    running.reclaim(reclaimed).unwrap();
    running.remove(third).unwrap(); // the notice of its removal is still due
    source.send_many(4, None);
    let finished = running.finish(|event, _| {
        tally.note(event);
        ControlFlow::<()>::Continue(())
    });
    let mut ids: Vec<SocketId> = finished.sockets.iter().map(|ended| ended.id).collect();
    ids.sort();
    assert_eq!(ids, [first, second, third]);
    for ended in &finished.sockets {
        let left = sequences_left(&ended.socket).len() as u64;
        let statistics = ended.statistics;
        assert_eq!(
            statistics.received + statistics.unread + left,
            7,
            "{ended:?}"
        );
        assert_eq!(tally.sequences(ended.id).len() as u64, statistics.received);
    }
    assert_all_in_order(&tally.sequences(first), 7);
}

fn an_engine_without_sockets_waits_and_accepts_one(backend: Backend) {
    own_namespace();
    let mut running = Engine::builder()
        .backend(backend)
        .build()
        .unwrap()
        .start()
        .unwrap();
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    let socket = listener(1 << 20);
    Source::new(64).send_many(10, None); // queued before it is added
    let id = add(&mut running, socket);
    turn_until(&mut running, &mut tally, |_, tally| {
        tally.messages.len() == 10
    });
    assert_all_in_order(&tally.sequences(id), 10);
    assert!(
        Engine::builder()
            .backend(backend)
            .build()
            .unwrap()
            .start()
            .unwrap()
            .discard()
            .is_empty()
    );
}

/// A second descriptor of a socket is the same socket, so two receives would share its datagrams.
fn a_socket_can_be_added_only_once(backend: Backend) {
    own_namespace();
    let socket = listener(1 << 20);
    let duplicate = || Socket::try_from(socket.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let id = engine.add_with(duplicate(), any_sender()).unwrap();
    let error = engine.add(duplicate()).unwrap_err();
    assert_eq!(error.error().kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("second socket"), "{error}");
    let mut running = engine.start().unwrap();
    running.add(duplicate()).unwrap_err();
    Source::new(64).send_many(100, None);
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    assert_all_in_order(&tally.sequences(id), 100);
    running.remove(id).unwrap();
    await_removal(&mut running, &mut tally, id);
    running.add(duplicate()).unwrap_err(); // not yet reclaimed
    let socket = running.reclaim(id).unwrap().socket;
    add(&mut running, socket);
}

fn only_the_engine_receives_from_its_socket(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 1 << 20);
    let mut source = Source::new(64);
    source.send_many(10, None);
    let mut buffer = [0; 1024];
    for flags in [RecvFlags::DONT_WAIT, RecvFlags::DONT_WAIT | RecvFlags::PEEK] {
        let lent = running.socket(id).unwrap();
        let error = lent.recv(&mut buffer, flags).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("reclaim"), "{error}");
    }
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    assert_all_in_order(&tally.sequences(id), 10);
    running.remove(id).unwrap();
    await_removal(&mut running, &mut tally, id);
    let reclaimed = running.reclaim(id).unwrap().socket;
    source.send();
    assert_eq!(sequences_left(&reclaimed), [10]);
    let id = add(&mut running, reclaimed);
    source.send();
    let ended = running.discard();
    assert_eq!((ended[0].id, ended[0].statistics.unread), (id, 1));
    assert!(sequences_left(&ended[0].socket).is_empty());
}

fn options_of_a_lent_socket_do_not_stop_its_engine(backend: Backend) {
    own_namespace();
    let (mut running, id) = engine_with_listener(backend, 16 << 20);
    let mut source = Source::new(64);
    let mut tally = Tally::default();
    let settings: [fn(&Socket); 7] = [
        |socket| socket.set_nonblocking(true).unwrap(),
        |socket| socket.set_nonblocking(false).unwrap(),
        |socket| {
            socket
                .set_recv_timeout(Some(Duration::from_millis(1)))
                .unwrap();
        },
        |socket| socket.set_no_enobufs(false).unwrap(),
        |socket| socket.set_pktinfo(true).unwrap(),
        |socket| assert!(socket.set_recv_buffer_bytes(32 << 20).is_ok()),
        |socket| {
            socket.drop_membership(1u32).unwrap();
            socket.add_membership(1u32).unwrap();
        },
    ];
    for set in settings {
        set(running.socket(id).unwrap());
        for _ in 0..3 {
            source.send_many(10, None);
            turn_until_idle(&mut running, &mut tally); // it also waits while nothing comes
        }
    }
    assert_all_in_order(&tally.sequences(id), source.sent_count);
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
    let again = running.discard().remove(0).socket;
    again.set_nonblocking(true).unwrap(); // as it was when added
    again.add_membership(1u32).unwrap();
    let (mut running, id) = common::start(&Engine::builder().backend(backend), again, any_sender());
    let mut tally = Tally::default();
    turn_until_idle(&mut running, &mut tally);
    let before = nlring_testing::cpu_time();
    turn_until_idle(&mut running, &mut tally);
    let spent = nlring_testing::cpu_time().saturating_sub(before);
    assert!(spent < Duration::from_millis(30), "it spins: {spent:?}");
    let mut source = Source::new(64);
    source.send_many(10, None);
    turn_until_idle(&mut running, &mut tally);
    assert_all_in_order(&tally.sequences(id), 10);
}

/// If the kernel packs datagrams, the engine lays out small memory differently from large memory.
fn many_sockets_work_with_little_and_with_much_memory(backend: Backend) {
    own_namespace();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let little = any_sender().buffer_count(2).buffer_bytes(512);
    let options = (0..140u32).map(|index| {
        if index.is_multiple_of(3) {
            little
        } else {
            any_sender()
        }
    });
    let ids: Vec<_> = options
        .map(|options| engine.add_with(listener(4096), options).unwrap())
        .collect();
    let mut running = engine.start().unwrap();
    Source::new(64).send();
    let mut tally = Tally::default();
    turn_until(&mut running, &mut tally, |_, tally| {
        assert!(tally.failed.is_empty(), "{:?}", tally.failed);
        tally.messages.len() == ids.len()
    });
    for id in ids {
        assert_eq!(tally.sequences(id), [0]);
    }
}
