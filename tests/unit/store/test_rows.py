"""Rows: what goes in comes out, whatever SQLite makes of it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn_server.domain.model import ChangeDetail, DeletedWhy
from sojourn_server.store.ranges import kept_intervals
from sojourn_server.store.rows import (
    change_of,
    detail_blob,
    held_blob,
    held_of,
    nonce_column,
    try_uid_blob,
    uid_blob,
)


@given(st.uuids())
def test_a_uid_is_kept_in_sixteen_bytes(uid: uuid.UUID) -> None:
    assert uid_blob(str(uid)) == uid.bytes
    change = change_of((1, 0, 0, 0, "", 1, uid.bytes, None, None, None))
    assert change.uid == str(uid)


@pytest.mark.parametrize("text", ["", "no uid", "0" * 32, "0" * 36, "g" * 36, " " * 36, "-" * 36])
def test_what_is_no_uid_is_refused(text: str) -> None:
    assert try_uid_blob(text) is None
    with pytest.raises(ValueError, match=r"."):
        uid_blob(text)


@given(st.integers(min_value=0, max_value=(1 << 64) - 1))
def test_a_nonce_of_sixty_four_bits_fits_a_signed_column(nonce: int) -> None:
    column = nonce_column(nonce)
    assert -(1 << 63) <= column < 1 << 63
    assert change_of((1, 0, column, 0, "", 1, None, None, None, None)).nonce == nonce


def test_a_detail_that_says_nothing_takes_no_room() -> None:
    assert detail_blob(ChangeDetail()) is None
    detail = ChangeDetail(deleted_why=DeletedWhy.APP)
    row = (1, 0, 0, 0, "", 1, None, None, None, detail_blob(detail))
    assert change_of(row).detail == detail


def test_held_ids_come_back() -> None:
    assert held_blob(()) is None
    assert held_of(held_blob((5, 1 << 60))) == (5, 1 << 60)
    assert held_of(None) == ()


RANGES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=4,
)


@given(st.integers(0, 30), st.integers(0, 30), RANGES)
def test_kept_intervals_are_what_no_range_has_removed(
    low: int, high: int, removed: list[tuple[int, int]]
) -> None:
    kept = kept_intervals(low, high, removed)
    numbers = [number for first, last in kept for number in range(first, last + 1)]
    assert numbers == [
        number
        for number in range(low, high + 1)
        if not any(first <= number <= last for first, last in removed)
    ]
    assert all(first <= last for first, last in kept)
