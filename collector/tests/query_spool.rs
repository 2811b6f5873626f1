//! `nlringd query --follow-spool`: records that are in no file yet.

mod support;

use nlring_testing::{await_that, own_namespace};

use support::{Collector, found_count, make_flows, report_all_flows, scratch};

#[test]
fn flows_are_found_in_the_spool_before_a_file_has_them_and_once_afterwards() {
    own_namespace();
    report_all_flows();
    let directory = scratch("query-spool");
    let place = directory.display();
    let config = format!(
        "node = \"gw\"\nflush_interval = \"50ms\"\n[spool]\ndirectory = \"{place}/spool\"\n\
         [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1d\"\n"
    );
    let count = |source: &str| found_count(&directory, source);
    let collector = Collector::start(&directory, &config);
    collector.await_log("recording");
    make_flows(0, |number| number < 20);
    await_that("the last flow", || count("10.0.0.19:1024") == 1);
    assert_eq!(count("10.0.0.7:1024"), 1, "no file has it yet");
    // The end completes the file.
    collector.end();
    assert_eq!(count("10.0.0.7:1024"), 1, "the file has it");
    let collector = Collector::start(&directory, &config);
    await_that("the second start", || {
        collector.log().matches("recording").count() == 2
    });
    make_flows(20, |number| number < 40);
    await_that("the last flow", || count("10.0.0.39:1024") == 1);
    for source in ["10.0.0.7:1024", "10.0.0.33:1024"] {
        assert_eq!(
            count(source),
            1,
            "{source}: one is in the file, one in the spool"
        );
    }
    collector.end();
}
