"""Lists of sessions: keyset pages whose cost does not grow with the list."""

from __future__ import annotations

from collections.abc import Sequence
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
from sojourn_server.service.reading import Snapshots
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


class _Scan(msgspec.Struct):
    """What one page has gathered so far."""

    found: list[SessionSnapshot]
    size: int = 0
    looked_at: int = 0
    last: SessionRow | None = None
    """The last candidate that the page has dealt with."""
    more: bool = False


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
            scan = await _gather(tx, query, now, after, size)
            return SessionPage(
                snapshots=tuple(scan.found),
                next_page_token=self._next(query, request, now, scan),
                total=None,
                revision=await tx.head(query.app),
                resume_token="" if token else await self._resume(tx, query),
                now=tx.now,
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
    tx: ReadTx, query: ListQuery, now: Nanos, after: Position | None, size: int
) -> _Scan:
    """Look at candidates until the page is full, or `SCAN_ROWS` were looked at."""
    matches = filters.matcher(query.filter, now)
    chunk = size + 1 if filters.hints_say_all(query.filter) else max(size + 1, CHUNK)
    scan = _Scan([])
    while True:
        rows = await tx.candidates(_candidates(query, after, chunk))
        judged = [(row, matches(row.session)) for row in rows]
        wanted = [row.session for row, meant in judged if meant][: size - len(scan.found)]
        shots = Snapshots(tx, wanted, query.view, query.users)
        for row, meant in judged:
            if meant:
                if len(scan.found) == size:
                    scan.more = True
                    return scan
                shot, taken = await shots.next()
                scan.size += taken
                if scan.size > ANSWER_BYTES and scan.found:
                    scan.more = True
                    return scan
                scan.found.append(shot)
            scan.last = row
        scan.looked_at += len(rows)
        if len(rows) < chunk:
            return scan
        if scan.looked_at >= SCAN_ROWS:
            scan.more = True
            return scan
        after = position_of(rows[-1], query.sort_by)
