//! What holds for each line of text and JSON, whatever it shows.

use std::collections::BTreeSet;
use std::fmt;

use nlring_print::text::is_steering;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Checks lines of text: they are UTF-8, end with a line feed, and steer no terminal.
///
/// # Panics
///
/// If they do not.
pub fn check_text(text: &[u8]) {
    let text = str::from_utf8(text).expect("a text is UTF-8");
    let steering = text
        .chars()
        .find(|&c| c != '\n' && c != '\t' && is_steering(c));
    assert_eq!(steering, None, "{text:?}");
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
}

/// Checks a line of JSON: it is one object, no object in it has a key twice, and it steers no terminal.
///
/// # Panics
///
/// If it is not.
pub fn check_json(line: &[u8]) {
    let text = str::from_utf8(line).expect("JSON is UTF-8");
    let text = text.strip_suffix('\n').expect("a line");
    assert_eq!(text.chars().find(|&c| is_steering(c)), None, "{text:?}");
    assert!(text.starts_with('{'), "{text}");
    serde_json::from_str::<Unique>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
}

/// Any JSON without a key that an object has twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeys)
    }
}

struct UniqueKeys;

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Unique, A::Error> {
        while list.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Unique>()?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format_args!(
                    "the key {key:?} is there twice"
                )));
            }
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_found_at_any_depth() {
        check_json(b"{\"a\":[{\"b\":1,\"c\":null}],\"b\":{\"a\":-1.5}}\n");
        let twice: fn() = || check_json(b"{\"a\":[{\"b\":1,\"b\":2}]}\n");
        assert!(std::panic::catch_unwind(twice).is_err());
    }
}
