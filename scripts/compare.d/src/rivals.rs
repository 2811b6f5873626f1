//! Other crates, each used as its own examples use it.

use std::hint::black_box;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use neli::consts::socket::NlFamily;
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::utils::Groups;
use nlink::netlink::{Connection, Netfilter, OwnedEventStream};

use tokio::runtime::{self, Runtime};
use tokio_stream::StreamExt;

use crate::BUFFER_BYTES;
use crate::Way;
use crate::source::{Source, level};
use crate::tally::Tally;

/// Each datagram as its messages, their payloads as bytes: neli has no types for conntrack.
pub struct Neli(NlSocketHandle);

impl Neli {
    pub fn new(source: Source, buffer_bytes: usize) -> io::Result<Self> {
        let family = match source {
            Source::Conntrack => NlFamily::Netfilter,
            Source::Route => NlFamily::Route,
        };
        let groups = Groups::new_groups(source.groups());
        let socket =
            NlSocketHandle::connect(family, None, Groups::empty()).map_err(io::Error::other)?;
        // SAFETY: the socket is open for as long as the borrow is used, until the next statement.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        level(fd, buffer_bytes)?;
        socket
            .add_mcast_membership(groups)
            .map_err(io::Error::other)?;
        Ok(Self(socket))
    }
}

impl Way for Neli {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        let (messages, _) = self.0.recv::<u16, Buffer>().map_err(io::Error::other)?;
        for message in messages {
            black_box(message.map_err(io::Error::other)?);
            tally.add(1);
        }
        Ok(())
    }
}

/// Datagrams as bytes, in a buffer of the caller.
pub struct NetlinkSys {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl NetlinkSys {
    pub fn new(source: Source, buffer_bytes: usize) -> io::Result<Self> {
        let protocol = source.protocol().number();
        let mut socket = netlink_sys::Socket::new(protocol as isize)?;
        socket.bind_auto()?;
        level(socket.as_fd(), buffer_bytes)?;
        for &group in source.groups() {
            socket.add_membership(group)?;
        }
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Ok(Self { socket, buffer })
    }
}

impl Way for NetlinkSys {
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.buffer.clear();
        self.socket.recv_from(&mut self.buffer, 0)?;
        tally.note([&self.buffer[..]]);
        Ok(())
    }
}

/// Its stream of decoded conntrack events.
pub struct Nlink {
    runtime: Runtime,
    events: OwnedEventStream<Netfilter>,
}

impl Nlink {
    pub fn new(source: Source, buffer_bytes: usize) -> io::Result<Self> {
        if source != Source::Conntrack {
            return Err(io::Error::other(
                "only conntrack events are followed with nlink",
            ));
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let events = runtime
            .block_on(async {
                let connection = Connection::<Netfilter>::new()?;
                level(connection.socket().as_fd(), buffer_bytes)?;
                connection.subscribe_all()?;
                nlink::Result::Ok(connection.into_events().await)
            })
            .map_err(io::Error::other)?;
        Ok(Self { runtime, events })
    }
}

impl Way for Nlink {
    /// Never returns while all is well: the runtime is entered once, not for each event.
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()> {
        let Self { runtime, events } = self;
        runtime.block_on(async {
            while let Some(event) = events.next().await {
                black_box(event.map_err(io::Error::other)?);
                tally.add(1);
            }
            Err(io::Error::other("the stream has ended"))
        })
    }
}
