//! The functions of libmnl that are compared with.

use std::ffi::{c_int, c_uint, c_void};

pub const OK: c_int = 1;

pub type Callback = extern "C" fn(message: *const c_void, data: *mut c_void) -> c_int;

#[link(name = "mnl")]
unsafe extern "C" {
    pub fn mnl_nlmsg_ok(message: *const c_void, length: c_int) -> bool;
    pub fn mnl_nlmsg_next(message: *const c_void, length: *mut c_int) -> *const c_void;
    pub fn mnl_attr_ok(attribute: *const c_void, length: c_int) -> bool;
    pub fn mnl_attr_next(attribute: *const c_void) -> *const c_void;
    pub fn mnl_attr_get_type(attribute: *const c_void) -> u16;
    pub fn mnl_attr_get_payload_len(attribute: *const c_void) -> u16;
    pub fn mnl_cb_run(
        buffer: *const c_void,
        length: usize,
        sequence: c_uint,
        port_id: c_uint,
        callback: Callback,
        data: *mut c_void,
    ) -> c_int;
}

/// A copy of bytes at an aligned place, as libmnl wants it, with room behind it so that a bad length reads no memory of
/// others.
pub fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0_u64; bytes.len().div_ceil(8) + 8];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(whole);
    }
    words
}
