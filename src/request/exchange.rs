//! Which replies belong to a request, what they mean, and when they have ended. It makes no system call.

use crate::error::{Error, ErrorKind, Explanation, Result};
use crate::message::{Content, ErrorMessage, Message, flags};

const DUMP: &str = "dump";
const REPLIES: &str = "run the kernel's replies";
const MAKE_IT_SMALLER: &str = "neither it nor the entries after it can be dumped: \
                               make it smaller (a route: give it fewer next hops)";

/// A request that was sent, or several that were sent together: which replies belong to it, and which have arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    first: u32,
    last: u32,
    pub(super) is_done: bool,
    pub is_interrupted: bool,
    /// Whether the kernel may answer with a dump.
    pub(super) is_dump: bool,
    /// The number of empty datagrams from the kernel in a row.
    pub(super) empty_count: u32,
    /// A barrier was sent after the last request, with the next sequence number: see [`Batch`](super::Batch).
    pub(super) has_barrier: bool,
    /// The answer to the barrier arrived before the answer to the last request.
    pub(super) is_cut: bool,
}

/// What a message is to an exchange.
#[derive(Debug)]
pub(super) enum Verdict {
    Data,
    Refused(Error),
    /// Nothing that the caller needs to know.
    Pass,
}

impl Exchange {
    /// The exchange for requests with the sequence numbers `first` to `last`.
    pub(super) fn new(first: u32, last: u32, is_dump: bool) -> Self {
        Self {
            first,
            last,
            is_done: false,
            is_interrupted: false,
            is_dump,
            empty_count: 0,
            has_barrier: false,
            is_cut: false,
        }
    }

    /// Judges a message as libmnl's `__mnl_cb_run` (src/callback.c) does, with three exceptions: an interrupted dump
    /// keeps its data, an overrun is an error, and replies to earlier requests are skipped.
    pub(super) fn judge(&mut self, message: &Message<'_>, port_id: u32) -> Result<Verdict> {
        if !message.is_port_id(port_id) {
            return Err(unexpected("a reply for another port ID"));
        }
        let sequence = message.sequence();
        if self.has_barrier && sequence == self.barrier() {
            (self.is_done, self.is_cut) = (true, true);
            return Ok(Verdict::Pass);
        }
        if sequence != 0 && self.index_of(sequence).is_none() {
            let is_earlier = self.first.wrapping_sub(sequence) < 1 << 31;
            return if is_earlier {
                Ok(Verdict::Pass)
            } else {
                Err(unexpected("a reply to a request that was not sent"))
            };
        }
        self.is_interrupted |= message.flags() & flags::DUMP_INTR != 0 && is_multi(message);
        let is_last = sequence == self.last;
        Ok(match message.content() {
            Content::Noop => Verdict::Pass,
            Content::Ack(_) => {
                self.is_done |= is_last;
                Verdict::Pass
            }
            Content::Error(answer) => {
                self.is_done |= is_last;
                match answer.errno() {
                    Some(errno) => Verdict::Refused(refused(errno, &answer)),
                    None => Verdict::Refused(unexpected("an error without a number")),
                }
            }
            Content::Done { errno } => {
                self.is_done |= is_last;
                match errno {
                    0 => Verdict::Pass,
                    errno => Verdict::Refused(dump_failed(errno, message)),
                }
            }
            Content::Overrun => return Err(Error::with_kind(REPLIES, ErrorKind::Overrun)),
            Content::Data(_) => Verdict::Data,
        })
    }

    /// Which of the requests a sequence number belongs to.
    pub(super) fn index_of(&self, sequence: u32) -> Option<usize> {
        let index = sequence.wrapping_sub(self.first);
        let count = self.last.wrapping_sub(self.first);
        (index <= count).then_some(index as usize)
    }

    /// The sequence number of the barrier after the last request.
    pub(super) fn barrier(&self) -> u32 {
        self.last.wrapping_add(1)
    }
}

/// Whether the message is part of a multipart answer. The flags of an acknowledgement have other meanings.
fn is_multi(message: &Message<'_>) -> bool {
    message.flags() & flags::MULTI != 0
}

/// The error for a message that is not a reply to the request.
pub(super) fn unexpected(what: &'static str) -> Error {
    Error::with_kind(REPLIES, ErrorKind::UnexpectedReply).with_remedy(what)
}

/// The error for a request that the kernel refused.
fn refused(errno: i32, answer: &ErrorMessage<'_>) -> Error {
    let explanation = Explanation {
        text: answer.text().map(str::to_owned),
        offset_bytes: answer.offset_bytes(),
    };
    Error::refused("request", errno, explanation)
}

/// The error for another request in a datagram that the kernel refused as a whole.
pub(super) fn refused_too(error: &Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let same = Error::refused(error.operation(), errno, Explanation::default());
    match error.remedy() {
        Some(remedy) => same.with_remedy(remedy),
        None => same,
    }
}

/// The error that the last message of a dump reports. The kernel's explanation may follow the number.
fn dump_failed(errno: i32, done: &Message<'_>) -> Error {
    let extended = |attribute_type| {
        let is_extended = done.flags() & flags::ACK_TLVS != 0;
        is_extended.then(|| done.attributes(4).get(attribute_type))?
    };
    let explanation = Explanation {
        text: extended(1).and_then(|text| text.as_str().map(str::to_owned)),
        offset_bytes: extended(2).and_then(|offset| offset.as_u32()),
    };
    let error = Error::refused(DUMP, errno, explanation);
    if errno == libc::EMSGSIZE {
        return error
            .change_kind(ErrorKind::EntryTooLarge)
            .with_remedy(MAKE_IT_SMALLER);
    }
    error
}

/// The error for a dump that continues with empty datagrams only.
pub(super) fn entry_too_large() -> Error {
    Error::with_kind(DUMP, ErrorKind::EntryTooLarge).with_remedy(MAKE_IT_SMALLER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{DONE, ERROR, MessageBuilder, Messages, NOOP, OVERRUN};

    const PORT_ID: u32 = 77;
    const DATA: u16 = 24;

    fn exchange(first: u32, last: u32) -> Exchange {
        Exchange::new(first, last, false)
    }

    /// A message of a type, with flags, a sequence number and a payload.
    fn message(message_type: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, message_type, flags)
            .sequence(sequence)
            .port_id(PORT_ID)
            .bytes(payload)
            .finish()
            .unwrap();
        bytes
    }

    /// `struct nlmsgerr` with the request's header, or with the whole request.
    fn refusal(errno: i32, request: &[u8]) -> Vec<u8> {
        [&(-errno).to_ne_bytes()[..], request].concat()
    }

    fn request(sequence: u32) -> Vec<u8> {
        message(DATA, flags::REQUEST, sequence, &[9; 12])
    }

    fn judge(exchange: &mut Exchange, bytes: &[u8]) -> Result<Verdict> {
        exchange.judge(&Messages::new(bytes).next().unwrap(), PORT_ID)
    }

    fn refused(exchange: &mut Exchange, bytes: &[u8]) -> Error {
        match judge(exchange, bytes) {
            Ok(Verdict::Refused(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_to_another_port_is_an_error_and_no_port_fits_all() {
        let mut bytes = message(DATA, 0, 5, &[]);
        bytes[12..16].copy_from_slice(&(PORT_ID + 1).to_ne_bytes());
        let error = judge(&mut exchange(5, 5), &bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedReply);
        assert_eq!(
            error.to_string(),
            "run the kernel's replies: a message does not belong to the request; a reply for another port ID"
        );
        bytes[12..16].fill(0);
        let verdict = judge(&mut exchange(5, 5), &bytes);
        assert!(matches!(verdict, Ok(Verdict::Data)));
    }

    #[test]
    fn replies_to_earlier_requests_are_passed_over_and_to_later_ones_are_errors() {
        for (sequence, is_error) in [(4, false), (5, false), (6, false), (7, true), (1, false)] {
            let verdict = judge(&mut exchange(5, 6), &message(DATA, 0, sequence, &[]));
            match verdict {
                Err(error) => assert!(
                    is_error && error.kind() == ErrorKind::UnexpectedReply,
                    "{sequence}: {error}"
                ),
                Ok(Verdict::Data) => assert!((5..=6).contains(&sequence), "{sequence}"),
                Ok(Verdict::Pass) => assert!(sequence < 5, "{sequence}"),
                Ok(Verdict::Refused(error)) => panic!("{error}"),
            }
        }
        // The end, error or interruption of an earlier exchange does not count. The numbers have started again at 1.
        let mut exchange = exchange(1, 1);
        for bytes in [
            message(DONE, flags::MULTI | flags::DUMP_INTR, u32::MAX, &[0; 4]),
            message(
                ERROR,
                0,
                u32::MAX,
                &refusal(libc::EPERM, &request(u32::MAX)),
            ),
            message(OVERRUN, 0, u32::MAX, &[]),
        ] {
            assert!(matches!(judge(&mut exchange, &bytes), Ok(Verdict::Pass)));
        }
        assert!(!exchange.is_done && !exchange.is_interrupted);
    }

    #[test]
    fn only_the_acknowledgement_of_the_last_request_ends_an_exchange() {
        let mut exchange = exchange(5, 7);
        for (sequence, is_done) in [(5, false), (6, false), (7, true)] {
            let ack = message(ERROR, 0, sequence, &refusal(0, &request(sequence)));
            assert!(matches!(judge(&mut exchange, &ack), Ok(Verdict::Pass)));
            assert_eq!(exchange.is_done, is_done, "{sequence}");
        }
    }

    #[test]
    fn the_answer_to_a_barrier_ends_an_exchange_too() {
        for (has_barrier, payload) in [
            (true, refusal(0, &request(8))),
            (true, refusal(libc::EPERM, &request(8))),
            (false, refusal(0, &request(8))),
        ] {
            let mut exchange = exchange(5, 7);
            exchange.has_barrier = has_barrier;
            let verdict = judge(&mut exchange, &message(ERROR, 0, 8, &payload));
            assert_eq!(matches!(verdict, Ok(Verdict::Pass)), has_barrier);
            assert_eq!(
                (exchange.is_done, exchange.is_cut),
                (has_barrier, has_barrier)
            );
        }
        // If it arrives after the exchange has ended, the next exchange skips it as the reply to an earlier request.
        let late = message(ERROR, 0, 8, &refusal(0, &request(8)));
        let verdict = judge(&mut exchange(9, 9), &late);
        assert!(matches!(verdict, Ok(Verdict::Pass)));
    }

    #[test]
    fn a_refusal_has_its_number_and_one_without_is_reported_too() {
        let mut of = exchange(5, 5);
        let error = refused(
            &mut of,
            &message(ERROR, 0, 5, &refusal(libc::EEXIST, &request(5))),
        );
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!((error.kernel_text(), error.offset_bytes()), (None, None));
        assert!(of.is_done);

        let mut of = exchange(5, 5);
        let error = refused(&mut of, &message(ERROR, 0, 5, &[]));
        assert_eq!(error.kind(), ErrorKind::UnexpectedReply);
        assert!(of.is_done);
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_whole_and_a_capped_request() {
        let whole = request(5);
        for (more_flags, request) in [(0, &whole[..]), (flags::CAPPED, &whole[..16])] {
            let mut bytes = Vec::new();
            MessageBuilder::new(&mut bytes, ERROR, flags::ACK_TLVS | more_flags)
                .sequence(5)
                .bytes(&refusal(libc::EINVAL, request))
                .attribute_str_nul(1, "Invalid prefix for given prefix length")
                .attribute_u32(2, 28)
                .finish()
                .unwrap();
            let error = refused(&mut exchange(5, 5), &bytes);
            assert_eq!(
                error.to_string(),
                "request: Invalid argument (os error 22): Invalid prefix for given prefix length \
                 (the attribute at byte 28 of the request)"
            );
            assert_eq!(error.offset_bytes(), Some(28), "{more_flags}");
        }
    }

    #[test]
    fn a_dumps_end_may_be_its_failure() {
        let mut of = exchange(5, 5);
        let done = message(DONE, flags::MULTI, 5, &0i32.to_ne_bytes());
        assert!(matches!(judge(&mut of, &done), Ok(Verdict::Pass)));
        assert!(of.is_done);

        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, DONE, flags::MULTI | flags::ACK_TLVS)
            .sequence(5)
            .bytes(&(-libc::ENODEV).to_ne_bytes())
            .attribute_str_nul(1, "No such device here")
            .finish()
            .unwrap();
        let mut of = exchange(5, 5);
        let error = refused(&mut of, &bytes);
        assert_eq!(
            error.to_string(),
            "dump: No such device (os error 19): No such device here"
        );
        assert!(of.is_done);
    }

    #[test]
    fn an_overrun_is_an_error_and_a_noop_nothing() {
        let mut of = exchange(5, 5);
        let error = judge(&mut of, &message(OVERRUN, 0, 5, &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overrun);
        let noop = judge(&mut of, &message(NOOP, 0, 5, &[]));
        assert!(matches!(noop, Ok(Verdict::Pass)));
        assert!(!of.is_done);
    }

    #[test]
    fn an_interruption_is_noted_on_data_and_at_the_end_but_not_in_an_acknowledgement() {
        for (message_type, message_flags, is_interrupted) in [
            (DATA, flags::MULTI | flags::DUMP_INTR, true),
            (DONE, flags::MULTI | flags::DUMP_INTR, true),
            (DATA, flags::MULTI, false),
            (ERROR, flags::DUMP_INTR, false),
        ] {
            let mut of = exchange(5, 5);
            let bytes = message(message_type, message_flags, 5, &[0; 20]);
            let verdict = judge(&mut of, &bytes).unwrap();
            assert_eq!(of.is_interrupted, is_interrupted, "{message_type}");
            assert_eq!(
                matches!(verdict, Verdict::Data),
                message_type == DATA,
                "the data is kept"
            );
        }
    }
}
