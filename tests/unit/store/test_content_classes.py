"""Size classes: a row never changes its size, and wastes little."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn_server.store.sqlite.content import CLASS_BITS, SIZES, class_of, pad, unpad


def test_sizes_ascend_by_at_most_a_half() -> None:
    assert SIZES[:6] == (64, 96, 128, 192, 256, 384)
    for small, large in itertools.pairwise(SIZES):
        assert small < large <= small * 3 // 2
    assert len(SIZES) <= 1 << CLASS_BITS


@given(st.integers(min_value=0, max_value=1 << 24))
def test_a_class_is_the_smallest_that_holds_the_content_and_its_length(length: int) -> None:
    size_class = class_of(length)
    assert SIZES[size_class] >= length + 4
    assert size_class == 0 or SIZES[size_class - 1] < length + 4


@pytest.mark.parametrize("size", SIZES[:20])
def test_classes_change_exactly_at_their_sizes(size: int) -> None:
    assert SIZES[class_of(size - 4)] == size
    assert SIZES[class_of(size - 3)] > size


@given(st.binary(max_size=5_000))
def test_padding_keeps_the_bytes_and_fills_the_class(data: bytes) -> None:
    row = pad(data, class_of(len(data)))
    assert len(row) == SIZES[class_of(len(data))]
    assert unpad(row) == data


def test_zeros_are_empty_content() -> None:
    assert unpad(b"\0" * SIZES[0]) == b""


def test_content_beyond_every_class_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        class_of(SIZES[-1])
