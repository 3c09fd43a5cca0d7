"""Work that takes more than one unit: kept in the store, brought on step by step.

An operation is a row. Each step is a unit that reads the row, does the next part of the
work from where the row says it has come to, and writes the row back; the last one removes
it and leaves the outcome in a request record. So nothing is done twice or lost, whoever
takes the steps: the server that was asked, another one that was asked again, or the job
that takes up what nobody brings on any more.

Steps are short, there is only one at a time in this process, and between two of them others
have their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from sojourn_server.domain.access import Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.model import AppStatus, ContentId
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.units import Units, decode_outcome, erased, reused
from sojourn_server.service.work import Work
from sojourn_server.store.base import (
    Operation,
    Priority,
    ReadTx,
    RequestKey,
    RequestRecord,
    StoreDown,
    StoreFull,
    Tx,
)

T = TypeVar("T")

STEP: Final[Nanos] = 4_000_000
"""How long a step may go on before it leaves the rest to the next one."""
STEP_ROWS: Final = 64
"""How many sessions a step deals with at most."""
PAUSE: Final = 0.001
"""The rest between two steps, in seconds: others are let in."""
LOOK: Final = 0.5
"""How often an operation that waits for others is looked at, in seconds."""
ERASE: Final = "EraseUser"
"""The kind that is about a user, of whom much is left when the app is deleted."""
MADE_UP: Final = " "
"""What the request ids begin with that a server makes for callers who gave none: a caller's
own never has a blank."""


class Done(NamedTuple):
    """A step was the last one."""

    outcome: bytes
    """The answer without content, to be kept like that of any request."""


class Wait(NamedTuple):
    """A step could do nothing: it is for others to go on first."""


WAIT: Final = Wait()


class Order(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who asked for an operation, and where it has come to: what its record holds."""

    key: tuple[str, str, str]
    """Principal, method and request_id: where the outcome is left."""
    payload_hash: bytes
    actor: str
    """Whose name goes into the log."""
    patterns: tuple[str, ...]
    """Of which users' sessions: see `Users`."""
    subject: str
    begin: Nanos
    """The store's clock when it began."""
    state: bytes
    """Where it has come to, as its kind encodes it."""

    @property
    def users(self) -> Users:
        """The users to whose sessions the caller may do this."""
        return Users(self.patterns, self.subject)


class Task(NamedTuple):
    """What a step is given."""

    app: str
    operation_id: str
    order: Order
    content: tuple[ContentId, ...]
    """What the operation holds; erased when it is done."""


Step = Callable[[Work, Task], Awaitable["bytes | Done | Wait"]]
"""Does the next part of an operation, in a unit of its own: `STEP_ROWS` sessions or `STEP`
at most. Returns what its state is afterwards, or that it is done, or that it must wait."""
Errand = Callable[[Task], Awaitable[None]]
"""What must be done before a step, outside of its unit. It may come again and again."""


class Begun(NamedTuple):
    """What a new operation starts with."""

    state: bytes
    content: tuple[ContentId, ...] = ()


class _Kind(NamedTuple):
    step: Step
    errand: Errand | None


class _Stepped(NamedTuple):
    """A step that was not the last."""

    rest: float
    """How long to let others go first, in seconds."""
    operation: Operation
    """The operation as the step found it."""


class _Started(msgspec.Struct, Generic[T], frozen=True):
    """What became of a request for an operation."""

    operation_id: str
    key: RequestKey
    """Where the outcome is left."""
    done: bool = False
    """Whether it is there."""
    nothing: Answer[T] | None = None
    """The answer, where there was nothing to do."""


class Operations:
    """Begins operations, and brings them on.

    Args:
        units: Where.
    """

    def __init__(self, units: Units) -> None:
        self._units = units
        self._kinds: dict[str, _Kind] = {}
        self._driven: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._one = asyncio.Lock()
        self.note_failed: Callable[[BaseException], None] = lambda _: None
        """Is told why an operation could not be brought on, where it was not the store."""

    def register(self, kind: str, step: Step, errand: Errand | None = None) -> None:
        """Say how operations of a kind are brought on.

        Args:
            kind: Its name: that of the RPC.
            step: Does the next part.
            errand: What comes before each step, outside of its unit.
        """
        self._kinds[kind] = _Kind(step, errand)

    async def run(
        self,
        call: Call,
        app: str,
        kind: str,
        outcome: type[T],
        begin: Callable[[Work], Awaitable[Begun | Done]],
        *,
        erases: bool = False,
    ) -> Answer[T]:
        """Begin an operation, or join it when its request_id did so before, and finish it.

        Args:
            call: Who calls.
            app: Whose log is written.
            kind: Which steps bring it on.
            outcome: The type of the outcome.
            begin: Decides what it starts with, in the unit that begins it; or that there is
                nothing to do, which is not remembered.
            erases: Whether the answer says if all that was erased is scrubbed.

        Raises:
            Refusal: `REQUEST_ID_REUSED`, or whatever `begin` or a step raised.
        """
        started = await self._start(call, app, kind, outcome, begin)
        if started.nothing is not None:
            return started.nothing
        if not started.done:
            await self.finished(app, started.operation_id)
        return await self._answer(started.key, outcome, erases)

    async def _start(
        self,
        call: Call,
        app: str,
        kind: str,
        outcome: type[T],
        begin: Callable[[Work], Awaitable[Begun | Done]],
    ) -> _Started[T]:
        request_id = call.request_id or f"{MADE_UP}{uuid7(time.time_ns())}"
        key = RequestKey(app, call.principal, call.method, request_id)
        # Unique, whatever stands in a principal: no method has a blank.
        operation_id = f"{call.method} {len(call.principal)} {call.principal} {request_id}"

        async def unit(tx: Tx) -> _Started[T]:
            record = await tx.request(key)
            if record is not None:
                await decode_outcome(tx, call, record, outcome)
                return _Started(operation_id, key, done=True)
            running = await tx.operation(app, operation_id)
            if running is not None:
                if order_of(running).payload_hash != call.payload_hash:
                    raise reused(call)
                return _Started(operation_id, key)
            begun = await begin(self._units.work(tx))
            if isinstance(begun, Done):
                value = msgspec.msgpack.decode(begun.outcome, type=outcome)
                scrubs = self._units.store.scrubs
                head = await tx.head(app)
                nothing = Answer(outcome=value, revision=head, scrubbed=scrubs, now=tx.now)
                return _Started(operation_id, key, nothing=nothing)
            order = Order(
                key=(call.principal, call.method, request_id),
                payload_hash=call.payload_hash,
                actor=call.actor,
                patterns=call.users.patterns,
                subject=call.users.subject,
                begin=tx.now,
                state=begun.state,
            )
            await put_order(tx, app, operation_id, kind, order, begun.content)
            return _Started(operation_id, key)

        return (await self._units.apply(app, call.actor, unit)).value

    async def _answer(self, key: RequestKey, outcome: type[T], erases: bool) -> Answer[T]:
        """The answer of an operation that is done."""

        async def query(tx: ReadTx) -> tuple[RequestRecord, Nanos]:
            record = await tx.request(key)
            if record is None or not record.outcome:
                raise await erased(tx, key.app)  # between its end and this look
            return record, tx.now

        record, now = await self._units.read(query)
        return Answer(
            outcome=msgspec.msgpack.decode(record.outcome, type=outcome),
            revision=record.revision,
            scrubbed=await self._units.purged() if erases else True,
            now=now,
        )

    # --- driving ---

    async def finished(self, app: str, operation_id: str) -> None:
        """Bring an operation on until it is done, or wait while somebody here does so.

        Whoever waits may be cancelled; the operation goes on.
        """
        await asyncio.shield(self.drive(app, operation_id))

    def drive(self, app: str, operation_id: str) -> asyncio.Task[None]:
        """See to it that an operation is brought on here, until it is done."""
        name = (app, operation_id)
        task = self._driven.get(name)
        if task is None:
            task = asyncio.create_task(self._drive(app, operation_id), name="operation")
            self._driven[name] = task
            task.add_done_callback(lambda _: self._left(name))
        return task

    def _left(self, name: tuple[str, str]) -> None:
        task = self._driven.pop(name)
        # Whoever waits hears of it; else the job takes it up again.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (StoreDown, StoreFull)):
            self.note_failed(error)

    async def close(self) -> None:
        """Break off what is driven here: others, or the next start, go on with it."""
        tasks = list(self._driven.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, app: str, operation_id: str) -> None:
        found = await self._look(app, operation_id)
        while found is not None:
            kind = self._kinds[found.kind]
            if kind.errand is not None:
                await kind.errand(_task(found))
            stepped = await self._step(kind.step, found)
            if stepped is None:
                return
            await asyncio.sleep(stepped.rest)
            found = stepped.operation
            if kind.errand is not None:
                found = await self._look(app, operation_id)

    async def _look(self, app: str, operation_id: str) -> Operation | None:
        async def query(tx: ReadTx) -> Operation | None:
            return await tx.operation(app, operation_id)

        return await self._units.read(query)

    async def _step(self, step: Step, known: Operation) -> _Stepped | None:
        """Bring an operation on by one step.

        Returns:
            Where it has come to; None: it is done.
        """
        app, operation_id = known.app, known.operation_id
        actor = order_of(known).actor
        freed: set[str] = set()

        async def unit(tx: Tx) -> _Stepped | None:
            operation = await tx.operation(app, operation_id)
            if operation is None:
                return None
            order = order_of(operation)
            if order.actor != actor:
                # Another has asked for the rest of it, or the name was erased: not in this name.
                return _Stepped(0, operation)
            work = self._units.work(tx)
            came = await step(work, _task(operation))
            freed.update(work.freed)
            if isinstance(came, Wait):
                return _Stepped(LOOK, operation)
            if isinstance(came, Done):
                await _finish(tx, operation, came.outcome)
                return None
            order = msgspec.structs.replace(order, state=came)
            await put_order(tx, app, operation_id, operation.kind, order, operation.content)
            return _Stepped(PAUSE, operation)

        async with self._one:
            applied = await self._units.apply(app, actor, unit, Priority.JOB)
        self._units.line.freed(freed)
        return applied.value

    async def take_up(self, before: Nanos, limit: int) -> int:
        """Drive operations that nobody has brought on since an instant.

        Returns:
            How many there were.
        """

        async def query(tx: ReadTx) -> list[tuple[str, str]]:
            found = await tx.operations(before, limit)
            return [(each.app, each.operation_id) for each in found if each.kind in self._kinds]

        names = await self._units.read(query)
        for app, operation_id in names:
            self.drive(app, operation_id)
        return len(names)


def order_of(operation: Operation) -> Order:
    """What an operation's record says."""
    return msgspec.msgpack.decode(operation.record, type=Order)


def _task(operation: Operation) -> Task:
    return Task(operation.app, operation.operation_id, order_of(operation), operation.content)


async def put_order(
    tx: Tx,
    app: str,
    operation_id: str,
    kind: str,
    order: Order,
    content: tuple[ContentId, ...] = (),
) -> None:
    """Keep an operation as it is now."""
    await tx.put_operation(
        Operation(
            app=app,
            operation_id=operation_id,
            kind=kind,
            record=msgspec.msgpack.encode(order),
            update_time=tx.now,
            content=content,
        )
    )


async def _finish(tx: Tx, operation: Operation, outcome: bytes) -> None:
    """Leave the outcome where a repeat finds it, and forget the operation."""
    order = order_of(operation)
    for content_id in operation.content:
        await tx.replace_content(content_id, b"")
    await tx.drop_operation(operation.app, operation.operation_id)
    app = await tx.app(operation.app)
    deleted = app is not None and app.status is AppStatus.DELETED
    if deleted and not (app_s_own(operation.kind) or operation.kind == ERASE):
        outcome = b""  # of what a deleted app held nothing is told any more
    await tx.put_request(
        RequestRecord(
            key=RequestKey(operation.app, *order.key),
            payload_hash=order.payload_hash,
            revision=0,
            outcome=outcome,
            create_time=tx.now,
        )
    )


def app_s_own(kind: str) -> bool:
    """Whether an operation is about the app itself, and outlives what it holds."""
    return kind.startswith("DeleteApp")
