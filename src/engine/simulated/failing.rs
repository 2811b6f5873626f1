//! Each error that a completion of a receive can carry: the counts are exact, each buffer is recycled, and the socket
//! continues or fails.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nlring_testing::Random;

use super::{BUFFER_COUNT, Buffer, Completed, Kernel, Member, Owner, Received, lock, start};
use crate::engine::event::{Event, Turn};
use crate::message::MessageBuilder;

/// How a receive completes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scripted {
    /// With a datagram, whose buffer holds this many bytes less than it has.
    Datagram {
        missing_bytes: usize,
        has_more: bool,
    },
    /// With a buffer that holds less than the kernel writes before each datagram.
    Headless,
    /// With this result, and without a datagram.
    Bare {
        result: i32,
        takes_buffer: bool,
        has_more: bool,
    },
}

use Scripted::{Bare, Datagram, Headless};

const WHOLE: Scripted = Datagram {
    missing_bytes: 0,
    has_more: true,
};
const LAST: Scripted = Datagram {
    missing_bytes: 0,
    has_more: false,
};

const fn error(errno: i32) -> Scripted {
    Bare {
        result: -errno,
        takes_buffer: false,
        has_more: false,
    }
}

/// An error of a receive whose chain continues.
const fn error_in_chain(errno: i32) -> Scripted {
    Bare {
        result: -errno,
        takes_buffer: false,
        has_more: true,
    }
}

/// An error after the kernel has taken a buffer.
const fn error_with_buffer(errno: i32) -> Scripted {
    Bare {
        result: -errno,
        takes_buffer: true,
        has_more: false,
    }
}

/// The kernel completes receives until one ends, or the script does.
pub(super) fn follow(
    script: &mut VecDeque<Scripted>,
    members: &mut BTreeMap<u16, Member>,
    sequence: &mut u32,
) {
    for member in members.values_mut() {
        while member.is_armed && !member.is_cancelled {
            let Some(step) = script.pop_front() else {
                return;
            };
            let completed = member.follow(step, sequence);
            member.is_armed = completed.has_more;
            member.queue.push_back(completed);
        }
        if member.is_cancelled && member.is_in_flight && member.queue.is_empty() {
            member.is_armed = false;
            member.queue.push_back(Completed {
                result: -libc::ECANCELED,
                buffer: None,
                has_more: false,
            });
        }
    }
}

impl Member {
    fn follow(&mut self, step: Scripted, sequence: &mut u32) -> Completed {
        let mut take_buffer = || {
            let is_free = |buffer: &Buffer| buffer.owner == Owner::Kernel;
            let index = self.buffers.iter().position(is_free).expect("a free one");
            self.buffers[index].owner = Owner::Queue;
            u16::try_from(index).expect("few buffers")
        };
        match step {
            Datagram { .. } | Headless => {
                let number = take_buffer();
                let buffer = &mut self.buffers[usize::from(number)];
                *sequence += 1;
                buffer.bytes.clear();
                let message = MessageBuilder::new(&mut buffer.bytes, 20, 0).sequence(*sequence);
                message.finish().expect("a short message");
                self.sent.datagram_count += 1;
                let (missing_bytes, has_more) = match step {
                    Datagram {
                        missing_bytes,
                        has_more,
                    } => (missing_bytes, has_more),
                    _ => (0, true),
                };
                buffer.received = matches!(step, Datagram { .. }).then_some(Received {
                    real_bytes: buffer.bytes.len() + missing_bytes,
                    ..Received::default()
                });
                Completed {
                    result: i32::try_from(buffer.bytes.len()).expect("short"),
                    buffer: Some(number),
                    has_more,
                }
            }
            Bare {
                result,
                takes_buffer,
                has_more,
            } => Completed {
                result,
                buffer: takes_buffer.then(take_buffer),
                has_more,
            },
        }
    }
}

/// What a socket shows after its receives.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    received: u64,
    messages: u64,
    starved: u64,
    retried: u64,
    truncated: u64,
    short: u64,
    notices: Vec<String>,
}

/// Runs the script, and checks that every buffer belongs to the kernel again and that each datagram is counted.
fn run(script: &[Scripted]) -> Shown {
    let mut kernel = Kernel::new(Random::new(1));
    kernel.refuses_some = false;
    kernel.script = Some(script.iter().copied().collect());
    let kernel = Arc::new(Mutex::new(kernel));
    let mut running = start(&kernel);
    let mut shown = Shown::default();
    for _ in 0..8 {
        let turn: Turn<()> = running
            .poll(Some(Duration::from_millis(1)), |event, _| {
                match event {
                    Event::Messages(_, list) => shown.messages += list.message_count() as u64,
                    Event::Notice(_, notice) => shown.notices.push(notice.to_string()),
                    Event::Lost(_, loss) => panic!("{} lost", loss.count),
                }
                ControlFlow::Continue(())
            })
            .expect("the backend works");
        assert_ne!(turn, Turn::Stopped);
    }
    let is_lent = |buffer: &Buffer| buffer.owner == Owner::Kernel;
    let sent = {
        let kernel = lock(&kernel);
        let member = kernel.members.get(&0);
        assert!(member.is_none_or(|member| member.buffers.iter().all(is_lent)));
        member.map_or_else(|| kernel.left[&0], |member| member.sent)
    };
    lock(&kernel).is_ending = true;
    let [ended] = running.discard().try_into().expect("one socket");
    let statistics = ended.statistics;
    assert_eq!(statistics.received, sent.datagram_count);
    assert_eq!((statistics.dropped, statistics.unread), (0, 0));
    assert_eq!(statistics.messages, shown.messages);
    Shown {
        received: statistics.received,
        starved: statistics.starved,
        retried: statistics.retried,
        truncated: statistics.truncated,
        short: statistics.short,
        ..shown
    }
}

#[test]
fn after_an_error_that_means_nothing_the_socket_goes_on() {
    for step in [
        LAST, // the completion queue was full
        error(libc::EINTR),
        error(libc::EAGAIN),
        error(libc::ENOBUFS), // an overrun, whose losses the drop counter has
        error_in_chain(libc::EINTR),
        error_in_chain(libc::EAGAIN),
        error_in_chain(libc::ENOBUFS),
        error_with_buffer(libc::EINTR),
        error_with_buffer(libc::EAGAIN),
        error_with_buffer(libc::ENOBUFS),
        error(libc::ECANCELED), // by nobody: it is armed again
        Bare {
            result: 0,
            takes_buffer: false,
            has_more: false,
        },
    ] {
        let shown = run(&[WHOLE, step, WHOLE]);
        let count = 2 + u64::from(matches!(step, Datagram { .. }));
        let expected = Shown {
            received: count,
            messages: count,
            ..Shown::default()
        };
        assert_eq!(shown, expected, "{step:?}");
    }
}

#[test]
fn an_error_that_may_pass_is_reported_and_counted_and_the_socket_goes_on() {
    for errno in [libc::ENOMEM, libc::EIO, libc::EMSGSIZE] {
        for step in [
            error(errno),
            error_in_chain(errno),
            error_with_buffer(errno),
        ] {
            let shown = run(&[WHOLE, step, WHOLE, step, step, WHOLE]);
            assert_eq!((shown.received, shown.messages), (3, 3), "{step:?}");
            assert_eq!(shown.retried, 3, "{step:?}");
            assert!(!shown.notices.is_empty(), "{step:?}");
            for notice in shown.notices {
                assert!(notice.starts_with("retried after: "), "{notice}");
                assert!(notice.contains(&format!("os error {errno}")), "{notice}");
            }
        }
    }
}

#[test]
fn an_error_that_cannot_pass_is_the_failure_of_the_socket() {
    for errno in [
        libc::EBADF,
        libc::EFAULT,
        libc::EINVAL,
        libc::ENOTSOCK,
        libc::EOPNOTSUPP,
    ] {
        for step in [
            error(errno),
            error_in_chain(errno),
            error_with_buffer(errno),
        ] {
            let shown = run(&[WHOLE, WHOLE, step, WHOLE]);
            assert_eq!(shown.messages, shown.received, "{step:?}");
            let [notice] = &shown.notices[..] else {
                panic!("{step:?}: {shown:?}");
            };
            assert!(notice.starts_with("failed: "), "{notice}");
            assert!(notice.contains(&format!("os error {errno}")), "{notice}");
        }
    }
}

/// Its datagram is gone, and no counter of the kernel includes it.
#[test]
fn bytes_without_a_buffer_are_the_failure_of_the_socket() {
    for has_more in [false, true] {
        let step = Bare {
            result: 20,
            takes_buffer: false,
            has_more,
        };
        let shown = run(&[WHOLE, step]);
        assert_eq!((shown.received, shown.notices.len()), (1, 1), "{shown:?}");
        assert!(shown.notices[0].starts_with("failed: "), "{shown:?}");
    }
}

#[test]
fn without_a_buffer_enobufs_means_that_the_buffers_ran_out() {
    let mut script = vec![WHOLE; BUFFER_COUNT.into()];
    script.extend([error(libc::ENOBUFS), WHOLE]);
    let shown = run(&script);
    let expected = Shown {
        received: 5,
        messages: 5,
        starved: 1,
        notices: vec!["the engine's buffers ran out; no datagram is lost".into()],
        ..Shown::default()
    };
    assert_eq!(shown, expected);
}

#[test]
fn a_datagram_that_did_not_fit_is_counted_and_not_parsed() {
    let truncated = Datagram {
        missing_bytes: 1,
        has_more: true,
    };
    let shown = run(&[WHOLE, truncated, Headless, WHOLE]);
    let counts = (shown.received, shown.messages, shown.truncated, shown.short);
    assert_eq!(counts, (4, 2, 1, 1));
    assert_eq!(shown.notices.len(), 2, "{shown:?}");
}
