"""Sessions of the Agent Development Kit, and what they are in Sojourn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from google.adk.events.event import Event
from google.adk.sessions._session_util import extract_json_safe_state_delta
from google.adk.sessions.session import Session
from google.adk.sessions.state import State

from sojourn.models import Session as Stored


@dataclass(frozen=True, slots=True)
class Marker:
    """What a session was when it was read: what an append holds the stored one to.

    Made of what moves when history or state do, never of what labels or turns move. As a text it
    travels on ADK's session, in the private `_storage_update_marker`.
    """

    uid: str
    generation: int
    last_sequence: int
    state_version: int

    @classmethod
    def of(cls, session: Stored) -> Self:
        """Return the marker of a session as it was read."""
        return cls(session.uid, session.generation, session.last_sequence, session.state_version)

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Return the marker that a text says; None of a text that another service made."""
        if text is None:
            return None
        uid, *numbers = text.split("/")
        if not uid or len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
            return None
        return cls(uid, *map(int, numbers))

    def __str__(self) -> str:
        return f"{self.uid}/{self.generation}/{self.last_sequence}/{self.state_version}"


@dataclass(slots=True)
class Delta:
    """A change of state by scope, as JSON values."""

    session: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    app: dict[str, Any] = field(default_factory=dict)


def delta(state: dict[str, Any]) -> Delta:
    """Return state by scope; what is no JSON value becomes one as ADK's own services make it.

    Keys of `temp:` are left out.
    """
    return Delta(**extract_json_safe_state_delta(state)) if state else Delta()


def update_time(session: Stored) -> float:
    """Return the newest event's own time, in seconds since 1970; without events, the creation's."""
    if session.last_event_time_ns is not None:
        return session.last_event_time_ns / 10**9  # Exact: both are ints.
    # A message that others wrote may have no time of its own.
    moved = session.update_time if session.message_count else session.create_time
    return moved.timestamp()


def to_session(found: Stored, events: list[Event]) -> Session:
    """Return ADK's session, the state of all three scopes merged, without checking it again."""
    state: dict[str, Any] = dict(found.state)
    for key, value in found.app_state.values.items():
        state[State.APP_PREFIX + key] = value
    for key, value in found.user_state.values.items():
        state[State.USER_PREFIX + key] = value
    session = Session(
        id=found.session_id,
        app_name=found.app,
        user_id=found.user,
        state=state,
        last_update_time=update_time(found),
    )
    session.events = events
    mark(session, found)
    return session


# Private to the kit and not to one of its services: all of them keep their marker there, and two
# sessions are equal only if it is.
def mark(session: Session, stored: Stored) -> None:
    """Set the marker of ADK's session to what is stored."""
    session._storage_update_marker = str(Marker.of(stored))  # noqa: SLF001


def marked(session: Session) -> str | None:
    """Return the marker of ADK's session; None of one that somebody made by hand."""
    return session._storage_update_marker  # noqa: SLF001
