"""What a transaction knows, and how it gets to know more.

A round trip to the database costs more than everything else that a unit does. So a
transaction does not ask the database; it looks into its facts, and where one is missing
it suspends with an `Ask`. Whoever drives it collects what several of them lack, fetches
it at once, one statement for each kind of row, and lets them go on.
"""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final, NamedTuple

from sojourn_server.domain.model import App, Message, ScopeState
from sojourn_server.store.base import AppCounts, ListedApp, RequestKey, SessionRow
from sojourn_server.store.postgres.connection import Statement
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.rows import (
    ORDER_BITS,
    ORDER_MASK,
    Row,
    decode_app,
    decode_scope_state,
    decode_session,
    message_of,
    request_of,
    uid_blob,
)

Need = tuple[Any, ...]
"""A kind, the app's number, and what else names one fact."""

Facts = dict[Need, Any]
"""What is known: the answer to each need; None where there is nothing."""

APP: Final = 0
"""`(APP, 0, name)`: an `AppEntry`."""
KEY: Final = 1
"""`(KEY, app_pk, user, session_id)`: a `SessionRow`."""
UID: Final = 2
"""`(UID, app_pk, uid)`: a `SessionRow`."""
PK: Final = 3
"""`(PK, app_pk, pk)`: a `SessionRow`."""
REQUEST: Final = 4
"""`(REQUEST, app_pk, key)`: a `RequestRecord`."""
CONTENT: Final = 5
"""`(CONTENT, app_pk, content_id)`: bytes, empty where there is nothing."""
SCOPE: Final = 6
"""`(SCOPE, app_pk, of_user, user)`: a `ScopeState`."""
MESSAGE_ID: Final = 7
"""`(MESSAGE_ID, app_pk, session_pk, message_id)`: a `Message`, removed or not."""
SEQUENCE: Final = 8
"""`(SEQUENCE, app_pk, session_pk, sequence)`: a `Message`, removed or not."""
ROWS: Final = 9
"""`(ROWS, app_pk, domain, sql, parameters)`: the rows of a query; of many, perhaps."""
OPERATION: Final = 11
"""`(OPERATION, app_pk, operation_id)`: its kind, update time, record and content."""

ACTIVE: Final = 10
"""`(ACTIVE, app_pk, user)`: how many ACTIVE sessions the database counts of a user."""

MISSING: Final = object()
"""Not known."""

NO_STATE: Final = ScopeState()

GUESSES: Final[dict[int, Any]] = {
    REQUEST: None,
    CONTENT: b"",
    SCOPE: NO_STATE,
    MESSAGE_ID: None,
    ACTIVE: 0,
}
"""What is likely: a run that only looks for what is needed goes on with it."""

SESSIONS: Final = ("sessions",)
"""The domain of queries over sessions; `of_parent`, `of_messages` and so on are smaller."""
APPS: Final = ("apps",)
LOG: Final = ("log",)
NOTES: Final = ("notes",)
AUDIT: Final = ("audit",)
SCOPES: Final = ("scopes",)
REQUESTS: Final = ("requests",)
"""The domain of queries over all requests of an app."""
OPERATIONS: Final = ("operations",)
STAGED: Final = ("staged",)

Domain = tuple[Any, ...]
"""What a query depends on: what writes of the same domain make stale."""


class AppEntry:
    """An app's row.

    Args:
        pk: The store's number for it.
        head: The newest revision of its log.
        created: The greatest create order given.
        contents: The greatest number given to content.
        epoch: How often it was written; who knows it, knows all of the app.
        record: The app as stored; None when only its log exists.
        app: The same.
        active: How many ACTIVE sessions it has.
        sessions: How many sessions it has.
    """

    __slots__ = (
        "active",
        "app",
        "contents",
        "created",
        "epoch",
        "head",
        "pk",
        "record",
        "sessions",
    )

    def __init__(
        self,
        pk: int,
        head: int,
        created: int,
        contents: int,
        epoch: int,
        record: bytes | None,
        app: App | None,
        active: int,
        sessions: int,
    ) -> None:
        self.pk = pk
        self.head = head
        self.created = created
        self.contents = contents
        self.epoch = epoch
        self.record = record
        self.app = app
        self.active = active
        self.sessions = sessions

    def copy(self) -> AppEntry:
        """The same, to be changed."""
        return AppEntry(
            self.pk,
            self.head,
            self.created,
            self.contents,
            self.epoch,
            self.record,
            self.app,
            self.active,
            self.sessions,
        )

    def counts(self) -> AppCounts:
        """How many sessions it has."""
        return AppCounts(self.active, self.sessions)

    def listed(self) -> ListedApp | None:
        """How a list shows it; None when only its log exists."""
        return None if self.app is None else ListedApp(self.app, self.head, self.counts())


def entry_of(row: Row) -> AppEntry | None:
    """The entry of a row: app_pk, head, created, contents, epoch, active, sessions, record."""
    pk, head, created, contents, epoch, active, sessions, record = row
    if pk is None:
        return None
    app = None if record is None else decode_app(record)
    return AppEntry(pk, head, created, contents, epoch, record, app, active, sessions)


class Ask(NamedTuple):
    """What a transaction suspends with."""

    needs: tuple[Need, ...]
    """What it must know to go on."""
    flush: bool = False
    """Whether what it has written must be in the database before."""


@types.coroutine
def ask(question: Ask) -> Generator[Ask, None, None]:
    """Suspend until the driver has seen to it."""
    yield question


def session_row(row: Row) -> SessionRow:
    """The session of a row: pk, record."""
    pk, record = row
    return SessionRow(pk, pk & ORDER_MASK, decode_session(record))


def needs_of(row: SessionRow) -> tuple[Need, Need, Need]:
    """All that a session is found by."""
    session = row.session
    app_pk = row.pk >> ORDER_BITS
    return (
        (KEY, app_pk, session.user, session.session_id),
        (UID, app_pk, session.uid),
        (PK, app_pk, row.pk),
    )


def keep_session(facts: Facts, row: SessionRow) -> None:
    """Keep what was found in the database; what is known already is newer."""
    for need in needs_of(row):
        facts.setdefault(need, row)


class Fetch(NamedTuple):
    """A statement, and what to do with its answer."""

    statement: Statement
    keep: Callable[[Sequence[Row], Facts], None]


def fetches(needs: Iterable[Need]) -> list[Fetch]:
    """The statements that find out about needs: one for each kind of row and app."""
    groups: defaultdict[tuple[int, int], dict[Need, None]] = defaultdict(dict)
    found: list[Fetch] = []
    for need in dict.fromkeys(needs):
        if need[0] == ROWS:
            found.append(_fetch_rows(need))
        else:
            groups[need[0], need[1]][need] = None
    for (kind, app_pk), group in groups.items():
        found.append(_FETCHERS[kind](app_pk, list(group)))
    return found


def _fetch_rows(need: Need) -> Fetch:
    _, _, _, sql, parameters = need
    given = dict(parameters) if parameters and isinstance(parameters[0], tuple) else parameters

    def keep(rows: Sequence[Row], facts: Facts) -> None:
        facts[need] = rows

    return Fetch((sql, given), keep)


def _fetch_apps(_: int, needs: list[Need]) -> Fetch:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for name, *columns, _now in rows:
            if name is not None:
                facts.setdefault((APP, 0, name), entry_of(tuple(columns)))
        for need in needs:
            facts.setdefault(need, None)

    return Fetch((QUERIES.app_many, ([need[2] for need in needs],)), keep)


def _keep_sessions(needs: list[Need]) -> Callable[[Sequence[Row], Facts], None]:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for row in rows:
            keep_session(facts, session_row(row))
        for need in needs:
            facts.setdefault(need, None)

    return keep


def _fetch_by_key(app_pk: int, needs: list[Need]) -> Fetch:
    users, ids = [need[2] for need in needs], [need[3] for need in needs]
    return Fetch((QUERIES.sessions_by_key, (users, ids, app_pk)), _keep_sessions(needs))


def _fetch_by_uid(app_pk: int, needs: list[Need]) -> Fetch:
    uids = [uid_blob(need[2]) for need in needs]
    return Fetch((QUERIES.sessions_by_uid, (app_pk, uids)), _keep_sessions(needs))


def _fetch_by_pk(app_pk: int, needs: list[Need]) -> Fetch:
    pks = [need[2] for need in needs]
    return Fetch((QUERIES.sessions_by_pk, (app_pk, pks)), _keep_sessions(needs))


def _fetch_requests(app_pk: int, needs: list[Need]) -> Fetch:
    app = needs[0][2].app

    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for principal, method, request_id, *rest in rows:
            key = RequestKey(app, principal, method, request_id)
            facts.setdefault((REQUEST, app_pk, key), request_of(key, tuple(rest)))
        for need in needs:
            facts.setdefault(need, None)

    keys: list[RequestKey] = [need[2] for need in needs]
    given = (
        [key.principal for key in keys],
        [key.method for key in keys],
        [key.request_id for key in keys],
        app_pk,
    )
    return Fetch((QUERIES.requests, given), keep)


def _fetch_contents(app_pk: int, needs: list[Need]) -> Fetch:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for content_id, data in rows:
            facts.setdefault((CONTENT, app_pk, content_id), bytes(data))
        for need in needs:
            facts.setdefault(need, b"")

    return Fetch((QUERIES.contents, (app_pk, [need[2] for need in needs])), keep)


def _fetch_scopes(app_pk: int, needs: list[Need]) -> Fetch:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for of_user, user, record in rows:
            facts.setdefault((SCOPE, app_pk, of_user, user), decode_scope_state(record))
        for need in needs:
            facts.setdefault(need, NO_STATE)

    given = ([need[2] for need in needs], [need[3] for need in needs], app_pk)
    return Fetch((QUERIES.scope_states, given), keep)


def keep_message(facts: Facts, app_pk: int, session_pk: int, message: Message) -> None:
    """Keep a message that was found in the database."""
    facts.setdefault((MESSAGE_ID, app_pk, session_pk, message.message_id), message)
    facts.setdefault((SEQUENCE, app_pk, session_pk, message.sequence), message)


def _fetch_messages(app_pk: int, needs: list[Need]) -> Fetch:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for *columns, session_pk in rows:
            keep_message(facts, app_pk, session_pk, message_of(tuple(columns)))
        for need in needs:
            facts.setdefault(need, None)

    by_id = needs[0][0] == MESSAGE_ID
    sql = QUERIES.messages_by_id if by_id else QUERIES.messages_by_sequence
    return Fetch((sql, ([need[2] for need in needs], [need[3] for need in needs], app_pk)), keep)


def _fetch_active(app_pk: int, needs: list[Need]) -> Fetch:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for user, sessions in rows:
            facts.setdefault((ACTIVE, app_pk, user), sessions)
        for need in needs:
            facts.setdefault(need, 0)

    return Fetch((QUERIES.tallies_active, ([need[2] for need in needs], app_pk)), keep)


def _fetch_operations(app_pk: int, needs: list[Need]) -> Fetch:
    def keep(rows: Sequence[Row], facts: Facts) -> None:
        for operation_id, *columns in rows:
            facts.setdefault((OPERATION, app_pk, operation_id), tuple(columns))
        for need in needs:
            facts.setdefault(need, None)

    return Fetch((QUERIES.operations, (app_pk, [need[2] for need in needs])), keep)


_FETCHERS: Final[dict[int, Callable[[int, list[Need]], Fetch]]] = {
    APP: _fetch_apps,
    KEY: _fetch_by_key,
    UID: _fetch_by_uid,
    PK: _fetch_by_pk,
    REQUEST: _fetch_requests,
    CONTENT: _fetch_contents,
    SCOPE: _fetch_scopes,
    MESSAGE_ID: _fetch_messages,
    SEQUENCE: _fetch_messages,
    ACTIVE: _fetch_active,
    OPERATION: _fetch_operations,
}
