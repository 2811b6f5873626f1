//! The system calls of netlink(7) sockets, as safe functions.
#![allow(unsafe_code)]
// The C libraries differ in the integer types of these structs.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;

use super::options::require_plain;
use crate::filter::Program;

/// Room for an address, `struct sockaddr_nl`: family, padding, port ID, groups mask.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_nl>();
/// Room for the control messages of netlink: `NETLINK_PKTINFO` and `NETLINK_LISTEN_ALL_NSID`, 24 bytes each.
pub(crate) const CONTROL_BYTES: usize = 64;

/// Index of the drop counter in the answer of `SO_MEMINFO` (`SK_MEMINFO_DROPS`, include/uapi/linux/sock_diag.h).
const MEMINFO_DROPS: usize = 8;
/// `SO_MEMINFO` (include/uapi/asm-generic/socket.h). Available since Linux 4.12.
const SO_MEMINFO: libc::c_int = 55;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn socklen(length: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(length).unwrap_or(libc::socklen_t::MAX)
}

pub(crate) fn page_bytes() -> usize {
    // SAFETY: sysconf(3) takes any number, and no pointer.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(answer).unwrap_or(4096)
}

pub(crate) fn open(protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes three numbers and accesses no memory of this process.
    let fd = check(unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            protocol,
        )
    })?;
    // SAFETY: the kernel has just made `fd` for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn close(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: `fd` owned the descriptor and has just given it up, so it is closed exactly once.
    check(unsafe { libc::close(fd.into_raw_fd()) })?;
    Ok(())
}

fn address(port_id: u32, groups_mask: u32) -> libc::sockaddr_nl {
    // SAFETY: sockaddr_nl consists of integers, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_pid = port_id;
    address.nl_groups = groups_mask;
    address
}

pub(crate) fn bind(fd: BorrowedFd<'_>, port_id: u32, groups_mask: u32) -> io::Result<()> {
    let address = address(port_id, groups_mask);
    // SAFETY: the pointer and the length describe `address`, which outlives the call; the kernel only reads it.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            ptr::from_ref(&address).cast(),
            socklen(NAME_BYTES),
        )
    })?;
    Ok(())
}

/// Connects a socket to the kernel (port ID 0). Then no other socket can send to its port ID (`ECONNREFUSED`; Linux
/// v6.18, net/netlink/af_netlink.c, `netlink_getsockbyportid`). Multicasts are not affected.
pub(crate) fn connect_to_kernel(fd: BorrowedFd<'_>) -> io::Result<()> {
    let address = address(0, 0);
    let name = ptr::from_ref(&address).cast();
    // SAFETY: the pointer and the length describe `address`, which outlives the call; the kernel only reads it.
    check(unsafe { libc::connect(fd.as_raw_fd(), name, socklen(NAME_BYTES)) })?;
    Ok(())
}

/// The port ID of a socket, and the mask of its first 32 groups.
pub(crate) fn local_address(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut address = address(0, 0);
    let mut length = socklen(NAME_BYTES);
    // SAFETY: both pointers are to locals that outlive the call, and `length` is the size of `address`. Any bytes that
    // the kernel writes there are a valid sockaddr_nl, because it consists of integers.
    check(unsafe {
        libc::getsockname(
            fd.as_raw_fd(),
            ptr::from_mut(&mut address).cast(),
            &raw mut length,
        )
    })?;
    Ok((address.nl_pid, address.nl_groups))
}

/// Reads an option whose value is plain bytes; any other is an error. Writes as much of it to `value` as fits, and
/// returns the length that the kernel reports.
pub(crate) fn option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> io::Result<usize> {
    require_plain(level, name)?;
    let mut length = socklen(value.len());
    // SAFETY: the pointer and `length` describe `value`, which is borrowed for the call and may hold any bytes. The
    // kernel writes to no other memory but `length`: it counts this option in bytes and follows no pointer in it
    // (`require_plain`).
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(length as usize)
}

/// Sets an option whose value is plain bytes; any other is an error.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> io::Result<()> {
    require_plain(level, name)?;
    // SAFETY: the pointer and the length describe `value`, which is borrowed for the call. The kernel reads no other
    // memory and writes none, because this option has no pointer in it (`require_plain`).
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            socklen(value.len()),
        )
    })?;
    Ok(())
}

/// Makes the kernel run a program for each datagram before the socket receives it, instead of the previous program.
pub(crate) fn attach_filter(fd: BorrowedFd<'_>, program: &Program) -> io::Result<()> {
    let instructions = program.instructions().iter();
    let mut instructions: Vec<_> = instructions
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.jt,
            jf: instruction.jf,
            k: instruction.k,
        })
        .collect();
    let count = instructions.len().try_into(); // the field has 16 bits
    let program = libc::sock_fprog {
        len: count.map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the pointer and the length describe `program`, which points to the `len` instructions of `instructions`.
    // Both are locals that outlive the call. The kernel only reads them: it copies the instructions and checks each.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            ptr::from_ref(&program).cast(),
            socklen(size_of::<libc::sock_fprog>()),
        )
    })?;
    Ok(())
}

/// Removes the program of a socket. `ENOENT` if there is none.
pub(crate) fn detach_filter(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &[0; 4])
}

/// The address family of a socket (`AF_*`). An error if the descriptor is not a socket.
pub(crate) fn family(fd: BorrowedFd<'_>) -> io::Result<i32> {
    let mut value = [0; 4];
    option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// How often the kernel could not put a datagram into this socket's receive queue, modulo 2^32.
pub(crate) fn drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut value = [0; 4 * (MEMINFO_DROPS + 1)];
    option(fd, libc::SOL_SOCKET, SO_MEMINFO, &mut value)?;
    Ok(value
        .last_chunk()
        .map_or(0, |drops| u32::from_ne_bytes(*drops)))
}

/// A number that no other socket has had since the system started: `SO_COOKIE` (include/uapi/asm-generic/socket.h).
/// Available since Linux 4.6.
pub(crate) fn cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_COOKIE: libc::c_int = 57;
    let mut value = [0; 8];
    option(fd, libc::SOL_SOCKET, SO_COOKIE, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let mut value = libc::c_int::from(nonblocking);
    // SAFETY: FIONBIO reads one int through the pointer, and `value` is a local int that outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw mut value) })?;
    Ok(())
}

pub(crate) fn send_to(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    port_id: u32,
    groups_mask: u32,
) -> io::Result<usize> {
    let address = address(port_id, groups_mask);
    let name = ptr::from_ref(&address).cast();
    // SAFETY: the pointers and lengths describe `bytes` and `address`, which outlive the call; the kernel only reads
    // them.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            name,
            socklen(NAME_BYTES),
        )
    };
    check_size(sent)
}

/// What a receive reports about a datagram in addition to its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// The datagram's full length, even if less was stored.
    pub real_bytes: usize,
    pub sender_port_id: u32,
    pub group: Option<u32>,
    pub nsid: Option<i32>,
}

impl Received {
    /// Reads the name and the control data of a datagram.
    pub(crate) fn new(real_bytes: usize, name: &[u8], control: &[u8]) -> Self {
        let (group, nsid) = read_control(control);
        Self {
            real_bytes,
            sender_port_id: read_port_id(name),
            group,
            nsid,
        }
    }
}

/// The port ID in the bytes of a `struct sockaddr_nl`; 0 if there are too few bytes.
fn read_port_id(name: &[u8]) -> u32 {
    name.get(4..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |port_id| u32::from_ne_bytes(*port_id))
}

/// The multicast group and the nsid in control data, which is a sequence of `struct cmsghdr` (length as a word, level,
/// type) with data, each aligned to a word (`CMSG_NXTHDR`, cmsg(3)).
fn read_control(mut control: &[u8]) -> (Option<u32>, Option<i32>) {
    let (mut group, mut nsid) = (None, None);
    while let Some((length, level, kind, data)) = split_control_message(control) {
        let value = data.first_chunk().copied();
        match (level, kind) {
            (libc::SOL_NETLINK, libc::NETLINK_PKTINFO) => group = value.map(u32::from_ne_bytes),
            (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID) => {
                nsid = value.map(i32::from_ne_bytes);
            }
            _ => {}
        }
        control = control
            .get(length.next_multiple_of(size_of::<usize>())..)
            .unwrap_or_default();
    }
    (group, nsid)
}

/// The length, level, type and data of the first control message.
fn split_control_message(control: &[u8]) -> Option<(usize, i32, i32, &[u8])> {
    let length = usize::from_ne_bytes(*control.first_chunk()?);
    let (_, message) = control
        .get(..length)?
        .split_at_checked(size_of::<usize>())?;
    let (level, message) = message.split_first_chunk()?;
    let (kind, data) = message.split_first_chunk()?;
    Some((
        length,
        i32::from_ne_bytes(*level),
        i32::from_ne_bytes(*kind),
        data,
    ))
}

/// Receives one datagram into `buffer`. Stores as much as fits; `real_bytes` is the full length.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> io::Result<Received> {
    let mut name = [0u8; NAME_BYTES];
    let mut control = [0u64; CONTROL_BYTES / 8]; // words, for the alignment of struct cmsghdr
    let mut iovec = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr consists of integers and pointers, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = socklen(NAME_BYTES);
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: `header` points to `name`, `control` and `iovec`, and `iovec` to `buffer`, each with its size. They are
    // locals or borrowed for the call, and may hold any bytes.
    let received =
        unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags | libc::MSG_TRUNC) };
    let real_bytes = check_size(received)?;
    let mut control_bytes = [0; CONTROL_BYTES];
    for (bytes, word) in control_bytes.chunks_exact_mut(8).zip(control) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let name = name.get(..header.msg_namelen as usize).unwrap_or_default();
    let control = control_bytes
        .get(..header.msg_controllen as usize)
        .unwrap_or_default();
    Ok(Received::new(real_bytes, name, control))
}

/// Whether a datagram is queued.
///
/// # Errors
///
/// An error of the socket, which the kernel reports only once.
pub(crate) fn has_queued(fd: BorrowedFd<'_>) -> io::Result<bool> {
    match receive(fd, &mut [], libc::MSG_PEEK | libc::MSG_DONTWAIT) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The largest number of datagrams that one call of [`discard`] takes.
pub(crate) const DISCARD_BATCH: usize = 64;

/// Takes up to [`DISCARD_BATCH`] datagrams off the queue without copying them. Returns how many.
pub(crate) fn discard(fd: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: mmsghdr consists of integers and pointers, for which all zeroes is a valid value.
    let mut headers: [libc::mmsghdr; DISCARD_BATCH] =
        unsafe { MaybeUninit::zeroed().assume_init() };
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the pointer and the count describe `headers`, a local that outlives the call. The headers point to no
    // other memory, so the kernel writes only to them.
    let taken = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            DISCARD_BATCH as _,
            flags as _,
            ptr::null_mut(),
        )
    };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control_message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (size_of::<usize>() + 8 + data.len()).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&level.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    #[test]
    fn control_messages_are_read_in_any_order_and_bad_ones_end_the_reading() {
        let mut control = control_message(libc::SOL_SOCKET, 2, &[9; 12]);
        control.extend(control_message(
            libc::SOL_NETLINK,
            libc::NETLINK_LISTEN_ALL_NSID,
            &(-1i32).to_ne_bytes(),
        ));
        control.extend(control_message(
            libc::SOL_NETLINK,
            libc::NETLINK_PKTINFO,
            &7u32.to_ne_bytes(),
        ));
        assert_eq!(read_control(&control), (Some(7), Some(-1)));
        for length in 0..control.len() {
            let _ = read_control(&control[..length]);
        }
        for length in [0, 7, size_of::<usize>() + 7, usize::MAX] {
            control[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(read_control(&control), (None, None), "length {length}");
        }
    }
}
