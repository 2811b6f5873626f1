//! What a completion of a receive means. A pure function.

/// What is known about a completion of a socket's receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// A length, or a negated errno.
    pub result: i32,
    /// The completion names a buffer.
    pub has_buffer: bool,
    /// The socket's receive is still armed after this completion.
    pub is_armed: bool,
    /// How many buffers of this socket the kernel still has.
    pub lent_count: usize,
}

/// What to do about a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The buffer holds a datagram.
    pub datagram: bool,
    /// How the receive ended. `None`: it is still armed.
    pub end: Option<ReceiveEnd>,
}

/// How a receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiveEnd {
    /// Without an error: it must be armed again.
    Rearm,
    /// The engine's buffers ran out. Nothing is lost: the datagrams wait in the socket's queue.
    Starved,
    /// The socket's receive queue overran: the kernel dropped datagrams, and its counter says how many.
    Overrun,
    /// It was cancelled.
    Cancelled,
    /// It failed with this errno, and the next one may work: the socket reported an error, or memory was short.
    Retry(i32),
    /// It failed for good, with this errno.
    Failed(i32),
}

impl ReceiveEnd {
    /// What an error of a receive means while the kernel has buffers.
    pub(super) fn of_errno(errno: i32) -> Self {
        match errno {
            libc::ENOBUFS => ReceiveEnd::Overrun,
            libc::ECANCELED => ReceiveEnd::Cancelled,
            libc::EINTR | libc::EAGAIN => ReceiveEnd::Rearm,
            errno @ (libc::EBADF
            | libc::EINVAL
            | libc::EFAULT
            | libc::ENOTSOCK
            | libc::EOPNOTSUPP) => ReceiveEnd::Failed(errno),
            errno => ReceiveEnd::Retry(errno),
        }
    }
}

impl Facts {
    /// `-ENOBUFS` has two meanings, and only the count of lent buffers distinguishes them. With none lent, the buffers
    /// ran out (io_uring/kbuf.c); otherwise the socket overran (net/netlink/af_netlink.c, `netlink_overrun`).
    pub(super) fn judge(self) -> Outcome {
        let end = match self.result {
            // No kernel does this. The datagram is gone, and no counter includes it.
            1.. if !self.has_buffer => Some(ReceiveEnd::Failed(libc::EPROTO)),
            0.. if self.is_armed => None,
            0.. => Some(ReceiveEnd::Rearm),
            error if error == -libc::ENOBUFS && self.lent_count == 0 => Some(ReceiveEnd::Starved),
            error => Some(ReceiveEnd::of_errno(error.saturating_neg())),
        };
        Outcome {
            datagram: self.result >= 0 && self.has_buffer,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_one_meaning() {
        let table = [
            // result, buffer, armed, lent -> datagram, end
            ((200, true, true, 7), (true, None)),
            ((200, true, false, 7), (true, Some(ReceiveEnd::Rearm))), // the queue was full, or a chain's last
            ((0, true, true, 7), (true, None)), // an empty datagram is a datagram
            ((0, false, false, 7), (false, Some(ReceiveEnd::Rearm))),
            (
                (200, false, true, 7),
                (false, Some(ReceiveEnd::Failed(libc::EPROTO))),
            ),
            (
                (-libc::ENOBUFS, false, false, 0),
                (false, Some(ReceiveEnd::Starved)),
            ),
            (
                (-libc::ENOBUFS, false, false, 1),
                (false, Some(ReceiveEnd::Overrun)),
            ),
            (
                (-libc::ENOBUFS, false, true, 8),
                (false, Some(ReceiveEnd::Overrun)),
            ), // inside a chain
            (
                (-libc::ECANCELED, false, false, 7),
                (false, Some(ReceiveEnd::Cancelled)),
            ),
            (
                (-libc::EINTR, false, false, 7),
                (false, Some(ReceiveEnd::Rearm)),
            ),
            (
                (-libc::EAGAIN, false, false, 7),
                (false, Some(ReceiveEnd::Rearm)),
            ),
            (
                (-libc::EBADF, false, false, 7),
                (false, Some(ReceiveEnd::Failed(libc::EBADF))),
            ),
            (
                (-libc::EFAULT, true, false, 7),
                (false, Some(ReceiveEnd::Failed(libc::EFAULT))),
            ),
            (
                (-libc::EMSGSIZE, false, false, 7),
                (false, Some(ReceiveEnd::Retry(libc::EMSGSIZE))),
            ), // rtnl_set_sk_err
            (
                (-libc::ENOMEM, false, true, 7),
                (false, Some(ReceiveEnd::Retry(libc::ENOMEM))),
            ),
            (
                (i32::MIN, false, false, 7),
                (false, Some(ReceiveEnd::Retry(i32::MAX))),
            ),
        ];
        for ((result, has_buffer, is_armed, lent_count), (datagram, end)) in table {
            let facts = Facts {
                result,
                has_buffer,
                is_armed,
                lent_count,
            };
            assert_eq!(facts.judge(), Outcome { datagram, end }, "{facts:?}");
        }
    }
}
