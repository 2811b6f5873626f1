//! What is measured, and in which order: every way in every setting.

use std::fmt;

use crate::args::{LatencyArguments, Receiver, SourceKind, Way};
use crate::outcome::Failure;

/// A setting in which all ways are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub source: SourceKind,
    /// Events per second. None: as fast as possible.
    pub rate: Option<u32>,
    pub recv_buffer_bytes: usize,
}

/// Everything that is measured in each repetition.
#[derive(Debug)]
pub struct Plan {
    pub settings: Vec<Setting>,
    pub ways: Vec<Way>,
    /// The way that the others are compared with.
    pub reference: Option<usize>,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffer = crate::units::Bytes(self.recv_buffer_bytes as u64);
        write!(f, "{}, ", self.source)?;
        match self.rate {
            None => f.write_str("as fast as possible")?,
            Some(rate) => write!(f, "{rate} events/s")?,
        }
        write!(f, ", receive buffer {buffer}")
    }
}

impl Plan {
    pub fn new(arguments: &LatencyArguments) -> Result<Self, Failure> {
        if arguments.datagram_bytes.is_some() && !arguments.sources.contains(&SourceKind::Usersock)
        {
            return Err(Failure::Usage(
                "--size is for usersock: the kernel decides the size of other events; leave it out"
                    .to_owned(),
            ));
        }
        let ways = unique(arguments.receivers.iter().flat_map(|&receiver| {
            let waits = match receiver {
                Receiver::Recv => vec![None],
                Receiver::Engine(_) => arguments.waits.iter().copied().map(Some).collect(),
            };
            waits.into_iter().map(move |wait| Way { receiver, wait })
        }));
        let mut settings = Vec::new();
        for &source in &arguments.sources {
            for &rate in &arguments.rates {
                for &recv_buffer_bytes in &arguments.recv_buffers {
                    settings.push(Setting {
                        source,
                        rate,
                        recv_buffer_bytes,
                    });
                }
            }
        }
        Ok(Self {
            reference: reference(&ways, arguments.against)?,
            settings: unique(settings),
            ways,
        })
    }

    pub fn reference_way(&self) -> Option<Way> {
        self.reference.map(|place| self.ways[place])
    }

    /// The settings and ways of a repetition, in order. The ways of a setting follow each other closely, and each
    /// repetition begins with another way.
    pub fn order(&self, repetition: usize) -> impl Iterator<Item = (usize, usize)> {
        let way_count = self.ways.len();
        (0..self.settings.len()).flat_map(move |setting| {
            (0..way_count).map(move |turn| (setting, (repetition + turn) % way_count))
        })
    }

    /// How many runs a repetition has.
    pub fn run_count(&self) -> usize {
        self.settings.len() * self.ways.len()
    }
}

/// The index of the requested way, or of recv if none was requested and recv is measured.
fn reference(ways: &[Way], asked: Option<Way>) -> Result<Option<usize>, Failure> {
    let recv = Way {
        receiver: Receiver::Recv,
        wait: None,
    };
    let wanted = asked.unwrap_or(recv);
    let place = ways.iter().position(|&way| way == wanted);
    if place.is_none() && asked.is_some() {
        let ways: Vec<String> = ways.iter().map(Way::to_string).collect();
        return Err(Failure::Usage(format!(
            "--against {wanted} is not among what is measured; give one of {}",
            ways.join(", ")
        )));
    }
    Ok(place)
}

/// The items without repeated ones. The first of each stays.
pub fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, Failure> {
        use crate::args::{Arguments, Command};
        use clap::Parser;
        let line = format!("nlring latency {line}");
        match Arguments::try_parse_from(line.split_whitespace()) {
            Ok(Arguments {
                command: Command::Latency(arguments),
            }) => Plan::new(&arguments),
            other => panic!("{other:?}"),
        }
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.ways.iter().map(Way::to_string).collect()
    }

    #[test]
    fn every_backend_waits_in_every_way_but_recv() {
        let plan = plan("--backend recv,recvmmsg,oneshot:4,recv --wait spin,batch:1500us,batch:2s")
            .unwrap();
        assert_eq!(
            names(&plan),
            [
                "recv",
                "recvmmsg/spin",
                "recvmmsg/batch:1500us",
                "recvmmsg/batch:2s",
                "oneshot:4/spin",
                "oneshot:4/batch:1500us",
                "oneshot:4/batch:2s"
            ]
        );
        assert_eq!(plan.reference, Some(0));
    }

    #[test]
    fn the_defaults_are_those_promised() {
        let plan = plan("").unwrap();
        assert_eq!(
            names(&plan),
            [
                "auto/auto",
                "auto/prompt",
                "auto/batch:1ms",
                "auto/spin",
                "recv"
            ]
        );
        let rates: Vec<_> = plan.settings.iter().map(|setting| setting.rate).collect();
        assert_eq!(rates, [Some(1000), Some(10_000), Some(50_000)]);
        assert_eq!(plan.settings[0].source, SourceKind::Usersock);
    }

    #[test]
    fn each_repetition_measures_all_and_begins_with_another_way() {
        let plan = plan("--rate 1,max --wait prompt,spin").unwrap();
        let second: Vec<_> = plan.order(1).collect();
        assert_eq!(second, [(0, 1), (0, 2), (0, 0), (1, 1), (1, 2), (1, 0)]);
        assert_eq!(second.len(), plan.run_count());
    }

    #[test]
    fn the_reference_is_what_was_asked_for_or_recv() {
        assert_eq!(plan("--backend auto").unwrap().reference, None);
        assert_eq!(plan("--against auto/spin").unwrap().reference, Some(3));
        let error = plan("--against recvmmsg/spin").unwrap_err().to_string();
        assert!(error.contains("one of auto/auto, auto/prompt"), "{error}");
    }
}
