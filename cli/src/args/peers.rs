//! Options of conntrack(8) and ip-monitor(8) that nlring does not have. The error names what to use instead.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Some options, and what to use instead.
type Advice = (&'static [&'static str], &'static str);

/// Options of `conntrack` for which nlring's filter has no term, and the filter of jq(1) over the lines of `--json`
/// that does the same.
const FLOW_FILTERS: &[Advice] = &[
    (&["--icmp-id"], ".orig.id == 7"),
    (&["--srckey", "--orig-key-src"], ".orig.srckey == 7"),
    (&["--dstkey", "--orig-key-dst"], ".orig.dstkey == 7"),
    (&["-c", "--secmark"], ".secctx"),
    (&["-t", "--timeout"], ".timeout_s < 60"),
    (&["--tuple-src"], r#".expected.src == "192.0.2.1""#),
    (&["--tuple-dst"], r#".expected.dst == "192.0.2.1""#),
];

const CONNTRACK: &[Advice] = &[
    (
        &["-E", "--event"],
        "nlring conntrack follows events without it: leave it out; -e expect follows expectations",
    ),
    (
        &["!"],
        "write ! in front of the value, in quotes: -s '!192.0.2.1'",
    ),
    (
        &["-L", "--dump"],
        "--snapshot --once lists the table; --snapshot lists it, then follows the events",
    ),
    (
        &[
            "-G", "--get", "-D", "--delete", "-I", "--create", "-A", "--add", "-U", "--update",
            "-F", "--flush",
        ],
        "nlring does not look up or change single flows: conntrack(8) does",
    ),
    (&["-C"], "nlring doctor shows how many flows there are"),
    (
        &["-S"],
        "conntrack -S shows the kernel's statistics; nlring doctor shows what is lost",
    ),
    (
        &["-z", "--zero"],
        "nlring does not change counters: conntrack -L -z resets them; destroy events carry the counters of a flow",
    ),
    (
        &["-b", "--buffer-size"],
        "--recv-buffer sets the receive buffer, such as --recv-buffer 8MiB",
    ),
    (
        &["--output-format", "--xml"],
        "--json writes one object per line",
    ),
];

/// Values of `conntrack -o`.
const FORMATS: &[Advice] = &[
    (&["xml"], "--json writes one object per line"),
    (
        &["save"],
        "conntrack -L -o save writes lines for conntrack --load-file",
    ),
    (
        &["userspace"],
        "--json has the netlink port ID of the program that caused an event (port_id)",
    ),
];

const IP_MONITOR: &[Advice] = &[
    (
        &["-t", "--timestamp", "--tshort"],
        "-o timestamp adds the time",
    ),
    (&["-j"], "--json writes one object per line"),
    (&["dev"], "--dev NAME selects a device"),
    (&["table"], "--in-table ID|NAME selects a table"),
    (
        &["-d", "--details"],
        "--json has everything that the kernel reports",
    ),
    (
        &["-n", "--all-nsid"],
        "--netns NAME follows another namespace, and --all-netns all of them",
    ),
];

/// Options of `ip` that select a family, for the command that has only routes.
const ROUTE: &[Advice] = &[(
    &["-4", "-6", "-M", "-f", "--family"],
    "--filter 'family ipv6' selects a family: ipv4, ipv6 or mpls",
)];

/// Options of `ip` that select objects of a family, and the filter of jq(1) that does the same.
const FAMILIES: &[Advice] = &[
    (&["-4"], r#".family == "ipv4""#),
    (&["-6", "-f", "--family"], r#".family == "ipv6""#),
    (&["-M"], r#".family == "mpls""#),
];

/// Adds to an error what to use instead, if conntrack(8) or ip-monitor(8) has the option or the value.
pub fn advise(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let first = words.get(1).and_then(|word| word.to_str());
    let is_route = matches!(first, Some("route" | "monitor"));
    // Options without a command are most likely those of conntrack.
    if !is_route && first.is_none_or(|word| word != "conntrack" && !word.starts_with('-')) {
        return error;
    }
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.split('=').next().unwrap_or_default(),
        _ => "",
    };
    let advice = match error.kind() {
        ErrorKind::UnknownArgument if is_route => {
            let option = of(ContextKind::InvalidArg);
            find(IP_MONITOR, option).or_else(|| match first {
                Some("route") => find(ROUTE, option),
                _ => filter("monitor", FAMILIES, option),
            })
        }
        ErrorKind::UnknownArgument => {
            let option = of(ContextKind::InvalidArg);
            find(CONNTRACK, option).or_else(|| filter("conntrack", FLOW_FILTERS, option))
        }
        ErrorKind::InvalidValue if !is_route => find(FORMATS, of(ContextKind::InvalidValue)),
        _ => None,
    };
    if let Some(advice) = advice {
        let advice = ContextValue::StyledStrs(vec![advice.into()]);
        error.insert(ContextKind::Suggested, advice);
    }
    error
}

fn find(table: &[Advice], name: &str) -> Option<String> {
    let mut table = table.iter();
    let (_, advice) = table.find(|(names, _)| names.contains(&name))?;
    Some((*advice).to_owned())
}

fn filter(command: &str, table: &[Advice], name: &str) -> Option<String> {
    let expression = find(table, name)?;
    Some(format!(
        "nlring cannot select by this; jq(1) can: nlring {command} --json | jq -c 'select({expression})'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_option_has_one_advice() {
        for tables in [
            [CONNTRACK, FLOW_FILTERS],
            [IP_MONITOR, ROUTE],
            [IP_MONITOR, FAMILIES],
        ] {
            let names = tables.into_iter().flatten().flat_map(|(names, _)| *names);
            let count = names.clone().count();
            assert_eq!(names.collect::<HashSet<_>>().len(), count);
        }
    }
}
