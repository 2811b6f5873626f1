//! Messages that this crate cannot read.

use std::io::Write as _;

use nlring::Message;

use crate::json::number;
use crate::route::text::Line;

impl Line<'_> {
    /// Appends what ip prints about a message of an unknown type, and all its bytes.
    pub(crate) fn unknown(&mut self, message: &Message<'_>) {
        let (kind, flags) = (message.message_type(), message.flags());
        let length = message.bytes().len();
        let _ = write!(
            self.out,
            "Unknown message: type=0x{kind:08x}({kind}) flags=0x{flags:08x}({flags}) len=0x{length:08x}({length}) "
        ); // writing to a Vec cannot fail
        write_bytes(self.out, message.bytes());
        self.text("\n");
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(out: &mut Vec<u8>, message: &Message<'_>) {
    number(out, r#""message_type":"#, message.message_type());
    out.extend_from_slice(br#""hex":""#);
    write_bytes(out, message.bytes());
    out.extend_from_slice(b"\",");
}

/// Appends bytes in hexadecimal, two digits each.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}"); // writing to a Vec cannot fail
    }
}
