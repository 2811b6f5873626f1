//! On a terminal there is a status line, which never gets in the way.

mod common;
#[path = "common/terminal.rs"]
mod terminal;

use std::thread;
use std::time::Duration;

use common::{Run, await_that, make_routes, own_namespace};
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
fn a_status_line_tells_what_was_lost() {
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
    let screen = terminal.screen();
    assert_eq!(
        ended.stat("received") + ended.stat("dropped"),
        100,
        "{screen:#?}"
    );
}

#[test]
fn no_status_line_where_the_events_are() {
    own_namespace();
    let terminal = Terminal::open();
    let mut run = Run::new("route --output - --recv-buffer 64KiB");
    run.command.stdout(terminal.slave());
    let follower = run.start_with_errors(terminal.slave());
    make_routes(0..3);
    await_that("the events", || terminal.screen().len() > 3);
    thread::sleep(Duration::from_millis(1200)); // twice a status line's time
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

#[test]
fn no_status_line_without_a_terminal() {
    own_namespace();
    let ended = Run::new("route --duration 1200ms").run_to_end();
    ended.assert_good();
    assert!(
        !ended.errors.contains('\x1b') && !ended.errors.contains("in all"),
        "{}",
        ended.errors
    );
}
