//! Reproducible random numbers.

/// A xorshift generator: the same seed yields the same numbers.
///
/// [`of_bytes`](Self::of_bytes) takes the first numbers from bytes. A fuzzer can thus choose what a test leaves to
/// chance, and drive the same models.
#[derive(Clone, Debug)]
pub struct Random {
    bits: u64,
    /// The bytes from which the next numbers are made.
    given: std::vec::IntoIter<u8>,
}

impl Random {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            bits: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, // never 0, which would give nothing but 0
            given: Vec::new().into_iter(),
        }
    }

    /// A generator whose numbers are made from these bytes. When they are used up, it continues by itself, so that code
    /// that waits for a certain number ends.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            given: Vec::from(bytes).into_iter(),
            ..Self::new(bytes.len() as u64)
        }
    }

    /// How many of the given bytes are left.
    #[must_use]
    pub fn given_count(&self) -> usize {
        self.given.len()
    }

    fn bits(&mut self) -> u32 {
        self.bits ^= self.bits << 13;
        self.bits ^= self.bits >> 7;
        self.bits ^= self.bits << 17;
        (self.bits >> 33) as u32
    }

    /// A number less than `limit`.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        let byte_count = (u32::BITS - (limit - 1).leading_zeros()).div_ceil(8) as usize;
        if self.given.len() < byte_count {
            return self.bits() % limit;
        }
        let given = self.given.by_ref().take(byte_count);
        given.fold(0, |number, byte| number << 8 | u32::from(byte)) % limit
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
        let bits = self.bits();
        self.given.next().unwrap_or(bits.to_le_bytes()[0])
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
    fn given_bytes_are_the_first_numbers() {
        let mut random = Random::of_bytes(&[3, 1, 0, 7, 200]);
        assert_eq!((random.below(10), random.below(1000)), (3, 256));
        assert_eq!((random.byte(), random.given_count()), (7, 1));
        assert_eq!(random.below(1), 0, "which needs no byte");
        assert!(random.percent(1) == (200 % 100 < 1) && random.given_count() == 0);
        let more: Vec<_> = (0..50).map(|_| random.below(2)).collect();
        assert!(more.contains(&0) && more.contains(&1), "{more:?}");
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
