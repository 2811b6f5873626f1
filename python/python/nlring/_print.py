"""A payload as lines of text, in the form that libmnl's `mnl_nlmsg_fprintf` prints."""

from __future__ import annotations

from struct import unpack
from collections.abc import Iterator

from nlring.attributes import (
    ATTR_HDRLEN,
    NLA_ALIGN,
    NLA_F_NESTED,
    NLA_F_NET_BYTEORDER,
    NLA_TYPE_MASK,
    header_format,
)


def payload_lines(data: bytes, is_control: bool, extra_header_bytes: int) -> Iterator[str]:
    """Yields a line for each 4 bytes, whose number must be a multiple of 4. Zeroes where an attribute could begin are
    left out, because no type of most protocols is 0."""
    value_bytes = 0  # what is left of an attribute's value
    for index in range(0, len(data), 4):
        word = data[index : index + 4]
        length, type = unpack(header_format, word)
        if is_control:
            yield f"| {word.hex(' ')}  |\t|                |"
        elif index < extra_header_bytes:
            yield f"| {word.hex(' ')}  |\t|  extra header  |"
        elif value_bytes > 0:
            value_bytes -= 4
            yield f"| {word.hex(' ')}  |\t|      data      |\t{_letters(word)}"
        elif type & NLA_TYPE_MASK:
            length_bytes = NLA_ALIGN(min(length, len(data) - index))
            yield _header(length_bytes, type)
            if not type & NLA_F_NESTED:
                value_bytes = length_bytes - ATTR_HDRLEN
    yield "----------------\t------------------"


def _header(length_bytes: int, type: int) -> str:
    flags = "N" if type & NLA_F_NESTED else "-"
    flags += "B" if type & NLA_F_NET_BYTEORDER else "-"
    length = _colour(31, f"{length_bytes:05}")
    return f"|{length}|{_colour(32, flags)}|{_colour(34, f'{type & NLA_TYPE_MASK:05}')}|\t|len |flags| type|"


def _colour(number: int, text: str) -> str:
    return f"\x1b[1;{number}m{text}\x1b[0m"


def _letters(word: bytes) -> str:
    return "".join(f" {chr(byte) if chr(byte).isalnum() else chr(0)}" for byte in word)
