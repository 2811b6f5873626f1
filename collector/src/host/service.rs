//! Reports to systemd: that records are being written, that the collector works, and that it is ending (sd_notify(3)).

use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{error, warn};

use super::Pulses;
use crate::failure::{Failure, Result};

/// How often the pulses are checked. Under a watchdog, at least three times per interval.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Reports that records are being written to the service manager that started this process, if there is one. From now
/// on a thread checks the pulses, and reports to the manager's watchdog that nothing hangs.
///
/// An unresponsive disk is not a reason to be killed: nothing is lost before the kernel's buffer is full, and losses
/// are then counted. It is reported in the log and in the status.
pub fn begin(pulses: &Pulses) -> Result<()> {
    ready();
    let pulses = pulses.clone();
    thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || watch(&pulses, sd_notify::watchdog_enabled()))
        .map_err(|error| Failure::Other(format!("start a thread: {error}")))?;
    Ok(())
}

/// Reports that records are being written.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the configuration is being reloaded. [`ready`] reports the end of that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("the clock cannot be read: {error}"),
    }
}

/// Reports that it is ending, which may take as long as the outputs need.
pub fn end() {
    notify(&[NotifyState::Stopping]);
}

fn watch(pulses: &Pulses, watchdog: Option<Duration>) {
    let interval = watchdog.map_or(LOOK_INTERVAL, |limit| LOOK_INTERVAL.min(limit / 3));
    let mut is_silent = false;
    loop {
        if watchdog.is_some_and(|limit| pulses.hanging_for() < limit) {
            notify(&[NotifyState::Watchdog]);
        }
        let was_silent = is_silent;
        let silent = pulses.disk_silent_for();
        is_silent = silent.is_some();
        match silent {
            Some(silent) if !was_silent => {
                let text = format!(
                    "the disk of the spool has not answered for {} s; if writes wait for it too, events wait in the kernel meanwhile",
                    silent.as_secs()
                );
                error!("{text}");
                notify(&[NotifyState::Status(&text)]);
            }
            None if was_silent => notify(&[NotifyState::Status("")]),
            _ => {}
        }
        thread::sleep(interval);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager cannot be notified: {error}");
    }
}
