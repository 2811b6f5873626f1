//! On a terminal there is a status line, which never disturbs other output.

mod common;
#[path = "common/terminal.rs"]
mod terminal;

use std::fs::OpenOptions;
use std::thread;
use std::time::Duration;

use common::{Directory, Follower, Run, await_that, make_routes, own_namespace, remove_routes};
use terminal::Terminal;

#[test]
fn a_status_line_is_shown_and_erased() {
    own_namespace();
    let terminal = Terminal::open();
    let run = Run::new("route --recv-buffer 64KiB");
    let follower = run.start_with_errors(terminal.slave());
    make_routes(0..5);
    await_that("a status line", || {
        let screen = terminal.screen();
        screen.len() == 1 && screen[0].ends_with(" events/s, 5 in all, 0 lost")
    });
    make_routes(5..12);
    await_that("it is kept current, on the same line", || {
        let screen = terminal.screen();
        screen.len() == 1 && screen[0].ends_with(" events/s, 12 in all, 0 lost")
    });
    let ended = follower.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.event_count(), 12);
    await_that("a summary", || terminal.text().contains("receive buffer: "));
    let text = terminal.text();
    let after_status = text.rsplit(" lost\r").next().unwrap_or_default();
    assert!(
        after_status.trim_start_matches('\r').starts_with("\x1b[K"),
        "erased first: {text:?}"
    );
    let screen = terminal.screen();
    assert!(
        screen[0].starts_with("events: 12 in "),
        "the status line is erased: {screen:#?}"
    );
    let rest = screen.iter().filter(|line| line.contains("in all"));
    assert_eq!(rest.count(), 0, "{screen:#?}");
    assert!(screen.contains(&"lost: 0".to_owned()), "{screen:#?}");
}

#[test]
fn a_status_line_reports_what_was_lost() {
    own_namespace();
    let terminal = Terminal::open();
    let follower = Run::new("route --recv-buffer 1").start_with_errors(terminal.slave());
    follower.freeze();
    make_routes(0..100);
    follower.thaw();
    await_that("the losses", || {
        let screen = terminal.screen();
        let numbers = screen.last().and_then(|line| line.strip_suffix(" lost"));
        let lost = numbers.and_then(|numbers| numbers.rsplit(' ').next()?.parse::<u64>().ok());
        lost.is_some_and(|lost| lost > 0)
    });
    let ended = follower.end();
    assert_eq!(
        reported_losses(&terminal.text()),
        0,
        "the status line has them"
    );
    let screen = terminal.screen();
    assert_eq!(
        ended.stat("received") + ended.stat("dropped"),
        100,
        "{screen:#?}"
    );
}

#[test]
fn the_terminal_of_the_events_has_no_status_line() {
    own_namespace();
    let terminal = Terminal::open();
    let mut run = Run::new("route --output - --recv-buffer 64KiB");
    run.command.stdout(terminal.slave());
    let follower = run.start_with_errors(terminal.slave());
    make_routes(0..3);
    await_that("the events", || terminal.screen().len() > 3);
    thread::sleep(Duration::from_millis(1200)); // twice the interval of a status line
    make_routes(3..4);
    await_that("one more", || terminal.screen().len() > 4);
    let ended = follower.end();
    assert_eq!(ended.code, Some(0));
    await_that("a summary", || terminal.text().contains("receive buffer: "));
    assert!(!terminal.text().contains('\x1b'), "{:?}", terminal.text());
    let screen = terminal.screen();
    for (number, line) in screen[..4].iter().enumerate() {
        assert_eq!(
            *line,
            format!("10.0.0.{number} dev lo proto static scope link ")
        );
    }
    assert!(screen[4].starts_with("events: 4 in "), "{screen:#?}");
    assert!(
        screen.iter().all(|line| !line.contains("in all")),
        "{screen:#?}"
    );
}

/// Lines of losses on standard error.
fn reported_losses(errors: &str) -> usize {
    let is_report =
        |line: &&str| line.starts_with("nlring: warning: ") && line.contains("lost datagrams: ");
    errors.lines().filter(is_report).count()
}

/// Makes the follower lose events until it has reported `times` losses in the stream.
fn lose(follower: &Follower, times: usize, stream: impl Fn() -> String) {
    for time in 1..=times {
        follower.freeze();
        make_routes(0..100);
        follower.thaw();
        await_that("a line of a loss", || {
            stream().matches(" [LOST] ").count() >= time
        });
        remove_routes(0..100);
    }
}

#[test]
fn a_log_has_the_first_loss_at_once_and_not_every_loss() {
    own_namespace();
    let follower = Run::new("route --recv-buffer 1").start();
    lose(&follower, 1, || follower.lines().join("\n"));
    await_that("a report", || reported_losses(&follower.errors()) == 1);
    lose(&follower, 5, || follower.lines().join("\n"));
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(reported_losses(&ended.errors), 1, "{}", ended.errors);
}

/// Events and log are one file, which has the lines of losses anyway.
#[test]
fn a_log_with_the_events_in_it_has_each_loss_once() {
    own_namespace();
    let mut run = Run::new("route --output - --recv-buffer 1");
    let directory = Directory::new();
    let file = directory.file("log");
    let log = || {
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .open(&file)
            .expect("a file")
    };
    run.command.stdout(log());
    let follower = run.start_with_errors(log());
    let text = || std::fs::read_to_string(&file).expect("the log");
    lose(&follower, 3, text);
    assert_eq!(follower.end().code, Some(0));
    assert_eq!(reported_losses(&text()), 0, "{}", text());
}

#[test]
fn without_a_terminal_there_is_no_status_line() {
    own_namespace();
    let ended = Run::new("route --duration 1200ms").run_to_end();
    ended.assert_good();
    assert!(
        !ended.errors.contains('\x1b') && !ended.errors.contains("in all"),
        "{}",
        ended.errors
    );
}
