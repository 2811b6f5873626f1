//! The rate limit on simulated traces: rates over time, of which the kept flows are delivered.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the numbers are small"
)]

use std::time::{Duration, Instant};

use super::{Decision, LONGEST_PATIENCE, PATIENCE, RateLimit};
use crate::mirror::Random;

const MAX_RATE: u32 = 1000;
/// How often the simulated engine takes a turn.
const TURN: Duration = Duration::from_millis(2);
const TURNS_PER_SECOND: usize = 500;
/// A flow has a NEW and a DESTROY event.
const EVENTS_PER_FLOW: u64 = 2;

/// What became of a trace.
struct Run {
    /// The events that were delivered in each turn.
    delivered: Vec<u64>,
    /// Each decision, and the second in which it was made.
    decisions: Vec<(f64, Decision)>,
}

/// Runs the limit for this many seconds of a trace, which has the rate of all events at each second.
fn run(max_rate: u32, seconds: u32, trace: impl Fn(f64) -> f64) -> Run {
    let start = Instant::now();
    let mut limit = RateLimit::new(max_rate, start);
    let mut random = Random::new(7);
    let mut run = Run {
        delivered: Vec::new(),
        decisions: Vec::new(),
    };
    let mut owed_flows = 0.0;
    for turn in 0..TURNS_PER_SECOND as u32 * seconds {
        let at = f64::from(turn) / TURNS_PER_SECOND as f64;
        owed_flows += trace(at) / TURNS_PER_SECOND as f64 / EVENTS_PER_FLOW as f64;
        let mut delivered = 0;
        while owed_flows >= 1.0 {
            owed_flows -= 1.0;
            if random.below(limit.ratio().one_in()) == 0 {
                delivered += EVENTS_PER_FLOW;
            }
        }
        run.delivered.push(delivered);
        limit.note(delivered);
        let now = start + (turn + 1) * TURN;
        if let Some(decision) = limit.decide(now) {
            assert_ne!(decision.ratio, limit.ratio());
            run.decisions.push((at, decision));
            limit.begin(decision.ratio, now);
        }
    }
    run
}

impl Run {
    /// The most events in a second that lies between these two, at any turn.
    fn busiest_second(&self, from: f64, to: f64) -> u64 {
        let turn = |second: f64| (second * TURNS_PER_SECOND as f64) as usize;
        let seconds = self.delivered[turn(from)..turn(to)].windows(TURNS_PER_SECOND);
        let counts = seconds.map(|turns| turns.iter().sum());
        counts.max().expect("a second")
    }

    #[track_caller]
    fn assert_within_limit(&self, from: f64, to: f64) {
        let busiest = self.busiest_second(from, to);
        assert!(busiest <= u64::from(MAX_RATE) * 5 / 4, "{busiest}");
    }

    fn ratios(&self) -> Vec<u32> {
        let decisions = self.decisions.iter();
        let ratios = decisions.map(|(_, decision)| decision.ratio.one_in());
        ratios.collect()
    }

    /// When sampling ended for the last time.
    fn ended_at(&self) -> f64 {
        let &(at, decision) = self.decisions.last().expect("sampling began");
        assert!(decision.ratio.is_all(), "{decision:?}");
        at
    }
}

/// The limit times this.
fn rate(factor: f64) -> f64 {
    f64::from(MAX_RATE) * factor
}

#[test]
fn a_rate_below_the_limit_is_never_sampled() {
    for factor in [0.0, 0.01, 0.5, 0.99] {
        assert_eq!(run(MAX_RATE, 60, |_| rate(factor)).ratios(), [0; 0]);
    }
    // Nearly a second's events at once, every second.
    let bursts = run(MAX_RATE, 60, |at| {
        if at.fract() < 0.009 { rate(95.0) } else { 0.0 }
    });
    assert_eq!(bursts.ratios(), [0; 0]);
}

#[test]
fn a_constant_rate_above_the_limit_is_sampled_once_and_for_all() {
    for (factor, one_in) in [(1.2, 2), (3.0, 4), (10.0, 16)] {
        let run = run(MAX_RATE, 60, |_| rate(factor));
        assert_eq!(run.ratios(), [one_in], "{factor}");
        run.assert_within_limit(1.0, 60.0);
        let (_, decision) = run.decisions[0];
        let error = decision.rate as f64 / rate(factor);
        assert!((0.8..1.25).contains(&error), "{decision:?}");
    }
}

/// A hundred times the limit comes within a tenth of a second, which is not long enough to measure that.
#[test]
fn a_flood_needs_two_steps() {
    let run = run(MAX_RATE, 60, |_| rate(100.0));
    assert_eq!(run.ratios(), [16, 128]);
    run.assert_within_limit(1.0, 60.0);
}

#[test]
fn a_rate_that_rises_and_falls_slowly_is_followed() {
    let run = run(MAX_RATE, 120, |at| {
        rate(20.0 * (1.0 - (at / 40.0 - 1.0).abs()).max(0.0))
    });
    run.assert_within_limit(0.0, 120.0);
    let ratios = run.ratios();
    let rise = ratios
        .iter()
        .position(|&one_in| one_in == 32)
        .expect("at the peak");
    assert!(ratios[..rise].is_sorted(), "{ratios:?}");
    assert!(ratios[rise..].iter().rev().is_sorted(), "{ratios:?}");
    let ended_at = run.ended_at();
    assert!((78.0..90.0).contains(&ended_at), "{ended_at}"); // the rate is half of the limit at 79 s
}

#[test]
fn sampling_ends_soon_after_a_burst() {
    for peak in [4.0, 10.0, 100.0] {
        for rest in [0.0, 0.1, 0.5] {
            let run = run(MAX_RATE, 40, |at| {
                rate(if (5.0..5.5).contains(&at) { peak } else { rest })
            });
            run.assert_within_limit(6.0, 40.0);
            let ended_at = run.ended_at();
            assert!(ended_at < 5.5 + 20.0, "{peak} and {rest}: {ended_at}");
            assert!(run.decisions.len() <= 5, "{:?}", run.decisions);
        }
    }
}

#[test]
fn a_square_wave_is_sampled_less_and_less_hastily() {
    for half in [0.3, 2.0, 10.0, 20.0, 45.0] {
        let is_high = |at: f64| ((at / half) as u64).is_multiple_of(2);
        let run = run(MAX_RATE, 600, |at| {
            rate(if is_high(at) { 10.0 } else { 0.1 })
        });
        let mut high = 0.0;
        while high < 600.0 {
            let low = (high + half).min(600.0);
            if low - high >= 2.0 {
                run.assert_within_limit(high + 1.0, low);
            }
            high += 2.0 * half;
        }
        let count = run.decisions.len();
        assert!(count <= 36, "{half}: {:?}", run.decisions);
    }
}

#[test]
fn a_rate_that_swings_around_the_limit_does_not_make_it_flap() {
    for (swing, period) in [
        (0.05, 1.0),
        (0.2, 3.0),
        (0.2, 10.0),
        (0.5, 10.0),
        (0.9, 30.0),
    ] {
        let run = run(MAX_RATE, 600, |at| {
            rate(1.0 + swing * (at * std::f64::consts::TAU / period).sin())
        });
        run.assert_within_limit(0.0, 600.0);
        let count = run.decisions.len();
        assert!(count <= 24, "{swing} in {period} s: {:?}", run.decisions);
    }
}

#[test]
fn small_and_large_limits_hold_too() {
    for (max_rate, most_seconds) in [(10, 30.0), (100, 20.0), (50_000, 7.5)] {
        let limit = f64::from(max_rate);
        let run = run(max_rate, 60, |at| {
            limit * if at < 20.0 { 20.0 } else { 0.1 }
        });
        let busiest = run.busiest_second(1.0, 60.0);
        assert!(
            busiest <= u64::from(max_rate) * 5 / 4,
            "{max_rate}: {busiest}"
        );
        let ended_at = run.ended_at();
        assert!(ended_at < 20.0 + most_seconds, "{max_rate}: {ended_at}");
    }
}

#[test]
fn changes_have_their_distance() {
    // It grows 30 times in the first second, so the first ratio is not small enough.
    let run = run(MAX_RATE, 30, |at| rate((30.0_f64).powf(at.min(1.0) * 2.0)));
    for pair in run.decisions.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 0.25, "{:?}", run.decisions);
    }
    run.assert_within_limit(2.0, 30.0);
}

#[test]
fn a_limit_without_events_wakes_up_rarely_and_not_in_the_past() {
    let start = Instant::now();
    let mut limit = RateLimit::new(MAX_RATE, start);
    assert_eq!(limit.due(), None);
    limit.note(1_000_000);
    let decision = limit.decide(start).expect("lowered");
    limit.begin(decision.ratio, start);
    let (mut now, mut wake_count) = (start, 0);
    while let Some(due) = limit.due() {
        assert!(due > now);
        (now, wake_count) = (due, wake_count + 1);
        if let Some(decision) = limit.decide(now) {
            limit.begin(decision.ratio, now);
        }
    }
    assert!(wake_count <= 3, "{wake_count}");
    assert!(now < start + 3 * PATIENCE && LONGEST_PATIENCE > PATIENCE);
}
