"""What is true of every store, whatever was done to it.

The log replays to exactly the sessions there are, and every piece of content is held by
one row, or overwritten.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.model import ScopeState, Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import AppCounts, LoggedChange, Store
from sojourn_server.store.rows import held_of
from tests import postgres


def without_touches(session: Session | None) -> Session | None:
    """A session without what moves in it unlogged: activity, leases, the store's own notes."""
    if session is None:
        return None
    turn, owner = session.turn, session.owner
    return msgspec.structs.replace(
        session,
        activity_time=0,
        removed_ranges=(),
        history=0,
        turn=turn and msgspec.structs.replace(turn, lease=0, lease_time=0, owns=False),
        owner=owner and msgspec.structs.replace(owner, lease=0, lease_time=0),
    )


def check_log(log: Sequence[LoggedChange], head: int, sessions: Sequence[Session]) -> None:
    """The log is dense and unbroken, and ends with exactly the sessions there are."""
    revisions = sorted({change.revision for change in log})
    assert revisions == list(range(1, head + 1))
    places = [(change.revision, change.index) for change in log]
    assert places == sorted(set(places))
    for revision, nonces in _by_revision(log).items():
        assert len(set(nonces)) == 1, f"revision {revision} has several nonces"
    counts = Counter(change.revision for change in log)
    assert all(change.index < counts[change.revision] for change in log)
    mirror: dict[str, Session | None] = {}
    for change in log:
        if not change.uid:
            assert change.before is None
            assert change.after is None
            continue
        if change.detail.alias:  # its user was erased, and so is what the log had told
            assert change.before is change.after is None
            assert change.uid not in mirror
            continue
        known = mirror.get(change.uid)
        assert without_touches(change.before) == known, f"{change.cause!r} of {change.uid}"
        assert change.before is not None or change.after is not None
        if change.after is not None:
            assert change.after.uid == change.uid
            assert change.after.update_time == change.time
        mirror[change.uid] = without_touches(change.after)
    left = {uid: session for uid, session in mirror.items() if session is not None}
    assert left == {session.uid: without_touches(session) for session in sessions}


def _by_revision(log: Sequence[LoggedChange]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for change in log:
        found.setdefault(change.revision, []).append(change.nonce)
    return found


Rows = Callable[[str], Iterable[tuple[Any, ...]]]
"""Executes a query."""


def _held(rows: Rows) -> set[int]:
    """The pieces of content that rows hold, each of them once."""
    held: list[int] = []
    known = {number for (number,) in rows("SELECT session_pk FROM purge")}
    known |= {number for (number,) in rows("SELECT history FROM staging")}
    for pk, record in rows("SELECT pk, record FROM session"):
        session = msgspec.msgpack.decode(record, type=Session)
        known.add(session.history or pk)
        held += [
            session.metadata,
            session.state,
            session.end_note,
            session.turn_error,
            session.reset_reason,
        ]
    held += [body for (body,) in rows("SELECT body FROM message")]
    owners = {number for (number,) in rows("SELECT DISTINCT session_pk FROM message")}
    assert owners <= known, "messages that are nobody's are left over"
    for (record,) in rows("SELECT record FROM scope_state"):
        held.append(msgspec.msgpack.decode(record, type=ScopeState).values)
    for (blob,) in rows("SELECT held FROM request WHERE held IS NOT NULL"):
        held += held_of(blob)
    held = [content_id for content_id in held if content_id]
    assert len(held) == len(set(held)), "two rows hold one piece of content"
    return set(held)


def check_file(path: Path) -> None:
    """Every piece of content is held once, by a row that lives, or is overwritten and free."""
    with sqlite3.connect(path) as database:
        held = _held(database.execute)
        free = [row for (row,) in database.execute("SELECT content_id FROM content_free")]
        pieces = dict(database.execute("SELECT content_id, data FROM content"))
    database.close()
    assert len(free) == len(set(free))
    assert not held & set(free), "a row holds content that is overwritten"
    assert held | set(free) == pieces.keys(), "content that nobody holds is not overwritten"
    for content_id in free:
        assert not any(pieces[content_id]), "free content is not overwritten"


def check_database(dsn: str) -> None:
    """Every piece of content is held once, by a row that lives, or is gone."""
    database = postgres.server().inside(dsn)

    def rows(query: str) -> Iterable[tuple[Any, ...]]:
        return database.execute(query.encode())

    pieces = {content_id for (content_id,) in rows("SELECT content_id FROM content")}
    assert _held(rows) == pieces, "content that nobody holds is not erased"


async def check_tallies(store: Store, app: str, sessions: Sequence[Session]) -> None:
    """The counts and sums that the store keeps must be those of the sessions that are there."""
    statuses: dict[Status, Sums] = {}
    both: dict[tuple[str, Status], Sums] = {}
    for session in sessions:
        statuses.setdefault(session.status, Sums()).count(session)
        both.setdefault((session.user, session.status), Sums()).count(session)
    for sums in (*statuses.values(), *both.values()):
        sums.trim(SUM_COUNTERS_MOST)
    users: dict[str, Sums] = {}
    for (user, _), sums in both.items():
        users.setdefault(user, Sums()).add(sums)
        users[user].trim(SUM_COUNTERS_MOST)
    active = sum(session.is_active for session in sessions)
    assert await store.read(lambda tx: tx.app_counts(app)) == AppCounts(active, len(sessions))
    assert await store.read(lambda tx: tx.status_sums(app)) == statuses
    kept = await store.read(lambda tx: tx.user_sums(app, tuple(Status), None, 1 << 30))
    assert dict(kept) == users
