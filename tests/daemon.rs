//! A program with an engine goes to the background, in safe code only. Each call of the child is an error that says
//! why, and the child's memory stays as it is.
#![forbid(unsafe_code)]

use std::env;
use std::ops::ControlFlow;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use nlring::message::{NOOP, flags};
use nlring::{
    Backend, Engine, Error, ErrorKind, Event, MessageBuilder, Protocol, Running, Socket,
    StopHandle, Turn,
};

/// Set in the process that runs one test, which may go to the background.
const ALONE: &str = "NLRING_TEST_ALONE";
/// `RTNLGRP_NOTIFY`, to which the kernel sends nothing.
const SILENT_GROUP: u32 = 2;
const DONE: &str = "as it should be";
const PATIENCE: Duration = Duration::from_secs(20);

type Test = fn(Backend, bool);

/// Runs a test in a process of its own, because daemon(3) ends the process that calls it.
fn run(name: &str, test: Test, backend: Backend) {
    if env::var_os(ALONE).is_some() {
        let is_pollable = env::var(ALONE).is_ok_and(|value| value == "pollable");
        test(backend, is_pollable);
        println!("{DONE}");
        process::exit(0); // the test runner stayed in the parent
    }
    for alone in ["plain", "pollable"] {
        let output = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, alone)
            .output() // until the background process has closed its output too
            .expect("this program runs");
        let output_text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output_text.contains(DONE),
            "{alone}: {:?}\n{output_text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

macro_rules! on_each_backend {
    ($($test:ident),+ $(,)?) => {
        mod multishot {
            $(#[test] fn $test() {
                super::run(concat!("multishot::", stringify!($test)), super::$test, nlring::Backend::Multishot);
            })+
        }
        mod oneshot {
            $(#[test] fn $test() {
                let backend = nlring::Backend::Oneshot { depth: 4 };
                super::run(concat!("oneshot::", stringify!($test)), super::$test, backend);
            })+
        }
        mod recvmmsg {
            $(#[test] fn $test() {
                super::run(concat!("recvmmsg::", stringify!($test)), super::$test, nlring::Backend::Recvmmsg);
            })+
        }
    };
}

on_each_backend!(
    an_engine_built_before_a_fork_cannot_be_used_in_the_child,
    an_engine_started_before_a_fork_cannot_be_used_in_the_child,
    the_child_can_take_the_sockets_over,
    a_callback_may_fork,
    the_callback_of_an_ending_may_fork,
    a_callback_may_panic_in_the_child,
);

/// Goes to the background, where a watchdog ends the process.
fn daemon() {
    nix::unistd::daemon(true, true).expect("a background process");
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        println!("it hangs");
        process::exit(1);
    });
}

fn socket() -> Socket {
    Socket::builder(Protocol::ROUTE)
        .group(SILENT_GROUP)
        .open()
        .expect("a socket")
}

/// Makes the kernel send an acknowledgement to this socket.
fn make_one_come(socket: &Socket) {
    let mut request = Vec::new();
    MessageBuilder::new(&mut request, NOOP, flags::REQUEST | flags::ACK)
        .finish()
        .expect("a request");
    socket.send(&request).expect("sent");
}

fn build(backend: Backend, is_pollable: bool) -> Engine {
    let mut engine = Engine::builder()
        .backend(backend)
        .pollable(is_pollable)
        .build()
        .expect("an engine");
    engine.add(socket()).expect("added");
    engine
}

fn assert_names_the_fork(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Forked, "{error}");
    assert!(
        error
            .to_string()
            .ends_with("build the engine after fork or daemon"),
        "{error}"
    );
}

fn poll(running: &mut Running) -> nlring::Result<Turn<()>> {
    running.poll(Some(Duration::ZERO), |_, _| ControlFlow::Continue(()))
}

/// Allocates memory in the sizes of a ring's queues and buffers, so that some of it lies where they were. Runs `f`,
/// and asserts that this memory has not changed.
fn assert_touches_no_memory(f: impl FnOnce()) {
    const SIZES: [usize; 7] = [
        4 << 10,
        16 << 10,
        64 << 10,
        132 << 10,
        256 << 10,
        1 << 20,
        4 << 20,
    ];
    let taken: Vec<Vec<u8>> = (1u8..=8)
        .flat_map(|filler| SIZES.map(|size| vec![filler; size]))
        .collect();
    f();
    for (index, bytes) in taken.iter().enumerate() {
        let filler = u8::try_from(index / SIZES.len() + 1).expect("a small number");
        assert!(bytes.iter().all(|byte| *byte == filler));
    }
}

/// Asserts that the child can build an engine of its own and receive with it.
fn assert_works_here(backend: Backend, is_pollable: bool) {
    let mut engine = Engine::builder()
        .backend(backend)
        .pollable(is_pollable)
        .build()
        .expect("an engine");
    let socket = socket();
    make_one_come(&socket);
    engine.add(socket).expect("added");
    let mut running = engine.start().expect("started");
    let received = running.run(|event, _| match event {
        Event::Messages(_, list) => ControlFlow::Break(list.message_count()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(received.expect("a run"), Some(1));
    assert_eq!(running.discard().len(), 1);
}

fn an_engine_built_before_a_fork_cannot_be_used_in_the_child(backend: Backend, is_pollable: bool) {
    let [engine, mut other] = [(); 2].map(|()| build(backend, is_pollable));
    daemon();
    assert_names_the_fork(other.add(socket()).unwrap_err().error());
    assert_touches_no_memory(move || drop(other));
    assert_touches_no_memory(move || assert_names_the_fork(&engine.start().unwrap_err()));
    assert_works_here(backend, is_pollable);
}

fn an_engine_started_before_a_fork_cannot_be_used_in_the_child(
    backend: Backend,
    is_pollable: bool,
) {
    let mut running = build(backend, is_pollable).start().expect("started");
    let id = running.add(socket()).expect("added");
    make_one_come(running.socket(id).expect("the socket"));
    let _ = poll(&mut running).expect("a turn"); // receives are in flight
    daemon();
    assert_names_the_fork(&poll(&mut running).unwrap_err());
    let run = running.run(|_, _| ControlFlow::<()>::Continue(()));
    assert_names_the_fork(&run.unwrap_err());
    assert_names_the_fork(running.add(socket()).unwrap_err().error());
    assert_names_the_fork(&running.remove(id).unwrap_err());
    assert_names_the_fork(&running.reclaim(id).unwrap_err());
    running.stop_handle().stop();
    assert_names_the_fork(&poll(&mut running).unwrap_err());
    assert!(running.socket(id).is_some() && running.statistics(id).is_some());
    assert_eq!(running.pollable_fd().is_some(), is_pollable);
    assert_touches_no_memory(move || drop(running));
    assert_works_here(backend, is_pollable);
}

fn the_child_can_take_the_sockets_over(backend: Backend, is_pollable: bool) {
    let [first, second] = [(); 2].map(|()| build(backend, is_pollable).start().expect("started"));
    daemon();
    let finished = first.finish(|_, _| ControlFlow::<()>::Continue(()));
    assert_names_the_fork(&finished.outcome.unwrap_err());
    let ended = finished.sockets.into_iter().chain(second.discard());
    let sockets: Vec<Socket> = ended.map(|ended| ended.socket).collect();
    assert_eq!(sockets.len(), 2);
    for socket in sockets {
        assert_eq!(
            socket.groups().expect("its groups"),
            [SILENT_GROUP],
            "the sockets are still in their groups"
        );
        make_one_come(&socket);
        let mut buffer = [0; 64];
        let list = socket.recv(&mut buffer, nlring::RecvFlags::NONE);
        assert_eq!(list.expect("an answer").message_count(), 1);
    }
}

fn a_callback_may_fork(backend: Backend, is_pollable: bool) {
    let mut running = build(backend, is_pollable).start().expect("started");
    let id = running.add(socket()).expect("added");
    make_one_come(running.socket(id).expect("the socket"));
    let turn = running.poll(Some(PATIENCE), |event, control| {
        let Event::Messages(_, list) = event else {
            return ControlFlow::Continue(());
        };
        let before: Vec<u8> = list.datagrams()[0].bytes().to_vec();
        daemon();
        assert_eq!(
            list.datagrams()[0].bytes(),
            before,
            "the datagram is unchanged"
        );
        assert_names_the_fork(control.add(socket()).unwrap_err().error());
        assert_names_the_fork(&control.remove(id).unwrap_err());
        assert_names_the_fork(&control.reclaim(id).unwrap_err());
        ControlFlow::Break(())
    });
    assert_eq!(turn.expect("a turn"), Turn::Break(()));
    assert_names_the_fork(&poll(&mut running).unwrap_err());
    assert_touches_no_memory(move || drop(running));
}

fn the_callback_of_an_ending_may_fork(backend: Backend, is_pollable: bool) {
    let mut running = build(backend, is_pollable).start().expect("started");
    let id = running.add(socket()).expect("added");
    make_one_come(running.socket(id).expect("the socket"));
    let mut has_forked = false;
    let finished = running.finish(|_, _| {
        if !has_forked {
            daemon();
            has_forked = true;
        }
        ControlFlow::<()>::Continue(())
    });
    assert!(has_forked);
    assert_names_the_fork(&finished.outcome.unwrap_err());
    assert_eq!(finished.sockets.len(), 2);
}

fn a_callback_may_panic_in_the_child(backend: Backend, is_pollable: bool) {
    let mut running = build(backend, is_pollable).start().expect("started");
    let id = running.add(socket()).expect("added");
    make_one_come(running.socket(id).expect("the socket"));
    let stop: StopHandle = running.stop_handle();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let mut running = running; // dropped by the panic, in the child
        let _ = running.poll(Some(PATIENCE), |_, _| {
            daemon();
            std::panic::resume_unwind(Box::new(())); // a panic that prints nothing
            #[allow(unreachable_code)]
            ControlFlow::<()>::Continue(())
        });
    }));
    assert!(result.is_err());
    stop.stop();
    assert!(stop.is_stopped(), "this process's copy");
}
