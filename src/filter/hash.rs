//! A hash of numbers in a message, which BPF and user space calculate alike.

use super::test::{Field, Path};

/// A hash of some fields of a message.
///
/// Each part has alternatives, and adds the fields of the first one that is present, or the number 0 if none is. If an
/// alternative is only partly present, which the kernel never sends, the fields before the missing one are added as
/// well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash {
    pub seed: u32,
    /// The fields of each alternative of each part.
    pub parts: &'static [&'static [&'static [Field]]],
    /// The layout of these fields in most messages.
    pub usual: Layout,
}

/// Where a message has its fields, if it has all these attribute headers at these places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The place of each header in the message, and its bytes.
    pub headers: &'static [(u32, [u8; 4])],
    /// The fields that the parts would find, in the same order, each at a fixed place.
    pub fields: &'static [Field],
    /// The length of the shortest datagram with these fields.
    pub least_bytes: u32,
}

impl Hash {
    /// The attributes of its fields, once for each field.
    pub(super) fn paths(self) -> impl Iterator<Item = Path> {
        let alternatives = self.parts.iter().flat_map(|part| part.iter());
        let fields = alternatives.flat_map(|fields| fields.iter());
        fields.filter_map(|field| field.path)
    }
}

/// Calculates a hash in user space.
///
/// It uses steps that take few BPF instructions: xor, multiply and shift, all in 32 bits. The upper bits of the result
/// are the best mixed.
#[derive(Clone, Copy, Debug)]
pub struct Hasher(u32);

impl Hasher {
    /// The factor for the sum after each number: the first constant of `murmur3`'s finalizer.
    pub(super) const STEP: u32 = 0x85eb_ca6b;
    /// How far the upper bits are shifted down after each number.
    pub(super) const SHIFT: u32 = 15;
    /// The factor for the sum at the end: the second constant of that finalizer.
    pub(super) const END: u32 = 0xc2b2_ae35;

    pub fn new(seed: u32) -> Self {
        Self(0).add(seed)
    }

    /// The sum of what was added so far.
    pub(super) fn sum(self) -> u32 {
        self.0
    }

    #[must_use]
    pub fn add(self, number: u32) -> Self {
        let product = (self.0 ^ number).wrapping_mul(Self::STEP);
        Self(product ^ product >> Self::SHIFT)
    }

    pub fn finish(self) -> u32 {
        self.0.wrapping_mul(Self::END)
    }
}
