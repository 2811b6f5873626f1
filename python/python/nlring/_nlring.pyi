"""The native part of nlring. Use the names of the package `nlring` instead."""

__all__ = ["buffer_size"]

def buffer_size() -> int:
    """The size in bytes of a buffer that holds any answer except a dump: the smaller of 8 KiB and the page size."""
