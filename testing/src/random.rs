//! Random numbers that are the same in each run.

/// A xorshift generator: the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1) // never 0, which would give nothing but 0
    }

    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32
    }

    /// A number less than `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.bits() % limit
    }

    /// An index into a list of `length` items.
    ///
    /// # Panics
    ///
    /// If `length` is 0 or more than `u32::MAX`.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(u32::try_from(length).expect("a short list")) as usize
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }

    /// True once in `count` times on average.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    /// True this many times out of 100 on average.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_gives_the_same_numbers_each_time() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            std::array::from_fn::<u32, 8, _>(|_| random.below(1000))
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn every_number_below_the_limit_occurs() {
        let mut random = Random::new(1);
        let mut counts = [0; 10];
        for _ in 0..1000 {
            counts[random.index(10)] += 1;
        }
        assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
    }
}
