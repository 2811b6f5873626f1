//! What a BPF program can test in a message.

use super::expression::Expression;
use super::hash::Hash;

/// A test of a message that classic BPF can evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// The attribute is present.
    Present(Path),
    /// The field is present, and its bits of `mask` are from `low` to `high`.
    Within {
        field: Field,
        mask: u32,
        low: u32,
        high: u32,
    },
    /// One of two fields is missing, or both are present and their values differ.
    Differ(Field, Field),
    /// The hash is from `low` to `high`.
    HashWithin { hash: Hash, low: u32, high: u32 },
}

/// What BPF can tell about a term. For messages between `must` and `may` the kernel cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// True for each message that matches the term, and perhaps for others.
    pub may: Expression<Test>,
    /// True only for messages that match the term, and perhaps not for all of them.
    pub must: Expression<Test>,
}

impl Kernel {
    /// The kernel can tell exactly.
    pub fn exactly(test: Expression<Test>) -> Self {
        Self {
            may: test.clone(),
            must: test,
        }
    }

    /// The kernel cannot tell anything.
    pub fn undecidable() -> Self {
        Self {
            may: Expression::ALWAYS,
            must: Expression::NEVER,
        }
    }

    pub fn is_exact(&self) -> bool {
        self.may == self.must
    }

    /// True for each message that matches the term, or its negation, and perhaps for others.
    pub fn can_be(self, is_negated: bool) -> Expression<Test> {
        if is_negated {
            self.must.negated()
        } else {
            self.may
        }
    }
}

/// The types of an attribute and of the attributes that enclose it, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    types: [u16; Self::MAX_DEPTH],
    depth: usize,
}

impl Path {
    const MAX_DEPTH: usize = 4;

    /// The path with these 1 to 4 types.
    pub const fn new(types: &[u16]) -> Self {
        let mut path = Self {
            types: [0; Self::MAX_DEPTH],
            depth: types.len(),
        };
        let mut index = 0;
        while index < types.len() {
            path.types[index] = types[index];
            index += 1;
        }
        path
    }

    pub fn types(&self) -> &[u16] {
        self.types.get(..self.depth).unwrap_or_default()
    }

    /// The type of the attribute itself.
    pub(super) fn last(&self) -> u16 {
        self.types().last().copied().unwrap_or_default()
    }

    /// The path of the attribute that encloses this one.
    pub(super) fn parent(&self) -> Option<Self> {
        match self.types() {
            [] | [_] => None,
            [outer @ .., _] => Some(Self::new(outer)),
        }
    }

    /// This path and those of the enclosing attributes, innermost first.
    pub(super) fn and_outer(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), Self::parent)
    }

    /// Whether the attribute is present.
    pub fn is_present(self) -> Expression<Test> {
        Expression::Term(Test::Present(self))
    }

    /// A number of 1, 2 or 4 bytes in the attribute's payload, from `offset` on, in network byte order.
    pub const fn field(self, offset: u32, size_bytes: u32) -> Field {
        Field {
            path: Some(self),
            offset,
            size_bytes,
            is_host_order: false,
        }
    }
}

/// As it is written in the comments of a program, such as `1.2.3`.
impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.types()).finish()
    }
}

/// A number of 1, 2 or 4 bytes in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field {
    /// The attribute that contains the number; None if it is at a fixed place in the message.
    pub(super) path: Option<Path>,
    /// From the start of the message or of the attribute's payload.
    pub(super) offset: u32,
    pub(super) size_bytes: u32,
    /// The number is in the machine's byte order, not in the network's.
    is_host_order: bool,
}

impl Field {
    /// `nlmsg_type`.
    pub const MESSAGE_TYPE: Self = Self::fixed(4, 2).host_order();
    /// `nlmsg_flags`.
    pub const MESSAGE_FLAGS: Self = Self::fixed(6, 2).host_order();
    /// `nlmsg_pid`: the port ID in the message.
    pub const PORT_ID: Self = Self::fixed(12, 4).host_order();

    /// A number of 1, 2 or 4 bytes at a fixed offset from the start of `struct nlmsghdr`, in network byte order.
    pub const fn fixed(offset: u32, size_bytes: u32) -> Self {
        Self {
            path: None,
            offset,
            size_bytes,
            is_host_order: false,
        }
    }

    /// The same field, with its number in the machine's byte order.
    #[must_use]
    pub const fn host_order(self) -> Self {
        Self {
            is_host_order: true,
            ..self
        }
    }

    /// The number is `value`. False if the field is missing.
    pub fn is(self, value: u32) -> Expression<Test> {
        self.has_bits(value, u32::MAX)
    }

    /// The number's bits of `mask` are those of `value`. False if the field is missing.
    pub fn has_bits(self, value: u32, mask: u32) -> Expression<Test> {
        if value & !mask != 0 || value > self.max() {
            return Expression::NEVER;
        }
        let (value, mask) = (self.as_loaded(value), self.as_loaded(mask & self.max()));
        self.within(mask, value, value)
    }

    /// The number is from `low` to `high`. False if the field is missing.
    pub fn is_within(self, low: u32, high: u32) -> Expression<Test> {
        if low > high || low > self.max() {
            Expression::NEVER
        } else if low == high {
            self.is(low)
        } else if !self.is_swapped() {
            self.within(u32::MAX, low, high)
        } else if low == 0 {
            self.at_most(high.min(self.max()))
        } else if high >= self.max() {
            self.at_least(low)
        } else {
            self.at_least(low).and(self.at_most(high))
        }
    }

    /// One field is missing, or both are present and their values differ.
    pub fn differs_from(self, other: Self) -> Expression<Test> {
        Expression::Term(Test::Differ(self, other))
    }

    fn within(self, mask: u32, low: u32, high: u32) -> Expression<Test> {
        let field = Self {
            is_host_order: false,
            ..self
        };
        Expression::Term(Test::Within {
            field,
            mask,
            low,
            high,
        })
    }

    /// The largest number that fits.
    pub(super) fn max(self) -> u32 {
        u32::MAX >> (32 - 8 * self.size_bytes.clamp(1, 4))
    }

    /// BPF loads numbers in network order; a number in host order is byte-swapped on a little-endian machine.
    fn is_swapped(self) -> bool {
        self.is_host_order && self.size_bytes > 1 && cfg!(target_endian = "little")
    }

    fn as_loaded(self, value: u32) -> u32 {
        if self.is_swapped() {
            value.swap_bytes() >> (32 - 8 * self.size_bytes)
        } else {
            value
        }
    }

    /// The byte of the number with this weight, 0 for the lowest, of a number in little-endian order.
    fn byte(self, weight: u32) -> Self {
        Self {
            offset: self.offset + weight,
            size_bytes: 1,
            is_host_order: false,
            ..self
        }
    }

    /// For swapped bytes: the number is at least `low`, decided byte by byte, the highest first.
    fn at_least(self, low: u32) -> Expression<Test> {
        (0..self.size_bytes).fold(Expression::ALWAYS, |rest, weight| {
            let (byte, limit) = (self.byte(weight), low >> (8 * weight) & 0xff);
            let above = byte.is_within(limit + 1, 0xff);
            above.or(byte.is(limit).and(rest))
        })
    }

    /// For swapped bytes: the number is at most `high`.
    fn at_most(self, high: u32) -> Expression<Test> {
        (0..self.size_bytes).fold(Expression::ALWAYS, |rest, weight| {
            let (byte, limit) = (self.byte(weight), high >> (8 * weight) & 0xff);
            let below = limit
                .checked_sub(1)
                .map_or(Expression::NEVER, |below| byte.is_within(0, below));
            below.or(byte.is(limit).and(rest))
        })
    }
}

impl Test {
    /// The fields or attributes that it reads.
    pub(super) fn paths(&self) -> impl Iterator<Item = Path> {
        let (first, second, hash) = match *self {
            Self::Present(path) => (Some(path), None, None),
            Self::Within { field, .. } => (field.path, None, None),
            Self::Differ(left, right) => (left.path, right.path, None),
            Self::HashWithin { hash, .. } => (None, None, Some(hash)),
        };
        let hashed = hash.into_iter().flat_map(Hash::paths);
        first.into_iter().chain(second).chain(hashed)
    }

    /// The attribute whose field is tested alone.
    pub(super) fn field_path(&self) -> Option<Path> {
        match self {
            Self::Within { field, .. } => field.path,
            Self::Present(_) | Self::Differ(..) | Self::HashWithin { .. } => None,
        }
    }

    /// The cost of evaluating it, in nanoseconds, approximately.
    pub(super) fn cost(&self) -> usize {
        let lookups: usize = self.paths().map(|path| path.types().len()).sum();
        1 + 8 * lookups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evaluates tests of a number at offset 0.
    fn holds(test: &Expression<Test>, number: u32) -> bool {
        let bytes = number.to_ne_bytes();
        test.is_true(&|test| match *test {
            Test::Within {
                field,
                mask,
                low,
                high,
            } => {
                let start = field.offset as usize;
                let bytes = &bytes[start..start + field.size_bytes as usize];
                let value = bytes
                    .iter()
                    .fold(0, |value, &byte| value << 8 | u32::from(byte));
                (low..=high).contains(&(value & mask))
            }
            _ => false,
        })
    }

    #[test]
    fn numbers_in_host_order_are_compared_as_numbers() {
        let field = Field::fixed(0, 4).host_order();
        let interesting = [
            0,
            1,
            254,
            255,
            256,
            1000,
            0xffff,
            0x1_0000,
            0x0102_0304,
            u32::MAX - 1,
            u32::MAX,
        ];
        for low in interesting {
            for high in interesting {
                let test = field.is_within(low, high);
                for number in interesting {
                    assert_eq!(
                        holds(&test, number),
                        (low..=high).contains(&number),
                        "{number} in {low}..={high}"
                    );
                }
            }
            for number in interesting {
                assert_eq!(holds(&field.is(low), number), number == low);
                let masked = field.has_bits(low & 0xf0f, 0xf0f);
                assert_eq!(holds(&masked, number), number & 0xf0f == low & 0xf0f);
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_never_there() {
        assert!(Field::fixed(0, 2).is(0x1_0000).is_never());
        assert!(Field::fixed(0, 1).is_within(256, 300).is_never());
        assert!(Field::fixed(0, 4).has_bits(2, 1).is_never());
    }
}
