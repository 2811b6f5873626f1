//! The memory that a process may lock. The rings of io_uring count against this limit, together for all processes of a
//! user, unless the process has `CAP_IPC_LOCK`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::receiving::{BackendTrials, has_multishot};
use super::report::{Check, CheckState};
use crate::units::Bytes;

const NAME: &str = "locked_memory";
/// Limits to try: enough for one engine, and more for a user who has other rings.
const ENOUGH_BYTES: [u64; 3] = [8 << 20, 64 << 20, 512 << 20];

pub fn locked_memory(trials: &BackendTrials) -> Check {
    let limit = getrlimit(Resource::Memlock);
    let shown = match limit.current {
        Some(bytes) => Bytes(bytes).to_string(),
        None => "unlimited".to_owned(),
    };
    let check = if trials.is_out_of_memory() {
        let detail = format!(
            "RLIMIT_MEMLOCK is {shown}: too little for the rings of io_uring, which count together for all processes of \
             this user"
        );
        with_remedy(Check::new(NAME, CheckState::Limit, detail), limit)
    } else if trials.has_multishot() {
        let detail = format!("RLIMIT_MEMLOCK is {shown}: an engine with a socket fits");
        Check::new(NAME, CheckState::Ok, detail)
    } else {
        let detail =
            format!("RLIMIT_MEMLOCK is {shown}; not tried, because multishot does not work");
        Check::new(NAME, CheckState::Unknown, detail)
    };
    check.value("limit_bytes", limit.current)
}

/// Adds how to raise the limit. It tries which limits are enough and allowed.
fn with_remedy(check: Check, limit: Rlimit) -> Check {
    let enough = ENOUGH_BYTES
        .into_iter()
        .filter(|&bytes| limit.current.is_some_and(|current| bytes > current))
        .find(|&bytes| is_enough(bytes, limit));
    let lasting = |bytes: u64| {
        let (mib, kib) = (bytes >> 20, bytes >> 10);
        format!(
            "LimitMEMLOCK={mib}M in the systemd unit, or `* - memlock {kib}` in /etc/security/limits.d/nlring.conf and a \
             new login."
        )
    };
    let Some(bytes) = enough else {
        let bytes = limit.current.unwrap_or(0).max(ENOUGH_BYTES[0] / 2) * 2;
        return check.advice(format!(
            "This process may not raise the limit enough. Root can: {}",
            lasting(bytes)
        ));
    };
    check
        .remedy(format!("ulimit -l {}", bytes >> 10))
        .advice(format!(
            "This affects only the shell that then starts nlring. To keep it: {}",
            lasting(bytes)
        ))
}

/// Whether this process may set this limit and an engine works with it. It raises the soft and the hard limit, as a
/// shell's `ulimit -l` does, and restores them afterwards.
fn is_enough(bytes: u64, limit: Rlimit) -> bool {
    let raised = Rlimit {
        current: Some(bytes),
        maximum: limit.maximum.map(|maximum| maximum.max(bytes)),
    };
    if setrlimit(Resource::Memlock, raised).is_err() {
        return false;
    }
    let is_enough = has_multishot();
    let _ = setrlimit(Resource::Memlock, limit); // lowering a limit is always allowed
    is_enough
}
