"""What callers ask for, as values: the nouns of requests.

Shapes and ceilings were checked by the rules in the protos before these are made;
what those rules cannot say is checked where the value is used.
"""

from __future__ import annotations

import enum

import msgspec

from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import Document


class SessionRef(msgspec.Struct, frozen=True, kw_only=True):
    """Points at one session: by user and session_id, by uid, or by both."""

    app: str
    user: str = ""
    session_id: str = ""
    """Empty: by uid alone, and `user` is not looked at."""
    uid: str = ""
    """Empty: by key alone."""
    users: Users = EVERY_USER
    """Whose sessions the caller may mean; others' are not there."""


class Precondition(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold for a write to happen. None and empty: no matter."""

    etag: str = ""
    generation: int | None = None
    turn_token: str = ""
    last_sequence: int | None = None


NO_PRECONDITION = Precondition()


class StatePatch(msgspec.Struct, frozen=True, kw_only=True):
    """A shallow change of one scope's state."""

    set: Document = {}
    remove: tuple[str, ...] = ()
    replace: bool = False
    """Drop all keys first."""
    expected_version: int | None = None


class StatePatches(msgspec.Struct, frozen=True, kw_only=True):
    """Patches of the three scopes, carried out together."""

    session: StatePatch | None = None
    user: StatePatch | None = None
    app: StatePatch | None = None


NO_PATCHES = StatePatches()


class MetricsDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What to add to the counters."""

    requests: int = 0
    errors: int = 0
    processing_time: Nanos = 0
    counters: dict[str, int] = {}


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to append."""

    message_id: str = ""
    """Empty: the server makes one."""
    role: str
    content: str | None = None
    payload: bytes = b""
    content_type: str = ""
    metadata: Document = {}
    event_time: Nanos | None = None


class NewOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What is to keep an ephemeral session alive: one of the two."""

    turn_token: str = ""
    lease: Nanos = 0


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session to create."""

    user: str = ""
    session_id: str = ""
    """Empty: the server makes one."""
    labels: dict[str, str] = {}
    metadata: Document = {}
    state: StatePatches = NO_PATCHES
    parent_uid: str = ""
    owner: NewOwner | None = None
    idle_timeout: Nanos | None = None
    """None: the policy's default. 0: for ever."""
    max_lifetime: Nanos | None = None
    """None: the policy's default. 0: no limit."""
    parents: Users = EVERY_USER
    """Whose session the parent may be; others' are not there."""


class IfExists(enum.IntEnum):
    """What a creation does when the id is taken. Numbers are those of `IfExists`."""

    FAIL = 1
    RETURN_EXISTING = 2
    REPLACE_ENDED = 3


class ResetScope(enum.IntEnum):
    """What a reset clears. Numbers are those of `ResetScope`."""

    HISTORY = 1
    STATE = 2
    METRICS = 3
    ALL = 4


class OnConflict(enum.IntEnum):
    """What a turn does while another is live. Numbers are those of `OnConflict`."""

    REJECT = 1
    WAIT = 2
    STEAL = 3


class View(enum.IntEnum):
    """How much of a session an answer carries. Numbers are those of `SessionView`."""

    IDS = 1
    BASIC = 2
    FULL = 3


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What an update changes in a session."""

    labels: dict[str, str] = {}
    remove_labels: tuple[str, ...] = ()
    replace_labels: bool = False
    metadata: Document = {}
    remove_metadata: tuple[str, ...] = ()
    state: StatePatches = NO_PATCHES
    metrics: MetricsDelta = MetricsDelta()
    idle_timeout: Nanos | None = None
    max_lifetime: Nanos | None = None
