"""Sessions of the Agent Development Kit, and what they are in Sojourn."""

from __future__ import annotations

import gc
import json
import marshal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from google.adk.events.event import Event
from google.adk.sessions._session_util import extract_json_safe_state_delta
from google.adk.sessions.session import Session
from google.adk.sessions.state import State
from pydantic_core import from_json

from sojourn._convert import SharedState, from_timestamp, ns_of
from sojourn.models import Session as Stored
from sojourn.models import State as ScopeState
from sojourn.v1 import session_pb2


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
    state = (
        _values(found.state_json)
        | _values(found.app_state.values.json, State.APP_PREFIX)
        | _values(found.user_state.values.json, State.USER_PREFIX)
    )
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


class Listing:
    """Turns what a list brings into ADK's sessions, without a model of ours in between."""

    def __init__(self) -> None:
        self._shared: dict[int, _Prefixed] = {}

    def of_page(self, page: Iterable[tuple[session_pb2.Session, SharedState]]) -> list[Session]:
        """Return ADK's sessions, as the function `to_session` does of what was read.

        Python's collector rests meanwhile, some milliseconds: a page makes only what lasts, and
        looking through all of it again and again takes longer than making it.
        """
        collects = gc.isenabled()
        gc.disable()
        try:
            return [self._to_session(source, shared) for source, shared in page]
        finally:
            if collects:
                gc.enable()

    def _to_session(self, source: session_pb2.Session, shared: SharedState) -> Session:
        key = source.key
        of_user, of_app = shared.of(source)
        state = _values(source.state.session.values)
        self._merge(state, State.APP_PREFIX, of_app)
        self._merge(state, State.USER_PREFIX, of_user)
        session = Session(
            id=key.session_id,
            app_name=key.app,
            user_id=key.user,
            state=state,
            last_update_time=_update_time(source),
        )
        marker = Marker(source.uid, source.generation, source.last_sequence, source.state_version)
        session._storage_update_marker = str(marker)  # noqa: SLF001
        return session

    def _merge(self, state: dict[str, Any], prefix: str, scope: ScopeState) -> None:
        known = self._shared.get(id(scope))
        if known is None:
            known = self._shared[id(scope)] = _Prefixed(scope, prefix)
        known.merge_into(state)


class _Prefixed:
    """The state that sessions share, with its keys as ADK writes them.

    Each session gets values of its own, so that whoever changes one in place changes no other.
    """

    def __init__(self, scope: ScopeState, prefix: str) -> None:
        self._scope = scope  # Kept, so that no other takes its place in memory.
        # JSON values are what marshal can write, and it reads them faster than any parser.
        self._written = marshal.dumps(_values(scope.values.json, prefix))

    def merge_into(self, state: dict[str, Any]) -> None:
        """Add it to the state of a session."""
        state |= marshal.loads(self._written)  # noqa: S302 - written above


def _values(values: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    # In one order each time: agents write state into prompts, and prompts are cached.
    return {prefix + name: decode(values[name]) for name in sorted(values)}


def decode(text: str) -> Any:
    """Return the Python value of a JSON text, as `json.loads` does, several times as fast."""
    try:
        return from_json(text)
    except ValueError:  # Deeper than 200 levels, which only Python's own parser takes.
        return json.loads(text)


def _update_time(source: session_pb2.Session) -> float:
    if source.HasField("last_event_time"):
        return ns_of(source.last_event_time) / 10**9
    moved = source.update_time if source.message_count else source.create_time
    return from_timestamp(moved).timestamp()


# Private to the kit and not to one of its services: all of them keep their marker there, and two
# sessions are equal only if it is.
def mark(session: Session, stored: Stored) -> None:
    """Set the marker of ADK's session to what is stored."""
    session._storage_update_marker = str(Marker.of(stored))  # noqa: SLF001


def marked(session: Session) -> str | None:
    """Return the marker of ADK's session; None of one that somebody made by hand."""
    return session._storage_update_marker  # noqa: SLF001
