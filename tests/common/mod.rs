//! What the tests share: namespaces of their own, and sources of datagrams whose number is known.
#![allow(dead_code)] // each test binary uses a part
#![allow(unsafe_code)] // what std does not wrap

use std::time::{Duration, Instant};

use nlring::{Protocol, Socket};

/// Moves this thread, and those it starts, into a network namespace of its own.
pub fn own_namespace() {
    // SAFETY: unshare(2) takes a number and touches no memory.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        result,
        0,
        "a network namespace of its own: {}",
        std::io::Error::last_os_error()
    );
}

/// Multicasts numbered datagrams to group 1 of `NETLINK_USERSOCK`: a message each, with the number as its sequence.
pub struct Source {
    socket: Socket,
    datagram: Vec<u8>,
    pub sent_count: u32,
}

impl Source {
    pub fn new(datagram_bytes: usize) -> Self {
        let socket = Socket::builder(Protocol::USERSOCK)
            .open()
            .expect("a sender");
        let mut datagram = vec![0; datagram_bytes];
        datagram[..4].copy_from_slice(&u32::try_from(datagram_bytes).unwrap().to_ne_bytes());
        datagram[4..6].copy_from_slice(&100u16.to_ne_bytes());
        Self {
            socket,
            datagram,
            sent_count: 0,
        }
    }

    pub fn port_id(&self) -> u32 {
        self.socket.port_id().expect("its port ID")
    }

    pub fn send(&mut self) {
        self.datagram[8..12].copy_from_slice(&self.sent_count.to_ne_bytes());
        self.sent_count += 1;
        match self.socket.send_to(&self.datagram, 0, 1) {
            Ok(_) => {}
            // After the group comes port ID 0, the kernel, and nobody is there on this protocol. (ENOBUFS: a listener's
            // queue was full, and it has counted the drop.)
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ECONNREFUSED | libc::ENOBUFS)
                ) => {}
            Err(error) => panic!("send: {error}"),
        }
    }

    /// Sends `count` datagrams, spread evenly (None: as fast as it goes).
    pub fn send_many(&mut self, count: u32, per_second: Option<u32>) {
        let start = Instant::now();
        for index in 0..count {
            if let Some(per_second) = per_second {
                let due = start + Duration::from_secs_f64(f64::from(index) / f64::from(per_second));
                while Instant::now() < due {
                    match due.saturating_duration_since(Instant::now()) {
                        left if left > Duration::from_micros(200) => {
                            std::thread::sleep(left - Duration::from_micros(100))
                        }
                        _ => std::hint::spin_loop(),
                    }
                }
            }
            self.send();
        }
    }
}

/// A socket that hears a [`Source`].
pub fn listener(recv_buffer_bytes: usize) -> Socket {
    let builder = Socket::builder(Protocol::USERSOCK)
        .group(1u32)
        .recv_buffer_bytes(recv_buffer_bytes);
    builder
        .open()
        .expect("a listener; needs CAP_NET_ADMIN in its namespace")
}
