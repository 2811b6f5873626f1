//! Programs that decide which datagrams a socket receives.

use std::os::fd::AsFd;

use super::Socket;
use crate::error::{Error, Result};
use crate::filter::{Instruction, Program};
use crate::sys::socket as sys;

/// Filters.
impl Socket {
    /// Attaches a program that decides which datagrams the socket receives (`SO_ATTACH_FILTER`, socket(7)). It replaces
    /// the previous program atomically: exactly one of the two decides each datagram. Datagrams that are already queued
    /// stay.
    ///
    /// A datagram that the program rejects is neither received nor lost, and no counter includes it. The kernel runs
    /// the program in the sender's context, once for each socket that the datagram is for.
    ///
    /// The program also sees answers to the socket's own requests, and acknowledgements. The program of a
    /// [`Filter`](crate::filter::Filter) accepts them.
    ///
    /// ```
    /// use nlring::filter::{Instruction, Program};
    /// use nlring::{Protocol, Socket};
    ///
    /// // Accepts datagrams of at least 100 bytes.
    /// let program = Program::new([
    ///     Instruction { code: 0x80 /* BPF_LD | BPF_LEN */, jt: 0, jf: 0, k: 0 },
    ///     Instruction { code: 0x35 /* BPF_JMP | BPF_JGE */, jt: 0, jf: 1, k: 100 },
    ///     Instruction { code: 0x06 /* BPF_RET */, jt: 0, jf: 0, k: u32::MAX },
    ///     Instruction { code: 0x06, jt: 0, jf: 0, k: 0 },
    /// ])?;
    /// let socket = Socket::open(Protocol::ROUTE)?;
    /// socket.set_filter(&program)?;
    /// socket.clear_filter()?;
    /// # Ok::<(), nlring::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the kernel refuses an instruction, or the last one is not a return. The kernel never refuses the
    ///   program of a filter.
    /// - `ENOMEM`: the program is too large for `net.core.optmem_max`. While a program is being replaced, both count.
    /// - [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied): another program has locked the socket's
    ///   filter (`SO_LOCK_FILTER`).
    pub fn set_filter(&self, program: &Program) -> Result<()> {
        sys::attach_filter(self.as_fd(), program).map_err(|error| {
            let remedy = match error.raw_os_error() {
                Some(libc::EINVAL) => {
                    "the kernel refuses the program: an instruction is unknown, jumps beyond the \
                     end, reads memory that was not written, or the last one is not a return"
                }
                Some(libc::ENOMEM) => "raise net.core.optmem_max, or use a smaller filter",
                _ => "the filter of this socket is locked (SO_LOCK_FILTER): use another socket",
            };
            Error::failed_call("attach a filter", error).with_remedy(remedy)
        })
    }

    /// Attaches a program that consists of these instructions, from 1 to [`Program::MAX_INSTRUCTIONS`]:
    /// [`set_filter`](Self::set_filter).
    ///
    /// # Errors
    ///
    /// Those of [`Program::new`] and of [`set_filter`](Self::set_filter).
    pub fn attach_program(&self, instructions: &[Instruction]) -> Result<()> {
        self.set_filter(&Program::new(instructions)?)
    }

    /// Removes the program: the socket receives every datagram again. Does nothing if there is no program.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied): another program has locked the socket's
    /// filter (`SO_LOCK_FILTER`).
    pub fn clear_filter(&self) -> Result<()> {
        match sys::detach_filter(self.as_fd()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                let remedy =
                    "the filter of this socket is locked (SO_LOCK_FILTER): use another socket";
                Err(Error::failed_call("remove a filter", error).with_remedy_if_denied(remedy))
            }
            _ => Ok(()),
        }
    }
}
