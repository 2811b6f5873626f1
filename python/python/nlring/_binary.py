"""What is sent: bytes, or an object that makes them."""

from __future__ import annotations

from typing import Protocol, Union


class HasBinary(Protocol):
    """An object that can be sent, such as a `Message`, a `Payload` or an extra header of the program's own."""

    def get_binary(self) -> bytes: ...


class HasData(Protocol):
    """An object that holds bytes without padding, such as an `Attr` or a `Payload`."""

    def get_data(self) -> bytes: ...


BytesLike = Union[bytes, bytearray, memoryview]


def from_bytes_like(data: BytesLike) -> bytes:
    """The bytes of a bytes-like object. TypeError for anything else, also for numbers and text."""
    return data if isinstance(data, bytes) else bytes(memoryview(data))


def binary(contents: BytesLike | HasBinary) -> bytes:
    """The bytes of a bytes-like object, or those that `get_binary()` returns. TypeError for anything else."""
    if isinstance(contents, (bytes, bytearray, memoryview)):
        return from_bytes_like(contents)
    return _answer(contents, "get_binary")


def data(contents: HasData) -> bytes:
    """The bytes that `get_data()` returns. TypeError if the object has no such method."""
    return _answer(contents, "get_data")


def _answer(contents: object, method: str) -> bytes:
    function = getattr(contents, method, None)
    if function is None:
        raise TypeError(f"an object with {method}() is required, not '{type(contents).__name__}'")
    return from_bytes_like(function())


def is_unsigned(number: int, bits: int) -> bool:
    """Whether `number` fits into this many bits without a sign. TypeError if it is no integer."""
    return number & ((1 << bits) - 1) == number
