//! What the output `nats` and the workers of `nlringd store` share: the connection, the form of messages, and sentences
//! about errors.

pub mod connection;
pub mod known;
pub mod message;
pub mod problem;
