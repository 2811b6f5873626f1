//! nlringd is killed at random moments: no flow is lost without a record of the loss, and none is recorded twice.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nlring_testing::{Random, await_that, own_namespace};

use support::{Collector, Contents, files, make_flows, report_all_flows, scratch};

/// Kills nlringd this many times under load, and compares its files with the flows that were made.
fn kill(count: u32, seed: u64, settings: &str) {
    own_namespace();
    report_all_flows();
    let directory = scratch(&format!("kill-{count}-{seed}"));
    let place = directory.display();
    let config = format!(
        "node = \"gw\"\nflush_interval = \"50ms\"\n{settings}\n\
         [spool]\ndirectory = \"{place}/spool\"\nsegment = \"256KiB\"\n\
         [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1s\"\n"
    );
    // Nothing is known about the time before the first start.
    let collector = Collector::start(&directory, &config);
    collector.await_log("recording");
    let goes_on = Arc::new(AtomicBool::new(true));
    let load = thread::spawn({
        let goes_on = goes_on.clone();
        move || make_flows(0, |_| goes_on.load(Ordering::Relaxed))
    });
    let mut random = Random::new(seed);
    let mut running = Some(collector);
    for _ in 0..count {
        thread::sleep(Duration::from_millis(random.below(1000).into()));
        running.take().expect("it runs").kill();
        thread::sleep(Duration::from_millis(random.below(20).into()));
        running = Some(Collector::start(&directory, &config));
    }
    let collector = running.expect("it runs");
    let records = directory.join("records");
    let file_count = files(&records, ".parquet").len();
    await_that("a file of the last run", || {
        files(&records, ".parquet").len() > file_count
    });
    goes_on.store(false, Ordering::Relaxed);
    let made = load.join().expect("the load");
    collector.end();
    let contents = Contents::read(&records);
    let missing_count = contents.assert_accounts_for(&made);
    contents.assert_joined();
    let made_count = made.len();
    eprintln!("{made_count} flows, {missing_count} of them within losses");
    assert!(
        missing_count < made_count * 9 / 10,
        "most of the time nlringd ran"
    );
    std::fs::remove_dir_all(&directory).expect("it is removed");
}

#[test]
fn after_10_kills_each_flow_is_recorded_once_or_within_a_loss() {
    kill(10, 1, "");
}

#[test]
#[ignore = "takes 3 minutes"]
fn after_200_kills_each_flow_is_recorded_once_or_within_a_loss() {
    kill(200, 2, "");
}
