//! The programs of a run, and the CPU time that they take.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nlring_testing::{await_that, enter_namespace, process_cpu_time};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::network::Host;
use super::support::{NLRINGD, nats};

/// Between two questions, whose answers take CPU time.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A program. Dropped, it is killed.
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts it. Its log is this file.
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).expect("a log");
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log).spawn().expect("a program");
        Self { child }
    }

    pub fn cpu_time(&self) -> Duration {
        process_cpu_time(self.child.id())
    }

    /// The most memory that it has had, in MiB.
    pub fn most_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number") / 1024
    }

    /// The CPU time of its threads by their names.
    fn cpu_by_thread(&self) -> BTreeMap<String, Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let mut times = BTreeMap::new();
        for task in tasks.expect("threads") {
            let task = task.expect("a thread").path();
            let name = fs::read_to_string(task.join("comm")).expect("a name");
            let figures = fs::read_to_string(task.join("schedstat")).expect("figures");
            let ns = figures.split(' ').next().and_then(|ns| ns.parse().ok());
            let time = times.entry(name.trim().to_owned()).or_default();
            *time += Duration::from_nanos(ns.expect("a number"));
        }
        times
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// Ends it by SIGTERM. Returns all CPU time that it has taken.
    pub fn end(mut self) -> Duration {
        self.signal(Signal::TERM);
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let id = WaitId::Pid(Pid::from_child(&self.child));
        await_that("it has ended", || {
            waitid(id.clone(), ended).expect("a status").is_some()
        });
        let time = self.cpu_time();
        assert!(self.child.wait().expect("a status").success());
        time
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts servers in the hub, one alone or a cluster. They listen for clients from port 4222 on.
pub fn start_servers(directory: &Path, count: u16) -> Vec<Program> {
    let routes = (0..count).map(|number| format!("nats://127.0.0.1:{}", 6222 + number));
    let routes = routes.collect::<Vec<_>>().join(", ");
    let start = |number: u16| {
        let place = directory.join(format!("server{number}"));
        let cluster = if count > 1 {
            let listen = 6222 + number;
            format!("cluster {{ name: scale, listen: \"127.0.0.1:{listen}\", routes: [{routes}] }}")
        } else {
            String::new()
        };
        let text = format!(
            "server_name: server{number}\nlisten: \"0.0.0.0:{}\"\njetstream {{ store_dir: \"{}\" }}\n{cluster}\n",
            4222 + number,
            place.display()
        );
        let path = directory.join(format!("server{number}.conf"));
        fs::write(&path, text).expect("a configuration");
        let mut command = Command::new(nats::program());
        let log = directory.join(format!("server{number}.log"));
        Program::start(command.arg("-c").arg(&path), &log)
    };
    (0..count).map(start).collect()
}

/// The addresses of the servers, for a configuration in this host.
fn addresses(host: &Host, server_count: u16) -> String {
    let addresses =
        (0..server_count).map(|server| format!("nats://{}:{}", host.hub(), 4222 + server));
    format!("{:?}", addresses.collect::<Vec<_>>())
}

/// nlringd in a host.
pub struct Gateway<'a> {
    pub program: Program,
    host: &'a Host,
}

impl<'a> Gateway<'a> {
    pub fn start(host: &'a Host, directory: &Path, server_count: u16) -> Self {
        let name = &host.name;
        let place = directory.join(name);
        fs::create_dir(&place).expect("a directory");
        let config = format!(
            "node = \"{name}\"\n[spool]\ndirectory = \"{}/spool\"\nsegment = \"1GiB\"\n\
             [[nats]]\n[nats.servers]\naddresses = {}\n[nats.stream]\nreplicas = {server_count}\n",
            place.display(),
            addresses(host, server_count),
        );
        let path = place.join("nlringd.toml");
        fs::write(&path, config).expect("a configuration");
        let mut command = host.command(NLRINGD);
        command.args(["run", "--config"]).arg(&path);
        let program = Program::start(&mut command, &place.join("log"));
        Self { program, host }
    }

    /// The CPU time of what receives, what writes the spool, and what publishes.
    pub fn cpu_by_part(&self) -> [Duration; 3] {
        let mut times = self.program.cpu_by_thread();
        let [spool, output, _] = ["spool", "output", "http"].map(|name| times.remove(name));
        let rest = times.into_values().sum();
        [rest, spool.unwrap_or_default(), output.unwrap_or_default()]
    }

    /// Until when the stream has all records, in seconds since 1970. `None`: nlringd does not know yet.
    pub fn complete_until(&self) -> Option<f64> {
        thread::sleep(PAUSE);
        let answer = thread::scope(|scope| scope.spawn(|| ask(&self.host.name)).join());
        let answer = answer.expect("no panic").ok()?;
        let series = "nlringd_output_complete_timestamp_seconds{output=\"nats\"} ";
        let mut lines = answer.lines();
        let value = lines.find_map(|line| line.strip_prefix(series))?;
        value.parse().ok()
    }
}

/// Asks nlringd in a host for its metrics. This does not go over the cable.
fn ask(host: &str) -> std::io::Result<String> {
    enter_namespace(host);
    let mut stream = TcpStream::connect("127.0.0.1:9847")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Starts a worker in a host. It completes its files when it ends.
pub fn start_worker(host: &Host, directory: &Path, server_count: u16) -> Program {
    let config = format!(
        "directory = \"{}/store\"\nrotate_interval = \"1h\"\n[servers]\naddresses = {}\n",
        directory.display(),
        addresses(host, server_count)
    );
    let path = directory.join("store.toml");
    fs::write(&path, config).expect("a configuration");
    let mut command = host.command(NLRINGD);
    command.args(["store", "--config"]).arg(&path);
    Program::start(&mut command, &directory.join("store.log"))
}
