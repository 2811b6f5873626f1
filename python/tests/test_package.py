"""The package as it is installed."""

import resource

from nlring import _nlring


def test_the_native_part_answers():
    assert _nlring.buffer_size() == min(resource.getpagesize(), 8192)
