//! What replies mean, as `mnl_cb_run` says it.

use std::ffi::{c_int, c_void};
use std::io;

use nlring::fuzzing::{ReplyEnd, read_replies};
use nlring::{Content, Message, MessageList, message};

use crate::Comparison;
use crate::mnl::{self, aligned};

const SEQUENCE: u32 = 5;
const PORT_ID: u32 = 77;

pub fn compare(bytes: &[u8]) -> Comparison {
    let list = MessageList::new(bytes);
    if list.malformed().is_some() {
        return Comparison::Intended("malformed datagrams are compared where they are split");
    }
    let (ours, end) = read_replies(bytes, SEQUENCE, PORT_ID);
    // Differences count up to the message with which the reader that goes further has ended.
    if let Some(reason) = list.iter().find_map(|message| intended(&message)) {
        return Comparison::Intended(reason);
    }
    let (theirs, returned, errno) = libmnl(bytes);
    let is_same_end = match end {
        ReplyEnd::More => returned == mnl::OK,
        ReplyEnd::Done => returned == 0,
        ReplyEnd::Refused(refused) => returned == -1 && errno == refused,
        // ESRCH: another port ID; EPROTO: another sequence number.
        ReplyEnd::Unexpected => returned == -1 && matches!(errno, 3 | 71),
    };
    if ours == theirs && is_same_end {
        Comparison::Equal
    } else {
        Comparison::Different(format!("{ours} {end:?}, {theirs} {returned} errno {errno}"))
    }
}

fn intended(message: &Message<'_>) -> Option<&'static str> {
    let flags = message.flags();
    let sequence = message.sequence();
    Some(match message.content() {
        _ if sequence != 0 && SEQUENCE.wrapping_sub(sequence).wrapping_sub(1) < 1 << 31 => {
            "replies to earlier requests are passed over"
        }
        _ if flags & message::flags::DUMP_INTR != 0 => {
            "an interrupted dump keeps its data, and says that it was interrupted"
        }
        Content::Overrun => "an overrun is an error",
        Content::Ack(_) | Content::Done { .. } if sequence == 0 => {
            "an end without a sequence number ends nothing, because it belongs to no request"
        }
        Content::Error(_) | Content::Ack(_) if message.payload().len() < 20 => {
            "an error needs its number only, not the whole of struct nlmsgerr"
        }
        Content::Error(error)
            if error
                .errno()
                .is_none_or(|errno| errno < 0 || errno == i32::MAX) =>
        {
            "an error number that is not negated or too small for that, which no kernel sends"
        }
        Content::Done { errno } if errno != 0 => "the error number of a dump's end is an error",
        Content::Data(_) if message.message_type() < message::MIN_TYPE => {
            "messages of types without a meaning, and NLMSG_DONE outside of a dump, are data"
        }
        _ => return None,
    })
}

extern "C" fn count(_: *const c_void, data: *mut c_void) -> c_int {
    // SAFETY: `libmnl` passes a pointer to its own count, which nothing else uses meanwhile.
    unsafe { *data.cast::<usize>() += 1 };
    mnl::OK
}

/// How many data messages libmnl hands out, what it returns, and errno.
fn libmnl(bytes: &[u8]) -> (usize, c_int, i32) {
    let words = aligned(bytes);
    let mut data_count = 0_usize;
    // SAFETY: `words` holds the bytes, all of which are messages whose lengths fit.
    let returned = unsafe {
        let data = (&raw mut data_count).cast();
        mnl::mnl_cb_run(
            words.as_ptr().cast(),
            bytes.len(),
            SEQUENCE,
            PORT_ID,
            count,
            data,
        )
    };
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    (data_count, returned, errno)
}
