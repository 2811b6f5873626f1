//! Values that several commands' options take, and their parsers. Sizes and times are in [`units`](crate::units).

use std::ops::RangeInclusive;
use std::time::Duration;

use nlring::conntrack::Sampler;
use nlring::{Backend, Wait};

use crate::units::{parse_rate, parse_size, parse_time};

/// The sizes that a datagram of `usersock` can have.
pub const DATAGRAM_BYTES: RangeInclusive<usize> = 32..=32 << 10;

/// How often a mirror compares itself with the kernel's table even if nothing has been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditInterval {
    /// The mirror's own choice, which takes at most 1 % of the time.
    Auto,
    Every(Duration),
    Off,
}

impl AuditInterval {
    /// The interval of each of `count` mirrors as the library takes it. None: the mirror chooses. A single one takes at
    /// most 1 % of the time; many take turns, one every 15 s.
    pub fn to_option(self, count: usize) -> Option<Duration> {
        const TURN: Duration = Duration::from_secs(15);
        match self {
            Self::Auto if count > 1 => {
                Some(TURN.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)))
            }
            Self::Auto => None,
            Self::Every(interval) => Some(interval),
            Self::Off => Some(Duration::MAX),
        }
    }
}

pub fn parse_audit_interval(text: &str) -> Result<AuditInterval, String> {
    match text {
        "auto" => Ok(AuditInterval::Auto),
        "off" => Ok(AuditInterval::Off),
        _ => parse_time(text)
            .map(AuditInterval::Every)
            .map_err(|reason| format!("give auto, off or a TIME: {reason}")),
    }
}

pub fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give a whole number of events, from 1".to_owned()),
    }
}

pub fn parse_events(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!(
            "give a whole number of events, from 1 to {}",
            u32::MAX
        )),
    }
}

pub fn parse_max_rate(text: &str) -> Result<u32, String> {
    let rate = parse_rate(text)?;
    let least = Sampler::LEAST_RATE;
    if rate < least {
        return Err(format!(
            "give at least {least} events per second, because fewer are no rate to measure"
        ));
    }
    Ok(rate)
}

pub fn parse_cpu(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "give the number of a CPU, from 0; lscpu -e lists them".to_owned())
}

pub fn parse_datagram_size(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text)?;
    let possible = DATAGRAM_BYTES;
    if possible.contains(&bytes) && bytes.is_multiple_of(4) {
        return Ok(bytes);
    }
    let (least, most) = possible.into_inner();
    Err(format!(
        "give from {least} to {most} bytes, a multiple of 4, which is netlink's alignment"
    ))
}

pub fn parse_backend(text: &str) -> Result<Backend, String> {
    let (default, most) = (Backend::DEFAULT_DEPTH, Backend::MAX_DEPTH);
    match text.split_once(':') {
        None => match text {
            "auto" => Ok(Backend::Auto),
            "multishot" => Ok(Backend::Multishot),
            "oneshot" => Ok(Backend::Oneshot { depth: default }),
            "recvmmsg" => Ok(Backend::Recvmmsg),
            _ => Err("give auto, multishot, oneshot, oneshot:DEPTH or recvmmsg".to_owned()),
        },
        Some(("oneshot", depth)) => match depth.parse() {
            Ok(depth) if (1..=most).contains(&depth) => Ok(Backend::Oneshot { depth }),
            _ => Err(format!(
                "give a DEPTH from 1 to {most}, such as oneshot:{default}"
            )),
        },
        Some(_) => Err(format!(
            "only oneshot takes a DEPTH, such as oneshot:{default}"
        )),
    }
}

pub fn parse_wait(text: &str) -> Result<Wait, String> {
    match text.split_once(':') {
        None => match text {
            "auto" => Ok(Wait::Auto),
            "prompt" => Ok(Wait::Prompt),
            "spin" => Ok(Wait::Spin),
            "batch" => Err("batch needs its delay, such as batch:1ms".to_owned()),
            _ => Err("give auto, prompt, batch:DELAY or spin, such as batch:1ms".to_owned()),
        },
        Some(("batch", delay)) => parse_time(delay).map(Wait::Batch),
        Some(_) => Err("only batch takes a DELAY, such as batch:1ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_interval_is_auto_off_or_a_time() {
        let parse = parse_audit_interval;
        assert_eq!(parse("auto"), Ok(AuditInterval::Auto));
        assert_eq!(parse("off"), Ok(AuditInterval::Off));
        let minute = Duration::from_secs(60);
        assert_eq!(parse("1m"), Ok(AuditInterval::Every(minute)));
        for bad in ["", "never", "0s", "10"] {
            let reason = parse(bad).unwrap_err();
            assert!(reason.starts_with("give auto, off or a TIME: "), "{reason}");
        }
    }

    #[test]
    fn backends_and_waits_are_parsed() {
        let Backend::Oneshot { depth } = parse_backend("oneshot").unwrap() else {
            panic!()
        };
        assert_eq!(depth, Backend::DEFAULT_DEPTH);
        assert!(matches!(
            parse_backend("oneshot:64"),
            Ok(Backend::Oneshot { depth: 64 })
        ));
        for bad in [
            "",
            "Auto",
            "oneshot:",
            "oneshot:0",
            "oneshot:129",
            "multishot:4",
            "io_uring",
            "auto:",
        ] {
            assert!(parse_backend(bad).is_err(), "{bad}");
        }
        assert!(
            matches!(parse_wait("batch:100us"), Ok(Wait::Batch(delay)) if delay == Duration::from_micros(100))
        );
        for bad in [
            "",
            "batch",
            "batch:",
            "batch:1",
            "batch:0ms",
            "prompt:1ms",
            "fast",
        ] {
            assert!(parse_wait(bad).is_err(), "{bad}");
        }
    }
}
