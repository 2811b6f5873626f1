//! A socket that is connected to a receiver.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket,
};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use crate::config::{Receiver, Transport};

/// How long a receiver may take to answer, or to read anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to read what is in transit.
const PATIENCE_AT_END: Duration = Duration::from_secs(30);
/// The lengths of headers.
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

/// A socket that is connected to a receiver.
pub enum Connection {
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream),
    Unix(UnixDatagram),
    UnixStream(UnixStream),
}

impl Connection {
    pub fn open(receiver: &Receiver) -> io::Result<Self> {
        let address = receiver.address.as_str();
        Ok(match receiver.transport {
            Transport::Udp => open_udp(address)?,
            Transport::Tcp => {
                let stream = first_that(address, |to| TcpStream::connect_timeout(&to, PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Transport::Unix => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(address)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Self::Unix(socket)
            }
            Transport::UnixStream => {
                let stream = UnixStream::connect(address)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Self::UnixStream(stream)
            }
        })
    }

    /// The longest datagram that fits into a packet of this length.
    pub fn limit(&self, mtu: u16) -> Option<usize> {
        let Self::Udp(_, to) = self else { return None };
        let header = if to.is_ipv4() { IPV4 } else { IPV6 };
        Some(usize::from(mtu) - header - UDP)
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self {
            Self::Udp(socket, _) => socket.send(bytes).map(drop),
            Self::Unix(socket) => socket.send(bytes).map(drop),
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::UnixStream(stream) => stream.write_all(bytes),
        };
        sent.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::new(
                ErrorKind::TimedOut,
                format!("it has read nothing for {PATIENCE:?}"),
            ),
            _ => error,
        })
    }

    /// Checks for a response to what was sent before: an error, or the end of a stream.
    pub fn check(&self) -> io::Result<()> {
        let error = match self {
            Self::Udp(socket, _) => socket.take_error()?,
            Self::Unix(socket) => socket.take_error()?,
            Self::Tcp(stream) => return is_open(stream, TcpStream::set_nonblocking),
            Self::UnixStream(stream) => {
                return is_open(stream, UnixStream::set_nonblocking);
            }
        };
        error.map_or(Ok(()), Err)
    }

    /// Closes our half of a stream, and waits until the receiver closes its half, having read everything.
    pub fn close(self) -> io::Result<()> {
        self.check()?;
        match self {
            Self::Udp(..) | Self::Unix(_) => Ok(()),
            Self::Tcp(stream) => {
                stream.shutdown(Shutdown::Write)?;
                stream.set_read_timeout(Some(PATIENCE_AT_END))?;
                await_end(&stream)
            }
            Self::UnixStream(stream) => {
                stream.shutdown(Shutdown::Write)?;
                stream.set_read_timeout(Some(PATIENCE_AT_END))?;
                await_end(&stream)
            }
        }
    }
}

fn open_udp(address: &str) -> io::Result<Connection> {
    let (socket, to) = first_that(address, |to| {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok((socket, to))
    })?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Connection::Udp(socket, to))
}

/// The result for the first address of a host for which this succeeds.
fn first_that<T>(address: &str, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for to in address.to_socket_addrs()? {
        match open(to) {
            Ok(opened) => return Ok(opened),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn ended() -> io::Error {
    io::Error::new(
        ErrorKind::ConnectionAborted,
        "it has closed the connection; what it has not acknowledged is sent again",
    )
}

/// Reads and ignores what the receiver sends, without waiting. The end of the stream is an error.
fn is_open<S>(stream: &S, set_nonblocking: impl Fn(&S, bool) -> io::Result<()>) -> io::Result<()>
where
    for<'a> &'a S: io::Read,
{
    set_nonblocking(stream, true)?;
    let read = { stream }.read(&mut [0; 512]);
    set_nonblocking(stream, false)?;
    match read {
        Ok(0) => Err(ended()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads until the end.
fn await_end(mut stream: impl io::Read) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE_AT_END;
    while Instant::now() < deadline {
        match stream.read(&mut [0; 512]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        format!(
            "it has not closed the connection for {PATIENCE_AT_END:?} after nlringd has closed its half"
        ),
    ))
}
