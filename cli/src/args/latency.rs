//! The arguments of `nlring latency`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nlring::Wait;

use super::source::SourceKind;
use super::values::{parse_cpu, parse_datagram_size, parse_events, parse_wait};
use super::way::{Receiver, Way, parse_receiver, parse_way};
use crate::units::{parse_size, parse_time};

#[derive(Args, Debug)]
#[command(after_help = LATENCY_HELP)]
pub struct LatencyArguments {
    /// How to receive: auto, multishot, oneshot[:DEPTH], recvmmsg, or recv, a plain loop over recv(2)
    #[arg(long = "backend", value_name = "BACKENDS", value_delimiter = ',', default_value = "auto,recv", value_parser = parse_receiver)]
    pub receivers: Vec<Receiver>,

    /// When to wake up for events: auto, prompt, batch:DELAY or spin; recv always wakes up at once
    #[arg(long = "wait", value_name = "WAITS", value_delimiter = ',', default_value = "auto,prompt,batch:1ms,spin", value_parser = parse_wait)]
    pub waits: Vec<Wait>,

    /// Events per second; max is as fast as possible
    #[arg(long = "rate", value_name = "RATES", value_delimiter = ',', allow_hyphen_values = true, default_value = "1000,10000,50000", value_parser = parse_rate)]
    pub rates: Vec<Option<u32>>,

    /// Which events to make, and how
    #[arg(
        long = "source",
        value_name = "SOURCES",
        value_delimiter = ',',
        default_value = "usersock"
    )]
    pub sources: Vec<SourceKind>,

    /// Size of the socket's receive buffer, where events wait to be read
    #[arg(long = "recv-buffer", value_name = "SIZES", value_delimiter = ',', allow_hyphen_values = true, default_value = "8MiB", value_parser = parse_size)]
    pub recv_buffers: Vec<usize>,

    /// Size of usersock's datagrams, from 32 bytes to 32KiB [default: 200]
    #[arg(long = "size", value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_datagram_size)]
    pub datagram_bytes: Option<usize>,

    /// How long each run measures
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "1s", value_parser = parse_time)]
    pub duration: Duration,

    /// How long each run makes events before it measures
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "100ms", value_parser = parse_time)]
    pub warmup: Duration,

    /// How many times to measure each combination; from 5 on, ratios have a 90 % interval
    #[arg(long = "repeat", value_name = "N", allow_hyphen_values = true, default_value = "3", value_parser = parse_repeat)]
    pub repeat_count: usize,

    /// The CPUs to receive and to make events on, counted from 0 [default: the first and the last]
    #[arg(long, value_name = "RECEIVER,GENERATOR", allow_hyphen_values = true, value_parser = parse_cpus)]
    pub cpu: Option<Cpus>,

    /// What to compare the others with, such as recvmmsg/batch:1ms [default: recv, if it is measured]
    #[arg(long, value_name = "BACKEND/WAIT", value_parser = parse_way)]
    pub against: Option<Way>,

    /// Write one JSON object instead of a table (docs/json.md)
    #[arg(long)]
    pub json: bool,

    /// Write each distribution to a file in this directory, in the format of HdrHistogram's plotters
    #[arg(long, value_name = "DIRECTORY")]
    pub hgrm: Option<PathBuf>,

    /// Draw the percentiles, and CPU time against latency, into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

const LATENCY_HELP: &str = "\
BACKENDS, WAITS, RATES, SOURCES and SIZES are lists, such as 1000,50000,max: every combination is measured. The events are
made on one CPU and received on another, in a private network namespace. A machine's speed drifts, so backends and waits
take turns.

A latency is the time from when an event was due to when the program has it. Each event is due at a fixed time, no matter
how late the events before it were, so an event that a slow one holds up counts as late too. From Linux 6.14 on, conntrack's
events carry the time when they happened, and their latency counts from then. The table says which of the two it is.

CPU µs is the receiving thread's CPU time per event, and switches its context switches per event. made µs is the CPU time to
make an event, and late µs how long after its due time the latest event was made. Figures are medians over the repetitions,
counts are sums, and ratios compare runs of the same repetition. Events received, lost and unread must add up to those made.
If they do not, nlring prints a warning and exits with 1.

A size is bytes, or a whole number of KiB, MiB or GiB. TIME and DELAY have a unit: 100us, 1ms, 0.5s, 5m.";

/// One CPU to receive on, one to make events on.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    pub receiver: usize,
    pub generator: usize,
}

/// None: as fast as possible.
fn parse_rate(text: &str) -> Result<Option<u32>, String> {
    match text {
        "0" | "max" => Ok(None),
        _ => parse_events(text)
            .map(Some)
            .map_err(|remedy| format!("{remedy}, or max")),
    }
}

fn parse_repeat(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1000).contains(&count) => Ok(count),
        _ => Err("give a whole number from 1 to 1000".to_owned()),
    }
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let (receiver, generator) = text
        .split_once(',')
        .ok_or("give two CPUs, the receiver's and the generator's, such as 0,1")?;
    Ok(Cpus {
        receiver: parse_cpu(receiver)?,
        generator: parse_cpu(generator)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_may_be_unlimited() {
        assert_eq!(parse_rate("max"), Ok(None));
        assert_eq!(parse_rate("0"), Ok(None));
        assert_eq!(parse_rate("1000"), Ok(Some(1000)));
        assert!(parse_rate("fast").unwrap_err().ends_with("or max"));
    }

    #[test]
    fn two_cpus_are_required() {
        assert!(matches!(
            parse_cpus("2,0"),
            Ok(Cpus {
                receiver: 2,
                generator: 0
            })
        ));
        for bad in ["", "1", "1,", ",1", "1,2,3", "a,b", "-1,0"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }
}
