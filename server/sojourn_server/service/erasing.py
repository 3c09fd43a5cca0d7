"""EraseUser: everything of one user goes, and nothing that names the user stays.

An operation in four phases, each in steps. What is meant is fixed when it begins: the
sessions and the state that are there then. A session that is created while it goes on, by
somebody who has not heard yet, belongs to the time after, and stays.

1. Sessions, the newest first, so children come before their parents. Each leaves one change
   DELETED(ERASED), which from the beginning has only uid and alias. Other long work that
   began before is waited for, since it knows them by name and leaves a record that does.
2. The log: entries of these sessions and of the user's state keep revision, cause, uid and
   an alias. They are the last that tell of them, so this phase has a known end.
3. Request records that tell of them are emptied, and stay: a late retry brings nothing back.
4. The audit: entries keep a random alias, and no session_id.

At last the store is asked to clear stale copies, and one change USER_ERASED says that it is
done. Sessions of others below the user's stay; those that cannot be without their parent end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from sojourn_server.domain import documents, lifecycle
from sojourn_server.domain.auditing import AuditPlace, AuditRange
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import (
    AppStatus,
    Change,
    ChangeCause,
    ChangeDetail,
    DeletedWhy,
    Erased,
    Status,
    TurnOutcome,
)
from sojourn_server.service import tree
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.deleting import DELETE_APP
from sojourn_server.service.naming import Erasee
from sojourn_server.service.operations import (
    ERASE,
    STEP,
    STEP_ROWS,
    WAIT,
    Begun,
    Done,
    Operations,
    Task,
    Wait,
    app_s_own,
    order_of,
    put_order,
)
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work
from sojourn_server.store.base import Candidates, Position, RequestKey, SessionRow

ROWS: Final = 200
"""How many entries of the log or of the audit a step looks at."""
RECORDS: Final = 20
"""How many request records are read together: one may tell of a whole batch."""
OTHERS: Final = 10_000
"""How many operations are looked at for those that may name the user."""
_ALIAS_BYTES: Final = 12
_EVER: Final[Nanos] = 2**62

replace = msgspec.structs.replace


class EraseOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """EraseUser: the receipt."""

    erased: Erased = Erased()


class _Progress(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where an erasure has come to."""

    erasee: Erasee
    newest: int
    """Of the user's sessions those up to this creation order are meant."""
    phase: int = 0
    until: int = 0
    """No later revision tells of what is erased."""
    revision: int = 0
    """Up to where the log is done."""
    request: tuple[str, str, str] | None = None
    """Up to which key the records are done."""
    audit: tuple[int, int] | None = None
    """Down to where the audit is done."""
    erased: Erased = Erased()
    emptied: Nanos = 0
    """When no session of them was left; 0: some may be."""


class Erasing:
    """The use case of EraseUser.

    Args:
        units: Where.
        operations: Brings it to its end.
    """

    def __init__(self, units: Units, operations: Operations) -> None:
        self._units = units
        self._operations = operations
        operations.register(ERASE, step)

    async def erase(self, call: Call, app: str, user: str) -> Answer[EraseOutcome]:
        """EraseUser."""
        alias = f"erased-{os.urandom(_ALIAS_BYTES).hex()}"
        log_alias = self._units.sealer.aliases(app, user)[0]

        async def begin(work: Work) -> Begun | Done:
            if await work.tx.app(app) is None:
                return Done(msgspec.msgpack.encode(EraseOutcome()))
            begun = await work.tx.head(app)
            erasee = Erasee(app=app, user=user, alias=alias, log_alias=log_alias, begun=begun)
            newest = await work.tx.candidates(
                Candidates(app=app, user=user, descending=True, limit=1)
            )
            progress = _Progress(
                erasee=erasee,
                newest=newest[0].create_order if newest else 0,
                erased=Erased(state_keys=await _erase_state(work, app, user)),
            )
            return Begun(msgspec.msgpack.encode(progress))

        nobody = Erasee(app=app, user=user, alias=alias, log_alias=log_alias, begun=0)
        call = replace(call, actor=nobody.actor(call.actor))
        return await self._operations.run(call, app, ERASE, EraseOutcome, begin, erases=True)


async def step(work: Work, task: Task) -> bytes | Done | Wait:
    """The next part of an erasure."""
    progress = msgspec.msgpack.decode(task.order.state, type=_Progress)
    if progress.emptied and not progress.phase:
        if await _is_named_by_others(work, progress):
            return WAIT
        return msgspec.msgpack.encode(replace(_next(progress), until=await work.tx.head(task.app)))
    if progress.phase < len(_PHASES):
        return msgspec.msgpack.encode(await _PHASES[progress.phase](work, progress))
    return await _end(work, progress)


def _next(progress: _Progress) -> _Progress:
    return replace(progress, phase=progress.phase + 1)


async def _erase_state(work: Work, app: str, user: str) -> int:
    """Erase the user's state; how many keys it had."""
    state = await work.tx.scope_state(app, user)
    keys = len(documents.decode(await work.tx.content(state.values)))
    await work.tx.replace_content(state.values, b"")
    await work.tx.drop_scope_state(app, user)
    return keys


async def _sessions(work: Work, progress: _Progress) -> _Progress:
    erasee, after = progress.erasee, progress.newest + 1
    query = Candidates(
        app=erasee.app,
        user=erasee.user,
        descending=True,
        after=Position(after, after),
        limit=STEP_ROWS,
    )
    rows = await work.tx.candidates(query)
    if not rows:
        await _unname_deletion(work, erasee)
        return replace(progress, emptied=work.now)
    work.tx.scrub_later()
    count = messages = state_keys = 0
    ends = time.monotonic_ns() + STEP
    for row in rows:
        if row.session.state:
            state_keys += len(documents.decode(await work.tx.content(row.session.state)))
        messages += row.session.message_count
        await _erase_session(work, row, erasee)
        count += 1
        if time.monotonic_ns() > ends:
            break
    sums = progress.erased
    sums = replace(
        sums,
        sessions=sums.sessions + count,
        messages=sums.messages + messages,
        state_keys=sums.state_keys + state_keys,
    )
    return replace(progress, newest=rows[count - 1].create_order - 1, erased=sums)


async def _erase_session(work: Work, row: SessionRow, erasee: Erasee) -> None:
    # Those of the same user are gone already; who is left is somebody else's.
    await tree.end_dependents(work, row.session, 0, Status.FAILED)
    if row.session.turn:
        revoked = lifecycle.turn_ended(row.session, work.now, TurnOutcome.REVOKED)
        row = await work.write(row, [revoked])
    await tree.remove(work, row)
    session = row.session
    await work.tx.log(
        Change(
            cause=ChangeCause.DELETED,
            uid=session.uid,
            alias=erasee.alias,
            detail=ChangeDetail(
                deleted_why=DeletedWhy.ERASED,
                alias=erasee.log_alias,
                parent_uid=session.parent_uid,
            ),
        )
    )


async def _is_named_by_others(work: Work, progress: _Progress) -> bool:
    """Whether long work that began before the sessions were gone is still under way."""
    others = await work.tx.operations(_EVER, OTHERS)
    return any(
        each.app == progress.erasee.app
        and each.kind != ERASE
        and not app_s_own(each.kind)
        and order_of(each).begin <= progress.emptied
        for each in others
    )


async def _unname_deletion(work: Work, erasee: Erasee) -> None:
    """Take the user's name from a deletion of the app, which may wait for long."""
    found = await work.tx.operation(erasee.app, DELETE_APP)
    if found is not None and erasee.names((order := order_of(found)).actor):
        order = replace(order, actor=erasee.alias, subject="")
        await put_order(work.tx, found.app, found.operation_id, found.kind, order, found.content)


async def _log(work: Work, progress: _Progress) -> _Progress:
    erasee = progress.erasee
    changes = await work.tx.changes(erasee.app, progress.revision, ROWS)
    rewritten = []
    for change in changes:
        if change.revision > progress.until:
            break
        erasee = erasee.read(change)
        left = erasee.left(change)
        if left is not None:
            rewritten.append(left)
    await work.tx.rewrite_changes(erasee.app, rewritten)
    sums = progress.erased
    progress = replace(
        progress, erasee=erasee, erased=replace(sums, changes=sums.changes + len(rewritten))
    )
    if not changes or changes[-1].revision >= progress.until:
        return _next(progress)
    return replace(progress, revision=changes[-1].revision)


async def _requests(work: Work, progress: _Progress) -> _Progress:
    erasee = progress.erasee
    after = None if progress.request is None else RequestKey(erasee.app, *progress.request)
    work.tx.scrub_later()
    ends = time.monotonic_ns() + STEP
    while records := await work.tx.requests_after(erasee.app, after, RECORDS):
        for record in records:
            if record.revision <= progress.until and erasee.is_named_in(record.outcome):
                await work.tx.empty_request(record)
            after = key = record.key
            if time.monotonic_ns() > ends:
                return replace(progress, request=(key.principal, key.method, key.request_id))
    return _next(progress)


async def _audit(work: Work, progress: _Progress) -> _Progress:
    erasee = progress.erasee
    before = AuditPlace(*(progress.audit or (progress.until + 1, 0)))
    entries = await work.tx.audit(AuditRange(app=erasee.app, before=before, limit=ROWS))
    left = [found for each in entries if (found := erasee.left_in_audit(each)) is not None]
    await work.tx.rewrite_audit(erasee.app, left)
    sums = progress.erased
    erased = replace(sums, audit_entries=sums.audit_entries + len(left))
    progress = replace(progress, erased=erased)
    if len(entries) < ROWS:
        return _next(progress)
    return replace(progress, audit=(entries[-1].revision, entries[-1].index))


async def _end(work: Work, progress: _Progress) -> Done:
    erasee, erased = progress.erasee, progress.erased
    found = await work.tx.app(erasee.app)
    if found is not None and found.status is not AppStatus.DELETED:
        await work.tx.log(
            Change(
                cause=ChangeCause.USER_ERASED,
                alias=erasee.alias,
                detail=ChangeDetail(alias=erasee.log_alias, erased=erased),
            )
        )
    await work.tx.clear_stale()
    return Done(msgspec.msgpack.encode(EraseOutcome(erased=erased)))


_Phase = Callable[[Work, _Progress], Awaitable[_Progress]]
_PHASES: Final[tuple[_Phase, ...]] = (_sessions, _log, _requests, _audit)
