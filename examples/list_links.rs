//! Lists the network devices: `cargo run --example list_links`.
//!
//! It sends a request and reads the answer with a `Socket` alone: no engine, no ring. Needs no privileges.

use std::error::Error;
use std::io;

use nlring::message::flags;
use nlring::route::Link;
use nlring::{Content, ErrorKind, MessageBuilder, Protocol, RecvFlags, Socket};

/// include/uapi/linux/rtnetlink.h
const RTM_GETLINK: u16 = 18;

/// Indices and names.
type Links = Vec<(u32, String)>;

fn main() -> Result<(), Box<dyn Error>> {
    let socket = Socket::builder(Protocol::ROUTE).ext_ack(true).open()?;
    let mut buffer = vec![0; 32 << 10]; // the kernel fills up to this much of a dump into one datagram
    let links = (1..=10).find_map(|sequence| dump(&socket, sequence, &mut buffer).transpose());
    for (index, name) in links.ok_or("the devices change faster than they can be listed")?? {
        println!("{index}: {name}");
    }
    Ok(())
}

/// Asks for all devices. None: the answer is incomplete, so ask again.
fn dump(
    socket: &Socket,
    sequence: u32,
    buffer: &mut Vec<u8>,
) -> Result<Option<Links>, Box<dyn Error>> {
    let mut request = Vec::new();
    MessageBuilder::new(&mut request, RTM_GETLINK, flags::REQUEST | flags::DUMP)
        .sequence(sequence)
        .bytes(&[0; 16]) // struct ifinfomsg
        .finish()?;
    socket.send(&request)?;

    let (mut links, mut is_whole) = (Links::new(), true);
    loop {
        let list = match socket.recv(buffer, RecvFlags::NONE) {
            Ok(list) => list,
            Err(error) => match error.kind() {
                ErrorKind::Truncated { real_bytes } => {
                    buffer.resize(real_bytes, 0);
                    is_whole = false; // that part is lost; read on to the end
                    continue;
                }
                _ => return Err(error.into()),
            },
        };
        for message in list.iter().filter(|message| message.is_sequence(sequence)) {
            // A device came or went during the dump, so some may be missing or listed twice.
            is_whole &= message.flags() & flags::DUMP_INTR == 0;
            match message.content() {
                Content::Done { errno: 0 } => return Ok(is_whole.then_some(links)),
                Content::Done { errno } => return Err(io::Error::from_raw_os_error(errno).into()),
                Content::Error(error) => {
                    let errno = error.errno().unwrap_or(0);
                    let text = error.text().unwrap_or("the kernel refused");
                    return Err(format!("{text}: {}", io::Error::from_raw_os_error(errno)).into());
                }
                _ => links.extend(Link::decode(&message).map(|link| {
                    let name = String::from_utf8_lossy(link.name.unwrap_or_default());
                    (link.index, name.into_owned())
                })),
            }
        }
    }
}
