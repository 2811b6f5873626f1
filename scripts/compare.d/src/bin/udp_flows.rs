//! Begins UDP flows over the loopback device, as fast as it can: `udp_flows COUNT`.
//!
//! Packets alone make these events. `nlring flood conntrack-flows` also removes each flow by a request, and for such an
//! event conntrack -E looks up the requesting program in /proc, which would make it slower.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};

/// Destinations are 127.1.0.0 and up; the end of 127/8, with its broadcast address, is left out.
const MOST: u32 = 253 << 16;

fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args()
        .nth(1)
        .ok_or("usage: udp_flows COUNT")?
        .parse()?;
    if count > MOST {
        return Err(format!("at most {MOST} flows").into());
    }
    let sink = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?; // else each packet is answered by an error
    let port = sink.local_addr()?.port();
    let source = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
    for number in 0..count {
        source.send_to(&[], (Ipv4Addr::from(first + number), port))?;
    }
    Ok(())
}
