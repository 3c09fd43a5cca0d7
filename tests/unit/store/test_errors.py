"""What SQLite's errors mean: to callers, and to the operator."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Generator

import pytest

from sojourn_server.store.base import StoreDown, StoreFull
from sojourn_server.store.sqlite.errors import as_failure, as_unusable, is_taken
from sojourn_server.store.sqlite.units import drive


def an_error(code: int, name: str = "SQLITE_X") -> sqlite3.Error:
    error = sqlite3.OperationalError("text of the library")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


def test_only_a_full_disk_is_full() -> None:
    assert isinstance(as_failure(an_error(sqlite3.SQLITE_FULL)), StoreFull)
    for code in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_READONLY_DBMOVED,
        sqlite3.SQLITE_NOMEM,
    ):
        failure = as_failure(an_error(code, "SQLITE_NAME"))
        assert isinstance(failure, StoreDown)
        assert "SQLITE_NAME" in str(failure)
        assert "library" not in str(failure)


def test_a_faulty_statement_stays_what_it_is() -> None:
    for code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT_NOTNULL, sqlite3.SQLITE_MISMATCH):
        assert as_failure(an_error(code)) is None


def test_a_unique_key_is_told_from_other_constraints() -> None:
    assert is_taken(an_error(sqlite3.SQLITE_CONSTRAINT_UNIQUE))
    assert is_taken(an_error(sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY))
    assert not is_taken(an_error(sqlite3.SQLITE_CONSTRAINT_NOTNULL))
    assert not is_taken(sqlite3.IntegrityError("made by the driver"))


@pytest.mark.rule("S51")
def test_each_reason_not_to_open_has_its_own_sentence() -> None:
    codes = (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_IOERR,
    )
    texts = {str(as_unusable(an_error(code), "/data/sojourn.db")) for code in codes}
    assert len(texts) == len(codes)
    assert all(text.startswith("/data/sojourn.db ") and text.endswith(".") for text in texts)


def test_a_unit_that_never_waits_is_driven_to_its_end() -> None:
    async def inner() -> int:
        return 3

    async def unit() -> int:
        return await inner() + await inner()

    assert drive(unit()) == 6


def test_a_unit_that_waits_is_a_mistake_and_is_closed() -> None:
    closed = []

    class Waits(Awaitable[None]):
        def __await__(self) -> Generator[None, None, None]:
            try:
                yield
            finally:
                closed.append(True)

    async def unit() -> None:
        await Waits()

    with pytest.raises(RuntimeError, match="nothing but its transaction"):
        drive(unit())
    assert closed
    with pytest.raises(RuntimeError, match="nothing but its transaction"):
        drive(asyncio.sleep(0))
