//! The usual ways: recv(2) and recvmmsg(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::thread;

use nlring::{ErrorKind, RecvFlags, Socket};

use crate::memory::Memory;
use crate::tally::Tally;
use crate::{BUFFER_BYTES, DELAY, Rest, Way};

/// One datagram per call, blocking.
pub struct Recv {
    socket: Socket,
    buffer: [u8; BUFFER_BYTES],
}

impl Recv {
    pub fn new(socket: Socket) -> Self {
        let buffer = [0; BUFFER_BYTES];
        Self { socket, buffer }
    }
}

impl Way for Recv {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        let (buffer, length) = (self.buffer.as_mut_ptr(), self.buffer.len());
        // SAFETY: the pointer and the length describe the buffer, borrowed for the call; any bytes are valid in it.
        let received = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.cast(), length, 0) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        tally.note([&self.buffer[..received]]);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<Rest> {
        rest_of(&self.socket)
    }
}

/// Many datagrams per call.
pub struct Recvmmsg {
    socket: Socket,
    headers: Vec<libc::mmsghdr>,
    _iovecs: Vec<libc::iovec>,
    buffers: Memory,
    /// Whether to sleep and then read what is there, or to block for the first datagram.
    is_paced: bool,
}

impl Recvmmsg {
    pub fn blocking(socket: Socket) -> Self {
        Self::new(socket, 64, false)
    }

    pub fn paced(socket: Socket) -> Self {
        Self::new(socket, 1024, true)
    }

    fn new(socket: Socket, count: usize, is_paced: bool) -> Self {
        let buffers = Memory::new(count * BUFFER_BYTES);
        let mut iovecs: Vec<_> = (0..count)
            .map(|index| libc::iovec {
                iov_base: buffers.at(index * BUFFER_BYTES, BUFFER_BYTES).cast(),
                iov_len: BUFFER_BYTES,
            })
            .collect();
        let first = iovecs.as_mut_ptr();
        let headers = (0..count).map(|index| {
            // SAFETY: mmsghdr is integers and pointers, for which all zeroes (null) is a value.
            let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_hdr.msg_iov = first.wrapping_add(index);
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        Self {
            socket,
            headers: headers.collect(),
            _iovecs: iovecs,
            buffers,
            is_paced,
        }
    }

    fn receive(&mut self, tally: &mut Tally) -> io::Result<usize> {
        let flags = if self.is_paced {
            libc::MSG_DONTWAIT
        } else {
            libc::MSG_WAITFORONE
        };
        // SAFETY: the pointer and the count describe the headers. Each points to an iovec, and that to a buffer of the
        // size it states, all owned by self, unmoved and untouched during the call.
        let filled = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as _,
                flags as _,
                ptr::null_mut(),
            )
        };
        let filled = match usize::try_from(filled) {
            Ok(filled) => filled,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => 0,
                error => return Err(error),
            },
        };
        let headers = self.headers[..filled].iter().enumerate();
        tally.note(headers.map(|(index, header)| {
            // SAFETY: the kernel writes into the buffers only during the call.
            unsafe {
                self.buffers
                    .bytes(index * BUFFER_BYTES, header.msg_len as usize)
            }
        }));
        Ok(filled)
    }
}

impl Way for Recvmmsg {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        if self.is_paced {
            thread::sleep(DELAY);
            while self.receive(tally)? == self.headers.len() {}
        } else {
            self.receive(tally)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<Rest> {
        rest_of(&self.socket)
    }
}

/// Empties the socket's queue.
fn rest_of(socket: &Socket) -> io::Result<Rest> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut unread = 0;
    loop {
        match socket.recv(&mut buffer, RecvFlags::DONT_WAIT) {
            Ok(_) => unread += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let lost = socket.drops()?.into();
    Ok(Rest { unread, lost })
}
