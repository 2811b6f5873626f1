//! Events in cycles: an object is made, may change, and is removed, with one event for each step. So only one object
//! exists at a time, or a few that are made and removed together.

use std::ops::Range;

use super::{Schedule, Source};
use crate::outcome::Failure;

/// Objects that are made and removed, by number.
pub trait Cycle: Send {
    /// How many events one object causes: step 0 makes the object, the last step removes it.
    const EVENTS: u64;

    /// Makes the event of a step, or adds its request to those that [`send`](Self::send) sends.
    fn step(&mut self, number: u64, step: u64) -> Result<(), Failure>;

    /// Sends the requests that were added.
    fn send(&mut self) -> Result<(), Failure>;
}

pub struct Cycles<C> {
    cycle: C,
    next: u64,
}

impl<C: Cycle> Cycles<C> {
    pub fn new(cycle: C) -> Self {
        Self { cycle, next: 0 }
    }

    fn step(&mut self, index: u64) -> Result<(), Failure> {
        let (number, step) = (index / C::EVENTS, index % C::EVENTS);
        let stepped = self.cycle.step(number, step);
        self.next = match step {
            0 if stepped.is_err() => index + C::EVENTS, // nothing was made, so nothing is to remove
            _ => index + 1,
        };
        stepped
    }
}

impl<C: Cycle> Source for Cycles<C> {
    fn make(&mut self, mut indexes: Range<u64>, _schedule: &Schedule) -> Result<(), Failure> {
        let stepped = indexes.try_for_each(|index| self.step(index));
        let sent = self.cycle.send(); // even after a failure, because removals may be among the requests
        stepped.and(sent)
    }

    fn clean(&mut self) -> Result<u64, Failure> {
        let end = self.next.next_multiple_of(C::EVENTS);
        let indexes = self.next..end;
        let count = end - self.next;
        for index in indexes {
            self.step(index)?;
        }
        self.cycle.send()?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pace;
    use super::*;

    /// Remembers its steps. The steps of one number fail.
    #[derive(Default)]
    struct Steps {
        done: Vec<(u64, u64)>,
        sent_count: usize,
        failing: Option<u64>,
    }

    impl Cycle for Steps {
        const EVENTS: u64 = 3;

        fn step(&mut self, number: u64, step: u64) -> Result<(), Failure> {
            if self.failing == Some(number) {
                return Err(Failure::Other("it fails".to_owned()));
            }
            self.done.push((number, step));
            Ok(())
        }

        fn send(&mut self) -> Result<(), Failure> {
            self.sent_count = self.done.len();
            Ok(())
        }
    }

    fn make(cycles: &mut Cycles<Steps>, indexes: Range<u64>) -> Result<(), Failure> {
        cycles.make(indexes, &Schedule::new(Pace::default(), 0))
    }

    #[test]
    fn a_cycle_that_was_begun_is_ended() {
        let mut cycles = Cycles::new(Steps::default());
        make(&mut cycles, 0..4).unwrap();
        assert_eq!(cycles.cycle.done, [(0, 0), (0, 1), (0, 2), (1, 0)]);
        assert_eq!(cycles.clean().unwrap(), 2);
        assert_eq!(cycles.cycle.done[4..], [(1, 1), (1, 2)]);
        assert_eq!(cycles.cycle.sent_count, 6);
        assert_eq!(cycles.clean().unwrap(), 0);
    }

    #[test]
    fn an_entry_that_was_not_made_is_not_removed() {
        let failing = Some(1);
        let mut cycles = Cycles::new(Steps {
            failing,
            ..Steps::default()
        });
        assert!(make(&mut cycles, 0..9).is_err());
        assert_eq!(cycles.cycle.sent_count, 3, "what was gathered before");
        assert_eq!(cycles.clean().unwrap(), 0);
    }
}
