//! A descriptor to write to that never makes us wait without a limit.
//!
//! A pipe or a terminal whose reader does not read blocks a plain write for ever, and with it the end that Ctrl-C
//! asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::termios::isatty;

/// What a pipe that is ready takes without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

pub struct Sink {
    fd: OwnedFd,
    way: Way,
    /// Others have it too: standard output, standard error.
    is_shared: bool,
}

/// How a write is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Not at all: files do not wait for a reader.
    Plain,
    /// The descriptor does not block.
    NonBlocking,
    /// By asking first, and by small writes.
    Asking,
}

impl Sink {
    /// Opens a file, as it is until [`truncate`](Self::truncate); `-` is standard output. What is written goes to the end,
    /// wherever that is: the file may be emptied by a log's rotation meanwhile, or written to by others.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::new(io::stdout().as_fd());
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(path)?;
        let sink = Self::new(file.as_fd())?;
        Ok(Self {
            is_shared: false,
            ..sink
        })
    }

    /// Empties a file that was opened by name. A pipe or a terminal has nothing to empty, and what standard output is
    /// redirected to is the shell's to empty or to append to.
    pub fn truncate(&self) -> io::Result<()> {
        match FileType::from_raw_mode(fstat(&self.fd)?.st_mode) {
            FileType::RegularFile if !self.is_shared => Ok(rustix::fs::ftruncate(&self.fd, 0)?),
            _ => Ok(()),
        }
    }

    /// Over a descriptor that others may share: its own flags are left alone.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = fd.try_clone_to_owned()?;
        if !may_block(&fd)? {
            return Ok(Self {
                fd,
                way: Way::Plain,
                is_shared: true,
            });
        }
        // O_NONBLOCK belongs to the open file, which a shell or another process may share; opening it anew makes one
        // of our own. That fails for sockets, and for what another user has opened.
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

    /// Writes what can be written now; `WouldBlock` when that is nothing.
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

    /// Waits until a write can go on. False when the time is over, or a signal came.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all, or as much as goes within a time.
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

    /// How wide the terminal is.
    pub fn columns(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(&self.fd);
        match size.map_or(0, |size| size.ws_col) {
            0 => 80, // it does not say
            columns => columns.into(),
        }
    }

    pub fn is_terminal(&self) -> bool {
        isatty(&self.fd)
    }

    /// Whether both are the same terminal.
    pub fn is_same_terminal(&self, other: &Self) -> bool {
        // /dev/tty: the controlling terminal, whichever that is (Documentation/admin-guide/devices.txt).
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

    /// Whether both are one regular file, under whatever names.
    pub fn is_same_file(&self, other: &Self) -> bool {
        match (fstat(&self.fd), fstat(&other.fd)) {
            (Ok(a), Ok(b)) => {
                FileType::from_raw_mode(a.st_mode) == FileType::RegularFile
                    && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
            }
            _ => false,
        }
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

    /// Fills the pipe or socket until it takes no more.
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
