//! Follows one flow in a hundred, from its beginning to its end: `cargo run --example sample -- [ONE_IN] [COUNT]`.
//!
//! Needs `CAP_NET_ADMIN`. Ends after COUNT events, or never.

use std::error::Error;
use std::ops::ControlFlow::{Break, Continue};

use nlring::conntrack::{Filter, Flow, Group, Split, Term};
use nlring::{Engine, Event, EventKind, Protocol, Socket};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let one_in = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let mut left = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;

    // The kernel leaves out the other flows. All events of a flow have the same original tuple, and so the same hash.
    let sample = Filter::from(Term::share(Split::new(one_in), 0..1));
    let socket = Socket::builder(Protocol::NETFILTER)
        .filter(&sample.program()?)
        .groups([Group::New, Group::Destroy])
        .recv_buffer_bytes(8 << 20)
        .open()?;
    let mut engine = Engine::builder().build()?;
    engine.add(socket)?;

    let mut begun_count = 0;
    engine.start()?.run(|event, _control| {
        match event {
            Event::Messages(_, list) => {
                for flow in list.iter().filter_map(|message| Flow::decode(&message)) {
                    println!("{:?} {} -> {}", flow.kind, flow.orig.src, flow.orig.dst);
                    begun_count += u64::from(flow.kind == EventKind::New);
                    left -= 1;
                    if left == 0 {
                        return Break(());
                    }
                }
            }
            Event::Lost(_, loss) => eprintln!("{} datagrams lost", loss.count),
            Event::Notice(_, notice) => eprintln!("{notice}"),
        }
        Continue(())
    })?;
    let estimate = begun_count * u64::from(one_in);
    println!("about {estimate} flows began, because {begun_count} of a sample did");
    Ok(())
}
