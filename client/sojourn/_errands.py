"""Small things that handles and recipes need. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from sojourn._checks import MAX_TEXT
from sojourn.errors import ArgumentTypeError, FieldViolation

H = TypeVar("H")


def describe_error(error: BaseException) -> str:
    """Return type and message of an exception as an error text of at most 4 KiB without NUL."""
    message = str(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    data = text.replace("\x00", "�").encode(errors="replace")
    return data[:MAX_TEXT].decode(errors="ignore")


def find_session(kind: type[H], args: tuple[object, ...], kwargs: Mapping[str, object]) -> H:
    """Return the one session handle among a call's arguments."""
    handles = [value for value in (*args, *kwargs.values()) if isinstance(value, kind)]
    if len(handles) != 1:
        rule = f"exactly one argument must be a {kind.__name__}, not {len(handles)}"
        raise ArgumentTypeError(rule, field_violations=(FieldViolation("session", rule),))
    return handles[0]
