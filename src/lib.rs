//! nlring
mod attribute;
mod engine;
mod error;
mod message;
mod socket;
mod sys;

pub use attribute::{ATTRIBUTE_HEADER_BYTES, Attribute, Attributes};
pub use engine::{AddOptions, Backend, Control, Ended, Engine, EngineBuilder, Event, Finished, Loss, Notice, Running, SocketId, Statistics, StopHandle, Turn, Wait};
pub use error::{Error, ErrorKind, Malformed, MalformedReason, Result};
pub use message::{
    Content, DONE, Datagram, ERROR, ErrorMessage, HEADER_BYTES, Header, Iter, MIN_TYPE, Message,
    MessageBuilder, MessageList, Messages, NOOP, OVERRUN, flags,
};
pub use socket::{Protocol, RecvBuffer, RecvFlags, Socket, SocketBuilder, option};
