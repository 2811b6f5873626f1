//! A forked child shares the descriptors of its parent's engine. Whatever the child does, the parent's engine continues
//! undisturbed.
#![allow(unsafe_code)] // fork(2)

mod common;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{
    Source, Tally, any_sender, assert_all_in_order, listener, own_namespace, start, turn_until,
};
use nlring::{Backend, Engine, ErrorKind, Running, SocketId, Turn};

on_each_backend!(a_child_does_not_disturb_its_parents_engine);

/// Forks, runs `f` in the child, and awaits the child's end. `f` must return nothing that would have to be dropped.
fn in_a_child(f: impl FnOnce()) {
    // SAFETY: the child is a copy of this thread only. It uses the allocator, which glibc makes safe after a fork,
    // and no lock of this program's that another thread may have held; it leaves by _exit(2), so it runs nobody's
    // destructors.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let code = i32::from(catch_unwind(AssertUnwindSafe(f)).is_err());
        // SAFETY: _exit(2) takes a number and does not return.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the pointer is to a local that outlives the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert_eq!(status, 0, "the status of the child");
}

/// Everything that a child can try with its parent's engine.
fn try_everything(mut running: Running, id: SocketId) {
    running.stop_handle().stop();
    let forked = |kind| assert_eq!(kind, ErrorKind::Forked);
    let turn = running.poll(None, |_, _| ControlFlow::<()>::Continue(()));
    forked(turn.unwrap_err().kind());
    forked(running.remove(id).unwrap_err().kind());
    forked(running.reclaim(id).unwrap_err().kind());
    assert_eq!(running.discard().len(), 1); // closes the sockets
}

fn a_child_does_not_disturb_its_parents_engine(backend: Backend) {
    own_namespace();
    for is_pollable in [false, true] {
        let builder = Engine::builder().backend(backend).pollable(is_pollable);
        let (mut running, id) = start(&builder, listener(1 << 20), any_sender());
        let mut source = Source::new(1000);
        let mut tally = Tally::default();
        source.send_many(10, None);
        turn_until(&mut running, &mut tally, |_, tally| {
            tally.messages.len() == 10
        });
        source.send_many(10, None); // queued while the child lives
        let mut slot = Some(running);
        in_a_child(|| try_everything(slot.take().expect("an engine"), id));
        let mut running = slot.take().expect("the parent's engine works");
        assert_eq!(running.socket(id).unwrap().groups().unwrap(), [1]);
        // These are enough to use each buffer again, which shows that the kernel and the parent still share the
        // buffer ring.
        for batch in 1..=60 {
            source.send_many(100, None);
            turn_until(&mut running, &mut tally, |_, tally| {
                tally.messages.len() == 20 + batch * 100
            });
        }
        assert_all_in_order(&tally.sequences(id), source.sent_count);
        let turn = running.poll(Some(Duration::from_millis(20)), |_, _| {
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(turn.unwrap(), Turn::Idle, "not stopped by the child");
        // The parent's own stop ends a wait.
        let stop = running.stop_handle();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            stop.stop();
        });
        let outcome = running.run(|_, _| ControlFlow::<()>::Continue(()));
        assert_eq!(outcome.unwrap(), None);
        stopper.join().unwrap();
        let ended = running.discard();
        assert_eq!(ended[0].statistics.received, source.sent_count.into());
    }
}
