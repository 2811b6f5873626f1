//! Any bytes become lines that are valid and cannot manipulate a terminal.

use nlring::{MessageBuilder, MessageList, Timestamp};
use nlring_testing::Random;
use serde_json::Value;

use crate::monitor::MonitorFormat;
use crate::route::{DeviceNames, IprouteNames, RouteFormat, TextOptions};
use crate::text::is_steering;

/// The types of messages that the formats know, and two that they do not.
const TYPES: [u16; 17] = [
    16, 17, 20, 21, 24, 25, 28, 29, 30, 32, 33, 80, 81, 104, 105, 36, 116,
];

fn formats() -> [MonitorFormat; 2] {
    let names = IprouteNames::built_in;
    let timestamp = None;
    let text = TextOptions {
        names: names(),
        timestamp,
    };
    [
        MonitorFormat::new(RouteFormat::Text(Box::new(text))).labels(true),
        MonitorFormat::new(RouteFormat::Json(Box::new(names()))),
    ]
}

/// Asserts that the lines of all messages in these bytes are as they should be.
#[track_caller]
fn assert_fine([text, json]: &[MonitorFormat; 2], bytes: &[u8]) {
    let (devices, mut line) = (DeviceNames::default(), Vec::new());
    for message in &MessageList::new(bytes) {
        line.clear();
        if !text.write_event(&mut line, &message, &devices, Timestamp::UNIX_EPOCH) {
            continue; // an entry of the route cache
        }
        let written = str::from_utf8(&line).expect("UTF-8");
        assert!(written.ends_with('\n'), "{written:?}");
        let is_bad = |character| is_steering(character) && !matches!(character, '\n' | '\t');
        assert!(!written.contains(is_bad), "{written:?}");

        line.clear();
        assert!(json.write_event(&mut line, &message, &devices, Timestamp::UNIX_EPOCH));
        let written = str::from_utf8(&line).expect("UTF-8");
        let object: Value =
            serde_json::from_str(written).unwrap_or_else(|error| panic!("{error}: {written}"));
        assert!(object["object"].is_string() && object["event"].is_string());
        assert!(
            !written.trim_end_matches('\n').contains(is_steering),
            "{written:?}"
        );
    }
}

/// A message with random attributes, half of which have the length of a number or an address.
fn random_message(random: &mut Random) -> Vec<u8> {
    let message_type = TYPES[random.index(TYPES.len())];
    let mut fixed: Vec<u8> = (0..16).map(|_| random.byte()).collect();
    fixed[0] = [0, 2, 7, 10, 28, 128, 129, 77][random.index(8)];
    let length = [16, 8, 12, 12, 4, random.index(17)][random.index(6)];
    let mut bytes = Vec::new();
    let mut message = MessageBuilder::new(&mut bytes, message_type, 0).bytes(&fixed[..length]);
    for _ in 0..random.below(12) {
        let length = match random.below(3) {
            0 => [1, 2, 4, 8, 16][random.index(5)],
            1 => random.index(64),
            _ => 0,
        };
        let value: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        let number = u16::try_from(random.below(60)).expect("a small number");
        message = if length == 0 {
            let inner = u16::try_from(random.below(12)).expect("a small number");
            message.nested(number, |nested| {
                let value: [u8; 24] = std::array::from_fn(|_| random.byte());
                nested.attribute(inner, &value)
            })
        } else {
            message.attribute(number, &value)
        };
    }
    message.finish().expect("a short message");
    bytes
}

#[test]
fn random_and_cut_messages_become_valid_lines() {
    let (mut random, formats) = (Random::new(7), formats());
    for _ in 0..20_000 {
        let bytes = random_message(&mut random);
        assert_fine(&formats, &bytes);
        let mut cut = bytes[..16 + random.index(bytes.len() - 15)].to_vec();
        let length = u32::try_from(cut.len()).expect("a short message");
        cut[..4].copy_from_slice(&length.to_ne_bytes());
        assert_fine(&formats, &cut);
    }
}

#[test]
fn encapsulations_of_any_type_and_bytes_are_valid_json() {
    let (mut random, formats) = (Random::new(9), formats());
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        let encap_type = u16::try_from(random.below(13)).expect("a small number");
        MessageBuilder::new(&mut bytes, 24, 0)
            .bytes(&[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
            .attribute(21, &encap_type.to_ne_bytes())
            .nested(22, |mut encap| {
                for _ in 0..random.below(6) {
                    let number = u16::try_from(random.below(13)).expect("a small number");
                    let length = [1, 2, 4, 8, 16, 48][random.index(6)];
                    let value: Vec<u8> = (0..length).map(|_| random.byte()).collect();
                    encap = encap.attribute(number, &value);
                }
                encap
            })
            .finish()
            .expect("a short message");
        assert_fine(&formats, &bytes);
    }
}

#[test]
fn a_message_that_cannot_be_read_is_shown_with_all_its_bytes() {
    let (mut line, [text, json]) = (Vec::new(), formats());
    let mut bytes = Vec::new();
    let message = MessageBuilder::new(&mut bytes, 36, 5).bytes(&[0xab, 0, 0, 0xff]);
    message.finish().expect("a short message");
    let devices = DeviceNames::default();
    for message in &MessageList::new(&bytes) {
        text.write_event(&mut line, &message, &devices, Timestamp::UNIX_EPOCH);
        json.write_event(&mut line, &message, &devices, Timestamp::UNIX_EPOCH);
    }
    let written = String::from_utf8(line).expect("UTF-8");
    let start = "Unknown message: type=0x00000024(36) flags=0x00000005(5) len=0x00000014(20) ";
    assert!(written.starts_with(start), "{written}");
    assert!(written.contains("ab0000ff\n{"), "{written}");
    assert!(
        written.contains(r#""message_type":36,"hex":""#),
        "{written}"
    );
    assert!(written.ends_with("ab0000ff\"}\n"), "{written}");
}
