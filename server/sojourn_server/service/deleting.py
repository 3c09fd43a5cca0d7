"""DeleteApp: an app goes, with all it holds.

From the first unit on the app takes nothing new. A drain then waits until its sessions have
ended; what is left at the deadline, and what has ended, is deleted a few sessions at a time,
then the state of users and app, then what is remembered of requests. The last unit logs
APP_DELETED, and the app's row stays to refuse whoever comes late.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.model import (
    NO_CONTENT,
    App,
    AppStatus,
    Change,
    ChangeCause,
    ChangeDetail,
    DeletedWhy,
    EndCause,
)
from sojourn_server.domain.policy import NO_POLICY
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.blockers import blockers, has_sessions
from sojourn_server.service.operations import (
    MADE_UP,
    STEP,
    STEP_ROWS,
    WAIT,
    Done,
    Operations,
    Order,
    Task,
    Wait,
    put_order,
)
from sojourn_server.service.taking import Budget, Deleting
from sojourn_server.service.units import Units, decode_outcome, request_key
from sojourn_server.service.work import ManyOverdue, Work
from sojourn_server.store.base import Candidates, ReadTx, RequestKey, RequestRecord, Tx

DELETE_APP: Final = "DeleteApp"
"""The kind of the operation, its id within the app, and the method that it begins with."""
DRAIN_TIMEOUT: Final[Nanos] = 3_600 * SECOND
"""How long a drain waits where the caller does not say."""
TOLD: Final[Nanos] = 5 * SECOND
"""The least time between two changes that tell how a drain goes on."""
MARGIN: Final = 0.25
"""How long before its caller gives up a call is answered, in seconds."""
REQUESTS: Final = 250
"""How many request records a step empties."""
_DELETING: Final = Deleting(DeletedWhy.APP, EndCause.APP)


class DeleteMode(enum.IntEnum):
    """What is done about live sessions. Numbers are those of `DeleteMode`."""

    REFUSE = 1
    DRAIN = 2
    FORCE = 3


class Phase(enum.IntEnum):
    """What a deletion is about."""

    DRAIN = 1
    SESSIONS = 2
    STATE = 3
    REQUESTS = 4


class Deletion(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where a deletion has come to."""

    run: str
    """Which: an app may be deleted, allowed again and deleted again."""
    phase: Phase = Phase.DRAIN
    sessions: int = 0
    """How many were deleted."""
    told: int = 0
    """How many were live when that was told last."""
    told_time: Nanos = 0
    after: tuple[str, str, str] | None = None
    """The request record that was emptied last."""


class DeleteAppOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """DeleteApp, as far as it has come."""

    status: AppStatus
    sessions: int = 0


class Begun(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a request for a deletion leaves for its repeats."""

    run: str
    """Empty: the app was deleted already."""
    forced: bool
    """Whether there is nothing to wait for but the deletion itself."""


class AppDeletion:
    """The use case of DeleteApp.

    Args:
        units: Where.
        operations: Brings deletions to their end.
    """

    def __init__(self, units: Units, operations: Operations) -> None:
        self._units = units
        self._operations = operations
        operations.register(DELETE_APP, step)

    async def delete(
        self, call: Call, app: str, mode: DeleteMode, drain_timeout: Nanos = DRAIN_TIMEOUT
    ) -> Answer[DeleteAppOutcome]:
        """DeleteApp."""
        begun, revision = await self.begin(call, app, mode, drain_timeout)
        if begun.run:
            driven = self._operations.drive(app, DELETE_APP)
            if begun.forced:
                await self.wait_for([driven], call)
        return await self._read(app, begun.run, revision)

    async def begin(
        self, call: Call, app: str, mode: DeleteMode, drain_timeout: Nanos
    ) -> tuple[Begun, int]:
        """Begin a deletion, or join the one that is under way; with the revision of that.

        Raises:
            Refusal: `APP_NOT_FOUND`, `APP_HAS_SESSIONS` or `REQUEST_ID_REUSED`.
        """
        key = request_key(call, app)

        async def unit(tx: Tx) -> Begun:
            if call.request_id:
                record = await tx.request(key)
                if record is not None:
                    return await decode_outcome(tx, call, record, Begun)
            begun = await _begin(self._units.work(tx), call, app, mode, drain_timeout)
            if call.request_id:
                await tx.put_request(
                    RequestRecord(
                        key=key,
                        payload_hash=call.payload_hash,
                        revision=0,
                        outcome=msgspec.msgpack.encode(begun),
                        create_time=tx.now,
                    )
                )
            return begun

        applied = await self._units.apply(app, call.actor, unit)
        return applied.value, applied.revision

    async def wait_for(self, driven: list[asyncio.Task[None]], call: Call) -> None:
        """Wait until deletions are done, or until shortly before the call's deadline.

        Raises:
            StoreDown: One was held up; it goes on by itself.
        """
        left = None if call.deadline is None else call.deadline - MARGIN - time.monotonic()
        done, _ = await asyncio.wait(driven, timeout=None if left is None else max(0.0, left))
        for each in done:
            each.result()

    async def _read(self, app: str, run: str, revision: int) -> Answer[DeleteAppOutcome]:
        """How far a deletion has come."""
        key = _outcome_key(app, run)

        async def query(tx: ReadTx) -> Answer[DeleteAppOutcome]:
            found = await tx.operation(app, DELETE_APP)
            outcome, at = DeleteAppOutcome(status=AppStatus.DELETED), revision
            if found is not None and (state := _state(found.record)).run == run:
                outcome = DeleteAppOutcome(status=AppStatus.DRAINING, sessions=state.sessions)
            elif run and (record := await tx.request(key)) is not None:
                outcome = msgspec.msgpack.decode(record.outcome, type=DeleteAppOutcome)
                at = record.revision
            return Answer(outcome=outcome, revision=at, now=tx.now)

        return await self._units.read(query)


def _state(record: bytes) -> Deletion:
    order = msgspec.msgpack.decode(record, type=Order)
    return msgspec.msgpack.decode(order.state, type=Deletion)


def _outcome_key(app: str, run: str) -> RequestKey:
    """Where a deletion leaves what it came to."""
    return RequestKey(app, "", DELETE_APP, MADE_UP + run)


async def _begin(work: Work, call: Call, app: str, mode: DeleteMode, drain_timeout: Nanos) -> Begun:
    """Begin a deletion, or change the one that is under way."""
    tx = work.tx
    found = await tx.app(app)
    if found is None:
        raise Refusal(Reason.APP_NOT_FOUND, "there is no such app", {"app": app})
    if found.status is AppStatus.DELETED:
        return Begun(run="", forced=False)
    await _settle(work, app, mode)
    counts = await tx.app_counts(app)
    running = await tx.operation(app, DELETE_APP)
    state = Deletion(run=uuid7(work.now)) if running is None else _state(running.record)
    draining = state.phase is Phase.DRAIN
    if mode is DeleteMode.REFUSE and counts.active and draining:
        raise has_sessions(app, await blockers(tx, app), work.now)
    deadline = work.now + (drain_timeout if mode is DeleteMode.DRAIN else 0)
    if running is not None and found.drain_deadline:
        deadline = min(deadline, found.drain_deadline)
    if running is None or (draining and deadline != found.drain_deadline):
        found = msgspec.structs.replace(found, status=AppStatus.DRAINING, drain_deadline=deadline)
        await tx.put_app(found)
        await _tell(work, found, counts.active)
        state = msgspec.structs.replace(state, told=counts.active, told_time=work.now)
    order = Order(
        key=("", DELETE_APP, MADE_UP + state.run),
        payload_hash=b"",
        actor=call.actor,
        patterns=call.users.patterns,
        subject=call.users.subject,
        begin=work.now,
        state=msgspec.msgpack.encode(state),
    )
    await put_order(tx, app, DELETE_APP, DELETE_APP, order)
    return Begun(run=state.run, forced=deadline <= work.now or not counts.active)


async def _settle(work: Work, app: str, mode: DeleteMode) -> None:
    """Let what is due come first, so that nothing past its deadline counts as live.

    Raises:
        Precede: Something is due.
        ManyOverdue: Very much is, and the app is to be refused for what is live. Who drains
            or forces does not wait for it: the job of expiry, or the deletion, deals with it.
    """
    try:
        work.require_settled(*await work.overdue_in(app))
    except ManyOverdue:
        if mode is DeleteMode.REFUSE:
            raise


async def _tell(work: Work, app: App, active: int) -> None:
    """Tell those who watch how a drain goes on."""
    detail = ChangeDetail(active_sessions=active, drain_deadline=app.drain_deadline)
    await work.tx.log(Change(cause=ChangeCause.APP_DRAINING, detail=detail))


# --- the steps -------------------------------------------------------------------------------

_Next = tuple[Deletion, bool]
"""Where the deletion has come to, and whether the phase goes on."""


async def step(work: Work, task: Task) -> bytes | Done | Wait:
    """Bring a deletion on."""
    work.tx.scrub_later()
    app = await work.tx.app(task.app)
    state = msgspec.msgpack.decode(task.order.state, type=Deletion)
    if app is None or app.status is not AppStatus.DRAINING:
        # Somebody has called the drain off.
        status = AppStatus.ACTIVE if app is None else app.status
        return _done(status, state)
    if state.phase is Phase.DRAIN:
        return await _drain(work, app, state)
    if state.phase is Phase.REQUESTS and (last := await _last(work, app, state)) is not None:
        return last
    return msgspec.msgpack.encode(await _PHASES[state.phase](work, app.app, state))


async def _drain(work: Work, app: App, state: Deletion) -> bytes | Wait:
    active = (await work.tx.app_counts(app.app)).active
    if not active or work.now >= app.drain_deadline:
        return msgspec.msgpack.encode(msgspec.structs.replace(state, phase=Phase.SESSIONS))
    if active == state.told or work.now < state.told_time + TOLD:
        return WAIT
    await _tell(work, app, active)
    told = msgspec.structs.replace(state, told=active, told_time=work.now)
    return msgspec.msgpack.encode(told)


async def _sessions(work: Work, app: str, state: Deletion) -> Deletion:
    """Delete some sessions, the newest first: children before their parents."""
    budget = Budget(work)
    rows = await work.tx.candidates(Candidates(app=app, descending=True, limit=STEP_ROWS))
    for row in rows:
        if budget.spent:
            break
        await _DELETING.take(work, row, budget)
    return msgspec.structs.replace(
        state,
        sessions=state.sessions + budget.count,
        phase=Phase.SESSIONS if rows else Phase.STATE,
    )


async def _shared_state(work: Work, app: str, state: Deletion) -> Deletion:
    """Erase some of the users' state, and the app's."""
    scopes = await work.tx.scopes(app, STEP_ROWS)
    ends = time.monotonic_ns() + STEP
    for user in scopes:
        held = await work.tx.scope_state(app, user)
        if held.values != NO_CONTENT:
            await work.tx.erase_content(held.values)
        await work.tx.drop_scope_state(app, user)
        if time.monotonic_ns() > ends:
            break
    phase = Phase.STATE if scopes else Phase.REQUESTS
    return msgspec.structs.replace(state, phase=phase)


async def _requests(work: Work, app: str, state: Deletion) -> Deletion:
    """Empty some of the request records: a late repeat brings nothing back."""
    after = RequestKey(app, *state.after) if state.after else None
    last = await work.tx.empty_requests(app, after, REQUESTS, DELETE_APP)
    at = None if last is None else (last.principal, last.method, last.request_id)
    return msgspec.structs.replace(state, after=at or _END)


_END: Final = ("", "", "")
"""No record is left to be emptied."""
_PHASES: Final[dict[Phase, Callable[[Work, str, Deletion], Awaitable[Deletion]]]] = {
    Phase.SESSIONS: _sessions,
    Phase.STATE: _shared_state,
    Phase.REQUESTS: _requests,
}


async def _last(work: Work, app: App, state: Deletion) -> Done | bytes | None:
    """The end, once nothing is left; None: something is."""
    if state.after != _END:
        return None
    # State may still be written until here, and a server of another release may not know.
    again = None
    if await work.tx.candidates(Candidates(app=app.app, limit=1)):
        again = Phase.SESSIONS
    elif await work.tx.scopes(app.app, 1):
        again = Phase.STATE
    if again is not None:
        return msgspec.msgpack.encode(msgspec.structs.replace(state, phase=again, after=None))
    deleted = msgspec.structs.replace(
        app, status=AppStatus.DELETED, drain_deadline=0, policy=NO_POLICY
    )
    await work.tx.put_app(deleted)
    await work.tx.log(Change(cause=ChangeCause.APP_DELETED))
    return _done(AppStatus.DELETED, state)


def _done(status: AppStatus, state: Deletion) -> Done:
    outcome = DeleteAppOutcome(status=status, sessions=state.sessions)
    return Done(msgspec.msgpack.encode(outcome))
