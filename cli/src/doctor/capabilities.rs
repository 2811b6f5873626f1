//! The capabilities of this process, and which of them a collector keeps after startup.

use serde_json::{Map, Value};

use super::report::{Check, CheckState};
use crate::host::kept::Kept;

/// The capabilities that each command keeps if the process has them, and those that these options add.
const KEPT: [(&str, Kept); 7] = [
    ("conntrack", Kept::CONNTRACK),
    ("route", Kept::NONE),
    ("monitor", Kept::NONE),
    ("--recv-buffer-max", Kept::GROWTH),
    ("--all-netns", Kept::NAMESPACES),
    (
        "--all-netns=processes",
        Kept::PROCESSES.and(Kept::NAMESPACES),
    ),
    ("files", Kept::FILES),
];

pub fn capabilities() -> Check {
    let names = Kept::current().names();
    let detail = match names.as_slice() {
        [] => "this process has none, so a collector has none to give up".to_owned(),
        [name] => format!("this process has {name} only"),
        names => format!(
            "this process has {}: once they listen, nlring conntrack keeps CAP_NET_ADMIN, and nlring route and monitor \
             keep none; with --recv-buffer-max, --all-netns or named files they keep what these need",
            names.len()
        ),
    };
    let kept: Map<String, Value> = KEPT
        .iter()
        .map(|(what, kept)| ((*what).to_owned(), kept.names().into()))
        .collect();
    Check::new("capabilities", CheckState::Ok, detail)
        .value("effective", names)
        .value("kept", kept)
}
