//! The attributes of a flow, and what the kernel puts into each (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

/// What an attribute holds.
pub enum Kind {
    /// This many bytes.
    Size(usize),
    Name,
    Any,
    Nest(&'static Attributes),
}

/// The attributes that a message or a nest may have.
pub struct Attributes {
    pub kinds: &'static [(u16, Kind)],
    /// The kernel sends exactly one of these sets. Empty: any of the attributes.
    pub sets: &'static [&'static [u16]],
}

impl Attributes {
    pub fn kind(&self, number: u16) -> Option<&'static Kind> {
        let kinds: &'static [_] = self.kinds;
        let found = kinds.iter().find(|(other, _)| *other == number);
        found.map(|(_, kind)| kind)
    }
}

use Kind::{Any, Name, Nest, Size};

pub static ROOT: Attributes = Attributes {
    kinds: &[
        (1, Nest(&TUPLE)),
        (2, Nest(&TUPLE)),
        (3, Size(4)),
        (4, Nest(&STATE)),
        (5, Nest(&HELP)),
        (7, Size(4)),
        (8, Size(4)),
        (9, Nest(&COUNTERS)),
        (10, Nest(&COUNTERS)),
        (11, Size(4)),
        (12, Size(4)),
        (17, Size(4)),
        (18, Size(2)),
        (20, Nest(&TIMES)),
        (22, Any),
        (27, Any),
    ],
    sets: &[],
};
static TUPLE: Attributes = Attributes {
    kinds: &[(1, Nest(&IP)), (2, Nest(&PROTOCOL)), (3, Size(2))],
    sets: &[&[1, 2], &[1, 2, 3]],
};
static IP: Attributes = Attributes {
    kinds: &[(1, Size(4)), (2, Size(4)), (3, Size(16)), (4, Size(16))],
    sets: &[&[1, 2], &[3, 4]],
};
static PROTOCOL: Attributes = Attributes {
    kinds: &[
        (1, Size(1)),
        (2, Size(2)),
        (3, Size(2)),
        (4, Size(2)),
        (5, Size(1)),
        (6, Size(1)),
        (7, Size(2)),
        (8, Size(1)),
        (9, Size(1)),
    ],
    sets: &[&[1], &[1, 2, 3], &[1, 4, 5, 6], &[1, 7, 8, 9]],
};
static STATE: Attributes = Attributes {
    kinds: &[(1, Nest(&TCP)), (3, Nest(&SCTP))],
    sets: &[&[1], &[3]],
};
static TCP: Attributes = Attributes {
    kinds: &[
        (1, Size(1)),
        (2, Size(1)),
        (3, Size(1)),
        (4, Size(2)),
        (5, Size(2)),
    ],
    sets: &[],
};
static SCTP: Attributes = Attributes {
    kinds: &[(1, Size(1)), (2, Size(4)), (3, Size(4))],
    sets: &[],
};
static HELP: Attributes = Attributes {
    kinds: &[(1, Name)],
    sets: &[],
};
static COUNTERS: Attributes = Attributes {
    kinds: &[(1, Size(8)), (2, Size(8))],
    sets: &[&[1, 2]],
};
static TIMES: Attributes = Attributes {
    kinds: &[(1, Size(8)), (2, Size(8))],
    sets: &[&[1], &[1, 2]],
};
