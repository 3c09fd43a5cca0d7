"""Lists of messages: pages over the sequences of one session."""

from __future__ import annotations

from typing import Final

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import SessionRef
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import PAGE_DEFAULT, PAGE_MOST
from sojourn_server.domain.model import Session
from sojourn_server.domain.tokens import PagePosition, digest
from sojourn_server.service import reading
from sojourn_server.service.answers import MessagePage
from sojourn_server.service.paging import open_page, page_size
from sojourn_server.service.units import Units
from sojourn_server.store.base import MessageRange, ReadTx, SessionRow

NO_LIMIT: Final = -1


class MessageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What ListMessages asks for."""

    ref: SessionRef
    after_sequence: int | None = None
    before_sequence: int | None = None
    event_time_not_before: Nanos | None = None
    last: int | None = None
    """Only the newest so many of those; None: all."""
    descending: bool = False
    page_size: int = 0
    page_token: str = ""


class _Start(msgspec.Struct, frozen=True):
    """Where a page begins, and how many messages the list may still hold."""

    after: int
    before: int | None
    remaining: int


async def list_messages(units: Units, query: MessageQuery) -> MessagePage:
    """One page.

    Raises:
        Refusal: `SESSION_NOT_FOUND`, `UID_MISMATCH`, `PAGE_TOKEN_INVALID`, or
            `GENERATION_CHANGED` for a token from before a reset.
    """
    size = page_size(query.page_size, PAGE_DEFAULT, PAGE_MOST)
    sealer = units.sealer

    async def read(tx: ReadTx, row: SessionRow) -> MessagePage:
        request = digest(_identity(query, row.session))
        token = open_page(sealer, query.page_token, request)
        if token is not None and token.generation != row.session.generation:
            raise Refusal(
                Reason.GENERATION_CHANGED,
                "the session was reset since the page before",
                {"generation": str(row.session.generation)},
            )
        start = _resumed(query, token) if token else await _started(tx, row, query)
        limit = size if start.remaining == NO_LIMIT else min(size, start.remaining)
        found = await tx.messages(
            row,
            MessageRange(
                after_sequence=start.after,
                before_sequence=start.before,
                event_time_not_before=query.event_time_not_before,
                descending=query.descending,
                limit=limit + 1,
            ),
        )
        page = await reading.fitting(tx, found[:limit])
        remaining = NO_LIMIT
        if start.remaining != NO_LIMIT:
            remaining = start.remaining - len(page)
        next_token = ""
        if page and len(found) > len(page) and remaining:
            next_token = sealer.seal(
                PagePosition(
                    request,
                    0,
                    page[-1].message.sequence,
                    0,
                    generation=row.session.generation,
                    remaining=remaining,
                )
            )
        return MessagePage(
            messages=tuple(page),
            next_page_token=next_token,
            generation=row.session.generation,
            revision=await tx.head(query.ref.app),
        )

    return await reading.read_settled(units, query.ref, read)


def _identity(query: MessageQuery, session: Session) -> bytes:
    """What must stay the same from page to page."""
    return msgspec.msgpack.encode(
        (
            "ListMessages",
            session.uid,
            query.after_sequence,
            query.before_sequence,
            query.event_time_not_before,
            query.last,
            query.descending,
        )
    )


def _resumed(query: MessageQuery, token: PagePosition) -> _Start:
    sequence = int(token.value)
    if query.descending:
        return _Start(query.after_sequence or 0, sequence, token.remaining)
    return _Start(sequence, query.before_sequence, token.remaining)


async def _started(tx: ReadTx, row: SessionRow, query: MessageQuery) -> _Start:
    """Where the first page begins."""
    after, before = query.after_sequence or 0, query.before_sequence
    if query.last is None:
        return _Start(after, before, NO_LIMIT)
    if query.descending or query.last == 0:
        return _Start(after, before, query.last)
    newest = await tx.messages(
        row,
        MessageRange(
            after_sequence=after,
            before_sequence=before,
            event_time_not_before=query.event_time_not_before,
            descending=True,
            limit=query.last,
        ),
    )
    if newest:
        after = newest[-1].sequence - 1
    return _Start(after, before, query.last)
