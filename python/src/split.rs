//! Datagrams into messages, and payloads into attributes, by the rules of the library.

use nlring::message::ATTRIBUTE_HEADER_BYTES;
use nlring::{Attribute, Attributes, MessageList};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A message: type, flags, sequence number, port ID, payload.
type Parts<'py> = (u16, u16, u32, u32, Bound<'py, PyBytes>);

/// Splits a datagram into its messages: a list of (type, flags, sequence number, port ID, payload without padding). The
/// second value is None, or says where the datagram stops being a sequence of messages, and why.
#[pyfunction]
pub fn split_messages<'py>(py: Python<'py>, datagram: &[u8]) -> (Vec<Parts<'py>>, Option<String>) {
    let list = MessageList::new(datagram);
    let messages = list.iter().map(|message| {
        (
            message.message_type(),
            message.flags(),
            message.sequence(),
            message.port_id(),
            PyBytes::new(py, message.payload()),
        )
    });
    (
        messages.collect(),
        list.malformed().map(|malformed| malformed.to_string()),
    )
}

/// Splits bytes into attributes, from an offset on: a list of (type with its flags, value without padding). Up to 3
/// bytes after the last attribute are padding.
///
/// Raises ValueError if the length of an attribute is invalid.
#[pyfunction]
#[pyo3(signature = (data, offset=0))]
pub fn split_attributes<'py>(
    py: Python<'py>,
    data: &[u8],
    offset: usize,
) -> PyResult<Vec<(u16, Bound<'py, PyBytes>)>> {
    let mut attributes = Attributes::new(data.get(offset..).unwrap_or_default());
    let (mut found, mut end) = (Vec::new(), offset);
    for attribute in attributes.by_ref() {
        end += (ATTRIBUTE_HEADER_BYTES + attribute.bytes().len()).next_multiple_of(4);
        found.push((raw_type(&attribute), PyBytes::new(py, attribute.bytes())));
    }
    if attributes.is_malformed() {
        let left = data.get(end..).unwrap_or_default();
        let length = left
            .first_chunk()
            .map_or(0, |length| u16::from_ne_bytes(*length));
        return Err(PyValueError::new_err(format!(
            "at byte {end}: an attribute states {length} bytes where 4 to {} are possible",
            left.len()
        )));
    }
    Ok(found)
}

/// The type as it is in the header, with the flags for nesting and byte order.
fn raw_type(attribute: &Attribute<'_>) -> u16 {
    const NESTED: u16 = 1 << 15;
    const NET_BYTE_ORDER: u16 = 1 << 14;
    attribute.attribute_type()
        | if attribute.is_nested() { NESTED } else { 0 }
        | if attribute.is_net_byte_order() {
            NET_BYTE_ORDER
        } else {
            0
        }
}
