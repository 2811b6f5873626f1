//! Reads the bytes of an event without the library.

/// A direction of a flow.
#[derive(Clone, Debug, Default)]
pub struct Tuple {
    pub src: Vec<u8>,
    pub dst: Vec<u8>,
    pub protocol: u8,
    /// Source and destination.
    pub ports: Option<(u16, u16)>,
    /// Type, code and identifier.
    pub icmp: Option<(u8, u8, u16)>,
    pub zone: Option<u16>,
}

/// What an event says.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub kind: &'static str,
    pub family: u8,
    pub orig: Tuple,
    pub reply: Option<Tuple>,
    pub status: u32,
    pub state: Option<(u16, u8)>,
    pub mark: u32,
    pub zone: Option<u16>,
    pub id: Option<u32>,
    pub labels: Vec<u8>,
}

impl Decoded {
    pub fn read(bytes: &[u8]) -> Self {
        let [message_type, flags] =
            [4, 6].map(|start| u16::from_ne_bytes([bytes[start], bytes[start + 1]]));
        let attributes = &bytes[20..];
        let kind = match (message_type, flags & 0x600) {
            (0x102, _) => "destroy",
            (_, 0) => "update",
            _ => "new",
        };
        let state = value(attributes, &[4]).map(|info| {
            let protocol = u16::from_ne_bytes([info[2], info[3]]) & 0x3fff;
            (protocol, value(info, &[protocol, 1]).expect("a state")[0])
        });
        Self {
            kind,
            family: bytes[16],
            orig: tuple(value(attributes, &[1]).expect("an original tuple")),
            reply: value(attributes, &[2]).map(tuple),
            status: be32(attributes, 3).expect("a status"),
            state,
            mark: be32(attributes, 8).unwrap_or(0),
            zone: value(attributes, &[18]).map(be16),
            id: be32(attributes, 12),
            labels: value(attributes, &[22]).unwrap_or_default().to_vec(),
        }
    }

    pub fn tuples(&self) -> impl Iterator<Item = &Tuple> {
        std::iter::once(&self.orig).chain(&self.reply)
    }
}

fn tuple(attributes: &[u8]) -> Tuple {
    let first = |paths: [&[u16]; 2]| paths.into_iter().find_map(|path| value(attributes, path));
    let address = |paths| first(paths).expect("an address").to_vec();
    let protocol = |number| value(attributes, &[2, number]);
    Tuple {
        src: address([&[1, 1], &[1, 3]]),
        dst: address([&[1, 2], &[1, 4]]),
        protocol: protocol(1).map_or(0, |bytes| bytes[0]),
        ports: protocol(2)
            .zip(protocol(3))
            .map(|(src, dst)| (be16(src), be16(dst))),
        icmp: first([&[2, 5], &[2, 8]]).map(|icmp_type| {
            let code = first([&[2, 6], &[2, 9]]).expect("a code");
            let id = first([&[2, 4], &[2, 7]]).expect("an identifier");
            (icmp_type[0], code[0], be16(id))
        }),
        zone: value(attributes, &[3]).map(be16),
    }
}

/// The payload of the attribute with these types, outermost first.
fn value<'a>(mut attributes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    let (wanted, inner) = path.split_first()?;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let number = u16::from_ne_bytes([attributes[2], attributes[3]]) & 0x3fff;
        if number == *wanted {
            let payload = &attributes[4..length];
            return if inner.is_empty() {
                Some(payload)
            } else {
                value(payload, inner)
            };
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    None
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(bytes.try_into().expect("two bytes"))
}

fn be32(attributes: &[u8], number: u16) -> Option<u32> {
    let bytes = value(attributes, &[number])?;
    Some(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
}
