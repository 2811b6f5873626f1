//! Prints the flows that begin, change and end: `cargo run --example conntrack -- [COUNT]`.
//!
//! Needs `CAP_NET_ADMIN`. Ends after COUNT events, or never.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow::{Break, Continue};

use nlring::conntrack::{Flow, Group, Tuple, protocol_name};
use nlring::{Engine, Event, MessageList, Protocol, Socket};

fn main() -> Result<(), Box<dyn Error>> {
    let mut left = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => usize::MAX,
    };
    let socket = Socket::builder(Protocol::NETFILTER)
        .groups([Group::New, Group::Update, Group::Destroy])
        .recv_buffer_bytes(8 << 20) // holds about 13,000 events that come while the program is busy
        .open()?;
    let mut engine = Engine::builder().build()?;
    engine.add(socket)?;

    let mut output = BufWriter::new(io::stdout().lock());
    let end = engine.start()?.run(|event, _control| {
        match event {
            // The list is borrowed: copy what you want to keep before the callback returns.
            Event::Messages(_, list) => match print(&list, left, &mut output) {
                Ok(count) => left -= count,
                Err(error) => return Break(Err(error)),
            },
            // A loss is not an error, and is never silent: the kernel had more events than the receive buffer could
            // hold.
            Event::Lost(_, loss) => eprintln!("{} datagrams lost", loss.count),
            Event::Notice(_, notice) => eprintln!("{notice}"),
        }
        if left == 0 {
            Break(Ok(()))
        } else {
            Continue(())
        }
    })?;
    end.unwrap_or(Ok(()))?; // None: a stop handle has ended the run
    Ok(())
}

/// Prints up to `limit` flows, and returns how many it has printed.
fn print(list: &MessageList<'_>, limit: usize, output: &mut impl Write) -> io::Result<usize> {
    let mut count = 0;
    let flows = list.iter().filter_map(|message| Flow::decode(&message));
    for flow in flows.take(limit) {
        let protocol = protocol_name(flow.protocol()).unwrap_or("unknown");
        write!(output, "{:?} {protocol} ", flow.kind)?;
        print_tuple(&flow.orig, output)?;
        count += 1;
    }
    output.flush()?; // once per list, not once per line
    Ok(count)
}

fn print_tuple(tuple: &Tuple, output: &mut impl Write) -> io::Result<()> {
    let Tuple { src, dst, .. } = tuple;
    match tuple.ports() {
        Some((from, to)) => writeln!(output, "{src} port {from} -> {dst} port {to}"),
        None => writeln!(output, "{src} -> {dst}"),
    }
}
