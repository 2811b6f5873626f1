//! Sampling of whole flows, so that a socket receives no more events than a limit allows.

mod rate_limit;
mod ratio;
mod sampler;

pub use self::ratio::SamplingRatio;
pub use self::sampler::{Sampler, Sampling};
