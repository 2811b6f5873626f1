//! --recv-buffer-max: a receive buffer that was too small grows, and the command reports it.

mod common;

use std::fs;

use common::{
    Ended, Events, Follower, Run, await_that, flush_flows, is_real_root, make_flows, make_routes,
    own_namespace, remove_routes, skip,
};

const KIB: u64 = 1 << 10;
const MOST_BYTES: u64 = 4 << 20;

/// The steps in which the buffer has grown: from and to how many bytes.
fn steps(errors: &str) -> Vec<(u64, u64)> {
    let lines = errors.lines();
    let steps = lines.filter_map(|line| {
        let step = line.strip_prefix("receive buffer: ")?;
        let (from, to) = step.strip_suffix(" after a loss")?.split_once(" -> ")?;
        Some((bytes(from), bytes(to)))
    });
    steps.collect()
}

fn bytes(size: &str) -> u64 {
    let (number, unit) = size.split_once(' ').expect("a number and its unit");
    let factor = match unit {
        "KiB" => KIB,
        "MiB" => KIB * KIB,
        other => panic!("{other}"),
    };
    number.parse::<u64>().expect("a whole number") * factor
}

/// Makes the command lose events until the condition holds: `count` entries come and go while the command is stopped.
fn lose_until(
    follower: &Follower,
    events: Events,
    count: u32,
    mut is_so: impl FnMut(&str) -> bool,
) {
    await_that("the receive buffer has grown", || {
        follower.freeze();
        match events {
            Events::Conntrack => {
                make_flows(0..count);
                flush_flows();
            }
            Events::Route => {
                make_routes(0..count);
                remove_routes(0..count);
            }
        }
        follower.thaw();
        is_so(&follower.errors())
    });
}

/// Asserts that each step doubles the buffer, except for the last one, and that the summary reports the last size.
#[track_caller]
fn assert_grown(ended: &Ended) -> u64 {
    ended.assert_good();
    assert!(ended.stat("dropped") > 0);
    assert_eq!(ended.stat("recv_buffer_requested_bytes"), 16 * KIB);
    let to = ended.stat("recv_buffer_granted_bytes");
    let sizes = std::iter::successors(Some(32 * KIB), |size| Some(2 * size));
    let due: Vec<_> = sizes
        .take_while(|size| *size < to)
        .map(|size| (size, (2 * size).min(to)))
        .collect();
    assert_eq!(steps(&ended.errors), due, "{}", ended.errors);
    to
}

fn has_reported_limit(errors: &str) -> bool {
    errors.contains("net.core.rmem_max")
}

/// The buffer grows to 4 MiB, which the kernel reports as 8 MiB, or as far as the host allows.
fn grow(command: &str, events: Events) {
    for backend in ["multishot", "oneshot", "recvmmsg"] {
        own_namespace();
        let follower = Follower::start(&format!(
            "{command} --recv-buffer 16KiB --recv-buffer-max 4MiB --backend {backend}"
        ));
        lose_until(&follower, events, 4_000, |errors| {
            let is_largest = |(_, to): &(u64, u64)| *to == 2 * MOST_BYTES;
            has_reported_limit(errors) || steps(errors).iter().any(is_largest)
        });
        let ended = follower.end();
        let to = assert_grown(&ended);
        assert_eq!(has_reported_limit(&ended.errors), to < 2 * MOST_BYTES);
        if is_real_root() {
            assert_eq!(to, 2 * MOST_BYTES, "{backend}");
        }
    }
}

#[test]
fn the_buffer_grows_in_a_flood_of_flows() {
    grow("conntrack", Events::Conntrack);
}

#[test]
fn the_buffer_grows_in_a_flood_of_routes() {
    grow("route", Events::Route);
}

#[test]
fn without_the_option_the_buffer_keeps_its_size() {
    own_namespace();
    let follower = Follower::start("conntrack --recv-buffer 16KiB");
    lose_until(&follower, Events::Conntrack, 4_000, |_| {
        let lines = follower.lines();
        lines.iter().any(|line| line.starts_with(" [LOST] "))
    });
    let ended = follower.end();
    ended.assert_good();
    assert_eq!(ended.stat("recv_buffer_granted_bytes"), 32 * KIB);
    assert_eq!(steps(&ended.errors), []);
}

#[test]
fn a_maximum_below_the_size_is_wrong_usage() {
    own_namespace();
    for command in ["conntrack", "route"] {
        let run = |sizes: &str| Run::new(&format!("{command} --duration 1ms {sizes}")).run_to_end();
        let ended = run("--recv-buffer 64KiB --recv-buffer-max 63KiB");
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        let reported = "--recv-buffer-max (63 KiB) is less than --recv-buffer (64 KiB)";
        assert!(ended.errors.contains(reported), "{}", ended.errors);
        // The default size counts too.
        assert_eq!(run("--recv-buffer-max 1MiB").code, Some(2));
        run("--recv-buffer 64KiB --recv-buffer-max 64KiB").assert_good();
    }
}

/// Without CAP_NET_ADMIN the buffer grows to the host's limit, which is reported once.
#[test]
fn a_limit_of_the_host_is_reported_once() {
    const NAME: &str = "a_limit_of_the_host_is_reported_once";
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse::<u32>().ok());
    let Some(limit) = limit.filter(|limit| *limit < 256 << 20) else {
        return skip(
            NAME,
            "net.core.rmem_max is not known, or more than events soon fill",
        );
    };
    own_namespace();
    let arguments = "route --recv-buffer 16KiB --recv-buffer-max 1GiB";
    let follower = Run::under("setpriv --bounding-set=-net_admin", arguments).start();
    // The kernel charges more than half a KiB for each.
    let count = limit.div_ceil(512);
    lose_until(&follower, Events::Route, count, has_reported_limit);
    let loss_count = || {
        let lines = follower.lines();
        let losses = lines.iter().filter(|line| line.starts_with(" [LOST] "));
        losses.count()
    };
    let before = loss_count();
    lose_until(&follower, Events::Route, count, |_| loss_count() > before);
    let ended = follower.end();
    assert_eq!(assert_grown(&ended), 2 * u64::from(limit));
    let reported = ended.errors.matches("raise net.core.rmem_max").count();
    assert_eq!(reported, 1, "{}", ended.errors);
    assert!(ended.errors.contains("1073741824"), "{}", ended.errors);
}
