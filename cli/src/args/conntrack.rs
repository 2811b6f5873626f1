//! The arguments of `nlring conntrack`.

use clap::{Args, ValueEnum};

use super::collector::{CollectorArguments, collector_help};
use super::filter::FlowFilterArguments;
use super::values::parse_max_rate;

#[derive(Args, Debug)]
#[command(after_help = CONNTRACK_HELP)]
pub struct ConntrackArguments {
    /// Which events to follow
    #[arg(
        short,
        long,
        visible_alias = "event-mask",
        value_name = "EVENT",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "all"
    )]
    pub events: Vec<ConntrackEvent>,

    /// What to add to the lines, as with conntrack -o; programs should read --json instead
    #[arg(
        short = 'o',
        long = "fields",
        value_name = "FIELD",
        value_delimiter = ',',
        ignore_case = true,
        conflicts_with = "json"
    )]
    pub fields: Vec<ConntrackField>,

    /// Make the kernel keep destroy events that find no room and send them again; repeated ones are left out
    #[arg(long, conflicts_with = "once")]
    pub reliable: bool,

    /// While more than N events per second arrive, follow only one flow in 2, 4, 8, …, with all its events: the kernel
    /// leaves out the others. [SAMPLING] lines report when this begins, changes and ends. N may be 800, 50k or 1M
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_max_rate)]
    pub max_rate: Option<u32>,

    #[command(flatten)]
    pub collector: CollectorArguments,

    #[command(flatten)]
    pub filter: FlowFilterArguments,
}

const CONNTRACK_HELP: &str = concat!(
    "\
No events? A network namespace tracks flows only if a firewall rule needs it. A rule with a `ct` match does:
    nft 'add table ip t; add chain ip t c { type filter hook output priority 0; ct state new; }'
With net.netfilter.nf_conntrack_events = 2, the default since Linux 5.19, flows that began while nobody listened make no
events. Following conntrack events needs CAP_NET_ADMIN. nlring doctor shows what is missing here.

With --reliable, failed deliveries have a line of their own, [DELAYED] N deliveries between T1 and T2, or an object of their
own in JSON. The kernel sends a failed destroy event again after one second, then every 10 ms; until then the flow counts as
an entry of the table. A failed new or update event is missing, and only the flow's next update shows what it changed. A
repeated destroy event is recognised and left out if --events includes new or net.netfilter.nf_conntrack_timestamp is 1.

",
    collector_help!()
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConntrackEvent {
    New,
    #[value(alias = "updates")] // the name that conntrack uses
    Update,
    Destroy,
    /// New, update and destroy
    All,
    /// Expected connections, such as FTP's data connections: when they appear and when they are removed
    Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConntrackField {
    /// When the event was received, in seconds since 1970
    Timestamp,
    /// The network protocol, before the transport protocol
    Extended,
    /// The flow's id
    Id,
    /// When the flow began and ended, by the kernel's clock (net.netfilter.nf_conntrack_timestamp = 1)
    Ktimestamp,
    /// The names of the flow's labels
    Labels,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;
    use nlring::{Backend, Wait};
    use std::path::PathBuf;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    fn conntrack(line: &str) -> ConntrackArguments {
        match parse(&format!("nlring conntrack {line}")) {
            Ok(Command::Conntrack(arguments)) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_are_lists_in_any_case() {
        use ConntrackEvent::{All, Destroy, New, Update};
        assert_eq!(conntrack("").events, [All]);
        assert_eq!(conntrack("-e NEW,Destroy").events, [New, Destroy]);
        assert_eq!(conntrack("--events=updates -e all").events, [Update, All]);
        for bad in ["-e nwe", "-e new,", "-e", "-o ids"] {
            let error = parse(&format!("nlring conntrack {bad}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
        let error = parse("nlring route -e update").unwrap_err().to_string();
        assert!(error.contains("new, delete"), "{error}");
    }

    #[test]
    fn fields_are_lists_in_any_case() {
        use ConntrackField::{Id, Labels, Timestamp};
        assert_eq!(conntrack("").fields, []);
        assert_eq!(conntrack("-o TIMESTAMP,Id").fields, [Timestamp, Id]);
        assert_eq!(conntrack("-o id -o labels").fields, [Id, Labels]);
        for bad in ["-o xml", "-o save", "-o id,", "-o id --json"] {
            let error = parse(&format!("nlring conntrack {bad}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
        let error = parse("nlring conntrack -o xml").unwrap_err().to_string();
        let names = "timestamp, extended, id, ktimestamp, labels";
        assert!(error.contains(names), "{error}");
    }

    #[test]
    fn only_conntrack_is_reliable() {
        assert!(conntrack("--reliable").reliable);
        let error = parse("nlring route --reliable").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("unexpected argument '--reliable'")
        );
    }

    #[test]
    fn counts_begin_at_one() {
        assert_eq!(conntrack("--count 7").collector.follow.count, Some(7));
        for bad in ["0", "-1", "1.5", "many", "18446744073709551616"] {
            let error = parse(&format!("nlring conntrack --count={bad}")).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("from 1"), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_those_promised() {
        let arguments = conntrack("");
        assert_eq!(arguments.collector.follow.recv_buffer_bytes, 8 << 20);
        assert_eq!(arguments.collector.follow.recv_buffer_max_bytes, None);
        assert!(!arguments.reliable);
        assert_eq!(arguments.collector.follow.common.output, PathBuf::from("-"));
        assert!(matches!(
            arguments.collector.follow.common.backend,
            Backend::Auto
        ));
        assert!(matches!(arguments.collector.follow.common.wait, Wait::Auto));
    }
}
