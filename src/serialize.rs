//! How decoded values are serialized, where serde's derive does not suffice.

use serde::{Serialize, Serializer};

use crate::message::{Attribute, Attributes};
use crate::{EventKind, Family};

/// `"new"`, `"update"`, `"delete"` or `"entry"`.
impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The name, such as `"ipv4"`, or the number as text.
impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A name from the kernel as text. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn name<S: Serializer>(name: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    name.map(String::from_utf8_lossy).serialize(serializer)
}

/// A list of types and bytes.
pub(crate) fn attributes<'a, S: Serializer>(
    attributes: &Option<Attributes<'a>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct One<'a> {
        attribute_type: u16,
        bytes: &'a [u8],
    }
    let one = |attribute: Attribute<'a>| One {
        attribute_type: attribute.attribute_type(),
        bytes: attribute.bytes(),
    };
    let list = attributes.map(|attributes| attributes.map(one).collect::<Vec<_>>());
    list.serialize(serializer)
}
