//! A bounded amount of time for work between the events.

use std::time::{Duration, Instant};

use crate::request::Patience;

/// How long reading a dump, or merging it, may delay the events.
const LENGTH: Duration = Duration::from_micros(500);
/// The clock is read after this many steps: reading it takes longer than a step.
const STEPS_PER_LOOK: u32 = 64;

/// A slice of time, which is used up step by step.
#[derive(Debug)]
pub(crate) struct Slice {
    end: End,
    /// Steps until the clock is read next.
    steps_left: u32,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Never,
    At(Instant),
    #[cfg(any(test, fuzzing))]
    AfterSteps,
}

impl Slice {
    /// Half a millisecond from `start` on.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            end: End::At(start + LENGTH),
            steps_left: STEPS_PER_LOOK,
        }
    }

    /// A slice that is never over.
    pub(crate) fn endless() -> Self {
        Self {
            end: End::Never,
            steps_left: u32::MAX,
        }
    }

    /// A slice of this many steps, and of one if the number is 0.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_steps(count: u32) -> Self {
        Self {
            end: End::AfterSteps,
            steps_left: count.max(1),
        }
    }

    /// Whether the slice is over. Call it after each step.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        self.steps_left -= 1;
        self.steps_left == 0 && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        match self.end {
            End::Never => {
                self.steps_left = u32::MAX;
                false
            }
            End::At(end) => {
                self.steps_left = STEPS_PER_LOOK;
                Instant::now() >= end
            }
            #[cfg(any(test, fuzzing))]
            End::AfterSteps => {
                self.steps_left = 1; // it stays over
                true
            }
        }
    }

    /// How long to wait for the kernel: until the slice ends.
    pub(crate) fn patience(&self) -> Patience {
        match self.end {
            End::At(end) => Patience::Look(end),
            End::Never => Patience::Wait,
            #[cfg(any(test, fuzzing))]
            End::AfterSteps => Patience::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_over_when_its_time_is_and_stays_so() {
        let begun = Instant::now()
            .checked_sub(LENGTH)
            .expect("a clock that ran longer");
        let mut over = Slice::new(begun);
        let looks: Vec<_> = (0..2 * STEPS_PER_LOOK).map(|_| over.is_over()).collect();
        let is_over_count = looks.iter().filter(|is_over| **is_over).count();
        assert_eq!(is_over_count, 2, "the clock is read twice");
        let mut hour = Slice::new(Instant::now() + Duration::from_secs(3600));
        assert!((0..1000).all(|_| !hour.is_over()));
    }

    #[test]
    fn an_endless_slice_is_never_over() {
        let mut slice = Slice::endless();
        slice.steps_left = 2;
        assert!((0..10).all(|_| !slice.is_over()));
    }

    #[test]
    fn a_slice_of_steps_is_over_after_them() {
        let mut slice = Slice::of_steps(3);
        let looks = [(); 5].map(|()| slice.is_over());
        assert_eq!(looks, [false, false, true, true, true]);
        assert!(Slice::of_steps(0).is_over());
    }
}
