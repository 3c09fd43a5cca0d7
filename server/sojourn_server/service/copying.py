"""Copies of a history: within the unit that needs them, or staged before in batches.

Whoever wants a copy runs its unit with `carry_out`. Where there is more to copy than a
unit may, that unit is given up before it has written anything, the copy is staged, and
the unit runs again and takes it. A batch holds the writer for a few milliseconds only.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import MIB, UNIT_ROWS
from sojourn_server.domain.model import Message, Session
from sojourn_server.service import staging as stagings
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work
from sojourn_server.store.base import (
    MessageRange,
    SessionRow,
    Staging,
    StoreDown,
    StoreFull,
    Tx,
)

T = TypeVar("T")

BATCH_ROWS: Final = 200
BATCH_BYTES: Final = MIB
"""What one unit stages at most: more holds up other writers."""

UNIT_BYTES: Final = 2 * MIB
"""How many bytes of messages a unit copies beside everything else that it does."""

_PAUSE: Final = 0.002
"""How long others are let go first between two batches, in seconds."""

_TRIES: Final = 5
"""How often a copy is begun anew because what it copies was cut down meanwhile."""


class History(msgspec.Struct, frozen=True):
    """What a copy has, for the session that takes it."""

    number: int
    """What its messages are kept under; 0: they are to be put."""
    messages: Sequence[Message]
    """Those that are to be put, with the bodies that they were copied from."""
    count: int
    size: int
    last_sequence: int
    last_event_time: Nanos | None


class Copy(msgspec.Struct):
    """A copy that is being staged."""

    source: Session
    """The session as it was when the copy began."""
    through: int
    """The last sequence to be copied."""
    staging: Staging | None = None
    at: int = 0
    """The last sequence that was looked at."""
    count: int = 0
    size: int = 0
    last_event_time: Nanos | None = None

    def took(self, messages: Sequence[Message], until: int) -> None:
        """Note what was copied."""
        self.at = until
        self.count += len(messages)
        self.size += sum(message.size for message in messages)
        if messages:
            self.last_event_time = messages[-1].event_time


def still_true(source: Session, session: Session) -> bool:
    """Whether nothing was removed from a session since: sequences are dense at appends."""
    appended = session.last_sequence - source.last_sequence
    return (
        session.generation == source.generation
        and session.message_count == source.message_count + appended
    )


class _Stage(Exception):
    """There is more to copy than a unit may: it is to be staged, and the unit runs again."""

    def __init__(self, row: SessionRow, through: int) -> None:
        super().__init__("to be staged")
        self.row = row
        self.through = through


class _CutDown(Exception):
    """What was copied is not what is there now."""


Take = Callable[[Work, SessionRow, int | None], Awaitable[History]]
"""Answers the copy of a session's history through a sequence; None: of all of it."""


async def carry_out(
    units: Units,
    call: Call,
    app: str,
    kind: type[T],
    decide: Callable[[Work, Take], Awaitable[T]],
    *,
    erases: bool = False,
) -> Answer[T]:
    """Carry out a use case that copies a history.

    Args:
        units: Where.
        call: Who calls.
        app: Whose log is written.
        kind: The type of the outcome, for repeats.
        decide: Decides and writes; it takes the copy before it writes anything.
        erases: Whether the answer says if all that was erased is scrubbed.

    Raises:
        Refusal: `GENERATION_CHANGED`, `STAGING_LOST`, or whatever `decide` raised.
    """
    attempt = _Attempt(units, call)
    for _ in range(_TRIES):
        try:
            return await attempt.carry_out(app, kind, decide, erases=erases)
        except _CutDown:
            await drop(units, attempt.copy)
            attempt.copy = None
        except BaseException:
            await drop(units, attempt.copy)
            raise
    raise Refusal(
        Reason.GENERATION_CHANGED, "the history was cut down again and again while it was copied"
    )


class _Attempt:
    """Stages a copy until the unit can take it."""

    def __init__(self, units: Units, call: Call) -> None:
        self._units = units
        self._call = call
        self.copy: Copy | None = None

    async def carry_out(
        self,
        app: str,
        kind: type[T],
        decide: Callable[[Work, Take], Awaitable[T]],
        *,
        erases: bool,
    ) -> Answer[T]:
        """Run the unit, and stage what it lacks.

        Raises:
            _CutDown: What was copied is not what is there now.
        """

        async def take(work: Work, row: SessionRow, through: int | None) -> History:
            return await _take(work, row, through, self.copy)

        async def run(work: Work) -> T:
            return await decide(work, take)

        while True:
            try:
                answer = await self._units.write(self._call, app, kind, run, erases=erases)
            except _Stage as asked:
                if self.copy is None:
                    self.copy = Copy(source=asked.row.session, through=asked.through)
                self.copy.through = asked.through
                await stage(self._units, self._call, self.copy)
            else:
                await drop(self._units, self.copy)  # a repeat has not used it
                return answer


async def _take(work: Work, row: SessionRow, through: int | None, copy: Copy | None) -> History:
    """The copy of a history, as far as it is not staged to be put by this unit."""
    session = row.session
    until = session.last_sequence if through is None else min(through, session.last_sequence)
    staging = None
    if copy is not None and copy.staging is not None:
        if session.generation != copy.source.generation:
            raise _reset(session)
        staging = await work.tx.staging(session.app, copy.staging.name)
        if staging is None:
            raise stagings.lost()
        if not still_true(copy.source, session):
            raise _CutDown
        if through is not None:
            until = copy.through
    at = 0 if staging is None or copy is None else copy.at
    rest: Sequence[Message] = []
    if at < until:
        rest = await work.tx.messages(
            row,
            MessageRange(after_sequence=at, before_sequence=until + 1, limit=UNIT_ROWS + 1),
        )
    size = sum(message.size for message in rest)
    if len(rest) > UNIT_ROWS or size > UNIT_BYTES:
        raise _Stage(row, until)
    if staging is None or copy is None:
        return History(0, rest, len(rest), size, until, rest[-1].event_time if rest else None)
    await put(work.tx, staging, rest)
    await work.tx.drop_staging(session.app, staging.name)
    newest = rest[-1].event_time if rest else copy.last_event_time
    return History(staging.history, (), copy.count + len(rest), copy.size + size, until, newest)


async def put(tx: Tx, staging: Staging, messages: Sequence[Message]) -> None:
    """Stage copies of messages."""
    if messages:
        bodies = await tx.contents([message.body for message in messages])
        await stagings.put(tx, staging, messages, bodies)


async def put_own(tx: Tx, row: SessionRow, history: History) -> None:
    """Put the messages that a copy still has to put into its new session."""
    if history.messages:
        bodies = await tx.contents([message.body for message in history.messages])
        await tx.insert_messages(row, await stagings.own(tx, history.messages, bodies))


async def stage(units: Units, call: Call, copy: Copy) -> None:
    """Stage a copy, batch by batch.

    Raises:
        Refusal: `SESSION_NOT_FOUND`, `GENERATION_CHANGED` or `STAGING_LOST`.
    """
    source = copy.source

    async def unit(tx: Tx) -> tuple[Staging, Sequence[Message], int]:
        row = await tx.session_by_uid(source.app, source.uid)
        if row is None:
            raise Refusal(Reason.SESSION_NOT_FOUND, "the session was deleted", {"uid": source.uid})
        if row.session.generation != source.generation:
            raise _reset(row.session)
        if not still_true(source, row.session):
            raise _CutDown
        expire = tx.now + stagings.PATIENCE
        if copy.staging is None:
            name = f"copy/{uuid.uuid4()}"
            staging = await stagings.begin(tx, source.app, name, owner=row.pk, expire_time=expire)
        else:
            found = await tx.staging(source.app, copy.staging.name)
            if found is None:
                raise stagings.lost()
            staging = msgspec.structs.replace(found, expire_time=expire)
            await tx.put_staging(staging)
        which = MessageRange(
            after_sequence=copy.at, before_sequence=copy.through + 1, limit=BATCH_ROWS
        )
        found_here = await tx.messages(row, which)
        batch = within(found_here)
        await put(tx, staging, batch)
        done = len(batch) == len(found_here) < BATCH_ROWS
        return staging, batch, copy.through if done else batch[-1].sequence

    while copy.at < copy.through:
        applied = await units.apply(source.app, call.actor, unit)
        copy.staging, batch, until = applied.value
        copy.took(batch, until)
        await asyncio.sleep(_PAUSE)


def within(messages: Sequence[Message]) -> Sequence[Message]:
    """As many of the messages as a batch may hold: at least one."""
    size = 0
    for index, message in enumerate(messages):
        size += message.size
        if size > BATCH_BYTES and index:
            return messages[:index]
    return messages


async def drop(units: Units, copy: Copy | None) -> None:
    """Remove what is staged of a copy that nobody took."""
    if copy is None or copy.staging is None:
        return
    staging = copy.staging

    async def unit(tx: Tx) -> None:
        found = await tx.staging(staging.app, staging.name)
        if found is not None:
            await stagings.discard(tx, found)

    # Where the store fails, or the caller has gone, the job removes it later.
    with contextlib.suppress(StoreFull, StoreDown):
        await units.apply(staging.app, "", unit)


def _reset(session: Session) -> Refusal:
    return Refusal(
        Reason.GENERATION_CHANGED,
        f"the session is in generation {session.generation}",
        {"generation": str(session.generation)},
    )
