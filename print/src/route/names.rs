//! Names by number.

use std::collections::HashMap;

use crate::json;
use crate::text::escaped;

/// Names by number, kept [escaped] as they are written. Most numbers are below 256, and are found without a hash.
#[derive(Debug)]
pub(crate) struct Names {
    low: Box<[Option<String>; 256]>,
    high: HashMap<u32, String>,
}

impl Names {
    pub(crate) fn get(&self, id: u32) -> Option<&str> {
        match self.low.get(id as usize) {
            Some(name) => name.as_deref(),
            None => self.high.get(&id).map(String::as_str),
        }
    }

    /// Appends the name of a number as a field of a JSON object, if there is one.
    pub(crate) fn write_field(&self, out: &mut Vec<u8>, key: &str, id: u32) {
        if let Some(known) = self.get(id) {
            json::name(out, key, known.as_bytes());
        }
    }

    /// The lowest number with this name.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let name = escaped(name.as_bytes());
        let mut low = (0..).zip(self.low.iter());
        let low = low.find_map(|(id, known)| (known.as_ref() == Some(&name)).then_some(id));
        let high = self.high.iter();
        low.or_else(|| {
            high.filter_map(|(&id, known)| (*known == name).then_some(id))
                .min()
        })
    }

    pub(super) fn insert(&mut self, id: u32, name: String) {
        match self.low.get_mut(id as usize) {
            Some(place) => *place = Some(name),
            None => _ = self.high.insert(id, name),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            low: Box::new([const { None }; 256]),
            high: HashMap::new(),
        }
    }
}

impl FromIterator<(u32, String)> for Names {
    fn from_iter<I: IntoIterator<Item = (u32, String)>>(pairs: I) -> Self {
        let mut names = Self::default();
        for (id, name) in pairs {
            names.insert(id, name);
        }
        names
    }
}
