"""Small things that handles and recipes need. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from sojourn import _checks as check
from sojourn import inputs
from sojourn._checks import MAX_TEXT
from sojourn._json import RawJson
from sojourn.enums import Status
from sojourn.errors import ArgumentTypeError, FieldViolation, SessionEndedError
from sojourn.models import Session

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


def inherited(
    given: inputs.StateChange | None, own: Mapping[str, str], keys: Iterable[str]
) -> inputs.StatePatch:
    """Return a child's first state with copies of its parent's; what is given goes first."""
    patch = given if isinstance(given, inputs.StatePatch) else inputs.StatePatch(given or {})
    copies = {key: RawJson(own[key]) for key in keys if key in own}
    return replace(patch, set={**copies, **patch.set})


def too_late_for_result(session: Session) -> SessionEndedError:
    """Return the error of a result that comes after the end of its session."""
    cause = "" if session.end_cause is None else session.end_cause.value
    return SessionEndedError(
        f"the session is {session.status}: its result would be lost",
        metadata={"status": session.status.value, "cause": cause},
    )


def spent(
    session: Session, max_idle: inputs.Duration | None, max_requests: int | None
) -> Status | None:
    """Return how a session that is used up is to end; None: it can go on.

    A session with a live turn can.
    """
    if max_requests is not None:
        check.integer("max_requests", max_requests, minimum=1)
    idle = None if max_idle is None else check.duration("max_idle", max_idle)
    if session.turn is not None:
        return None
    if session.is_expired(idle):
        return Status.EXPIRED
    if max_requests is not None and session.metrics.request_count >= max_requests:
        return Status.COMPLETED
    return None
