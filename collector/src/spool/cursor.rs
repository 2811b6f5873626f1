//! How far an output has got, kept in a file beside the segments.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nlring::Timestamp;

use super::segment::Position;
use crate::failure::{Failure, Result};

/// How far an output has got: its receiver has everything before the position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub position: Position,
    /// The time of the last mark before the position.
    pub covered: Option<Timestamp>,
    pub tally: Tally,
}

/// What an output has sent before a position, for protocols that count this across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The records, modulo 2^32.
    pub sent: u32,
    /// How many events or records were missing, according to the losses among them.
    pub lost: u64,
}

/// The saved place of an output.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    saved: Option<Acknowledged>,
    /// Whether the file has the saved place.
    is_written: bool,
    /// The segment of the saved position: the spool keeps it and later ones.
    segment: Arc<AtomicU64>,
}

impl Cursor {
    /// Opens the cursor of an output.
    pub fn open(directory: &Path, output: &str) -> Result<Self> {
        let path = directory.join(format!("{output}.cursor"));
        let saved: Option<Acknowledged> = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|()| {
                Failure::Other(format!(
                    "{} has no position in the spool; remove it, and the output starts with everything that the spool has",
                    path.display()
                ))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::of_file("read", &path, &error)),
        };
        let segment = saved.map_or(0, |saved| saved.position.segment);
        Ok(Self {
            path,
            saved,
            is_written: true,
            segment: Arc::new(AtomicU64::new(segment)),
        })
    }

    pub fn saved(&self) -> Option<Acknowledged> {
        self.saved
    }

    /// The segment of the saved position, as it changes.
    pub fn segment(&self) -> Arc<AtomicU64> {
        self.segment.clone()
    }

    /// Saves a place. After a SIGKILL the file has either this place or the one before.
    ///
    /// If the file cannot be written, the place is saved in memory: the spool may then remove segments, which makes room
    /// for the file.
    pub fn save(&mut self, place: Acknowledged) -> Result<()> {
        if self.saved == Some(place) && self.is_written {
            return Ok(());
        }
        self.saved = Some(place);
        self.segment
            .store(place.position.segment, Ordering::Release);
        self.is_written = false;
        let temporary = self.path.with_extension("cursor.new");
        let written = fs::write(&temporary, format!("{place}\n"))
            .and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|error| Failure::of_file("write", &self.path, &error))?;
        self.saved = Some(place);
        self.segment
            .store(place.position.segment, Ordering::Release);
        Ok(())
    }
}

/// The words are the position, the nanosecond of the mark (`-`: none), and the tally if there is one.
impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            covered,
            tally,
        } = self;
        match covered {
            Some(covered) => write!(f, "{position} {}", covered.as_ns())?,
            None => write!(f, "{position} -")?,
        }
        if *tally != Tally::default() {
            write!(f, " {} {}", tally.sent, tally.lost)?;
        }
        Ok(())
    }
}

impl FromStr for Acknowledged {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let position = words.next().ok_or(())?.parse()?;
        let covered = words.next().filter(|word| *word != "-");
        let covered = covered.map(|ns| ns.parse().map(Timestamp::from_ns));
        let tally = match (words.next(), words.next()) {
            (Some(sent), Some(lost)) => Tally {
                sent: sent.parse().map_err(drop)?,
                lost: lost.parse().map_err(drop)?,
            },
            _ => Tally::default(),
        };
        Ok(Self {
            position,
            covered: covered.transpose().map_err(drop)?,
            tally,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_was_written() {
        let position = "7-3".parse().expect("a position");
        for covered in [None, Some(Timestamp::from_ns(5))] {
            for (sent, lost) in [(0, 0), (u32::MAX, 0), (0, u64::MAX)] {
                let place = Acknowledged {
                    position,
                    covered,
                    tally: Tally { sent, lost },
                };
                assert_eq!(place.to_string().parse(), Ok(place));
            }
        }
        assert!("7-3 5".parse::<Acknowledged>().is_ok());
        assert!("7-3 5 x y".parse::<Acknowledged>().is_err());
    }
}
