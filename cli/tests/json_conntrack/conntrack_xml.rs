//! Turns an event of `conntrack -E -o xml` into the object that `--json` should have for it.

use serde_json::{Map, Value, json};

/// An XML element as conntrack writes it: without escapes, and without spaces in attributes.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn parse(text: &str) -> Self {
        Self::take(&mut text.trim_start())
    }

    /// Parses an element at the beginning of the text, and advances the text.
    fn take(text: &mut &str) -> Self {
        let tag = take_until(text, '>');
        let (tag, is_empty) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let mut words = tag.trim_start_matches('<').split(' ');
        let mut element = Self {
            name: words.next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        let attributes = words.filter_map(|word| word.split_once('='));
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.replace('"', "")));
        element.attributes = attributes.collect();
        if !is_empty {
            element.take_content(text);
        }
        element
    }

    /// Parses the content of the element and its closing tag.
    fn take_content(&mut self, text: &mut &str) {
        loop {
            let (words, tag) = text.split_at(text.find('<').expect("a tag"));
            self.text += words;
            *text = tag;
            if tag.starts_with("</") {
                assert_eq!(take_until(text, '>'), format!("</{}", self.name));
                return;
            }
            self.children.push(Self::take(text));
        }
    }

    #[track_caller]
    fn attribute(&self, name: &str) -> &str {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("{name}: {self:?}")).1
    }

    #[track_caller]
    fn child(&self, name: &str) -> &Element {
        let found = self.children.iter().find(|child| child.name == name);
        found.unwrap_or_else(|| panic!("{name}: {self:?}"))
    }

    /// The element's number, hexadecimal after 0x.
    #[track_caller]
    fn number(&self) -> u64 {
        let number = match self.text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => self.text.parse(),
        };
        number.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn unknown(&self) -> ! {
        panic!("conntrack says what this test does not know: {self:?}");
    }
}

fn take_until<'a>(text: &mut &'a str, end: char) -> &'a str {
    let (taken, rest) = text.split_once(end).expect("its end");
    *text = rest;
    taken
}

/// The flow in a line. Besides the names of `--json` it has `when_s`, `is_assured` and `is_unreplied`.
pub fn flow(line: &str) -> Value {
    let (xml, program) = line.split_once("</flow>").expect("a flow");
    let flow = Element::parse(&format!("{xml}</flow>"));
    let mut object = Map::new();
    object.insert("event".into(), flow.attribute("type").into());
    object.insert("is_assured".into(), false.into());
    object.insert("is_unreplied".into(), false.into());
    for part in &flow.children {
        match part.name.as_str() {
            "meta" => add_part(&mut object, part),
            "when" => add_when(&mut object, part),
            "helper" => drop(object.insert("helper".into(), part.text.as_str().into())),
            _ => part.unknown(),
        }
    }
    add_port_id(&mut object, program);
    object.into()
}

/// Adds a direction, or the fields of both.
fn add_part(object: &mut Map<String, Value>, part: &Element) {
    match part.attribute("direction") {
        "original" => add_direction(object, "orig", part),
        "reply" => add_direction(object, "reply", part),
        "independent" => part
            .children
            .iter()
            .for_each(|field| add_field(object, field)),
        _ => part.unknown(),
    }
}

fn add_direction(object: &mut Map<String, Value>, name: &str, part: &Element) {
    let mut direction = Map::new();
    for element in &part.children {
        match element.name.as_str() {
            "layer3" => {
                object.insert("family".into(), element.attribute("protoname").into());
                add_addresses_or_ports(&mut direction, element);
            }
            "layer4" => {
                object.insert("proto".into(), protocol(element));
                add_addresses_or_ports(&mut direction, element);
            }
            "counters" => add_addresses_or_ports(&mut direction, element),
            "zone" => {
                object.insert("zone".into(), element.number().into());
                object.insert("zone_direction".into(), name.into());
            }
            _ => element.unknown(),
        }
    }
    object.insert(name.into(), direction.into());
}

/// The protocol's name, or its number if conntrack has no name for it.
fn protocol(layer4: &Element) -> Value {
    match layer4.attribute("protoname") {
        "unknown" => layer4.attribute("protonum").into(),
        name => name.into(),
    }
}

fn add_addresses_or_ports(direction: &mut Map<String, Value>, element: &Element) {
    for field in &element.children {
        let value = match field.name.as_str() {
            "src" | "dst" => field.text.as_str().into(),
            "sport" | "dport" | "srckey" | "dstkey" | "packets" | "bytes" => field.number().into(),
            _ => field.unknown(),
        };
        direction.insert(field.name.clone(), value);
    }
}

fn add_field(object: &mut Map<String, Value>, field: &Element) {
    let (name, value): (&str, Value) = match field.name.as_str() {
        "state" => ("state", field.text.as_str().into()),
        "timeout" => ("timeout_s", field.number().into()),
        "mark" => ("mark", field.number().into()),
        "zone" => ("zone", field.number().into()),
        "id" => ("id", field.number().into()),
        "assured" => ("is_assured", true.into()),
        "unreplied" => ("is_unreplied", true.into()),
        "labels" => {
            let labels = field.children.iter().map(|label| label.text.as_str());
            ("labels", labels.collect::<Vec<_>>().into())
        }
        "timestamp" => {
            object.insert("start_ns".into(), field.child("start").number().into());
            ("stop_ns", field.child("stop").number().into())
        }
        "deltatime" => ("delta_s", field.number().into()),
        _ => field.unknown(),
    };
    object.insert(name.into(), value);
}

/// Adds the time at which conntrack read the event, in UTC.
fn add_when(object: &mut Map<String, Value>, when: &Element) {
    let [year, month, day] = ["year", "month", "day"].map(|name| when.child(name).number());
    let [hour, min, sec] = ["hour", "min", "sec"].map(|name| when.child(name).number());
    let time = format!("{year}-{month:02}-{day:02}T{hour:02}:{min:02}:{sec:02}Z");
    let time: jiff::Timestamp = time.parse().expect("a time");
    object.insert("when_s".into(), time.as_second().into());
}

/// ` [USERSPACE] portid=1803 progname=conntrack`, or nothing.
fn add_port_id(object: &mut Map<String, Value>, program: &str) {
    let port_id = program
        .split(' ')
        .find_map(|word| word.strip_prefix("portid="));
    if let Some(port_id) = port_id {
        let port_id: u32 = port_id.parse().expect("a port ID");
        object.insert("port_id".into(), port_id.into());
    }
}

/// The expectation in a line. Besides the names of `--json` it has `when_s`.
pub fn expectation(line: &str) -> Value {
    let (xml, program) = line.split_once("</flow>").expect("an expectation");
    let expectation = Element::parse(&format!("{xml}</flow>"));
    let mut object = Map::new();
    let event = format!("expect-{}", expectation.attribute("type"));
    object.insert("event".into(), event.into());
    let [layer3, layer4] = ["layer3", "layer4"].map(|layer| expectation.child(layer));
    object.insert("family".into(), layer3.attribute("protoname").into());
    object.insert("proto".into(), protocol(layer4));
    for tuple in layer3.children.iter().chain(&layer4.children) {
        let fields = object
            .entry(tuple.name.as_str())
            .or_insert_with(|| json!({}));
        add_addresses_or_ports(fields.as_object_mut().expect("a tuple"), tuple);
    }
    for field in &expectation.child("meta").children {
        let (name, value): (&str, Value) = match field.name.as_str() {
            "helper-name" => ("helper", field.text.as_str().into()),
            "timeout" => ("timeout_s", field.number().into()),
            "class" => ("class", field.number().into()),
            "zone" => ("zone", field.number().into()),
            "when" => {
                add_when(&mut object, field);
                continue;
            }
            _ => field.unknown(),
        };
        object.insert(name.into(), value);
    }
    add_port_id(&mut object, program);
    object.into()
}
