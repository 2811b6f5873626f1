//! Records how long conntrack events take from the kernel to a program, and prints percentiles:
//! `cargo run --features latency --example latency -- [COUNT]`.
//!
//! Needs `CAP_NET_ADMIN`, Linux 6.14, and `sysctl -w net.netfilter.nf_conntrack_timestamp=1` before the flows begin.
//! Ends after COUNT events, by default 1000.

use std::error::Error;
use std::io;
use std::ops::ControlFlow::{Break, Continue};

use nlring::conntrack::{Flow, Group};
use nlring::latency::Recorder;
use nlring::{Engine, Event, Protocol, Socket, Timestamp};

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 1000,
    };
    let socket = Socket::builder(Protocol::NETFILTER)
        .groups([Group::New, Group::Destroy])
        .recv_buffer_bytes(8 << 20)
        .open()?;
    let mut engine = Engine::builder().build()?;
    engine.add(socket)?;

    let mut recorder = Recorder::new();
    let (mut seen, mut untimed) = (0_u64, 0_u64);
    engine.start()?.run(|event, _control| {
        match event {
            Event::Messages(_, list) => {
                for flow in list.iter().filter_map(|message| Flow::decode(&message)) {
                    seen += 1;
                    match flow.event_time {
                        Some(time) => {
                            recorder.record_between(time.as_ns(), Timestamp::now().as_ns());
                        }
                        None => untimed += 1,
                    }
                }
            }
            Event::Lost(_, loss) => eprintln!("{} datagrams lost", loss.count),
            Event::Notice(_, notice) => eprintln!("{notice}"),
        }
        if seen < wanted {
            Continue(())
        } else {
            Break(())
        }
    })?;

    if untimed > 0 {
        eprintln!(
            "{untimed} events without the kernel's time: it needs Linux 6.14 and, before a flow begins, \
             sysctl -w net.netfilter.nf_conntrack_timestamp=1"
        );
    }
    if recorder.negative_count() > 0 {
        eprintln!(
            "{} events were from the future: the clock was set",
            recorder.negative_count()
        );
    }
    recorder.write_percentiles(io::stdout().lock())?; // in microseconds
    Ok(())
}
