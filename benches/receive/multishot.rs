//! A multishot receive on the bare io-uring crate. It does as little as possible, so it shows what an engine adds.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use nlring::Socket;

use crate::memory::Memory;
use crate::tally::Tally;
use crate::{BUFFER_BYTES, DELAY, Rest, Way};

const BUFFER_COUNT: u16 = 1024;
/// How many completions a wait asks for. One call brings up to 33 datagrams for each.
const WANT: usize = 64;
const RECEIVE: u64 = 1;
/// RECVMSG puts `struct io_uring_recvmsg_out` and the sender's address before the payload.
const HEAD_BYTES: usize = 16 + size_of::<libc::sockaddr_nl>();

/// When a bare multishot wakes, like this crate's policies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Waking {
    /// When `DELAY` has passed and a datagram is there.
    Gathering,
    /// At each datagram.
    Prompt,
    /// It never sleeps.
    Spinning,
}

pub struct Multishot {
    ring: IoUring,
    waking: Waking,
    socket: Socket,
    buffers: Buffers,
    /// For RECVMSG, which reports the sender. None: RECV.
    header: Option<Box<libc::msghdr>>,
    taken: Vec<(u16, usize)>,
    is_armed: bool,
}

impl Multishot {
    pub fn recvmsg(socket: Socket, waking: Waking) -> io::Result<Self> {
        // SAFETY: msghdr is integers and pointers, for which all zeroes (null) is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = size_of::<libc::sockaddr_nl>() as _;
        Self::new(socket, waking, Some(Box::new(header)))
    }

    pub fn recv(socket: Socket) -> io::Result<Self> {
        Self::new(socket, Waking::Gathering, None)
    }

    fn new(socket: Socket, waking: Waking, header: Option<Box<libc::msghdr>>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(4096)
            .build(8)?;
        if !ring.params().is_feature_min_timeout() {
            return Err(io::Error::other("no min_wait (Linux 6.12)"));
        }
        let buffers = Buffers::new();
        // SAFETY: the entries are page-aligned, as many as stated, and stay until Drop has ended the receive.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.at(0, 1) as u64,
                BUFFER_COUNT,
                0,
                0,
            )
        }?;
        let mut this = Self {
            ring,
            waking,
            socket,
            buffers,
            header,
            taken: Vec::with_capacity(BUFFER_COUNT.into()),
            is_armed: false,
        };
        this.arm()?;
        Ok(this)
    }

    fn arm(&mut self) -> io::Result<()> {
        let fd = Fd(self.socket.as_raw_fd());
        let entry = match &self.header {
            Some(header) => opcode::RecvMsgMulti::new(fd, &raw const **header, 0).build(),
            None => opcode::RecvMulti::new(fd, 0).build(),
        };
        self.push(&entry.user_data(RECEIVE))?;
        self.is_armed = true;
        Ok(())
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: an entry points at most to the header, which does not move and stays until Drop has ended the
        // receive.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Waits as `waking` says, but no longer than `timeout`.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if self.waking == Waking::Spinning {
            return self.spin(timeout);
        }
        let timeout = Timespec::from(timeout);
        let mut arguments = SubmitArgs::new().timespec(&timeout);
        let mut want = 1;
        if self.waking == Waking::Gathering {
            arguments = arguments.min_wait_usec(DELAY.as_micros() as u32);
            want = WANT;
        }
        match self.ring.submitter().submit_with_args(want, &arguments) {
            Err(error) if error.raw_os_error() != Some(libc::ETIME) => Err(error),
            _ => Ok(()),
        }
    }

    fn spin(&mut self, timeout: Duration) -> io::Result<()> {
        let start = Instant::now();
        while self.ring.completion().is_empty() && start.elapsed() < timeout {
            let queue = self.ring.submission();
            let has_work = queue.taskrun() || !queue.is_empty();
            drop(queue);
            if has_work {
                self.ring.submit()?;
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Waits, and tallies what came.
    fn receive(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.is_armed {
            self.arm()?;
        }
        self.wait(timeout)?;
        for completion in self.ring.completion() {
            self.is_armed &= cqueue::more(completion.flags());
            match (
                completion.result(),
                cqueue::buffer_select(completion.flags()),
            ) {
                (length @ 0.., Some(buffer)) => self.taken.push((buffer, length as usize)),
                (error, _) if error == -libc::ENOBUFS => {} // no buffer was left, so it is armed again in the next turn
                (error, _) => return Err(io::Error::from_raw_os_error(-error)),
            }
        }
        Ok(())
    }

    /// Gives all buffers back.
    fn recycle(&mut self) {
        for (buffer, _) in self.taken.drain(..) {
            self.buffers.give_back(buffer);
        }
        self.buffers.commit();
    }
}

impl Way for Multishot {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.receive(Duration::from_millis(100))?;
        let head_bytes = self.header.as_ref().map_or(0, |_| HEAD_BYTES);
        tally.note(self.taken.iter().map(|&(buffer, length)| {
            // SAFETY: a completion has named the buffer, so the kernel is done with it until `recycle`.
            let bytes = unsafe { self.buffers.bytes(buffer, length) };
            bytes.get(head_bytes..).unwrap_or_default()
        }));
        self.recycle();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<Rest> {
        let mut unread = 0;
        loop {
            self.receive(Duration::from_millis(20))?; // the multishot empties the queue
            if self.taken.is_empty() {
                break;
            }
            unread += self.taken.len() as u64;
            self.recycle();
        }
        let lost = self.socket.drops()?.into();
        Ok(Rest { unread, lost })
    }
}

/// Ends the receive before the memory that it writes into is freed.
impl Drop for Multishot {
    fn drop(&mut self) {
        if self.is_armed {
            let entry = opcode::AsyncCancel::new(RECEIVE).build();
            self.push(&entry).expect("room for a cancellation");
        }
        while self.is_armed {
            self.ring.submit_and_wait(1).expect("a cancellation");
            for completion in self.ring.completion() {
                let is_receive = completion.user_data() == RECEIVE;
                self.is_armed &= !is_receive || cqueue::more(completion.flags());
            }
        }
    }
}

/// A ring of provided buffers.
struct Buffers {
    entries: Memory,
    memory: Memory,
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let count = usize::from(BUFFER_COUNT);
        let mut this = Self {
            entries: Memory::new(count * size_of::<BufRingEntry>()),
            memory: Memory::new(count * BUFFER_BYTES),
            tail: 0,
        };
        (0..BUFFER_COUNT).for_each(|id| this.give_back(id));
        this.commit();
        this
    }

    /// # Safety
    ///
    /// A completion has named the buffer, and the caller has not given it back after that.
    unsafe fn bytes(&self, id: u16, length: usize) -> &[u8] {
        // SAFETY: the caller guarantees that a completion named the buffer and that it was not given back, so the
        // kernel no longer writes to it.
        unsafe {
            self.memory
                .bytes(usize::from(id) * BUFFER_BYTES, length.min(BUFFER_BYTES))
        }
    }

    /// Lends a buffer to the kernel, from the next [`commit`](Self::commit) on.
    #[allow(clippy::cast_ptr_alignment, reason = "the ring is page-aligned")]
    fn give_back(&mut self, id: u16) {
        let place = usize::from(self.tail % BUFFER_COUNT);
        let size = size_of::<BufRingEntry>();
        let entry = self.entries.at(place * size, size).cast();
        // SAFETY: the place is in the zeroed, page-aligned ring, and any bytes are an entry. The kernel reads only
        // entries below the published tail. The fields written do not include the tail, which is in the first entry.
        let entry: &mut BufRingEntry = unsafe { &mut *entry };
        let buffer = self.memory.at(usize::from(id) * BUFFER_BYTES, BUFFER_BYTES);
        entry.set_addr(buffer as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn commit(&mut self) {
        let first = self.entries.at(0, size_of::<BufRingEntry>());
        // SAFETY: it is the ring's first entry, which was zeroed and where the tail lies.
        let tail = unsafe { BufRingEntry::tail(first.cast()) };
        // SAFETY: the pointer is into the ring and aligned, and nothing but this writes the tail.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
