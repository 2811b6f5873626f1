//! Sockets, requests and mirrors in other network namespaces. The calling thread stays in its own, whatever fails.

mod common;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{CAP_SYS_ADMIN, PATIENCE, Tally, own_namespace, set_loopback, start, turn_until};
use nlring::conntrack::{DumpFilter, Layer4, NewFlow, Tuple};
use nlring::{
    AddOptions, Backend, Engine, Error, ErrorKind, Event, Message, MirrorOptions, Namespace,
    Protocol, RecvFlags, Requester, Running, Socket, conntrack, generic, route,
};
use nlring_testing::{await_that, bind_name, own_names, unbind_name};

on_each_backend!(
    an_engine_receives_what_happens_inside_and_nothing_of_outside,
    one_engine_receives_from_many_namespaces,
    a_deleted_namespace_lives_until_the_engine_gives_its_socket_back
);

/// The namespace that system calls of this thread see.
fn here() -> PathBuf {
    fs::read_link("/proc/thread-self/ns/net").unwrap()
}

/// A further namespace, and a socket in it.
fn other() -> (Namespace, Socket) {
    let made = thread::spawn(|| {
        own_namespace();
        let socket = Socket::builder(Protocol::ROUTE).open().unwrap();
        (Namespace::current().unwrap(), socket)
    });
    made.join().unwrap()
}

fn links(namespace: &Namespace) -> Socket {
    Socket::builder(Protocol::ROUTE)
        .namespace(namespace)
        .group(route::Group::Link)
        .open()
        .unwrap()
}

fn an_engine_receives_what_happens_inside_and_nothing_of_outside(backend: Backend) {
    own_namespace();
    let before = here();
    let own = Socket::builder(Protocol::ROUTE).open().unwrap();
    let (inside, peer) = other();
    let builder = Engine::builder().backend(backend);
    let (mut running, _) = start(&builder, links(&inside), AddOptions::new());
    assert_eq!(here(), before);
    set_loopback(&own, true);
    set_loopback(&own, false);
    set_loopback(&peer, true);
    let mut flags = Vec::new();
    common::turn_until_event(&mut running, |event, _| {
        let Event::Messages(_, list) = event else {
            panic!("{event:?}");
        };
        flags.extend(list.iter().map(|message| message.payload()[8] & 1)); // ifi_flags: IFF_UP
        !flags.is_empty()
    });
    set_loopback(&peer, false);
    common::turn_until_event(&mut running, |event, _| {
        if let Event::Messages(_, list) = event {
            flags.extend(list.iter().map(|message| message.payload()[8] & 1));
        }
        flags.len() >= 2
    });
    assert_eq!(flags, [1, 0], "the two changes inside, and none of outside");
    assert_eq!(here(), before);
}

fn one_engine_receives_from_many_namespaces(backend: Backend) {
    own_namespace();
    let before = here();
    let mut engine = Engine::builder().backend(backend).build().unwrap();
    let others: Vec<_> = (0..20).map(|_| other()).collect();
    let ids: Vec<_> = others
        .iter()
        .map(|(namespace, _)| engine.add(links(namespace)).unwrap())
        .collect();
    let mut running = engine.start().unwrap();
    let mut counts = vec![0; others.len()];
    for (number, (_, peer)) in others.iter().enumerate() {
        (0..=number).for_each(|round| set_loopback(peer, round % 2 == 0));
    }
    let total = others.len() * (others.len() + 1) / 2;
    common::turn_until_event(&mut running, |event, _| {
        if let Event::Messages(id, list) = event {
            let place = ids.iter().position(|known| *known == id).unwrap();
            counts[place] += list.message_count();
        }
        counts.iter().sum::<usize>() >= total
    });
    assert_eq!(counts, (1..=others.len()).collect::<Vec<_>>());
    assert_eq!(here(), before);
}

/// The end of a namespace takes its devices with it, and so this one, whose peer is inside.
const DEVICE: &str = "outside";

/// A namespace with this name, a pair of devices between it and this one, and a socket in it that makes events.
fn add_namespace(name: &str) -> (Namespace, Socket) {
    common::ip(&format!("netns add {name}"));
    common::ip(&format!(
        "link add {DEVICE} type veth peer name inside netns {name}"
    ));
    let namespace = Namespace::from_name(name).unwrap();
    let builder = Socket::builder(Protocol::ROUTE).namespace(&namespace);
    let maker = builder.open().unwrap();
    (namespace, maker)
}

/// An engine keeps a socket in a namespace whose name is deleted. The kernel ends that namespace only with its last
/// socket, so events go on, and each is received or counted. Nothing is reported about the name.
fn a_deleted_namespace_lives_until_the_engine_gives_its_socket_back(backend: Backend) {
    const NAME: &str = "a_deleted_namespace_lives_until_the_engine_gives_its_socket_back";
    if common::run("ip", &["-V"]).is_none() {
        return common::skip(NAME, "ip is not installed");
    }
    own_namespace();
    own_names();
    let outside = links(&Namespace::current().unwrap());
    let outside_maker = Socket::builder(Protocol::ROUTE).open().unwrap();
    let (namespace, maker) = add_namespace("blue");
    let inside = links(&namespace);
    let _ = inside.set_recv_buffer_bytes(16 << 10).unwrap(); // few events, so that it overruns
    let (mut running, inside) = start(
        &Engine::builder().backend(backend),
        inside,
        AddOptions::new(),
    );
    let outside = running.add(outside).unwrap();
    drop(namespace);
    common::ip("netns delete blue");

    let mut tally = Tally::default();
    let received = |running: &Running, id| running.statistics(id).unwrap().received;
    let mut made_count = 0;
    let mut make = |count: u64| {
        (made_count..made_count + count).for_each(|number| set_loopback(&maker, number % 2 == 0));
        made_count += count;
        made_count
    };
    let before = received(&running, outside);
    let first_count = make(2);
    set_loopback(&outside_maker, true);
    turn_until(&mut running, &mut tally, |running, _| {
        received(running, inside) == first_count && received(running, outside) > before
    });
    let made_count = make(200); // while nobody receives
    set_loopback(&outside_maker, false);
    turn_until(&mut running, &mut tally, |running, tally| {
        received(running, inside) + tally.lost_count() == made_count
    });
    assert!(tally.lost.iter().all(|(id, _)| *id == inside), "{tally:?}");
    assert!(
        tally.lost_count() > 0 && tally.failed.is_empty(),
        "{tally:?}"
    );

    drop(maker);
    common::device_index(DEVICE); // still there: the engine's socket keeps the namespace
    running.remove(inside).unwrap();
    turn_until(&mut running, &mut tally, |_, tally| {
        !tally.removed.is_empty()
    });
    let ended = running.reclaim(inside).unwrap();
    let counted = ended.statistics.received + ended.statistics.dropped;
    assert_eq!(counted, made_count, "{:?}", ended.statistics);
    drop(ended);
    common::turn_until_event(&mut running, |event, _| match event {
        Event::Messages(id, list) => {
            assert_eq!(id, outside);
            let is_deleted = |message: Message<'_>| message.message_type() == DELETE_LINK;
            list.iter().any(is_deleted) // the device, because the namespace has ended
        }
        event => panic!("{event:?}"),
    });

    // Another namespace with the same name.
    let (namespace, maker) = add_namespace("blue");
    let inside = running.add(links(&namespace)).unwrap();
    set_loopback(&maker, true);
    turn_until(&mut running, &mut tally, |running, _| {
        received(running, inside) == 1
    });
    let finished = running.finish(|_, _| ControlFlow::<()>::Continue(()));
    assert!(
        finished.failure.is_none() && finished.outcome.is_ok(),
        "{finished:?}"
    );
    let statistics = finished.statistics();
    assert_eq!(
        (statistics.dropped, statistics.unread),
        (0, 0),
        "{statistics:?}"
    );
}

const DELETE_LINK: u16 = 17;

#[test]
fn a_namespace_is_the_same_however_it_was_found() {
    own_namespace();
    own_names();
    bind_name("blue");
    let own = Namespace::current().unwrap();
    let file = File::open("/run/netns/blue").unwrap();
    let found = [
        Namespace::from_name("blue").unwrap(),
        Namespace::from_path("/run/netns/blue").unwrap(),
        Namespace::from_fd(&file).unwrap(),
        Namespace::from_fd(own.as_fd()).unwrap(),
        Namespace::try_from(OwnedFd::from(file)).unwrap(),
    ];
    for namespace in &found {
        assert_eq!(*namespace, own, "{namespace}");
        assert_eq!(namespace.inode(), own.inode());
    }
    assert_eq!(found[0].to_string(), "blue");
    assert_eq!(found[1].to_string(), "/run/netns/blue");
    let (inside, _peer) = other();
    assert_ne!(inside, own);
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let of_child = Namespace::from_process(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        of_child.unwrap(),
        own,
        "a child is started in our namespace"
    );
}

#[track_caller]
fn assert_error(result: Result<impl Sized, Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.err().expect("an error");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[test]
fn what_is_no_network_namespace_is_refused_with_a_remedy() {
    own_namespace();
    own_names();
    let before = here();
    assert_error(
        Namespace::from_name("blue"),
        ErrorKind::NotFound,
        &["blue", "ip netns list"],
    );
    fs::write("/run/netns/left", "").unwrap();
    assert_error(
        Namespace::from_name("left"),
        ErrorKind::InvalidInput,
        &["left is not a namespace", "ip netns delete"],
    );
    for name in ["", ".", "..", "a/b", "a\0b"] {
        let result = Namespace::from_name(name);
        assert_error(result, ErrorKind::InvalidInput, &["cannot be the name"]);
    }
    assert_error(
        Namespace::from_path("/proc/self/ns/mnt"),
        ErrorKind::InvalidInput,
        &["not a network namespace", "/proc/PID/ns/net"],
    );
    assert_error(
        Namespace::from_path("/proc/self/ns/none"),
        ErrorKind::NotFound,
        &["/proc/self/ns/none"],
    );
    assert_error(
        Namespace::from_fd(File::open("/proc/self/status").unwrap()),
        ErrorKind::InvalidInput,
        &["is not a namespace"],
    );
    assert_eq!(here(), before);
}

#[test]
fn a_process_that_is_gone_has_no_namespace() {
    let mut child = Command::new("true").spawn().unwrap();
    let process_id = child.id();
    let deadline = Instant::now() + PATIENCE;
    let zombie = loop {
        // It has ended, and nobody has waited for it: the process still has an entry, but no namespace.
        match Namespace::from_process(process_id) {
            Ok(_) => assert!(Instant::now() < deadline, "true(1) does not end"),
            Err(error) => break error,
        }
    };
    assert_eq!(zombie.kind(), ErrorKind::NotFound, "{zombie}");
    child.wait().unwrap();
    let process = format!("process {process_id}");
    assert_error(
        Namespace::from_process(process_id),
        ErrorKind::NotFound,
        &[&process, "has ended", "lsns"],
    );
}

#[test]
fn without_the_capability_only_the_own_namespace_can_be_used() {
    own_namespace();
    let before = here();
    let (inside, _peer) = other();
    let own = Namespace::current().unwrap();
    common::give_up_capability(CAP_SYS_ADMIN);
    let builder = Socket::builder(Protocol::ROUTE);
    for result in [
        builder.clone().namespace(&inside).open().map(drop),
        Requester::open_in(Protocol::ROUTE, &inside).map(drop),
        route::Requests::open_in(&inside).map(drop),
        conntrack::Requests::open_in(&inside).map(drop),
        generic::Requests::open_in(&inside).map(drop),
    ] {
        let words = [
            "enter the network namespace",
            "CAP_SYS_ADMIN",
            "run as root",
        ];
        assert_error(result, ErrorKind::PermissionDenied, &words);
    }
    builder.namespace(&own).open().unwrap();
    assert_eq!(here(), before);
}

/// Each attempt finds the namespace, or says that there is none. What was found works, also when it was deleted since.
#[test]
fn a_namespace_that_is_deleted_while_it_is_opened_is_there_or_not() {
    own_namespace();
    own_names();
    let before = here();
    let (stop, stopped) = mpsc::channel::<()>();
    let maker = thread::spawn(move || {
        own_namespace();
        while stopped.recv_timeout(Duration::ZERO) == Err(mpsc::RecvTimeoutError::Timeout) {
            bind_name("blue");
            unbind_name("blue");
        }
    });
    let (mut found_count, mut missed_count) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while found_count < 50 || missed_count < 50 {
        assert!(
            Instant::now() < deadline,
            "found {found_count}, missed {missed_count}"
        );
        match Namespace::from_name("blue") {
            Ok(namespace) => {
                found_count += 1;
                let socket = links(&namespace);
                assert_eq!(socket.groups().unwrap(), [1]);
            }
            Err(error) => {
                missed_count += 1;
                let kinds = [ErrorKind::NotFound, ErrorKind::InvalidInput];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
    }
    stop.send(()).unwrap();
    maker.join().unwrap();
    assert_eq!(here(), before);
}

#[test]
fn a_socket_keeps_its_namespace_and_no_thread_is_left() {
    own_namespace();
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let (inside, peer) = other();
    let socket = links(&inside);
    let before = threads();
    for _ in 0..100 {
        links(&inside);
    }
    await_that("the threads that opened sockets have ended", || {
        threads() <= before + 20 // the threads of other tests come and go
    });
    drop(inside);
    set_loopback(&peer, true);
    let mut buffer = vec![0; 32 << 10];
    socket.set_recv_timeout(Some(PATIENCE)).unwrap();
    let list = socket.recv(&mut buffer, nlring::RecvFlags::NONE).unwrap();
    assert_eq!(list.message_count(), 1);
}

/// The same tuple in two namespaces is two flows.
#[test]
fn requests_and_a_mirror_are_about_the_namespace_of_their_socket() {
    own_namespace();
    let (inside, _peer) = other();
    let flow = |timeout| NewFlow::new(tuple(), timeout);
    let mut outside_flows = conntrack::Requests::open().unwrap();
    let mut inside_flows = conntrack::Requests::open_in(&inside).unwrap();
    outside_flows.add(&flow(600)).unwrap();
    let count = |requests: &mut conntrack::Requests| {
        let dump = requests.dump(&DumpFilter::new(), |count: &mut usize, _| *count += 1);
        dump.unwrap().items
    };
    assert_eq!(
        (count(&mut outside_flows), count(&mut inside_flows)),
        (1, 0)
    );

    let socket = Socket::builder(Protocol::NETFILTER)
        .namespace(&inside)
        .groups(conntrack::Mirror::GROUPS)
        .open()
        .unwrap();
    let mut engine = Engine::builder().build().unwrap();
    let id = engine.add(socket).unwrap();
    let mut running = engine.start().unwrap();
    let mut mirror = conntrack::Mirror::new(MirrorOptions::new());
    let mut turn = |mirror: &mut conntrack::Mirror| {
        let timeout = Some(Duration::from_millis(5));
        let turn = running.poll(timeout, |event, _| {
            mirror.feed(&event, |_| {});
            ControlFlow::<()>::Continue(())
        });
        let _ = turn.unwrap();
        mirror.advance(running.socket(id).unwrap(), |_| {}).unwrap();
    };
    inside_flows.add(&flow(60)).unwrap();
    await_that("the mirror has the flow of inside", || {
        turn(&mut mirror);
        mirror.is_synced() && mirror.len() == 1
    });
    let key = flow(60).key();
    let timeout = mirror.get(&key).unwrap().timeout_seconds;
    assert!(timeout.is_some_and(|seconds| seconds <= 60), "{timeout:?}");
    assert!(inside_flows.delete(&key, None).unwrap());
    await_that("the mirror has seen its end", || {
        turn(&mut mirror);
        mirror.is_empty()
    });
    assert_eq!(
        (count(&mut outside_flows), count(&mut inside_flows)),
        (1, 0)
    );
}

#[test]
fn a_mirror_of_routes_has_those_of_its_namespace() {
    own_namespace();
    let (inside, peer) = other();
    let socket = Socket::builder(Protocol::ROUTE)
        .namespace(&inside)
        .groups(route::Mirror::GROUPS)
        .open()
        .unwrap();
    let count = |namespace: &Namespace| {
        let mut requests = route::Requests::open_in(namespace).unwrap();
        let dump = requests.dump(&route::DumpFilter::new(), |count: &mut usize, _| {
            *count += 1;
        });
        dump.unwrap().items
    };
    set_loopback(&peer, true);
    let own = Namespace::current().unwrap();
    assert_eq!(count(&own), 0, "the loopback device of outside is down");
    let routes = count(&inside);
    assert!(routes >= 3, "127.0.0.1 and its networks: {routes}");
    let mut mirror = route::Mirror::new(MirrorOptions::new());
    let mut buffer = vec![0; 32 << 10];
    await_that("the mirror has the routes of inside", || {
        while let Ok(list) = socket.recv(&mut buffer, RecvFlags::DONT_WAIT) {
            list.iter()
                .for_each(|message| mirror.feed_message(&message, |_| {}));
        }
        mirror.advance(&socket, |_| {}).unwrap();
        mirror.is_synced() && mirror.len() == routes
    });
    mirror.note_unreadable(); // so that the last dump is made
    mirror.finish(|_| {}).unwrap();
    assert_eq!(mirror.len(), routes, "the last dump was made inside too");
}

fn tuple() -> Tuple {
    let address = |last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
    let ports = Layer4::Ports { src: 4000, dst: 53 };
    Tuple::new(address(1), address(2), 17, ports)
}
