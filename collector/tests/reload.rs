//! SIGHUP: what changes while nlringd runs, and what does not. Also the formats of the log.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use nlring_testing::{await_that, own_namespace};
use rustix::process::Signal;

use support::{Collector, Contents, NLRINGD, files, make_flows, report_all_flows, scratch};

/// A configuration with these lines before the tables, for the spool and for the output.
fn config(directory: &Path, lines: &str, spool: &str, output: &str) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\n{lines}\n[spool]\ndirectory = \"{place}/spool\"\n{spool}\n\
         [[files]]\nname = \"long\"\ndirectory = \"{place}/files\"\n{output}\n"
    )
}

/// Changes the configuration of a running nlringd.
fn reload(collector: &Collector, directory: &Path, config: &str) {
    fs::write(directory.join("nlringd.toml"), config).expect("a configuration");
    collector.signal(Signal::HUP);
}

#[test]
fn a_reload_changes_what_it_can_and_names_what_needs_a_restart() {
    own_namespace();
    report_all_flows();
    let directory = scratch("reload");
    // Before the reload, no record is written and no file is complete.
    let before = "flush_interval = \"30s\"\n[http]\naddress = \"off\"";
    let before = config(&directory, before, "", "rotate_interval = \"30d\"");
    let collector = Collector::start(&directory, &before);
    collector.await_log("recording");
    make_flows(0, |number| number < 500);
    let lines = "flush_interval = \"20ms\"\nrecords = \"both\"\nfilter = \"proto tcp\"";
    let output = "rotate_interval = \"100ms\"\nmax_bytes = \"20KiB\"\nformat = \"csv\"";
    let more = "\n[[files]]\nname = \"other\"\ndirectory = \"/\"\n";
    let after = config(&directory, lines, "segment = \"4KiB\"", output);
    reload(&collector, &directory, &(after + more));
    collector.await_log("the configuration is reloaded");
    let log = collector.log();
    for key in [
        "flush_interval",
        "spool.segment",
        "[[files]] \"long\" rotate_interval",
        "[[files]] \"long\" max_bytes",
    ] {
        assert!(
            log.contains(&format!("{key} has changed\n")),
            "{key}: {log}"
        );
    }
    for key in [
        "records",
        "filter",
        "http.address",
        "[[files]] \"long\" format",
        "[[files]] \"other\"",
    ] {
        let wanted = format!("{key} has changed, which needs a restart");
        assert!(log.contains(&wanted), "{key}: {log}");
    }
    assert!(!log.contains("node has changed"), "{log}");
    let parquet = || files(&directory.join("files"), ".parquet");
    await_that("a file is complete", || !parquet().is_empty());
    make_flows(500, |_| {
        !collector.log().contains("is removed: it is beyond")
    });
    collector.end();
}

#[test]
fn a_reload_with_an_error_changes_nothing() {
    own_namespace();
    report_all_flows();
    let directory = scratch("reload-error");
    let lines = "flush_interval = \"20ms\"";
    let right = config(&directory, lines, "", "rotate_interval = \"200ms\"");
    let collector = Collector::start(&directory, &right);
    collector.await_log("recording");
    let wrong = config(&directory, lines, "segmnt = \"1MiB\"", "");
    reload(&collector, &directory, &wrong);
    collector.await_log("nothing is reloaded, and nlringd goes on as before");
    collector.await_log("did you mean `segment`?");
    let wrong = config(&directory, "filter = \"dport\"", "", "");
    reload(&collector, &directory, &wrong);
    collector.await_log("filter: ");
    let made = make_flows(0, |number| number < 500);
    reload(&collector, &directory, &right);
    collector.await_log("the configuration is reloaded: nothing has changed");
    collector.end();
    let contents = Contents::read(&directory.join("files"));
    assert_eq!(contents.assert_accounts_for(&made), 0);
}

#[test]
fn the_log_is_json_if_that_is_wanted_and_its_level_can_be_changed() {
    own_namespace();
    let directory = scratch("log-json");
    let lines = |level: &str| format!("[log]\nformat = \"json\"\nlevel = \"{level}\"");
    let before = config(&directory, &lines("info"), "", "");
    let collector = Collector::start(&directory, &before);
    collector.await_log("recording");
    let line = |text: &str| {
        let log = collector.log();
        let line = log.lines().find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("{text} in {log}"));
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")
    };
    let first = line("recording");
    assert_eq!(first["level"], "INFO");
    assert!(
        first["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("recording as node gw")),
        "{first}"
    );
    let wrong = lines("info").replace("json", "xml");
    reload(&collector, &directory, &config(&directory, &wrong, "", ""));
    collector.await_log("nothing is reloaded");
    assert_eq!(line("nothing is reloaded")["level"], "ERROR");
    reload(
        &collector,
        &directory,
        &config(&directory, &lines("error"), "", ""),
    );
    collector.await_log("log.level has changed");
    // Lines that are only information are no longer logged.
    collector.end();
    let log = fs::read_to_string(directory.join("log")).expect("a log");
    assert!(!log.contains("stopping"), "{log}");
}

#[test]
fn in_the_journal_lines_have_a_priority_and_no_time() {
    own_namespace();
    let directory = scratch("log-journal");
    let log = File::create(directory.join("log")).expect("a log");
    let metadata = log.metadata().expect("metadata");
    let stream = format!("{}:{}", metadata.dev(), metadata.ino());
    let mut command = Command::new(NLRINGD);
    command.env("JOURNAL_STREAM", stream);
    let text = config(&directory, "", "", "");
    let collector = Collector::start_by(&mut command, &directory, &text);
    collector.await_log("<6>recording as node gw");
    collector.end();
}
