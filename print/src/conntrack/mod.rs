//! Flows and expectations as lines.

mod expectation;
mod format;
mod json;
mod label_names;
mod text;

pub use format::FlowFormat;
pub use label_names::LabelNames;
pub use text::TextOptions;
