//! A descriptor to write to, where no write waits without a limit.
//!
//! A plain write blocks without a limit if the reader of the pipe or terminal does not read. Then Ctrl-C could not end
//! the command.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::termios::isatty;

use crate::write::place::Place;

/// How many bytes a pipe that is ready takes without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

pub struct Sink {
    fd: OwnedFd,
    way: Way,
    /// Whether other processes also have the descriptor, which is the case for standard output and standard error.
    is_shared: bool,
}

/// How a write is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It cannot block: files do not wait for a reader.
    Plain,
    /// The descriptor does not block.
    NonBlocking,
    /// poll(2) says that a small write will not block.
    Asking,
}

impl Sink {
    /// Makes a sink of a file that this command opened for appending.
    pub fn of_own_file(file: &File) -> io::Result<Self> {
        Ok(Self {
            is_shared: false,
            ..Self::new(file.as_fd())?
        })
    }

    /// Whether this is a regular file that this command opened. A file that standard output is redirected to is the
    /// shell's.
    pub fn is_own_file(&self) -> bool {
        !self.is_shared && self.file_type() == Some(FileType::RegularFile)
    }

    /// Whether this is the pipe that is standard output.
    pub fn is_piped_stdout(&self) -> bool {
        self.file_type() == Some(FileType::Fifo) && self.has_identity(fstat(io::stdout()).ok())
    }

    /// Empties a file that this command opened. Does nothing to a pipe or a terminal.
    pub fn truncate(&self) -> io::Result<()> {
        if self.is_own_file() {
            rustix::fs::ftruncate(&self.fd, 0)?;
        }
        Ok(())
    }

    /// Removes the last bytes written, if this is a file that this command opened and nobody else has appended to it.
    pub fn take_back(&self, byte_count: usize) -> io::Result<()> {
        if !self.is_own_file() {
            return Ok(());
        }
        let end = rustix::fs::tell(&self.fd)?; // where the last write ended
        let size = u64::try_from(fstat(&self.fd)?.st_size).unwrap_or(0);
        if size == end {
            rustix::fs::ftruncate(&self.fd, end.saturating_sub(byte_count as u64))?;
        }
        Ok(())
    }

    fn file_type(&self) -> Option<FileType> {
        let stat = fstat(&self.fd).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    fn has_identity(&self, other: Option<Stat>) -> bool {
        match (fstat(&self.fd), other) {
            (Ok(own), Some(other)) => (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        }
    }

    /// Makes a sink of a descriptor that others may share. Its flags are not changed.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = fd.try_clone_to_owned()?;
        if !may_block(&fd)? {
            return Ok(Self {
                fd,
                way: Way::Plain,
                is_shared: true,
            });
        }
        // O_NONBLOCK belongs to the open file, which a shell or another process may share. Opening it again gives us an
        // open file of our own. That fails for sockets, and for files that another user opened.
        Ok(match reopen(&fd) {
            Ok(file) => Self {
                fd: file.into(),
                way: Way::NonBlocking,
                is_shared: true,
            },
            Err(_) => Self {
                fd,
                way: Way::Asking,
                is_shared: true,
            },
        })
    }

    /// Writes as many bytes as are possible now. The error is `WouldBlock` if none are.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut bytes = bytes;
        if self.way == Way::Asking {
            if !self.wait(Duration::ZERO)? {
                return Err(ErrorKind::WouldBlock.into());
            }
            bytes = bytes.get(..PIPE_BUF).unwrap_or(bytes);
        }
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, bytes))? {
            0 if !bytes.is_empty() => Err(ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }

    /// Waits until a write is possible. False: the time is over, or a signal arrived.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all bytes. Fails with `TimedOut` if that takes longer than `limit`.
    pub fn write_within(&self, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
        let give_up_at = Instant::now() + limit;
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = give_up_at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    self.wait(left)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The width of the terminal.
    pub fn columns(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(&self.fd);
        match size.map_or(0, |size| size.ws_col) {
            0 => 80, // the terminal does not know its width
            columns => columns.into(),
        }
    }

    pub fn is_terminal(&self) -> bool {
        isatty(&self.fd)
    }

    /// Whether both are the same terminal.
    pub fn is_same_terminal(&self, other: &Self) -> bool {
        // /dev/tty is the controlling terminal, whichever that is (Documentation/admin-guide/devices.txt).
        let controlling = rustix::fs::makedev(5, 0);
        if !self.is_terminal() || !other.is_terminal() {
            return false;
        }
        match (fstat(&self.fd), fstat(&other.fd)) {
            (Ok(a), Ok(b)) => {
                a.st_rdev == b.st_rdev || [a.st_rdev, b.st_rdev].contains(&controlling)
            }
            _ => false,
        }
    }

    /// Whether this is the regular file of this place.
    pub fn is_file_of(&self, place: &Place) -> bool {
        self.file_type() == Some(FileType::RegularFile)
            && self.has_identity(place.stat().ok().flatten())
    }

    /// Whether both are the same file, pipe, socket or device.
    pub fn is_same(&self, other: &Self) -> bool {
        self.has_identity(fstat(&other.fd).ok())
    }
}

fn may_block(fd: &OwnedFd) -> io::Result<bool> {
    Ok(match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => isatty(fd),
        _ => false,
    })
}

fn reopen(fd: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .write(true)
        .custom_flags(i32::try_from(flags.bits()).map_err(|_| ErrorKind::InvalidInput)?)
        .open(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, pipe};
    use std::os::unix::net::UnixStream;

    /// Fills the pipe or socket, and returns how many bytes it took.
    fn fill(sink: &Sink) -> usize {
        let mut total = 0;
        loop {
            match sink.write(&[b'x'; PIPE_BUF]) {
                Ok(written) => total += written,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return total;
                }
            }
        }
    }

    #[test]
    fn a_full_pipe_does_not_block_and_goes_on_when_read() {
        let (mut reader, writer) = pipe().unwrap();
        for way in [Way::NonBlocking, Way::Asking] {
            let mut sink = Sink::new(writer.as_fd()).unwrap();
            assert_eq!(sink.way, Way::NonBlocking);
            if way == Way::Asking {
                sink = Sink {
                    fd: writer.as_fd().try_clone_to_owned().unwrap(),
                    way,
                    is_shared: true,
                };
            }
            let total = fill(&sink);
            assert_eq!(total, 64 << 10, "{way:?}");
            assert!(!sink.wait(Duration::from_millis(1)).unwrap());
            let error = sink
                .write_within(b"more", Duration::from_millis(1))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            reader.read_exact(&mut vec![0; total]).unwrap();
            assert!(sink.wait(Duration::ZERO).unwrap());
        }
    }

    #[test]
    fn a_socket_cannot_be_opened_anew_and_does_not_block_either() {
        let (here, _there) = UnixStream::pair().unwrap();
        let sink = Sink::new(here.as_fd()).unwrap();
        assert_eq!(sink.way, Way::Asking);
        assert!(fill(&sink) > 0);
    }

    #[test]
    fn the_descriptor_that_others_share_keeps_blocking() {
        let (_reader, writer) = pipe().unwrap();
        let _sink = Sink::new(writer.as_fd()).unwrap();
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_not_a_signal() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let error = Sink::new(writer.as_fd()).unwrap().write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
