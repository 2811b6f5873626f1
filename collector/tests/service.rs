//! nlringd as a service of systemd: what it tells the manager.

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nlring_testing::{await_that, own_namespace, skip};

use rustix::process::{Pid, Signal, kill_process};

use support::{Collector, Contents, NLRINGD, make_flows, report_all_flows, scratch};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(directory: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.join("notify")).expect("a socket");
        let timeout = Some(Duration::from_secs(60));
        socket.set_read_timeout(timeout).expect("a timeout");
        Self(socket)
    }

    /// The next message.
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for a message that has this, and checks that until then the watchdog hears from nlringd in time.
    #[track_caller]
    fn await_that(&self, wanted: &str, watchdog: Duration) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut told = Instant::now();
        loop {
            let message = self.next();
            if message.contains("WATCHDOG=1") {
                told = Instant::now();
            }
            assert!(
                told.elapsed() < watchdog,
                "the watchdog hears from nlringd in time"
            );
            if message.contains(wanted) {
                return message;
            }
            assert!(Instant::now() < deadline, "{wanted}");
        }
    }
}

#[test]
fn a_reload_is_reported_with_its_begin_and_its_end() {
    own_namespace();
    let directory = scratch("reload-service");
    let manager = Manager::listen(&directory);
    let place = directory.display();
    let config = format!(
        "[spool]\ndirectory = \"{place}/spool\"\n[[files]]\ndirectory = \"{place}/files\"\n"
    );
    let mut command = Command::new(NLRINGD);
    command.env("NOTIFY_SOCKET", directory.join("notify"));
    let collector = Collector::start_by(&mut command, &directory, &config);
    assert_eq!(manager.next(), "READY=1\n");
    collector.signal(Signal::HUP);
    let message = manager.next();
    let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let time = time.and_then(|time| time.trim().parse::<u64>().ok());
    assert!(time.is_some_and(|time| time > 0), "{message}");
    assert_eq!(manager.next(), "READY=1\n");
    collector.end();
}

#[test]
fn a_worker_of_store_reports_its_begin_and_its_end() {
    own_namespace();
    let directory = scratch("store-service");
    let manager = Manager::listen(&directory);
    let mut worker = Command::new(NLRINGD)
        .arg("store")
        .current_dir(&directory)
        .env("NOTIFY_SOCKET", directory.join("notify"))
        .stderr(Stdio::null())
        .spawn()
        .expect("nlringd starts");
    assert_eq!(manager.next(), "READY=1\n", "before there is any server");
    kill_process(Pid::from_child(&worker), Signal::TERM).expect("a signal");
    assert_eq!(manager.next(), "STOPPING=1\n");
    assert!(worker.wait().expect("its end").success());
}

#[test]
fn a_disk_that_does_not_answer_is_reported_and_no_reason_to_be_killed() {
    own_namespace();
    report_all_flows();
    let traced = Command::new("strace").args(["-D", "-f", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        return skip("silent disk", "no strace, or it may not trace here");
    }
    let directory = scratch("silent-disk");
    let manager = Manager::listen(&directory);
    let place = directory.display();
    let config = format!(
        "node = \"gw\"\nflush_interval = \"20ms\"\n\
         [spool]\ndirectory = \"{place}/spool\"\nsync = \"500ms\"\n\
         [[files]]\ndirectory = \"{place}/files\"\nrotate_interval = \"1s\"\n"
    );
    let watchdog = Duration::from_secs(5);
    // One sync takes 20 s.
    let inject = "inject=fdatasync:delay_enter=20000000:when=3";
    let mut command = Command::new("strace");
    command
        .args([
            "-D",
            "-f",
            "-qq",
            "-e",
            "trace=fdatasync",
            "-e",
            inject,
            "-o",
        ])
        .args(["/dev/null", NLRINGD])
        .env("NOTIFY_SOCKET", directory.join("notify"))
        .env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    let collector = Collector::start_by(&mut command, &directory, &config);
    manager.await_that("READY=1", Duration::from_secs(60));
    let mut made = make_flows(0, |number| number < 500);
    let status = manager.await_that("STATUS=", watchdog);
    assert!(status.contains("has not answered for 1"), "{status}");
    collector.await_log("has not answered for 1");
    // Records are written and read meanwhile.
    made.extend(make_flows(500, |number| number < 600));
    await_that("records are in files before the sync ends", || {
        Contents::read(&directory.join("files")).missing_count(&made) == 0
    });
    assert!(!collector.log().contains("its disk is too slow"));
    manager.await_that("STATUS=\n", watchdog);
    collector.await_log("its disk is too slow");
    made.extend(make_flows(600, |number| number < 1000));
    collector.end();
    let contents = Contents::read(&directory.join("files"));
    assert_eq!(contents.assert_accounts_for(&made), 0);
}
