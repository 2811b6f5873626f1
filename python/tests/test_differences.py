"""The differences from pymnl that docs/python-pymnl.md lists, apart from those of sockets."""

import errno
import struct

import pytest

from nlring import genl
from nlring.attributes import TYPE_STRING, TYPE_U8, Attr, AttrParser
from nlring.message import NLMSG_DONE, NLMSG_ERROR, Message, MessageList, Payload


def raw_message(length, payload=b"", type=16):
    return struct.pack("IHHII", length, type, 0x8001, 0xFFFFFFFF, 0xFFFFFFFE) + payload


def raw_attr(length, type, value=b""):
    return struct.pack("HH", length, type) + value


def with_payload(type, payload):
    message = Message()
    message.set_type(type)
    message.add_payload(payload)
    return message


def test_fields_that_were_read_have_no_sign():
    for message in (Message(raw_message(16, type=0xFFFF)), MessageList(raw_message(16, type=0xFFFF))[0]):
        fields = (message.get_type(), message.get_flags(), message.get_seq(), message.get_portid())
        assert fields == (0xFFFF, 0x8001, 0xFFFFFFFF, 0xFFFFFFFE)
        assert message.get_binary() == raw_message(16, type=0xFFFF)


def test_the_length_of_a_message_is_without_the_padding():
    message = with_payload(16, b"ab")
    assert len(message) == 18
    assert message.get_binary() == struct.pack("IHHII", 18, 16, 0, 0, 0) + b"ab\0\0"


def test_a_message_begins_at_a_multiple_of_4():
    messages = MessageList(raw_message(18, b"ab\0\0") + raw_message(17, b"c"))
    assert [message.get_payload().get_data() for message in messages] == [b"ab", b"c"]
    assert (messages.size(), messages.malformed) == (35, None)


@pytest.mark.parametrize(("bad", "reason"), [
    (raw_message(0), "at byte 16: a message states 0 bytes"),
    (raw_message(15), "at byte 16: a message states 15 bytes"),
    (raw_message(17), "at byte 16: a message states 17 bytes where 16 are left"),
    (b"\0" * 5, "at byte 16: 5 bytes are left"),
])
def test_a_length_that_cannot_be_right_ends_a_list(bad, reason):
    messages = MessageList(raw_message(16) + bad)
    assert len(messages) == 1
    assert messages.malformed.startswith(reason)
    messages.split(raw_message(16))
    assert (len(messages), messages.malformed) == (2, None)


def test_a_message_ends_where_its_length_says_and_ok_tells_whether_that_is_possible():
    message = Message(raw_message(18, b"abcdefgh"))
    assert (message.ok(), message.get_payload().get_data()) == (True, b"ab")
    for length in (0, 15, 21):
        message = Message(raw_message(length, b"abcd"))
        assert (message.ok(), message.get_payload().get_data()) == (False, b"abcd")
    with pytest.raises(ValueError, match="16 bytes or more, not 15"):
        Message(raw_message(16)[:15])
    assert Message(b"").get_payload() is None


def test_an_empty_payload_is_enough():
    assert with_payload(16, b"").get_binary() == struct.pack("IHHII", 16, 16, 0, 0, 0)
    assert with_payload(16, Payload()).get_payload() is not None


def test_the_end_of_a_failed_dump_has_its_error():
    number = struct.pack("i", -errno.EPERM)
    assert with_payload(NLMSG_DONE, number).get_errno() == errno.EPERM
    assert with_payload(NLMSG_DONE, struct.pack("i", 0)).get_errno() == 0
    assert with_payload(NLMSG_DONE, b"").get_errno() == 0
    assert with_payload(16, number).get_errno() == 0


def test_an_error_is_always_a_number_with_a_text():
    assert with_payload(NLMSG_ERROR, b"abc").get_errno() == errno.EBADMSG
    lowest = with_payload(NLMSG_ERROR, struct.pack("i", -(2**31)))
    assert (lowest.get_errno(), lowest.get_errstr()) == (2**31, "Unknown error 2147483648")


def test_a_payload_takes_bytes_like_objects_and_no_text():
    for contents in (b"ab", bytearray(b"ab"), memoryview(b"ab"), Payload(b"ab")):
        assert Payload(contents).get_binary() == b"ab\0\0"
    for contents in ("ab", 2, object()):
        with pytest.raises(TypeError):
            Payload(contents)


def test_an_attribute_follows_an_odd_header_at_a_multiple_of_4():
    payload = Payload(b"x")
    payload.add_attr(Attr.new_u8(1, 2))
    assert payload.get_data() == b"x\0\0\0" + raw_attr(5, 1, b"\2\0\0\0")


def test_printf_prints_an_odd_payload(capsys):
    Payload(b"abcde").printf(16, 8)
    assert capsys.readouterr().out.splitlines() == [
        "| 61 62 63 64  |\t|  extra header  |",
        "| 65 00 00 00  |\t|  extra header  |",
        "----------------\t------------------",
    ]


def test_an_attribute_states_its_length_without_padding():
    assert Attr.new_u8(TYPE_U8, 255).get_binary() == raw_attr(5, TYPE_U8, b"\xff\0\0\0")
    assert len(Attr.new_u8(TYPE_U8, 255)) == 8
    assert Attr(packed_data=raw_attr(5, TYPE_STRING, b"x\0\0\0")).get_str() == b"x"


@pytest.mark.parametrize(("new", "bits"), [
    (Attr.new_u8, 8), (Attr.new_u16, 16), (Attr.new_u32, 32), (Attr.new_u64, 64),
])
def test_a_number_that_does_not_fit_is_a_type_error(new, bits):
    new(1, 2**bits - 1)
    for value in (2**bits, 2**bits + 44, -1, 1.0, "1", None):
        with pytest.raises(TypeError):
            new(1, value)


def test_an_attribute_without_a_value_is_a_flag():
    assert Attr(3).get_binary() == raw_attr(4, 3)
    assert (Attr().get_type(), len(Attr())) == (0, 4)


def test_what_cannot_be_an_attribute_is_a_value_error():
    Attr(0xFFFF, bytes(65531)).get_binary()
    for call in [
        lambda: Attr(0x10000, b""),
        lambda: Attr(-1, b""),
        lambda: Attr(1, bytes(65532)),
        lambda: Attr(packed_data=b"abc"),
        lambda: Attr(packed_data=raw_attr(3, 1)),
        lambda: Attr(packed_data=raw_attr(5, 1)),
    ]:
        with pytest.raises(ValueError, match="attribute"):
            call()


def test_is_nested_is_true_or_false():
    attr = Attr(1, b"")
    assert attr.is_nested() is False
    attr.toggle_nested()
    assert attr.is_nested() is True
    assert attr.get_type() == 1


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_a_length_that_cannot_be_right_is_a_value_error_of_the_parser(length):
    payload = Payload(raw_attr(5, 1, b"x\0\0\0") + raw_attr(length, 2, bytes(4)))
    with pytest.raises(ValueError, match=f"at byte 8: an attribute states {length} bytes"):
        AttrParser(payload)


def test_up_to_3_bytes_behind_the_last_attribute_are_padding():
    assert [attr.get_type() for attr in AttrParser().parse_string(raw_attr(4, 1) + b"\0\0\0")] == [1]


def test_a_key_error_of_a_function_is_raised():
    parser = AttrParser()
    parser._cb = {1: lambda attr: {}[attr.get_type()]}
    with pytest.raises(KeyError):
        parser.parse(Attr(1, b""))
    assert [attr.get_type() for attr in parser.parse(Attr(2, b""))] == [2]


def test_operations_and_groups_are_read_by_type():
    def nested(type, *attrs):
        return Attr(type, b"".join(attr.get_binary() for attr in attrs))

    ops = nested(
        genl.CTRL_ATTR_OPS,
        nested(1, Attr.new_u32(genl.CTRL_ATTR_OP_FLAGS, 14), Attr.new_u32(genl.CTRL_ATTR_OP_ID, 3)),
        nested(2, Attr.new_u32(genl.CTRL_ATTR_OP_ID, 4)),
        nested(3),
    )
    groups = nested(
        genl.CTRL_ATTR_MCAST_GROUPS,
        nested(1, Attr.new_strz(genl.CTRL_ATTR_MCAST_GRP_NAME, b"a"), Attr.new_u32(genl.CTRL_ATTR_MCAST_GRP_ID, 9)),
        nested(2, Attr.new_u32(genl.CTRL_ATTR_MCAST_GRP_ID, 10)),
    )
    payload = Payload()
    for attr in (ops, groups, Attr(99, b"x")):
        payload.add_attr(attr)
    family = genl.GenlFamilyAttrParser(payload).get_attrs()
    assert (family["ops"], family["groups"]) == ({3: 14, 4: 0}, {9: b"a"})
    assert [attr.get_type() for attr in family["unmatched"]] == [99]


def test_a_header_of_generic_netlink_needs_both_numbers():
    for command, version in ((None, 1), (1, None), (256, 1), (1, -1)):
        with pytest.raises(ValueError, match="from 0 to 255"):
            genl.GenlMessageHeader(command, version).get_binary()
