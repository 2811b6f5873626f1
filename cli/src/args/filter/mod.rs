//! The options that select events: an expression as text, and the options of other programs.

mod flow;
mod names;
mod route;
mod values;

pub use flow::FlowFilterArguments;
pub use route::{RouteFilterArguments, RouteTerms, parse_device};
