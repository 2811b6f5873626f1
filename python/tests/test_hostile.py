"""Arguments that nobody should pass: each ends with an exception that a user of Python expects, and never with a panic.

Every public class and function of these modules is found by looking, so that none is forgotten.
"""

import importlib
import inspect
import random
import struct
import types

import pytest

import nlring
from nlring import _nlring

OWN = [f"nlring.{name}" for name in ("constants", "nlsocket", "message", "attributes", "genl")]
NATIVE = [_nlring.Socket, _nlring.buffer_size, _nlring.split_messages, _nlring.split_attributes]
# AttributeError: an object that is no attribute lacks its methods. UnboundLocalError: a message lacks its payload.
EXPECTED = (OSError, ValueError, TypeError, OverflowError, AttributeError, UnboundLocalError)
SEED = 20_250


class Answers:
    """An object with the methods that the package calls, which answer anything."""

    def __init__(self, answer):
        self.answer = answer

    def get_binary(self):
        return self.answer

    get_data = get_binary

    def __repr__(self):
        return f"Answers({self.answer!r:.40})"


def some_bytes(draw):
    if draw.random() < 0.5:
        return draw.randbytes(draw.choice([0, 1, 3, 4, 15, 16, 17, 20, 64, 65_532]))
    attributes = b""
    for _ in range(draw.randrange(4)):
        length = draw.choice([0, 3, 4, 5, 8, 0xFFFF])
        attributes += struct.pack("HH", length, draw.choice([0, 1, 6, 7, 0xFFFF])) + draw.randbytes(4)
    length = draw.choice([0, 15, 16, 17, 16 + len(attributes), 0xFFFFFFFF])
    return struct.pack("IHHII", length, draw.choice([0, 2, 3, 16, 0xFFFF]), 5, 0xFFFFFFFF, 1) + attributes


def some_value(draw):
    kind = draw.randrange(9)
    if kind < 3:
        return draw.choice([0, 1, 2, 4, 7, 12, 16, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1,
                            2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**70]) * draw.choice([1, 1, -1])
    if kind < 5:
        return draw.choice([bytes, bytearray, memoryview])(some_bytes(draw))
    if kind == 5:
        return draw.choice([None, True, 1.5, float("nan"), float("inf"), "", "text", "\ud800", [], {}, (), object()])
    if kind == 6:
        return Answers(some_value(draw) if draw.random() < 0.3 else some_bytes(draw))
    if kind == 7:
        return draw.choice([nlring.attributes.Attr, nlring.message.Payload, len])
    return made(draw, draw.choice(CLASSES))


def arguments_for(draw, function):
    """As many arguments as the function takes, sometimes one more or less."""
    try:
        count = len(inspect.signature(function).parameters)
    except ValueError:
        count = draw.randrange(3)
    count = max(0, count + draw.choice([0, 0, 0, 0, 0, 0, -1, 1]))
    return [some_value(draw) for _ in range(count)]


def made(draw, kind):
    """An object of a class, made of good or bad arguments. None if it cannot be made of them."""
    if kind.__name__ == "Socket":
        return some_socket(kind)
    try:
        return kind(*arguments_for(draw, kind)) if draw.random() < 0.7 else kind()
    except EXPECTED:
        return None


def some_socket(kind):
    """A socket that does not wait for long, on a protocol where nobody listens."""
    sock = kind(nlring.NETLINK_USERSOCK)
    if hasattr(sock, "get_sock"):
        sock.get_sock().settimeout(0.001)
    return sock


def public(module):
    for name, value in vars(module).items():
        is_public = getattr(value, "__module__", None) in OWN
        if not name.startswith("_") and is_public:
            yield value


def methods(kind):
    names = {name for base in kind.__mro__ if base not in (object, list) for name in vars(base)}
    for name in sorted(names):
        is_called = not name.startswith("_") or name in ("__init__", "__len__", "__repr__", "__enter__")
        if is_called and callable(getattr(kind, name)):
            yield name


FOUND = NATIVE + [value for name in OWN for value in public(importlib.import_module(name))]
CLASSES = sorted(
    {value for value in FOUND if isinstance(value, type)},
    key=lambda kind: kind.__module__ + kind.__name__,
)
FUNCTIONS = [value for value in FOUND if isinstance(value, (types.FunctionType, types.BuiltinFunctionType))]


def calls(draw):
    """A function to call, or a method of an object that was made for it."""
    if draw.random() < 0.2:
        return draw.choice(FUNCTIONS)
    kind = draw.choice(CLASSES)
    subject = made(draw, kind)
    return getattr(subject, draw.choice(list(methods(kind)))) if subject is not None else kind


def timed(function, arguments):
    """The arguments, with a short time-out for the one function that would wait."""
    if getattr(function, "__name__", "") == "recv" and type(function.__self__).__module__ == "nlring._nlring":
        return [*arguments[:2], *([0] if len(arguments) < 2 else []), 0.001]
    return arguments


def test_the_public_names_are_found():
    names = {kind.__name__ for kind in CLASSES}
    assert {"Socket", "Message", "Payload", "MessageList", "Attr", "AttrParser", "GenlMessageHeader",
            "GenlFamilyAttrParser"} <= names
    assert {"PYMNL_ALIGN", "split_messages", "split_attributes", "buffer_size"} <= {f.__name__ for f in FUNCTIONS}


@pytest.mark.parametrize("part", range(4))
def test_any_arguments_end_with_a_result_or_an_expected_exception(part, capsys):
    draw = random.Random(SEED + part)
    raised = {}
    for number in range(5_000):
        function = calls(draw)
        arguments = timed(function, arguments_for(draw, function))
        try:
            function(*arguments)
        except EXPECTED as error:
            raised[type(error)] = raised.get(type(error), 0) + 1
        except BaseException as error:
            pytest.fail(f"call {number} of seed {SEED + part}: {function!r}{tuple(arguments)!r:.300} raised {error!r}")
    capsys.readouterr()
    assert {TypeError, ValueError, OverflowError} <= raised.keys(), raised
    assert sum(raised.values()) < 4_500, raised


def test_random_datagrams_are_split_as_the_rules_say():
    draw = random.Random(SEED)
    for _ in range(5_000):
        datagram = some_bytes(draw)
        messages = nlring.message.MessageList(datagram)
        place = 0
        for message in messages:
            length = struct.unpack_from("I", datagram, place)[0]
            assert 16 <= length <= len(datagram) - place
            assert len(message) == length
            assert message.get_payload().get_data() == datagram[place + 16:place + length]
            place += (length + 3) & ~3
        assert (messages.malformed is None) == (place >= len(datagram))


def test_random_messages_come_back_as_they_were():
    draw = random.Random(SEED)
    for _ in range(2_000):
        message = nlring.message.Message()
        fields = [draw.getrandbits(bits) for bits in (16, 16, 32, 32)]
        for set_field, value in zip(
            (message.set_type, message.set_flags, message.set_seq, message.set_portid), fields
        ):
            set_field(value)
        payload = nlring.message.Payload(draw.randbytes(draw.choice([0, 4, 20])))
        attrs = [(draw.getrandbits(16), draw.randbytes(draw.randrange(20))) for _ in range(draw.randrange(5))]
        for attr in attrs:
            payload.add_attr(nlring.attributes.Attr(*attr))
        header_bytes = len(payload) - sum(len(nlring.attributes.Attr(*attr)) for attr in attrs)
        message.add_payload(payload)
        (back,) = nlring.message.MessageList(message.get_binary())
        for one in (back, nlring.message.Message(message.get_binary())):
            assert [one.get_type(), one.get_flags(), one.get_seq(), one.get_portid()] == fields
            assert one.ok()
            found = nlring.attributes.AttrParser(one.get_payload(), header_bytes).get_attrs()
            assert [(attr._type, attr.get_data()) for attr in found] == attrs


