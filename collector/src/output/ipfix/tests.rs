//! Messages have the form of RFC 7011, whatever the records are. What their values mean is tested with real collectors.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::flow::{Counters, Flow, Nat, UNKNOWN};
use super::message::{Messages, Refresh};
use super::template::{Data, Event, Loss};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The data of this number: each has another form than the one before.
fn data(number: u64) -> Data {
    let bit = |place: u32| number & (1 << place) != 0;
    let texts = if bit(0) {
        ["2001:db8::1", "2001:db8::2", "2001:db8::3"]
    } else {
        ["10.0.0.1", "192.0.2.1", "203.0.113.1"]
    };
    let [src, dst, to] = texts.map(address);
    let flow = Flow {
        protocol: if bit(1) { 1 } else { 17 },
        src,
        dst,
        sport: 1024,
        dport: 53,
        icmp: bit(1).then_some([8, 0]),
        nat: bit(2).then_some(Nat {
            src: to,
            dst,
            sport: 2048,
            dport: 53,
        }),
        counters: bit(3).then_some(Counters::default()),
        start_ns: bit(4).then_some(1),
        end_ns: 2,
        end_reason: UNKNOWN,
    };
    match number % 7 {
        5 => Data::Event(flow, Event::Created),
        6 => Data::Loss(Loss {
            since_ns: 1,
            until_ns: 2,
            total_count: number,
        }),
        _ => Data::Flow(flow),
    }
}

/// What a receiver knows: the length of a data record of each template.
#[derive(Default)]
struct Reader {
    lengths: HashMap<u16, usize>,
    record_count: u32,
    definition_count: usize,
}

fn number(bytes: &[u8], place: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[place], bytes[place + 1]]))
}

impl Reader {
    fn read(&mut self, message: &[u8]) {
        assert_eq!(number(message, 0), 10, "the version");
        assert_eq!(number(message, 2), message.len());
        let sequence = u32::from_be_bytes(message[8..12].try_into().expect("4 bytes"));
        assert_eq!(sequence, self.record_count);
        assert_eq!(message[12..16], 7_u32.to_be_bytes(), "the domain");
        let mut sets = &message[16..];
        while !sets.is_empty() {
            let (id, length) = (number(sets, 0), number(sets, 2));
            let set = &sets[4..length];
            match id {
                2 => self.read_definition(set, 4),
                3 => self.read_definition(set, 6),
                id => {
                    let id = u16::try_from(id).expect("16 bits");
                    let length = *self.lengths.get(&id).expect("its template is known");
                    assert_eq!(set.len() % length, 0, "whole records");
                    self.record_count += u32::try_from(set.len() / length).expect("few");
                }
            }
            sets = &sets[length..];
        }
    }

    fn read_definition(&mut self, set: &[u8], header: usize) {
        let (id, count) = (number(set, 0), number(set, 2));
        let mut elements = &set[header..];
        let mut length = 0;
        for _ in 0..count {
            length += number(elements, 2);
            let is_of_enterprise = elements[0] & 0x80 != 0;
            elements = &elements[if is_of_enterprise { 8 } else { 4 }..];
        }
        assert!(elements.is_empty(), "nothing is behind the last element");
        let id = u16::try_from(id).expect("16 bits");
        self.lengths.insert(id, length);
        self.definition_count += 1;
    }
}

fn write(messages: &mut Messages, limit: usize, count: u64) -> Reader {
    let mut reader = Reader::default();
    let mut send = |message: &[u8]| {
        assert!(message.len() <= limit);
        reader.read(message);
        Ok(())
    };
    for number in 0..count {
        messages.add(&data(number), &mut send).expect("it is sent");
    }
    messages.flush(&mut send).expect("it is sent");
    reader
}

#[test]
fn each_message_fits_and_each_record_has_its_template() {
    for limit in [548, 1472, 8192, 65535] {
        for is_biflow in [false, true] {
            let mut messages = Messages::new(7, is_biflow, None);
            messages.begin(limit, 0);
            let reader = write(&mut messages, limit, 1000);
            assert_eq!(reader.record_count, 1000);
            let definition_count = reader.definition_count;
            assert_eq!(definition_count, reader.lengths.len(), "once each");
        }
    }
}

#[test]
fn templates_come_again_after_some_messages_or_some_time() {
    let hour = Duration::from_secs(3600);
    for (interval, messages) in [(hour, 3), (Duration::ZERO, 1000)] {
        let mut messages = Messages::new(7, true, Some(Refresh::new(interval, messages)));
        messages.begin(1472, 0);
        let reader = write(&mut messages, 1472, 1000);
        assert_eq!(reader.record_count, 1000);
        assert!(reader.definition_count > 5 * reader.lengths.len());
    }
}

#[test]
fn the_reverse_of_a_flow_has_source_and_destination_as_its_packets() {
    let Data::Flow(flow) = data(0b11100) else {
        panic!("a flow");
    };
    let reverse = flow.reverse();
    assert_eq!(
        (reverse.src, reverse.sport, reverse.dst, reverse.dport),
        (address("192.0.2.1"), 53, address("203.0.113.1"), 2048)
    );
    let nat = reverse.nat.expect("it is translated back");
    assert_eq!(
        (nat.src, nat.sport, nat.dst, nat.dport),
        (address("192.0.2.1"), 53, address("10.0.0.1"), 1024)
    );
    assert_eq!(reverse.reverse(), flow);
}
