"""Lists of sessions: keyset pages whose cost does not grow with the list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import msgspec

from sojourn_server.domain import filter as filters
from sojourn_server.domain import resume
from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import View
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.limits import ANSWER_BYTES, PAGE_DEFAULT, PAGE_MOST, SCAN_ROWS
from sojourn_server.domain.resume import Point
from sojourn_server.domain.tokens import PagePosition, digest
from sojourn_server.service.answers import SessionPage, SessionSnapshot
from sojourn_server.service.paging import open_page, page_size
from sojourn_server.service.reading import scope_size, session_size, snapshots
from sojourn_server.service.state import SharedState
from sojourn_server.service.units import Units
from sojourn_server.store.base import (
    Candidates,
    Position,
    ReadTx,
    SessionRow,
    SortBy,
)

CHUNK: Final = 250
"""How many candidates are fetched at once when a filter may pass over some of them."""


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What ListSessions asks for."""

    app: str
    user: str | None = None
    """None: of all users."""
    filter: SessionFilter = filters.EVERYTHING
    sort_by: SortBy = SortBy.CREATE
    descending: bool = False
    page_size: int = 0
    page_token: str = ""
    view: View = View.BASIC
    total: bool = False
    users: Users = EVERY_USER
    """Whose sessions the caller may read: decides what view FULL shows of the app."""
    shared_once: bool = False
    """Whether the page has the state of users and app once, and not with each session."""


class _Scan(msgspec.Struct):
    """What one page has gathered so far."""

    found: list[SessionSnapshot]
    size: int = 0
    looked_at: int = 0
    last: SessionRow | None = None
    """The last candidate that the page has dealt with."""
    more: bool = False
    users: set[str] = msgspec.field(default_factory=set)
    """Whose state the page has, where it has it once."""


class Listing:
    """Lists sessions."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def page(self, query: ListQuery) -> SessionPage:
        """One page.

        Raises:
            Refusal: `PAGE_TOKEN_INVALID`, or `INVALID_FIELD` for a negative size.
        """
        size = page_size(query.page_size, PAGE_DEFAULT, PAGE_MOST)
        request = digest(_identity(query))
        token = open_page(self._units.sealer, query.page_token, request)

        async def read(tx: ReadTx) -> SessionPage:
            now = token.now if token else tx.now
            after = Position(token.value, token.tie) if token else None
            shared = SharedState(tx, query.app, query.users)
            scan = await _gather(tx, query, now, after, size, shared)
            once = query.shared_once and query.view is View.FULL
            return SessionPage(
                snapshots=tuple(scan.found),
                next_page_token=self._next(query, request, now, scan),
                total=None,
                revision=await tx.head(query.app),
                resume_token="" if token else await self._resume(tx, query),
                now=tx.now,
                app_state=await shared.of_app() if once else None,
                user_states={
                    user: shared.of(user)
                    for user in {shot.session.user for shot in scan.found if once}
                },
            )

        page = await self._units.read(read)
        if query.total:
            total = await self._count(query, token.now if token else page.now)
            page = msgspec.structs.replace(page, total=total)
        return page

    def _next(self, query: ListQuery, request: bytes, now: Nanos, scan: _Scan) -> str:
        if not scan.more or scan.last is None:
            return ""
        position = position_of(scan.last, query.sort_by)
        return self._units.sealer.seal(
            PagePosition(request, now, position.value, position.create_order)
        )

    async def _resume(self, tx: ReadTx, query: ListQuery) -> str:
        head = await tx.head(query.app)
        app = await tx.app(query.app)
        nonce = await tx.nonce(query.app, head) if head else 0
        return resume.seal(
            self._units.sealer,
            app.feed_id if app else "",
            Point(head, nonce or 0),
            resume.scope_hash(query.app, query.user, "", query.filter),
        )

    async def _count(self, query: ListQuery, now: Nanos) -> int:
        """Count all that the filter selects, in short reads so that none is held up."""
        matches = filters.matcher(query.filter, now)
        # In the one order in which no session is seen twice while others write.
        query = msgspec.structs.replace(query, sort_by=SortBy.CREATE, descending=False)
        count = 0
        after: Position | None = None
        while True:
            rows = await self._units.read(
                partial(_fetch, query=_candidates(query, after, SCAN_ROWS))
            )
            count += sum(matches(row.session) for row in rows)
            if len(rows) < SCAN_ROWS:
                return count
            after = position_of(rows[-1], query.sort_by)


async def _fetch(tx: ReadTx, query: Candidates) -> Sequence[SessionRow]:
    return await tx.candidates(query)


def position_of(row: SessionRow, sort_by: SortBy) -> Position:
    """A row's place in a list."""
    session = row.session
    value: int | str
    match sort_by:
        case SortBy.CREATE:
            value = row.create_order
        case SortBy.SESSION_ID:
            value = session.session_id
        case SortBy.UPDATE:
            value = session.update_time
        case SortBy.ACTIVITY:
            value = session.activity_time
    return Position(value, row.create_order)


def _identity(query: ListQuery) -> bytes:
    """What must stay the same from page to page."""
    return msgspec.msgpack.encode(
        ("ListSessions", query.app, query.user, query.filter, query.sort_by, query.descending)
    )


def _candidates(query: ListQuery, after: Position | None, limit: int) -> Candidates:
    return Candidates(
        app=query.app,
        user=query.user,
        status=filters.status_hint(query.filter),
        label=filters.label_hint(query.filter),
        parent_uid=query.filter.parent_uid or None,
        sort_by=query.sort_by,
        descending=query.descending,
        after=after,
        limit=limit,
    )


async def _gather(
    tx: ReadTx,
    query: ListQuery,
    now: Nanos,
    after: Position | None,
    size: int,
    shared: SharedState,
) -> _Scan:
    """Look at candidates until the page is full, or `SCAN_ROWS` were looked at."""
    matches = filters.matcher(query.filter, now)
    chunk = size + 1 if filters.hints_say_all(query.filter) else max(size + 1, CHUNK)
    scan = _Scan([])
    while True:
        rows = await tx.candidates(_candidates(query, after, chunk))
        chosen = [matches(row.session) for row in rows]
        wanted = [row.session for row, match in zip(rows, chosen, strict=True) if match]
        rest = wanted[: size - len(scan.found)]
        async with aclosing(snapshots(tx, rest, query.view, shared)) as shots:
            for row, match in zip(rows, chosen, strict=True):
                if match and not await _take(scan, query, size, shots):
                    return scan
                scan.last = row
        scan.looked_at += len(rows)
        if len(rows) < chunk:
            return scan
        if scan.looked_at >= SCAN_ROWS:
            scan.more = True
            return scan
        after = position_of(rows[-1], query.sort_by)


async def _take(
    scan: _Scan, query: ListQuery, size: int, shots: AsyncIterator[SessionSnapshot]
) -> bool:
    """Put the next session onto the page; say whether it still fitted."""
    if len(scan.found) < size:
        shot = await anext(shots)
        scan.size += _size(scan, shot, query)
        if scan.size <= ANSWER_BYTES or not scan.found:
            scan.found.append(shot)
            scan.users.add(shot.session.user)
            return True
    scan.more = True
    return False


def _size(scan: _Scan, shot: SessionSnapshot, query: ListQuery) -> int:
    """What a session adds to the page; with the first of a user or of all, what they share."""
    content = shot.content
    size = session_size(shot, query.view, shared=not query.shared_once)
    if content is not None and query.shared_once:
        user = shot.session.user
        if user not in scan.users:
            size += scope_size(content.user_state) + 4 * len(user)
        if not scan.found:
            size += scope_size(content.app_state)
    return size
