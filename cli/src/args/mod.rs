//! The command line. This file has its top level, and each command has a file of its own.

mod collector;
mod conntrack;
mod demo;
mod doctor;
mod filter;
mod flood;
#[cfg(feature = "generate")]
mod generate;
mod latency;
mod monitor;
mod netns;
mod peers;
mod route;
mod source;
mod values;
mod way;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use collector::{CommonArguments, FollowArguments};
pub use conntrack::{ConntrackArguments, ConntrackEvent, ConntrackField};
pub use demo::DemoArguments;
pub use doctor::DoctorArguments;
pub use flood::FloodArguments;
#[cfg(feature = "generate")]
pub use generate::Generate;
pub use latency::{Cpus, LatencyArguments};
pub use monitor::{MonitorArguments, MonitorField, MonitorObject};
pub use netns::AllNetns;
pub use route::{RouteArguments, RouteEvent, RouteField};
pub use source::SourceKind;
pub use values::{AuditInterval, DATAGRAM_BYTES};
pub use way::{Receiver, Way, wait_name};

/// Follow the kernel's conntrack and route events, with an exact count of what was lost
#[derive(Debug, Parser)]
#[command(name = "nlring", version, after_help = SEE_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const SEE_HELP: &str = "\
nlring <COMMAND> --help explains a command's options.
nlring demo shows what nlring does. It needs no set-up and no root.";

impl Arguments {
    /// Reads the process's command line.
    ///
    /// # Errors
    ///
    /// The command line is wrong, or asks for help or the version.
    pub fn read() -> Result<Self, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::parse_words(&words).map_err(|error| peers::advise(error, &words))
    }

    #[cfg(not(feature = "generate"))]
    fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }

    /// The commands of [`Generate`] are added here only, so that what they generate does not contain them.
    #[cfg(feature = "generate")]
    fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        use clap::{CommandFactory as _, FromArgMatches as _};
        let matches = Generate::augment_subcommands(Self::command()).try_get_matches_from(words)?;
        match Generate::from_arg_matches(&matches) {
            Ok(command) => Ok(Self {
                command: Command::Generate(command),
            }),
            Err(_) => Self::from_arg_matches(&matches),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(
        about = "Follow conntrack events, printed as conntrack -E does (needs CAP_NET_ADMIN)"
    )]
    Conntrack(Box<ConntrackArguments>),
    /// Follow route events, printed as ip monitor route does
    Route(RouteArguments),
    /// Follow all of rtnetlink: devices, addresses, routes, neighbours, rules, printed as ip monitor does
    Monitor(MonitorArguments),
    /// See what nlring does: a tour of a few seconds with real events
    Demo(DemoArguments),
    /// Make events at a known rate, to load a collector
    Flood(FloodArguments),
    /// Measure how late events arrive and what receiving them costs
    Latency(LatencyArguments),
    /// Check whether events can be received here, and show how to fix what is wrong
    Doctor(DoctorArguments),
    #[cfg(feature = "generate")]
    #[command(skip)]
    Generate(Generate),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::help::fitted;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_help_fits_but_for_commands_and_keeps_its_words() {
        let words = |text: &str| {
            let words = text.split_whitespace().map(str::to_owned);
            words.collect::<Vec<_>>()
        };
        let mut root = Arguments::command();
        root.build();
        let names: Vec<String> = root
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        for name in names {
            let command = root.find_subcommand_mut(&name).unwrap();
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                for columns in [60, 80, 100, 200] {
                    let fitted = fitted(&help, columns);
                    assert_eq!(words(&fitted), words(&help), "{name}");
                    let too_wide =
                        |line: &&str| line.chars().count() > columns && !line.starts_with("    ");
                    let wide: Vec<&str> = fitted.lines().filter(too_wide).collect();
                    assert!(
                        wide.is_empty() || columns < 80,
                        "{name} {columns}: {wide:#?}"
                    );
                }
            }
        }
    }
}
