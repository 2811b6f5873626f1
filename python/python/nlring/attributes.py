"""Attributes, the typed values inside a message: `Attr` is one, `AttrParser` finds them in bytes.

`NLA_F_NESTED` marks a type whose value is attributes, `NLA_F_NET_BYTEORDER` one whose value is in network byte order.
`NLA_ALIGN(x)` rounds a length up to `NLA_ALIGNTO`. `ATTR_HDRLEN` is the size of an attribute's header in bytes. The
types `TYPE_*` say what kind of value a type can have.
"""

from __future__ import annotations

from operator import index
from struct import calcsize, pack, unpack
from typing import Any, Callable
from collections.abc import Iterator

from nlring import _nlring
from nlring._binary import BytesLike, HasBinary, HasData, binary, data, from_bytes_like, is_unsigned
from nlring.constants import PYMNL_ALIGN

NLA_F_NESTED = 1 << 15
NLA_F_NET_BYTEORDER = 1 << 14
NLA_TYPE_MASK = ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER)

NLA_ALIGNTO = 4
NLA_ALIGN = PYMNL_ALIGN(NLA_ALIGNTO)

header_format = "HH"
"""The header of an attribute for `struct.pack`: length, type."""

ATTR_HDRLEN = NLA_ALIGN(calcsize(header_format))

TYPE_UNSPEC = 0
TYPE_U8 = 1
TYPE_U16 = 2
TYPE_U32 = 3
TYPE_U64 = 4
TYPE_STRING = 5
TYPE_FLAG = 6
TYPE_MSECS = 7
TYPE_NESTED = 8
TYPE_NESTED_COMPAT = 9
TYPE_NUL_STRING = 10
TYPE_BINARY = 11
TYPE_MAX = 12

MAX_VALUE_BYTES = 0xFFFF - ATTR_HDRLEN
"""The longest value: a header states its attribute's length in 16 bits."""


class Attr:
    """An attribute: a type and a value.

    The value is bytes. The `new_*` methods make it from numbers and strings, and the `get_*` methods read it as one.
    """

    _type: int
    _value: bytes

    def __init__(
        self,
        type: int | None = None,
        value: BytesLike | None = None,
        packed_data: BytesLike | None = None,
    ) -> None:
        """Makes an attribute of a type and a value, or reads one from `packed_data`.

        type: the type (0 to 65535), with `NLA_F_NESTED` or `NLA_F_NET_BYTEORDER` if they apply. None is 0.
        value: the value as bytes. None is no bytes.
        packed_data: an attribute with its header, as `get_binary()` returns it and as the kernel sends it. Bytes after
            its end, such as padding, are ignored.

        Raises ValueError if a number is out of range, or if the length in the header cannot be right.
        """
        if packed_data is not None and len(packed_data):
            self._read(from_bytes_like(packed_data))
        else:
            self.set(type, value)

    def _read(self, data: bytes) -> None:
        if len(data) < ATTR_HDRLEN:
            raise ValueError(f"an attribute has {ATTR_HDRLEN} bytes or more, not {len(data)}")
        length, self._type = unpack(header_format, data[:ATTR_HDRLEN])
        if not ATTR_HDRLEN <= length <= len(data):
            raise ValueError(f"an attribute states {length} bytes where {len(data)} are left")
        self._value = data[ATTR_HDRLEN:length]

    def __len__(self) -> int:
        """The size of the attribute in a message, in bytes: header, value, padding."""
        return ATTR_HDRLEN + NLA_ALIGN(self.get_value_len())

    def __repr__(self) -> str:
        return f"Attr(type={self._type:#x}, value={self._value!r})"

    def get_value_len(self) -> int:
        """The size of the value in bytes, without padding."""
        return len(self._value)

    @classmethod
    def new_u8(cls, type: int, value: int) -> Attr:
        """An attribute with a number of 8 bits. Raises TypeError if `value` is no such number."""
        return cls(type, pack("B", _integer(value, 8)))

    @classmethod
    def new_u16(cls, type: int, value: int) -> Attr:
        """An attribute with a number of 16 bits in host order. Raises TypeError if `value` is no such number."""
        return cls(type, pack("H", _integer(value, 16)))

    @classmethod
    def new_u32(cls, type: int, value: int) -> Attr:
        """An attribute with a number of 32 bits in host order. Raises TypeError if `value` is no such number."""
        return cls(type, pack("I", _integer(value, 32)))

    @classmethod
    def new_u64(cls, type: int, value: int) -> Attr:
        """An attribute with a number of 64 bits in host order. Raises TypeError if `value` is no such number."""
        return cls(type, pack("Q", _integer(value, 64)))

    @classmethod
    def new_str(cls, type: int, value: bytes) -> Attr:
        """An attribute with a string, without a NUL at its end. Raises TypeError if `value` is not bytes."""
        return cls(type, _string(value))

    @classmethod
    def new_strz(cls, type: int, value: bytes) -> Attr:
        """An attribute with a string, to which this adds a NUL. Raises TypeError if `value` is not bytes."""
        return cls(type, _string(value) + b"\0")

    def set(self, type: int | None, value: BytesLike | None) -> None:
        """Sets the type and the value. None is type 0, and a value of no bytes.

        Raises ValueError if the type is not from 0 to 65535, or the value has more than 65531 bytes.
        """
        number = TYPE_UNSPEC if type is None else type
        contents = b"" if value is None else from_bytes_like(value)
        if not is_unsigned(number, 16):
            raise ValueError(f"the type of an attribute is from 0 to 65535, not {number}")
        if len(contents) > MAX_VALUE_BYTES:
            raise ValueError(
                f"the value of an attribute has up to {MAX_VALUE_BYTES} bytes, not {len(contents)}"
            )
        self._type = number
        self._value = contents

    def get_type(self) -> int:
        """The type, without the flags for nesting and byte order."""
        return self._type & NLA_TYPE_MASK

    def type_valid(self) -> bool:
        """Whether the type is one of `TYPE_*`, that is at most `TYPE_MAX`."""
        return self.get_type() <= TYPE_MAX

    def get_u8(self) -> int:
        """The value as a number of 8 bits. Raises TypeError if it has another size."""
        return self._number("B", 8)

    def get_u16(self) -> int:
        """The value as a number of 16 bits in host order. Raises TypeError if it has another size."""
        return self._number("H", 16)

    def get_u32(self) -> int:
        """The value as a number of 32 bits in host order. Raises TypeError if it has another size."""
        return self._number("I", 32)

    def get_u64(self) -> int:
        """The value as a number of 64 bits in host order. Raises TypeError if it has another size."""
        return self._number("Q", 64)

    def _number(self, format: str, bits: int) -> int:
        if self.get_value_len() * 8 != bits:
            raise TypeError(f"the value has {self.get_value_len()} bytes and is no {bits}-bit number")
        number: int = unpack(format, self._value)[0]
        return number

    def get_str(self) -> bytes:
        """The value as a string of bytes, with its NUL if it has one.

        Raises TypeError if the value has no bytes, or if the type is `TYPE_NUL_STRING` and no NUL is at the end.
        """
        if not self._value:
            raise TypeError("the value has no bytes and is no string")
        if self.get_type() == TYPE_NUL_STRING and not self._value.endswith(b"\0"):
            raise TypeError("the value does not end with a NUL, as its type TYPE_NUL_STRING says")
        return self._value

    def get_str_stripped(self) -> bytes:
        """As `get_str()`, without the NUL at the end."""
        value = self.get_str()
        return value[:-1] if value.endswith(b"\0") else value

    def get_binary(self) -> bytes:
        """The attribute as it stands in a message: header, value, and zeroes up to a multiple of `NLA_ALIGNTO`."""
        header = pack(header_format, ATTR_HDRLEN + self.get_value_len(), self._type)
        return (header + self._value).ljust(len(self), b"\0")

    def get_data(self) -> bytes:
        """The value as bytes, without padding."""
        return self._value

    def toggle_nested(self) -> None:
        """Adds the flag `NLA_F_NESTED` to the type, or removes it."""
        self._type ^= NLA_F_NESTED

    def is_nested(self) -> bool:
        """Whether the type has the flag `NLA_F_NESTED`. Many parts of the kernel nest attributes without it."""
        return bool(self._type & NLA_F_NESTED)


class AttrParser:
    """Finds attributes in bytes, and calls a function for each type that has one.

    A subclass fills `self._cb`, a dictionary from types to functions that take an `Attr`. Attributes without a function
    are returned.
    """

    def __init__(self, data_obj: HasBinary | None = None, offset: int = 0) -> None:
        """Parses `data_obj` at once if there is one, as `parse` does; `get_attrs()` then has the attributes."""
        self._attributes: Any = []
        self._cb: dict[int, Callable[[Attr], object]] = {}
        if data_obj:
            self._attributes = self.parse(data_obj, offset)

    def parse_string(self, data: BytesLike, offset: int = 0) -> Iterator[Attr]:
        """Yields the attributes of `data`, which begin at `offset`.

        Raises ValueError, before the first attribute is yielded, if the length of an attribute cannot be right.
        """
        for type, value in _nlring.split_attributes(from_bytes_like(data), offset):
            yield Attr(type, value)

    def parse(self, data_obj: HasBinary, offset: int = 0) -> Any:
        """Calls the function of each attribute's type, and returns a list of the attributes whose types have none.

        data_obj: an object with attributes and `get_binary()`, such as a `Payload`.
        offset: where its attributes begin, which is the size of the extra header before them.
        """
        unclaimed = []
        for attr in self.parse_string(binary(data_obj), offset):
            if attr.get_type() in self._cb:
                self._cb[attr.get_type()](attr)
            else:
                unclaimed.append(attr)
        return unclaimed

    def parse_nested(self, data_obj: HasData) -> list[Attr]:
        """The attributes inside an attribute, without calling functions.

        data_obj: an object with attributes and `get_data()`, such as an `Attr`.
        """
        return list(self.parse_string(data(data_obj)))

    def get_attrs(self) -> Any:
        """The attributes that were found when the parser was made with an object. A subclass may keep others here."""
        return self._attributes


def _integer(value: int, bits: int) -> int:
    number = index(value)
    if not is_unsigned(number, bits):
        raise TypeError(f"{number} is no unsigned number of {bits} bits")
    return number


def _string(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"a string of bytes is required, not '{type(value).__name__}'")
    return value
