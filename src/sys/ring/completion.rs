//! Waiting for completions, and taking them off the ring's queue.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use io_uring::types::{SubmitArgs, Timespec};

use super::{Ring, forgive};
use crate::sys::event::{Readable, wait_readable};
use crate::sys::place::Place;
use crate::sys::token::Token;

/// A time-out that means none.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// A completion queue entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub token: Token,
    /// A length or a negated errno.
    pub result: i32,
    /// Where the datagram is. `None`: the completion has none.
    pub place: Option<Place>,
}

impl Ring {
    /// Submits what is queued and runs deferred task work, without waiting. Makes no system call if there is neither.
    /// If task work is not deferred, it always makes one, because then the ring does not show whether there is work.
    pub(crate) fn poll(&mut self) -> io::Result<()> {
        let is_deferred = self.features.deferred;
        let queue = self.uring()?.submission();
        let needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !is_deferred;
        drop(queue);
        if needed { self.submit() } else { Ok(()) }
    }

    /// Submits what is queued, and waits for `want` completions, `timeout` (`None`: no limit) or a signal. With
    /// [`Features::min_wait`](super::Features::min_wait), after `gather` one completion is enough.
    ///
    /// One call returns at most 33 datagrams per wanted completion (io_uring/poll.c, `APOLL_MULTI_POLLED` retries).
    pub(crate) fn wait(
        &mut self,
        want: usize,
        gather: Duration,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if !self.uring.params().is_feature_ext_arg() {
            return self.wait_by_poll(timeout); // before Linux 5.11
        }
        let gather_micros = u32::try_from(gather.as_micros()).unwrap_or(u32::MAX);
        let gathers = self.features.min_wait && gather_micros > 0;
        // Without a time-out a gathering wait ends after its minimum, even without a completion (Linux 6.12,
        // io_uring/io_uring.c, `io_cqring_min_timer_wakeup`).
        let timeout = timeout
            .or(gathers.then_some(LONG))
            .map(|timeout| timeout.min(LONG));
        let timespec = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        if gathers {
            arguments = arguments.min_wait_usec(gather_micros);
        }
        forgive(self.uring()?.submitter().submit_with_args(want, &arguments))
    }

    fn wait_by_poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.submit()?;
        if self.has_completions() {
            return Ok(());
        }
        wait_readable(&mut [Readable::new(self.as_fd())], timeout)?;
        self.submit()
    }

    /// Whether completions wait in the kernel because the queue was full. [`poll`](Self::poll) moves them to the queue.
    pub(crate) fn has_overflowed(&mut self) -> bool {
        self.uring()
            .is_ok_and(|uring| uring.submission().cq_overflow())
    }

    /// Whether [`poll`](Self::poll) may run deferred task work. May be true although there is no task work, because the
    /// kernel clears the flag only before it runs some (io_uring/io_uring.c, `__io_run_local_work`).
    pub(crate) fn may_have_task_work(&mut self) -> bool {
        self.uring().is_ok_and(|uring| uring.submission().taskrun())
    }

    pub(crate) fn has_completions(&mut self) -> bool {
        self.uring()
            .is_ok_and(|uring| !uring.completion().is_empty())
    }

    /// Waits for a completion for up to `patience`. Signals do not end the wait.
    pub(crate) fn first_completion(&mut self, patience: Duration) -> io::Result<Completion> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait(1, Duration::ZERO, Some(left))?;
            if let Some(completion) = self.next_completion() {
                return Ok(completion);
            }
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes the oldest completion off the queue. Its datagram belongs to the caller until
    /// [`give_back`](Self::give_back).
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring().ok()?.completion().next()?;
            let Some(token) = Token::from_bits(entry.user_data()) else {
                debug_assert!(false, "no submission has the token {}", entry.user_data());
                continue; // this ring has submitted no such entry
            };
            let place = self.note_completed(token, entry.result(), entry.flags());
            return Some(Completion {
                token,
                result: entry.result(),
                place,
            });
        }
    }

    /// Counts the receives in flight, and records what the kernel wrote. Returns where the datagram is.
    fn note_completed(&mut self, token: Token, result: i32, flags: u32) -> Option<Place> {
        let Token::Receive {
            receiver,
            generation,
            index,
        } = token
        else {
            return None;
        };
        let ended_count = usize::from(!cqueue::more(flags));
        debug_assert!(self.in_flight_count >= ended_count, "a receive ends once");
        self.in_flight_count = self.in_flight_count.saturating_sub(ended_count);
        let state = self
            .receiver_mut(receiver)
            .filter(|state| state.generation == generation);
        debug_assert!(
            state.is_some(),
            "a receiver stays while its receives are in flight"
        );
        // SAFETY: number and generation in the token identify this receiver, so the kernel completed its receive at
        // `index`. `next_completion` takes each completion off the queue once, in the kernel's order, and calls this
        // for each.
        unsafe { state?.complete(index, result, flags) }
    }
}
