//! The stretches of records that a file of `nlringd store` has: those of the messages that it was written from.

use std::collections::BTreeSet;

use super::about::About;

/// The key of the metadata that has the stretches.
pub const STRETCHES: &str = "nlring.stretches";

/// The records between two positions in a spool, or some of the parts into which they were divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub about: About,
    /// The parts that are there, numbered from 1.
    pub parts: BTreeSet<u32>,
    pub part_count: u32,
}

impl Stretch {
    pub fn is_whole(&self) -> bool {
        (1..=self.part_count).all(|part| self.parts.contains(&part))
    }

    /// Takes in the next stretch if the two are one. False: they are not.
    fn join(&mut self, next: &Self) -> bool {
        let positions = (&self.about.positions, &next.about.positions);
        if positions.0 == positions.1 && self.part_count == next.part_count {
            self.parts.extend(&next.parts);
            return true;
        }
        let is_behind = positions.0[1] == positions.1[0];
        if !is_behind || !self.is_whole() || !next.is_whole() {
            return false;
        }
        (self.parts, self.part_count) = (BTreeSet::from([1]), 1);
        let about = &mut self.about;
        about.positions[1].clone_from(&next.about.positions[1]);
        about.complete_ns[1] = next.about.complete_ns[1];
        about.flows_until_ns = next.about.flows_until_ns.or(about.flows_until_ns);
        about.ends_ns.extend(&next.about.ends_ns);
        true
    }
}

/// The fewest stretches that say the same.
pub fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by(|a, b| a.about.positions.cmp(&b.about.positions));
    // First those that are parts of one, which may then be whole.
    join_neighbours(join_neighbours(stretches))
}

fn join_neighbours(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        if joined.last_mut().is_none_or(|last| !last.join(&stretch)) {
            joined.push(stretch);
        }
    }
    joined
}

/// Positions, times, and `-` for what is not known: what a message says about its batch.
pub fn format_about(about: &About) -> String {
    let number = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| ns.to_string());
    let ends: Vec<String> = about.ends_ns.iter().map(u64::to_string).collect();
    let [first, last] = &about.positions;
    let [from, until] = about.complete_ns.map(number);
    let (behind, flows) = (number(about.behind_ns), number(about.flows_until_ns));
    let ends = if ends.is_empty() {
        "-".to_owned()
    } else {
        ends.join(",")
    };
    format!("{first} {last} {from} {until} {behind} {flows} {ends}")
}

/// Reads what [`format_about`] has written, without the node and the recording.
pub fn parse_about(text: &str) -> Option<About> {
    let mut words = text.split(' ');
    let mut next = || words.next();
    let positions = [next()?.to_owned(), next()?.to_owned()];
    let mut number = || Some(next()?.parse::<u64>().ok());
    let complete_ns = [number()?, number()?];
    let (behind_ns, flows_until_ns) = (number()?, number()?);
    let ends = next()?.split(',');
    Some(About {
        positions,
        complete_ns,
        behind_ns,
        flows_until_ns,
        ends_ns: ends.filter_map(|end| end.parse().ok()).collect(),
        ..About::default()
    })
}

/// A line for each stretch: its parts, how many there should be, and what it says about itself.
pub fn format(stretches: &[Stretch]) -> String {
    let line = |stretch: &Stretch| {
        let parts: Vec<String> = stretch.parts.iter().map(u32::to_string).collect();
        let about = format_about(&stretch.about);
        format!("{}/{} {about}", parts.join(","), stretch.part_count)
    };
    let lines: Vec<String> = stretches.iter().map(line).collect();
    lines.join("\n")
}

/// Reads what [`format`] has written. `whole` has the node and the recording.
pub fn parse(text: &str, whole: &About) -> Option<Vec<Stretch>> {
    let stretch = |line: &str| {
        let (parts, about) = line.split_once(' ')?;
        let (parts, part_count) = parts.split_once('/')?;
        let parts: Result<_, _> = parts.split(',').map(str::parse).collect();
        Some(Stretch {
            about: About {
                format: whole.format,
                node: whole.node.clone(),
                recording: whole.recording.clone(),
                ..parse_about(about)?
            },
            parts: parts.ok()?,
            part_count: part_count.parse().ok()?,
        })
    };
    text.lines().map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(first: &str, last: &str, parts: &[u32], part_count: u32) -> Stretch {
        Stretch {
            about: About {
                positions: [first, last].map(str::to_owned),
                complete_ns: [Some(1), None],
                ends_ns: vec![3],
                ..About::default()
            },
            parts: parts.iter().copied().collect(),
            part_count,
        }
    }

    #[test]
    fn stretches_that_are_whole_and_meet_are_one() {
        let all = vec![
            stretch("c", "d", &[1], 2),
            stretch("a", "b", &[1], 1),
            stretch("b", "c", &[2], 2),
            stretch("b", "c", &[1], 2),
        ];
        let joined = joined(all);
        let positions: Vec<_> = joined
            .iter()
            .map(|it| it.about.positions.join(""))
            .collect();
        assert_eq!(positions, ["ac", "cd"]);
        assert_eq!(joined[0].about.ends_ns, [3, 3]);
        assert!(joined[0].is_whole() && !joined[1].is_whole());
        let text = format(&joined);
        assert_eq!(parse(&text, &About::default()), Some(joined));
    }
}
