//! The value of `--audit-interval`.

use std::time::Duration;

use crate::units::parse_time;

/// How often a mirror compares itself with the kernel's table when nothing is known to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditInterval {
    /// As often as takes 1 % of the time.
    Auto,
    Every(Duration),
    Off,
}

impl AuditInterval {
    /// As the library takes it. None: its own choice.
    pub fn to_option(self) -> Option<Duration> {
        match self {
            Self::Auto => None,
            Self::Every(interval) => Some(interval),
            Self::Off => Some(Duration::MAX),
        }
    }
}

pub fn parse(text: &str) -> Result<AuditInterval, String> {
    match text {
        "auto" => Ok(AuditInterval::Auto),
        "off" => Ok(AuditInterval::Off),
        _ => parse_time(text)
            .map(AuditInterval::Every)
            .map_err(|reason| format!("give auto, off or a TIME: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_auto_off_or_a_time() {
        assert_eq!(parse("auto"), Ok(AuditInterval::Auto));
        assert_eq!(parse("off"), Ok(AuditInterval::Off));
        let minute = Duration::from_secs(60);
        assert_eq!(parse("1m"), Ok(AuditInterval::Every(minute)));
        for bad in ["", "never", "0s", "10"] {
            let reason = parse(bad).unwrap_err();
            assert!(reason.starts_with("give auto, off or a TIME: "), "{reason}");
        }
    }
}
