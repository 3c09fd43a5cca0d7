"""What PostgreSQL's errors mean for callers and for the operator.

No text of the driver goes on from here: it may name the user, and the whole connection.
"""

from __future__ import annotations

from typing import Final

import psycopg

from sojourn_server.store.base import StoreDown, StoreFull, StoreUnusable

_FULL: Final = "53100"
_TAKEN: Final = "23505"
_AGAIN: Final = frozenset({"40001", "40P01"})
_FAULT_CLASSES: Final = frozenset(
    {"08", "25", "28", "3D", "40", "53", "54", "55", "57", "58", "F0", "XX"}
)
"""Classes of SQLSTATE that tell of the machine, the connection or the database."""

_WHY: Final = (
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it asks for a password"),
    ("authentication", "it refuses the user"),
    ("pg_hba.conf", "it does not let this machine in"),
    ("does not exist", "there is no such user or database"),
    ("could not translate host name", "its host has no address"),
    ("Connection refused", "nothing listens there"),
    ("No such file or directory", "there is no socket"),
    ("timeout expired", "it does not answer in time"),
    ("timeout", "it does not answer in time"),
    ("too many clients", "it has no connection left"),
    ("remaining connection slots", "it has no connection left"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("certificate", "its certificate cannot be trusted"),
    ("SSL", "it and this server cannot agree on TLS"),
)
"""What a driver's text speaks of, and our own words for it."""

_UNREADABLE: Final = "the connection string of the store cannot be read."


class Lost(Exception):
    """The connection is gone, or can be trusted no more; the text is our own."""


def is_taken(error: psycopg.Error) -> bool:
    """Whether a statement failed because a unique key exists."""
    return error.sqlstate == _TAKEN


def is_transient(error: psycopg.Error) -> bool:
    """Whether the same transaction may well succeed when run again."""
    return error.sqlstate in _AGAIN


def as_failure(error: Exception) -> StoreFull | StoreDown | None:
    """What an error of a running store is to its callers.

    Returns:
        `StoreFull` or `StoreDown`; None for a fault of the statement itself, which is a
        mistake in the program.
    """
    if isinstance(error, Lost):
        return StoreDown(str(error))
    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate
    if code == _FULL:
        return StoreFull("the disk of the database is full")
    if code is None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return StoreDown("the connection to the database was lost")
        return None
    if code[:2] in _FAULT_CLASSES:
        return StoreDown(f"the database failed with {code}")
    return None


def breaks(error: BaseException) -> bool:
    """Whether a connection must not be used again after an error."""
    if not isinstance(error, psycopg.Error):
        return True
    if error.sqlstate is None:
        # The others are the driver's own, about a value that cannot be sent.
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in {"08", "57", "58", "XX"}


def why_unreachable(error: BaseException) -> str:
    """Why no connection could be made, in words that name no user and no password."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    text = str(error)
    return next((why for words, why in _WHY if words in text), "it cannot be reached")


def as_unusable(place: str, why: str) -> StoreUnusable:
    """Why a database cannot be used, as a sentence for the operator."""
    return StoreUnusable(f"{place} cannot be used: {why}.")


def unreadable() -> StoreUnusable:
    """The connection string is none."""
    return StoreUnusable(_UNREADABLE)
