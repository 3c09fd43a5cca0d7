"""Arrays are sent exactly as the driver itself would send them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from sojourn_server.store.postgres.arrays import (
    Bigints,
    BigintsDumper,
    Blobs,
    BlobsDumper,
    Texts,
    TextsDumper,
    column,
)

BIG = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def by_the_driver(values: list[Any]) -> bytes:
    adapters = psycopg.adapters.__class__(psycopg.adapters)
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(str, StrBinaryDumper)
    transformer = Transformer.from_context(_Context(adapters))
    dumper = ListBinaryDumper(list, _Context(adapters))
    dumper._tx = transformer
    made = dumper.get_key(values, PyFormat.BINARY)
    chosen = dumper.upgrade(values, PyFormat.BINARY)
    assert made
    dumped = chosen.dump(values)
    assert dumped is not None
    return bytes(dumped)


class _Context:
    connection = None

    def __init__(self, adapters: Any) -> None:
        self.adapters = adapters


@given(st.lists(st.none() | BIG, min_size=1).filter(any))
def test_numbers_are_sent_as_the_driver_sends_them(values: list[int | None]) -> None:
    assert bytes(BigintsDumper(Bigints).dump(Bigints(values))) == by_the_driver(values)


@given(st.lists(st.none() | TEXT, min_size=1).filter(any))
def test_texts_are_sent_as_the_driver_sends_them(values: list[str | None]) -> None:
    assert bytes(TextsDumper(Texts).dump(Texts(values))) == by_the_driver(values)


@given(st.lists(st.none() | st.binary(), min_size=1).filter(any))
def test_bytes_are_sent_as_the_driver_sends_them(values: list[bytes | None]) -> None:
    assert bytes(BlobsDumper(Blobs).dump(Blobs(values))) == by_the_driver(values)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([None, 1], Bigints), ([None, "a"], Texts), ([b"", None], Blobs), ([None], Texts)],
)
def test_a_column_is_of_the_type_of_its_values(values: list[Any], kind: type) -> None:
    assert type(column(values)) is kind
