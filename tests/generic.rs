//! Lookups and dumps of generic netlink families.

use nlring::generic::{HEADER_BYTES, Requests};
use nlring::{Content, ErrorKind, MessageBuilder, Protocol, RecvFlags, Socket};
use nlring_testing::{run, skip};

#[test]
fn the_family_of_all_families_is_found_with_its_group() {
    let mut requests = Requests::open().unwrap();
    let family = requests.get("nlctrl").unwrap();
    assert_eq!((family.id, &family.name[..]), (16, "nlctrl"));
    assert_eq!((family.version, family.header_bytes), (2, 0));
    let number = family.group("notify").unwrap();
    assert_eq!(number, family.groups[0].number);
    let socket = Socket::builder(Protocol::GENERIC).group(number).open();
    assert_eq!(socket.unwrap().groups().unwrap(), [number]);
}

#[test]
fn an_unknown_name_is_not_found_and_the_next_request_works() {
    let mut requests = Requests::open().unwrap();
    let too_long = "n".repeat(300);
    for name in ["none", "", "nlctrl\0", "sixteen-bytes-ab", &too_long] {
        let error = requests.get(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(
            error.to_string().contains(&format!("no family {name:?}")),
            "{error}"
        );
    }
    assert!(requests.get("nlctrl").is_ok());
}

#[test]
fn a_dump_and_a_lookup_return_the_same_families() {
    const NAME: &str = "a_dump_and_a_lookup_return_the_same_families";
    let mut requests = Requests::open().unwrap();
    let families = requests.dump().unwrap().items;
    assert!(families.iter().any(|family| family.name == "nlctrl"));
    for family in &families {
        assert_eq!(&requests.get(&family.name).unwrap(), family);
    }
    let Some(listed) = run("genl", &["ctrl", "list"]) else {
        return skip(NAME, "genl(8) is not installed");
    };
    let listed = String::from_utf8(listed.stdout).expect("text");
    let mut names: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("Name: "))
        .collect();
    let mut ours: Vec<_> = families.iter().map(|family| &family.name[..]).collect();
    names.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, names);
}

#[test]
fn a_request_addresses_a_family_by_its_number() {
    let mut requests = Requests::open().unwrap();
    let family = requests.get("nlctrl").unwrap();
    let mut replies = requests
        .requester()
        .send(family.id, 0, |request: MessageBuilder<'_>| {
            let header: [u8; HEADER_BYTES] = [3, 2, 0, 0];
            request.bytes(&header).attribute_u16(1, family.id)
        })
        .unwrap();
    let reply = replies.next_message().unwrap().expect("a family");
    assert!(matches!(reply.content(), Content::Data(_)));
    assert!(replies.next_message().unwrap().is_none());
    let mut buffer = [0; 64];
    let socket = requests.requester().socket();
    let nothing_left = socket.recv(&mut buffer, RecvFlags::DONT_WAIT);
    assert_eq!(nothing_left.unwrap_err().kind(), ErrorKind::WouldBlock);
}
