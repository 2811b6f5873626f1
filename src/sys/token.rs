//! Encodes in io_uring's `user_data` which submission a completion belongs to. Pure functions.

/// The submission that a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A receive. `index` is its place in a chain; 0 for a multishot receive.
    Receive {
        receiver: u16,
        generation: u16,
        index: u16,
    },
    /// A cancellation.
    Cancel,
    /// The watched descriptor is readable.
    Watch,
    /// The alarm's time has come.
    Alarm,
}

// The layout, from the highest byte: kind (8 bits), unused (8), receiver (16), generation (16), index (16).
const RECEIVE: u8 = 1;
const CANCEL: u8 = 2;
const WATCH: u8 = 3;
const ALARM: u8 = 4;

impl Token {
    pub(super) fn to_bits(self) -> u64 {
        let (kind, receiver, generation, index) = match self {
            Self::Receive {
                receiver,
                generation,
                index,
            } => (RECEIVE, receiver, generation, index),
            Self::Cancel => (CANCEL, 0, 0, 0),
            Self::Watch => (WATCH, 0, 0, 0),
            Self::Alarm => (ALARM, 0, 0, 0),
        };
        u64::from(kind) << 56
            | u64::from(receiver) << 32
            | u64::from(generation) << 16
            | u64::from(index)
    }

    /// The token for which [`to_bits`](Self::to_bits) returns these bits. `None`: there is none.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let [kind, _, r1, r0, g1, g0, i1, i0] = bits.to_be_bytes();
        let token = match kind {
            RECEIVE => Self::Receive {
                receiver: u16::from_be_bytes([r1, r0]),
                generation: u16::from_be_bytes([g1, g0]),
                index: u16::from_be_bytes([i1, i0]),
            },
            CANCEL => Self::Cancel,
            WATCH => Self::Watch,
            ALARM => Self::Alarm,
            _ => return None,
        };
        (token.to_bits() == bits).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [Token; 7] = [
        receive(0, 0, 0),
        receive(1, 2, 3),
        receive(0xfedc, 0xba98, 0x7654),
        receive(u16::MAX, u16::MAX, u16::MAX),
        Token::Cancel,
        Token::Watch,
        Token::Alarm,
    ];

    const fn receive(receiver: u16, generation: u16, index: u16) -> Token {
        Token::Receive {
            receiver,
            generation,
            index,
        }
    }

    #[test]
    fn a_token_survives_the_round_trip() {
        for token in TOKENS {
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
    }

    #[test]
    fn different_tokens_have_different_bits() {
        let bits: std::collections::HashSet<u64> = TOKENS.map(Token::to_bits).into();
        assert_eq!(bits.len(), TOKENS.len());
    }

    #[test]
    fn the_layout_is_as_documented() {
        assert_eq!(
            receive(0x1122, 0x3344, 0x5566).to_bits(),
            0x0100_1122_3344_5566
        );
        assert_eq!(Token::Alarm.to_bits(), 0x0400_0000_0000_0000);
    }

    #[test]
    fn bits_that_no_submission_carries_are_refused() {
        let foreign = [
            0,
            u64::MAX,
            5 << 56,                     // an unknown kind
            Token::Cancel.to_bits() | 1, // a kind without fields, with one
            Token::Alarm.to_bits() | 1 << 32,
            receive(1, 2, 3).to_bits() | 1 << 48, // an unused bit
        ];
        for bits in foreign {
            assert_eq!(Token::from_bits(bits), None, "{bits:#x}");
        }
    }
}
