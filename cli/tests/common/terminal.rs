//! A terminal for one test.
#![allow(dead_code)] // each test binary uses a part

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal that keeps every byte written to it.
pub struct Terminal {
    /// The side that programs write to.
    slave: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub fn open() -> Self {
        Self::with_columns(200)
    }

    /// A terminal with this many columns.
    pub fn with_columns(columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("its permissions");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new())
            .expect("its name")
            .into_string()
            .expect("UTF-8");
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("its size");
        let noctty = i32::try_from(OpenptFlags::NOCTTY.bits()).expect("a flag");
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(noctty)
            .open(name)
            .expect("its other side");
        let seen = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let (seen, mut master) = (Arc::clone(&seen), File::from(master));
            move || {
                let mut bytes = [0; 4096];
                // An error means that no program has the terminal open.
                while let Ok(count @ 1..) = master.read(&mut bytes) {
                    seen.lock()
                        .expect("its bytes")
                        .extend_from_slice(&bytes[..count]);
                }
            }
        });
        Self { slave, seen }
    }

    pub fn slave(&self) -> File {
        self.slave.try_clone().expect("a descriptor")
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.seen.lock().expect("its bytes").clone()).expect("UTF-8")
    }

    /// The lines that a person sees: a carriage return goes to the start of a line, and ESC [ K erases to its end.
    pub fn screen(&self) -> Vec<String> {
        let mut lines = vec![Vec::new()];
        let mut column = 0;
        let text = self.text();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let line = lines.last_mut().expect("a line");
            match character {
                '\n' => lines.push(Vec::new()),
                '\r' => column = 0,
                '\x1b' => {
                    assert_eq!(
                        (characters.next(), characters.next()),
                        (Some('['), Some('K'))
                    );
                    line.truncate(column);
                }
                character => {
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = character;
                    column += 1;
                }
            }
        }
        lines.iter().map(|line| line.iter().collect()).collect()
    }
}
