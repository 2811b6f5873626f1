//! A way to receive, BACKEND/WAIT: what `nlring latency` compares.

use std::fmt;
use std::time::Duration;

use nlring::{Backend, Wait};

use super::values::{parse_backend, parse_wait};

/// What receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// A plain loop over recv(2), to compare with.
    Recv,
    Engine(Backend),
}

/// What receives, and when it wakes up. A recv loop cannot choose when to wake up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub receiver: Receiver,
    pub wait: Option<Wait>,
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recv => f.write_str("recv"),
            Self::Engine(backend) => backend.fmt(f),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wait {
            None => self.receiver.fmt(f),
            Some(wait) => write!(f, "{}/{}", self.receiver, wait_name(wait)),
        }
    }
}

pub fn parse_receiver(text: &str) -> Result<Receiver, String> {
    match text {
        "recv" => Ok(Receiver::Recv),
        _ => parse_backend(text)
            .map(Receiver::Engine)
            .map_err(|remedy| format!("{remedy}, or recv")),
    }
}

pub fn parse_way(text: &str) -> Result<Way, String> {
    let (receiver, wait) = match text.split_once('/') {
        None => (text, None),
        Some((receiver, wait)) => (receiver, Some(parse_wait(wait)?)),
    };
    let receiver = parse_receiver(receiver)?;
    if (receiver == Receiver::Recv) == wait.is_some() {
        return Err("give BACKEND/WAIT, such as recvmmsg/batch:1ms, or recv alone".to_owned());
    }
    Ok(Way { receiver, wait })
}

/// The value of --wait for this policy.
pub fn wait_name(wait: Wait) -> String {
    match wait {
        Wait::Prompt => "prompt".to_owned(),
        Wait::Spin => "spin".to_owned(),
        Wait::Batch(delay) => format!("batch:{}", delay_name(delay)),
        _ => "auto".to_owned(),
    }
}

fn delay_name(delay: Duration) -> String {
    let micros = delay.as_micros();
    if micros.is_multiple_of(1_000_000) {
        format!("{}s", micros / 1_000_000)
    } else if micros.is_multiple_of(1000) {
        format!("{}ms", micros / 1000)
    } else {
        format!("{micros}us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_shown_as_the_command_line_takes_it() {
        for text in [
            "recv",
            "auto/auto",
            "oneshot:4/spin",
            "recvmmsg/batch:1ms",
            "multishot/batch:1500us",
        ] {
            assert_eq!(
                parse_way(text).map(|way| way.to_string()),
                Ok(text.to_owned())
            );
        }
        for bad in [
            "auto",
            "recv/auto",
            "recv/",
            "/auto",
            "epoll/auto",
            "auto/fast",
            "",
        ] {
            assert!(parse_way(bad).is_err(), "{bad}");
        }
    }
}
