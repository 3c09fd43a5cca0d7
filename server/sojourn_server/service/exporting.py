"""ExportSessions: an app, the states of its users, and whole sessions, part by part.

Every read is short. A session with its messages is read at once where it fits into a part;
a larger one is read on as long as nothing is taken from it, and dropped and read anew
where something is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from sojourn_server.domain import filter as filters
from sojourn_server.domain.access import EVERY_USER, THE_APP, Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import View
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import EVERYTHING, SessionFilter
from sojourn_server.domain.model import App, Session
from sojourn_server.service import reading, state
from sojourn_server.service.answers import MessageSnapshot, ScopeDocument, SessionSnapshot
from sojourn_server.service.copying import still_true
from sojourn_server.service.units import Units
from sojourn_server.store.base import (
    Candidates,
    MessageRange,
    Position,
    ReadTx,
    SessionRow,
)

PAGE: Final = 200
"""How many sessions, or users, one read looks for."""

MESSAGES: Final = 500
"""How many messages one read takes at most."""

_TRIES: Final = 8
"""How often a session is read anew because it was cut down meanwhile."""


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What ExportSessions asks for."""

    app: str
    user: str | None = None
    """None: of all users."""
    filter: SessionFilter = EVERYTHING
    users: Users = EVERY_USER
    """Whose sessions the caller may read."""


class AppPart(msgspec.Struct, frozen=True):
    """The app itself."""

    app: App
    state: ScopeDocument


class UserPart(msgspec.Struct, frozen=True):
    """The state of a user."""

    user: str
    state: ScopeDocument


class DroppedPart(msgspec.Struct, frozen=True):
    """The last session is to be forgotten."""

    uid: str


class MessagesPart(msgspec.Struct, frozen=True):
    """Messages of the last session."""

    messages: Sequence[MessageSnapshot]


Part = AppPart | UserPart | SessionSnapshot | MessagesPart | DroppedPart
Emit = Callable[[Part], Awaitable[None]]


class _Picture(msgspec.Struct, frozen=True):
    """A session at one revision, with the first of its messages."""

    snapshot: SessionSnapshot
    messages: Sequence[MessageSnapshot]


async def export(units: Units, query: ExportQuery, emit: Emit) -> None:
    """Tell of an app, part by part.

    Raises:
        Refusal: `GENERATION_CHANGED`: a session was cut down again and again.
    """
    whole = query.user is None and query.users.covers(THE_APP)

    async def begin(tx: ReadTx) -> tuple[Nanos, int, AppPart | None]:
        newest = await tx.candidates(Candidates(app=query.app, descending=True, limit=1))
        app = await tx.app(query.app)
        part = None
        if whole and app is not None:
            part = AppPart(app, await state.read_scope(tx, query.app, None))
        return tx.now, newest[0].create_order if newest else 0, part

    now, last, app_part = await units.read(begin)
    if app_part is not None:
        await emit(app_part)
    await _users(units, query, emit)
    matches = filters.matcher(query.filter, now)
    after: Position | None = None
    while True:
        rows = await units.read(partial(_candidates, query=query, after=after))
        for row in rows:
            if row.create_order > last:
                return
            if matches(row.session):
                await _session(units, row.session, emit)
        if len(rows) < PAGE:
            return
        after = Position(rows[-1].create_order, rows[-1].create_order)


async def _candidates(
    tx: ReadTx, query: ExportQuery, after: Position | None
) -> Sequence[SessionRow]:
    return await tx.candidates(
        Candidates(
            app=query.app,
            user=query.user,
            status=filters.status_hint(query.filter),
            label=filters.label_hint(query.filter),
            parent_uid=query.filter.parent_uid or None,
            after=after,
            limit=PAGE,
        )
    )


async def _users(units: Units, query: ExportQuery, emit: Emit) -> None:
    """The states of the users that were ever given one."""

    async def page(tx: ReadTx) -> list[UserPart]:
        if query.user is None:
            names = [name for name, _ in await tx.user_states(query.app, after, PAGE)]
        else:
            names = [query.user]
        return [UserPart(name, await state.read_scope(tx, query.app, name)) for name in names]

    after: str | None = None
    while True:
        parts = await units.read(page)
        for part in parts:
            if part.state.version:
                await emit(part)
        if query.user is not None or len(parts) < PAGE:
            return
        after = parts[-1].user


async def _session(units: Units, session: Session, emit: Emit) -> None:
    """One session with all its messages."""
    for _ in range(_TRIES):
        picture = await units.read(partial(_look, session=session))
        if picture is None:
            return
        await emit(picture.snapshot)
        if await _messages(units, picture, emit):
            return
        await emit(DroppedPart(session.uid))
    raise Refusal(
        Reason.GENERATION_CHANGED,
        "a session was cut down again and again while it was read",
        {"session_id": session.session_id},
    )


async def _look(tx: ReadTx, session: Session) -> _Picture | None:
    row = await tx.session_by_uid(session.app, session.uid)
    if row is None:
        return None
    shot = await reading.snapshot(tx, row.session, View.FULL)
    return _Picture(shot, await _page(tx, row, 0, row.session.last_sequence))


async def _page(tx: ReadTx, row: SessionRow, after: int, last: int) -> list[MessageSnapshot]:
    which = MessageRange(after_sequence=after, before_sequence=last + 1, limit=MESSAGES)
    return await reading.fitting(tx, await tx.messages(row, which))


async def _messages(units: Units, picture: _Picture, emit: Emit) -> bool:
    """The messages of a session; False when some were taken from it meanwhile."""
    session, messages = picture.snapshot.session, picture.messages
    left = session.message_count

    async def read_on(tx: ReadTx) -> list[MessageSnapshot] | None:
        row = await tx.session_by_uid(session.app, session.uid)
        if row is None or not still_true(session, row.session):
            return None
        return await _page(tx, row, messages[-1].message.sequence, session.last_sequence)

    while left:
        await emit(MessagesPart(messages))
        left -= len(messages)
        if left:
            found = await units.read(read_on)
            if not found:
                return False
            messages = found
    return True
