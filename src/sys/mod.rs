//! System calls: all of the library's `unsafe` blocks, and its calls of libc and io_uring.
//!
//! Other modules may call the functions of this one in any order and with any values. Each SAFETY comment proves its
//! part of that.

#[cfg(feature = "io-uring")]
mod buffer_ring;
pub(crate) mod event;
#[cfg(all(fuzzing, feature = "io-uring"))]
pub(crate) mod fuzzing {
    pub(crate) use super::buffer_ring::model::run as buffers;
}
pub(crate) mod home;
pub(crate) mod mapping;
pub(crate) mod namespace;
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
