//! What is known to be in a stream.

use std::fmt;
use std::str::FromStr;

use crate::spool::Position;

/// The most stretches that are known. A header has all of them.
const MOST_STRETCHES: usize = 8;
/// The most single messages that are known.
const MOST_LOOSE: usize = 16;

/// What was known to be in the stream when a message was sent: every batch of this spool up to a position, and those of
/// the stretches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub position: Position,
    /// The time until which the records up to there are complete.
    pub until_ns: u64,
    /// Messages of other batches have larger sequences, except those that are `loose`.
    pub sequence: u64,
    /// What was sent ahead of older batches. Lowest first.
    pub ahead: Vec<Stretch>,
    /// The sequences of single messages of batches that may lack others.
    pub loose: Vec<u64>,
}

/// Batches between two positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    pub after: Position,
    pub position: Position,
    pub until_ns: u64,
}

impl Known {
    /// Whether the batch before this position is known to be there. Positions may occur again after a power loss, with a
    /// later time.
    pub fn has(&self, position: Position, until_ns: u64) -> bool {
        self.has_all_before(position, until_ns) || self.stretch(position, until_ns).is_some()
    }

    /// Whether everything between two positions is known to be there.
    pub fn has_between(&self, after: Position, position: Position, until_ns: u64) -> bool {
        let stretch = self.stretch(position, until_ns);
        self.has_all_before(position, until_ns) || stretch.is_some_and(|it| it.after <= after)
    }

    fn stretch(&self, position: Position, until_ns: u64) -> Option<&Stretch> {
        self.ahead.iter().find(|stretch| {
            stretch.after < position && position <= stretch.position && until_ns <= stretch.until_ns
        })
    }

    /// Whether everything before this position is known to be there.
    pub fn has_all_before(&self, position: Position, until_ns: u64) -> bool {
        position <= self.position && until_ns <= self.until_ns
    }

    /// Everything before this position is there.
    pub fn add_all_before(&mut self, position: Position, until_ns: u64) {
        (self.position, self.until_ns) = (position, until_ns);
        self.ahead.retain(|stretch| stretch.position > position);
    }

    /// A stretch begins here, with this time. False: there are too many stretches already.
    pub fn begin(&mut self, position: Position, until_ns: u64) -> bool {
        let is_end = |it: &Stretch| (it.position, it.until_ns) == (position, until_ns);
        self.ahead.iter().any(is_end)
            || self.push(Stretch {
                after: position,
                position,
                until_ns,
            })
    }

    /// The batch between two positions is there. False: there are too many stretches already.
    pub fn add(&mut self, batch: Stretch) -> bool {
        // A stretch whose positions occurred again after a power loss has an earlier time.
        let continued =
            |it: &&mut Stretch| it.position == batch.after && it.until_ns <= batch.until_ns;
        let continued = self.ahead.iter_mut().filter(continued);
        match continued.max_by_key(|stretch| stretch.until_ns) {
            Some(stretch) => {
                (stretch.position, stretch.until_ns) = (batch.position, batch.until_ns);
                true
            }
            // The first batch, or the clock was set back.
            None => self.push(batch),
        }
    }

    fn push(&mut self, stretch: Stretch) -> bool {
        let has_room = self.ahead.len() < MOST_STRETCHES;
        if has_room {
            self.ahead.push(stretch);
            self.ahead.sort_unstable();
        }
        has_room
    }

    /// Whether a stretch begins here.
    pub fn begins_at(&self, position: Position) -> bool {
        self.ahead.iter().any(|stretch| stretch.after == position)
    }

    /// Messages up to this sequence are of batches that are there, or have one of these sequences.
    pub fn raise_sequence(&mut self, sequence: u64, others: impl Iterator<Item = u64>) {
        self.sequence = self.sequence.max(sequence);
        self.loose = others.filter(|other| *other <= self.sequence).collect();
        self.loose.sort_unstable();
        if self.loose.len() > MOST_LOOSE {
            self.sequence = self.loose[0] - 1;
            self.loose.clear();
        }
    }
}

/// Position, time and sequence, for each stretch its two positions and time, and `+` with each loose sequence.
impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            until_ns,
            sequence,
            ahead,
            loose,
        } = self;
        write!(f, "{position} {until_ns} {sequence}")?;
        for stretch in ahead {
            let Stretch {
                after,
                position,
                until_ns,
            } = stretch;
            write!(f, " {after} {position} {until_ns}")?;
        }
        for sequence in loose {
            write!(f, " +{sequence}")?;
        }
        Ok(())
    }
}

impl FromStr for Known {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |word: &str| word.parse::<u64>().map_err(drop);
        let (loose, words): (Vec<&str>, Vec<&str>) =
            text.split(' ').partition(|word| word.starts_with('+'));
        let (threes, rest) = words.as_chunks::<3>();
        let ([position, until_ns, sequence], stretches) = threes.split_first().ok_or(())?;
        let ahead = stretches.iter().map(|[after, position, until_ns]| {
            Ok(Stretch {
                after: after.parse()?,
                position: position.parse()?,
                until_ns: number(until_ns)?,
            })
        });
        if !rest.is_empty() {
            return Err(());
        }
        Ok(Self {
            position: position.parse()?,
            until_ns: number(until_ns)?,
            sequence: number(sequence)?,
            ahead: ahead.collect::<Result<_, _>>()?,
            loose: (loose.into_iter().map(number)).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::connection::HEADER_BYTES;

    fn position(batch: u32) -> Position {
        Position { segment: 1, batch }
    }

    fn stretch(after: u32, until: u32) -> Stretch {
        Stretch {
            after: position(after),
            position: position(until),
            until_ns: until.into(),
        }
    }

    #[test]
    fn stretches_grow_until_everything_before_them_is_there() {
        let mut known = Known::default();
        for (after, until) in [(5, 6), (6, 7), (20, 21), (7, 9)] {
            assert!(known.add(stretch(after, until)));
        }
        assert_eq!(known.ahead, [stretch(5, 9), stretch(20, 21)]);
        let has = |known: &Known, batch: u32| known.has(position(batch), batch.into());
        let there: Vec<u32> = (0..30).filter(|&batch| has(&known, batch)).collect();
        assert_eq!(there, [6, 7, 8, 9, 21]);
        assert!(!known.has(position(7), 10), "after a power loss");
        let has_between = |after: u32| known.has_between(position(after), position(8), 8);
        assert!(has_between(5) && has_between(7) && !has_between(4));
        assert!(known.begins_at(position(5)) && !known.begins_at(position(6)));
        known.loose = vec![3, 4];
        assert_eq!(known.to_string().parse(), Ok(known.clone()));
        known.add_all_before(position(8), 8);
        assert!(has(&known, 9) && !has(&known, 10));
        known.add_all_before(position(9), 9);
        assert_eq!(known.ahead, [stretch(20, 21)]);
        assert!(has(&known, 1) && !known.has_all_before(position(21), 21));
    }

    #[test]
    fn there_are_only_a_few_stretches() {
        let mut known = Known::default();
        let added = (0..20).filter(|&it| known.add(stretch(10 * it, 10 * it + 1)));
        assert_eq!(added.count(), MOST_STRETCHES);
        assert!(!known.begin(position(500), 500) && known.add(stretch(1, 3)));
        let most = u64::MAX - MOST_LOOSE as u64;
        known.raise_sequence(u64::MAX, most..u64::MAX);
        assert_eq!(known.loose.len(), MOST_LOOSE);
        assert!(known.to_string().len() < HEADER_BYTES / 2);
        // With more than that, those after the first one are looked for.
        known.raise_sequence(200, 100..200);
        assert_eq!((known.sequence, known.loose.len()), (99, 0));
    }

    #[test]
    fn a_stretch_whose_positions_occur_again_is_not_continued() {
        let mut known = Known::default();
        assert!(known.add(stretch(5, 9)));
        let again = Stretch {
            until_ns: 20,
            ..stretch(7, 7)
        };
        assert!(known.begin(again.position, again.until_ns));
        for (after, until) in [(7, 8), (8, 9), (9, 10)] {
            assert!(known.add(Stretch {
                until_ns: 20 + u64::from(until),
                ..stretch(after, until)
            }));
        }
        assert!(!known.has(position(6), 25), "it came after the power loss");
        assert!(known.has(position(10), 30) && known.has(position(6), 6));
        // The clock was set back.
        assert!(known.add(stretch(10, 11)) && known.has(position(10), 30));
    }

    #[test]
    fn loose_messages_are_those_before_the_sequence() {
        let mut known = Known::default();
        known.raise_sequence(10, [12, 4].into_iter());
        assert_eq!((known.sequence, &known.loose[..]), (10, &[4][..]));
        known.raise_sequence(5, [12, 4].into_iter());
        assert_eq!((known.sequence, &known.loose[..]), (10, &[4][..]));
        known.raise_sequence(20, [12].into_iter());
        assert_eq!((known.sequence, &known.loose[..]), (20, &[12][..]));
    }
}
