//! Decodes link events with another crate, netlink-packet-route: `cargo run --example netlink_packet_route --
//! [COUNT]`.
//!
//! nlring decodes only those fields of a link that routes refer to. Any other decoder can read the bytes of a
//! message, here that of the rust-netlink project. Needs no privileges. Ends after COUNT events, or never.

use std::error::Error;
use std::ops::ControlFlow::{Break, Continue};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use nlring::route::Group;
use nlring::{Engine, Event, Message, Protocol, Socket};

fn main() -> Result<(), Box<dyn Error>> {
    let mut left = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => usize::MAX,
    };
    let socket = Socket::builder(Protocol::ROUTE).group(Group::Link).open()?;
    let mut engine = Engine::builder().build()?;
    engine.add(socket)?;
    engine.start()?.run(|event, _control| {
        match event {
            Event::Messages(_, list) => {
                for message in list.iter().take(left) {
                    print(&message);
                    left -= 1;
                }
            }
            Event::Lost(_, loss) => eprintln!("{} datagrams lost", loss.count),
            Event::Notice(_, notice) => eprintln!("{notice}"),
        }
        if left == 0 { Break(()) } else { Continue(()) }
    })?;
    Ok(())
}

fn print(message: &Message<'_>) {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.bytes()) {
        Ok(NetlinkMessage {
            payload: NetlinkPayload::InnerMessage(inner),
            ..
        }) => match inner {
            RouteNetlinkMessage::NewLink(link) => println!("{}", describe(&link)),
            RouteNetlinkMessage::DelLink(link) => println!("deleted {}", describe(&link)),
            other => println!("{other:?}"),
        },
        Ok(other) => println!("{other:?}"),
        Err(error) => eprintln!("netlink-packet-route cannot decode it: {error}"),
    }
}

fn describe(link: &LinkMessage) -> String {
    let (mut name, mut state, mut mtu) = ("?", "?".to_owned(), 0);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::OperState(operational) => state = format!("{operational:?}"),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            _ => {}
        }
    }
    format!("{} {name}: {state}, MTU {mtu}", link.header.index)
}
