//! The system's side: every `unsafe` block, every libc and io_uring call of the library.
//!
//! What leaves this module is safe to call in any order with any values; each block proves its part of that.

#[cfg(feature = "io-uring")]
mod buffer_ring;
pub(crate) mod event;
pub(crate) mod home;
pub(crate) mod mapping;
mod options;
pub(crate) mod place;
#[cfg(feature = "io-uring")]
mod receiver;
#[cfg(feature = "io-uring")]
pub(crate) mod ring;
pub(crate) mod slots;
pub(crate) mod socket;
#[cfg(feature = "io-uring")]
pub(crate) mod token;
