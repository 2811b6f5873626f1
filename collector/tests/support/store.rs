//! A worker of `nlringd store`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use super::NLRINGD;

pub struct Worker(Child);

impl Worker {
    /// Starts a worker that stores below `store` of this directory. `lines` begin its configuration.
    pub fn start(directory: &Path, lines: &str) -> Self {
        let place = directory.display();
        let path = directory.join("store.toml");
        let config = format!("directory = \"{place}/store\"\n{lines}\n");
        fs::write(&path, config).expect("a configuration");
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(directory.join("store.log"));
        let child = Command::new(NLRINGD)
            .args(["store", "--config"])
            .arg(&path)
            .stderr(log.expect("a log"))
            .spawn();
        Self(child.expect("nlringd starts"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("a signal");
    }
}

/// Kills it by SIGKILL.
impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU time of a process, in seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let behind_name = stat.rsplit(')').next().expect("fields");
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}
