//! The words of numbers in a filter's text.

use std::borrow::Cow;

use crate::filter::number;
use crate::route::{protocol_name, route_type_name, scope_name, table_name};

/// A number that can have names: those of ip(8), and those of the caller.
pub(super) struct Named {
    /// The word of the term.
    pub term: &'static str,
    /// The description of the term's value.
    pub expected: &'static str,
    name: fn(u8) -> Option<&'static str>,
}

pub(super) const TABLE: Named = Named {
    term: "table",
    expected: "a table: main, local, default or a number",
    name: |table| table_name(table.into()),
};
pub(super) const PROTOCOL: Named = Named {
    term: "proto",
    expected: "a protocol such as kernel, static or bgp, or a number from 0 to 255",
    name: protocol_name,
};
pub(super) const ROUTE_TYPE: Named = Named {
    term: "type",
    expected: "a type such as unicast, local or blackhole, or a number from 0 to 255",
    name: route_type_name,
};
pub(super) const SCOPE: Named = Named {
    term: "scope",
    expected: "a scope such as global, link or host, or a number from 0 to 255",
    name: scope_name,
};

impl Named {
    /// The number of a word. `names` knows the caller's names.
    pub fn number(&self, word: &str, names: &dyn Fn(&str, &str) -> Option<u32>) -> Option<u32> {
        let known = (0..=u8::MAX).find(|&number| (self.name)(number) == Some(word));
        let known = known.map(u32::from).or_else(|| number(word));
        known.or_else(|| names(self.term, word))
    }

    /// The word of a number: its name, or its digits.
    pub fn word(&self, number: u32) -> Cow<'static, str> {
        let name = u8::try_from(number).ok().and_then(self.name);
        name.map_or_else(|| number.to_string().into(), Cow::from)
    }
}
