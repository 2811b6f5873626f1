//! The arguments of `nlring route`.

use clap::{Args, ValueEnum};

use super::collector::{CollectorArguments, collector_help};
use super::filter::RouteFilterArguments;

#[derive(Args, Debug)]
#[command(after_help = collector_help!())]
pub struct RouteArguments {
    /// Which events to follow
    #[arg(
        short,
        long,
        value_name = "EVENT",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "new,delete"
    )]
    pub events: Vec<RouteEvent>,

    /// What to add to the lines; programs should read --json instead
    #[arg(
        short = 'o',
        long = "fields",
        value_name = "FIELD",
        value_delimiter = ',',
        ignore_case = true,
        conflicts_with = "json"
    )]
    pub fields: Vec<RouteField>,

    #[command(flatten)]
    pub collector: CollectorArguments,

    #[command(flatten)]
    pub filter: RouteFilterArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteEvent {
    New,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteField {
    /// When the event was received, in local time, as with ip -ts
    Timestamp,
    /// The same in a line of its own before the event, as with ip -timestamp
    LongTimestamp,
}
