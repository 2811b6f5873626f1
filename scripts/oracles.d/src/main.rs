//! Compares nlring with Debian's libmnl and libnetfilter_conntrack, on random and mutated captures.
//!
//! Usage: nlring-oracles COUNT

mod callbacks;
mod captures;
mod flow_captures;
mod flows;
mod kinds;
mod mnl;
mod splitting;

use std::collections::BTreeMap;

use nlring_testing::Random;

/// How one capture compares.
pub enum Comparison {
    Equal,
    /// The two differ on purpose, for this reason.
    Intended(&'static str),
    Different(String),
}

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(10_000_000);
    let mut has_differences = false;
    for (name, compare, capture) in [
        (
            "messages and attributes, with libmnl",
            splitting::compare as fn(&[u8]) -> Comparison,
            captures::any as fn(&mut Random) -> Vec<u8>,
        ),
        (
            "replies, with mnl_cb_run",
            callbacks::compare,
            captures::replies,
        ),
        (
            "flows, with libnetfilter_conntrack",
            flows::compare,
            flow_captures::any,
        ),
    ] {
        has_differences |= !run(name, count, compare, capture);
    }
    std::process::exit(i32::from(has_differences));
}

fn run(
    name: &str,
    count: u64,
    compare: fn(&[u8]) -> Comparison,
    capture: fn(&mut Random) -> Vec<u8>,
) -> bool {
    let mut random = Random::new(1);
    let mut intended: BTreeMap<&str, u64> = BTreeMap::new();
    let mut equal_count = 0_u64;
    for number in 0..count {
        let bytes = capture(&mut random);
        match compare(&bytes) {
            Comparison::Equal => equal_count += 1,
            Comparison::Intended(reason) => *intended.entry(reason).or_default() += 1,
            Comparison::Different(text) => {
                println!("{name}: capture {number} differs: {text}\n{bytes:02x?}");
                return false;
            }
        }
    }
    println!("{name}: {count} captures, {equal_count} equal");
    for (reason, count) in intended {
        println!("{count:>12} differ on purpose: {reason}");
    }
    true
}
