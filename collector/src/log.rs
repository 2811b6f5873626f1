//! The log: lines of text or of JSON on standard error.

use std::env;
use std::fmt;
use std::io;

use rustix::fs::fstat;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt as lines, reload};

use crate::config::{self, LogFormat};

/// The log, whose level can be changed.
pub struct Log(reload::Handle<Targets, Registry>);

impl Log {
    /// Starts logging.
    pub fn begin(config: &config::Log) -> Self {
        let (filter, handle) = reload::Layer::new(filter(config.level));
        let registry = tracing_subscriber::registry().with(filter);
        let lines = lines::layer().with_writer(io::stderr).with_target(false);
        match config.format {
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
            LogFormat::Text if is_journal() => {
                let format = Format::default().compact().without_time();
                let format = format.with_level(false).with_target(false);
                registry.with(lines.event_format(Journal(format))).init();
            }
            LogFormat::Text => registry.with(lines.compact()).init(),
        }
        Self(handle)
    }

    /// Changes the level.
    pub fn set_level(&self, level: config::LogLevel) {
        if let Err(error) = self.0.reload(filter(level)) {
            warn!("the level of the log stays as it is: {error}");
        }
    }
}

/// Lines of nlringd. What its libraries log is left out: nlringd says itself what they report.
fn filter(level: config::LogLevel) -> Targets {
    let level = match level {
        config::LogLevel::Error => LevelFilter::ERROR,
        config::LogLevel::Warn => LevelFilter::WARN,
        config::LogLevel::Info => LevelFilter::INFO,
        config::LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new().with_target("nlring", level)
}

/// Whether standard error is connected to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines for the journal, which adds the time itself, and takes the level from a number at the start (sd-daemon(3)).
struct Journal(Format<Compact, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}
