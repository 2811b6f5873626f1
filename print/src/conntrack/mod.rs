//! Flows and expectations as lines.

pub mod expectation;
pub mod json;
pub mod label_names;
pub mod text;
