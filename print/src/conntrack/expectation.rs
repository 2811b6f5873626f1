//! An expectation as the line that `conntrack -E expect` (conntrack-tools 1.4.7) prints for it.

use nlring::Timestamp;
use nlring::conntrack::{Expectation, expectation_flags};

use crate::conntrack::text::{
    TextOptions, kind_label, write_addresses, write_field, write_layer4, write_name,
    write_timestamp,
};

/// Appends the expectation's line and a newline.
///
/// Only the option `timestamp` applies to expectations. It has the layout that it has for flows. conntrack prints
/// blanks instead of the zeros after its point.
pub fn write_line(
    out: &mut Vec<u8>,
    expected: &Expectation<'_>,
    options: &TextOptions,
    received_at: Timestamp,
) {
    if options.timestamp {
        write_timestamp(out, received_at);
    }
    out.extend_from_slice(kind_label(expected.kind));
    write_field(out, b"", expected.timeout_seconds);
    write_field(out, b"proto=", Some(expected.tuple.protocol));
    let parts: [(&[u8], _); 3] = [
        (b"", Some(&expected.tuple)),
        (b"mask-", expected.mask.as_ref()),
        (b"master-", expected.master.as_ref()),
    ];
    for (prefix, tuple) in parts {
        if let Some(tuple) = tuple {
            write_addresses(out, prefix, tuple);
            write_layer4(out, tuple);
        }
    }
    write_field(out, b"zone=", expected.zone);
    write_flags(out, expected.flags.unwrap_or(0));
    write_field(out, b"class=", expected.class);
    write_name(out, b"helper=", expected.helper);
    out.pop(); // the blank after the last field
    out.push(b'\n');
}

fn write_flags(out: &mut Vec<u8>, flags: u32) {
    let names = [
        (expectation_flags::PERMANENT, "PERMANENT"),
        (expectation_flags::INACTIVE, "INACTIVE"),
        (expectation_flags::USERSPACE, "USERSPACE"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & bit != 0);
    for (index, (_, name)) in set.enumerate() {
        if index != 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
    }
    if flags != 0 {
        out.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::message::flags;
    use nlring::{MessageBuilder, MessageList};
    use nlring_testing::allocator::count_allocations;

    const RECEIVED_AT: Timestamp = Timestamp::from_ns(1_795_516_804_000_042_999);

    /// Adds a tuple between these hosts of 192.0.2.0/24 with these ports.
    fn tuple(
        message: MessageBuilder<'_>,
        number: u16,
        hosts: [u8; 2],
        ports: [u16; 2],
    ) -> MessageBuilder<'_> {
        let [src, dst] = hosts.map(|host| [192, 0, 2, host]);
        message.nested(number, |tuple| {
            let tuple = tuple.nested(1, |ip| ip.attribute(1, &src).attribute(2, &dst));
            tuple.nested(2, |protocol| {
                let protocol = protocol.attribute_u8(1, 6);
                protocol
                    .attribute_be16(2, ports[0])
                    .attribute_be16(3, ports[1])
            })
        })
    }

    /// The line of an expectation with these flags and this helper.
    fn line(flags: u32, helper: &[u8], options: &TextOptions) -> String {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 0x200, flags::CREATE).bytes(&[2, 0, 0, 0]);
        let message = tuple(message, 1, [1, 2], [3, 21]);
        let message = tuple(message, 2, [1, 2], [0, 4]);
        tuple(message, 3, [255, 255], [0, u16::MAX])
            .attribute_be32(4, 300)
            .attribute_be32(8, flags)
            .attribute_be32(9, 0)
            .attribute(6, helper)
            .finish()
            .unwrap();
        let mut out = Vec::with_capacity(4096);
        for message in &MessageList::new(&bytes) {
            let expected = Expectation::decode(&message).unwrap();
            let allocations = count_allocations(|| {
                write_line(&mut out, &expected, options, RECEIVED_AT);
            });
            assert_eq!(allocations, 0, "formatting allocates nothing");
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_line_is_that_of_conntrack() {
        let common = "    [NEW] 300 proto=6 src=192.0.2.1 dst=192.0.2.2 sport=0 dport=4 \
                      mask-src=192.0.2.255 mask-dst=192.0.2.255 sport=0 dport=65535 \
                      master-src=192.0.2.1 master-dst=192.0.2.2 sport=3 dport=21 ";
        let flags = [(0, ""), (1, "PERMANENT "), (6, "INACTIVE,USERSPACE ")];
        for (bits, names) in flags {
            let want = format!("{common}{names}class=0 helper=ftp\n");
            assert_eq!(line(bits, b"ftp\0", &TextOptions::default()), want);
        }
    }

    #[test]
    fn the_time_is_padded_and_a_name_cannot_break_the_line() {
        let options = TextOptions {
            timestamp: true,
            ..TextOptions::default()
        };
        let line = line(0, b"\x1b[2J\n", &options);
        assert!(
            line.starts_with("[1795516804.000042]\t    [NEW] 300 "),
            "{line}"
        );
        assert!(line.ends_with(" helper=\\x1b[2J\\x0a\n"), "{line}");
    }
}
