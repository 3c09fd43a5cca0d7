"""How a use case becomes a unit of the store: idempotent, scrubbed, told to waiters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import SessionRef
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import UNIT_ROWS, Limits
from sojourn_server.domain.model import AppStatus, ContentId, Session
from sojourn_server.domain.tokens import Sealer
from sojourn_server.service.ahead import end_ahead, settle_ahead
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.tree import TooMany, settle
from sojourn_server.service.turn_line import TurnLine
from sojourn_server.service.work import Defaults, ManyOverdue, Work, absent
from sojourn_server.store.base import (
    Applied,
    BesideUnits,
    Priority,
    ReadTx,
    RequestKey,
    RequestRecord,
    Store,
    StoreDown,
    StoreFull,
    Tx,
)

T = TypeVar("T")

SCRUB_PATIENCE: Final = 2.0
"""How long an answer waits for the purge of a large removal, in seconds."""

SCRUB_PAUSE: Final = 0.005
"""How long it lets others go first between two batches, in seconds."""


class Held(msgspec.Struct, frozen=True):
    """Content that only a request record still holds."""

    session_pk: int
    content: tuple[ContentId, ...]


HOLDS_NOTHING = Held(0, ())


def _holds_nothing(_: object) -> Held:
    return HOLDS_NOTHING


class Units:
    """Carries out units for the use cases: there is no other way to write.

    Args:
        store: Where.
        sealer: For turn tokens.
        limits: Ceilings on content.
        defaults: What holds where nothing else is said.
    """

    def __init__(self, store: Store, sealer: Sealer, limits: Limits, defaults: Defaults) -> None:
        self._store = store
        self.store: BesideUnits = store
        """For what needs no unit."""
        self.sealer = sealer
        self.limits = limits
        self.defaults = defaults
        self.line = TurnLine()

    async def write(
        self,
        call: Call,
        app: str,
        kind: type[T],
        decide: Callable[[Work], Awaitable[T]],
        *,
        held: Callable[[T], Held] = _holds_nothing,
        erases: bool = False,
    ) -> Answer[T]:
        """Carry out a mutating use case, once per request_id.

        Args:
            call: Who calls.
            app: Whose log is written.
            kind: The type of the outcome, for repeats.
            decide: Reads, decides and writes; returns the outcome.
            held: What content the request record must hold for repeats.
            erases: Whether the answer says if all that was erased is scrubbed.

        Raises:
            Refusal: `REQUEST_ID_REUSED`, or whatever `decide` raised.
        """
        works: list[Work] = []
        last: list[Work | None] = [None]
        instants: list[Nanos] = [0]
        ahead = 0

        async def unit(tx: Tx) -> T:
            instants[0] = tx.now
            last[0] = None
            key = request_key(call, app)
            if call.request_id:
                record = await tx.request(key)
                if record is not None:
                    return await decode_outcome(tx, call, record, kind)
            work = self.work(tx)
            work.ended_ahead = ahead
            works.append(work)
            last[0] = work
            outcome = await decide(work)
            if call.request_id:
                keep = held(outcome)
                await tx.put_request(
                    RequestRecord(
                        key=key,
                        payload_hash=call.payload_hash,
                        revision=0,
                        outcome=msgspec.msgpack.encode(outcome),
                        create_time=tx.now,
                        session_pk=keep.session_pk,
                        held=keep.content,
                    )
                )
            return outcome

        def count(ended: int) -> None:
            nonlocal ahead
            ahead += ended

        try:
            applied = await self.apply(app, call.actor, unit, ended_ahead=count)
        finally:
            for work in works:
                self.line.freed(work.freed)
        # A repeat does not know whether what it once erased is purged by now.
        left_over = erases if last[0] is None else last[0].left_over
        scrubbed = await self._scrubbed(applied.scrubbed, left_over)
        return Answer(
            outcome=applied.value,
            revision=applied.revision,
            # Of a store that cannot scrub it is never said, not even where nothing was left
            # to erase: a repeat does not know that either.
            scrubbed=scrubbed and (self.store.scrubs or not erases),
            now=instants[0],
        )

    def work(self, tx: Tx) -> Work:
        """What a unit does its work with."""
        return Work(tx, self.sealer, self.limits, self.defaults)

    async def settle(
        self, app: str, uid: str, priority: Priority = Priority.CALLER
    ) -> Applied[None]:
        """Write what time has brought about on one session, as a unit of its own."""
        freed: set[str] = set()

        async def unit(tx: Tx) -> None:
            work = self.work(tx)
            await settle(work, app, uid)
            freed.update(work.freed)

        applied = await self.apply(app, "", unit, priority)
        self.line.freed(freed)
        return applied

    async def apply(
        self,
        app: str,
        actor: str,
        unit: Callable[[Tx], Awaitable[T]],
        priority: Priority = Priority.CALLER,
        *,
        ended_ahead: Callable[[int], None] | None = None,
    ) -> Applied[T]:
        """Carry out a unit, after others where too much is to be done before it or with it.

        Args:
            app: Whose log it writes.
            actor: Who does it, for the log.
            unit: As the store's.
            priority: As the store's.
            ended_ahead: Is told how many sessions ended before the unit.
        """
        while True:
            try:
                return await self._store.apply(app, actor, unit, priority)
            except TooMany as many:
                ended = await end_ahead(self, many, actor, priority)
                if ended_ahead is not None:
                    ended_ahead(ended)
            except ManyOverdue as overdue:
                await settle_ahead(self, overdue, priority)

    async def read(self, query: Callable[[ReadTx], Awaitable[T]]) -> T:
        """Carry out a read."""
        return await self.store.read(query)

    async def purged(self) -> bool:
        """Wait a little for everything that was erased to be purged.

        Returns:
            Whether it is all gone from the files.
        """
        return await self._scrubbed(by_the_unit=False, left_over=True)

    async def _scrubbed(self, by_the_unit: bool, left_over: bool) -> bool:
        """Wait a little for what the unit left to be purged.

        Returns:
            Whether all that was erased is gone from the files.
        """
        if not left_over:
            return by_the_unit
        patience = time.monotonic() + SCRUB_PATIENCE
        while time.monotonic() < patience:
            try:
                if await self.store.purge(UNIT_ROWS):
                    return self.store.scrubs
            except (StoreFull, StoreDown):
                # What was asked for is committed, and only this is not done.
                return False
            await asyncio.sleep(SCRUB_PAUSE)
        return False


def request_key(call: Call, app: str) -> RequestKey:
    """Where the record of a call is kept."""
    return RequestKey(app, call.principal, call.method, call.request_id)


async def decode_outcome(tx: Tx, call: Call, record: RequestRecord, kind: type[T]) -> T:
    """The outcome of a request that succeeded before.

    Raises:
        Refusal: `REQUEST_ID_REUSED`: it was another request. `SESSION_NOT_FOUND`: the
            session, named by its uid or a token alone, is the caller's no more; or what it
            came to was erased. `APP_DELETED`: it was erased with the app.
    """
    if record.payload_hash not in {call.payload_hash, b""}:
        raise reused(call)
    if not record.outcome:
        raise await erased(tx, record.key.app)
    outcome = msgspec.msgpack.decode(record.outcome, type=kind)
    session: Session | None = getattr(outcome, "session", None)
    if session is not None and not call.users.covers(session.user):
        # Grants may have been taken back since, and keys of one name may differ in theirs.
        raise absent(SessionRef(app=session.app, uid=session.uid))
    tx.answer_at(record.revision)
    return outcome


def reused(call: Call) -> Refusal:
    """The refusal of a request_id that another request has used."""
    return Refusal(
        Reason.REQUEST_ID_REUSED,
        "the request_id was used with another payload",
        {"request_id": call.request_id},
    )


async def erased(tx: ReadTx, app: str) -> Refusal:
    """The refusal of a repeat whose outcome was erased: it must bring nothing back."""
    found = await tx.app(app)
    if found is not None and found.status is AppStatus.DELETED:
        return Refusal(Reason.APP_DELETED, "the app was deleted", {"app": app})
    return Refusal(Reason.SESSION_NOT_FOUND, "what the request made was erased")
