//! How long flows were sampled, and at which ratios.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::summary::as_seconds;

/// How long each ratio below 1 was in use, the largest first. The times of several sockets add up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sampled(Vec<AtRatio>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct AtRatio {
    /// The number of flows of which one was kept.
    one_in: u32,
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    time: Duration,
}

impl Sampled {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a time in which one flow in this number was kept.
    pub fn add(&mut self, one_in: u32, time: Duration) {
        if one_in <= 1 {
            return;
        }
        match self.0.binary_search_by_key(&one_in, |at| at.one_in) {
            Ok(place) => self.0[place].time += time,
            Err(place) => self.0.insert(place, AtRatio { one_in, time }),
        }
    }

    pub fn add_all(&mut self, others: &Self) {
        for at in &others.0 {
            self.add(at.one_in, at.time);
        }
    }
}

/// `12.30 s (1 in 2: 3.10 s, 1 in 8: 9.20 s)`.
impl fmt::Display for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum: Duration = self.0.iter().map(|at| at.time).sum();
        write!(f, "{:.2} s (", sum.as_secs_f64())?;
        let mut separator = "";
        for AtRatio { one_in, time } in &self.0 {
            write!(f, "{separator}1 in {one_in}: {:.2} s", time.as_secs_f64())?;
            separator = ", ";
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn times_add_up_by_ratio() {
        let mut sampled = Sampled::default();
        sampled.add(1, Duration::from_secs(100));
        assert!(sampled.is_empty());
        sampled.add(8, Duration::from_secs(4));
        sampled.add(2, Duration::from_millis(500));
        let mut sum = Sampled::default();
        sum.add(8, Duration::from_secs(1));
        sum.add_all(&sampled);
        assert_eq!(sum.to_string(), "5.50 s (1 in 2: 0.50 s, 1 in 8: 5.00 s)");
        assert_eq!(
            to_value(&sum).unwrap(),
            json!([{"one_in": 2, "seconds": 0.5}, {"one_in": 8, "seconds": 5.0}])
        );
    }
}
