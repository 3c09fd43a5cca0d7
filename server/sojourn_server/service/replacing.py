"""ReplaceMessages: other messages in the place of a suffix, all at once.

What one request holds is replaced within its unit. What takes several is staged as a
whole new history: the new messages as they come, then, with the last of them, copies of
those that are kept; one unit switches the session to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from sojourn_server.domain import lifecycle
from sojourn_server.domain.clock import HOUR, Nanos
from sojourn_server.domain.commands import NewMessage, Precondition, SessionRef
from sojourn_server.domain.errors import Reason, Refusal, invalid_field
from sojourn_server.domain.limits import SEQUENCE_MOST
from sojourn_server.domain.model import Change, ChangeCause, ChangeDetail, Message, Session
from sojourn_server.service import appending, ceilings, copying
from sojourn_server.service import staging as stagings
from sojourn_server.service.answers import Answer, Call, ReplaceOutcome
from sojourn_server.service.removing import truncated
from sojourn_server.service.units import Units, request_key
from sojourn_server.service.work import Work
from sojourn_server.store.base import MessageRange, SessionRow, Staging, Tx

STAGED_FOR: Final[Nanos] = HOUR
"""How long a part waits for the next one."""

PAUSE: Final = 0.002
"""How long others are let go first between two batches, in seconds."""


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """What ReplaceMessages asks for."""

    keep: int
    """Keep messages up to this sequence."""
    messages: Sequence[NewMessage]
    staging_id: str = ""
    more_follow: bool = False
    part: int = 0


class _Staged(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What is kept beside staged messages. Gone within the hour: its form may change."""

    generation: int
    message_count: int
    last_sequence: int
    """These three are those of the session when the first part came."""
    keep: int
    parts: int = 0
    """How many have come."""
    count: int = 0
    size: int = 0
    newest: Nanos | None = None
    """The last new message's event time."""
    last_hash: bytes = b""
    """Of the last part, to know it again when it is repeated."""
    last_ids: tuple[str, ...] = ()
    complete: bool = False
    """Whether no more parts follow."""
    at: int = 0
    """Messages that are kept are copied up to this sequence."""
    kept: int = 0
    kept_size: int = 0
    kept_newest: Nanos | None = None


async def replace(
    units: Units,
    call: Call,
    ref: SessionRef,
    precondition: Precondition,
    asked: Replacement,
) -> Answer[ReplaceOutcome]:
    """ReplaceMessages."""
    appending.check_messages(asked.messages, units.limits)
    if not asked.staging_id:
        _check_alone(asked)

        async def decide(work: Work) -> ReplaceOutcome:
            row = await work.current(ref)
            by_turn = await work.turn_required(ref.app)
            work.check(row.session, precondition, turn_required=by_turn)
            return await _at_once(work, row, asked)

        return await units.write(call, ref.app, ReplaceOutcome, decide)
    parts = _Parts(units, call, ref, precondition, asked)
    if asked.more_follow:
        return await units.write(call, ref.app, ReplaceOutcome, parts.stage)
    try:
        await units.apply(ref.app, call.actor, parts.stage_last)
        await parts.copy_kept()
    finally:
        units.line.freed(parts.freed)
    return await units.write(call, ref.app, ReplaceOutcome, parts.switch)


def _check_alone(asked: Replacement) -> None:
    if asked.more_follow:
        raise invalid_field("staging_id", "must be set where more requests follow")
    if asked.part:
        raise invalid_field("part", "must be 0 without a staging_id")


class _Parts:
    """One request of a replacement that takes several."""

    def __init__(
        self,
        units: Units,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        asked: Replacement,
    ) -> None:
        self._units = units
        self._call = call
        self._ref = ref
        self._precondition = precondition
        self._asked = asked
        self.freed: set[str] = set()
        """Uids whose turn ended on the way."""

    def _work(self, tx: Tx) -> Work:
        work = self._units.work(tx)
        work.freed = self.freed
        return work

    async def stage(self, work: Work) -> ReplaceOutcome:
        """Stage the messages of one part."""
        asked = self._asked
        row, staging, record = await self._opened(work, begin=asked.part == 0)
        if record.complete or record.parts != asked.part:
            raise stagings.lost(part=str(record.parts))
        if record.keep != asked.keep:
            raise invalid_field("keep_through_sequence", "must be that of the first part")
        placed = await self._put(work, row, staging, record)
        record = msgspec.structs.replace(
            record,
            parts=record.parts + 1,
            count=record.count + len(placed),
            size=record.size + sum(message.size for message in placed),
            newest=placed[-1].event_time if placed else record.newest,
            last_hash=self._call.payload_hash,
            last_ids=tuple(message.message_id for message in placed),
            complete=not asked.more_follow,
        )
        await work.tx.put_staging(_with(staging, record, work.now))
        return ReplaceOutcome(
            session=row.session,
            removed=0,
            message_ids=record.last_ids,
            sequences=tuple(message.sequence for message in placed),
            changed=False,
        )

    async def stage_last(self, tx: Tx) -> None:
        """Stage the last part, unless this is a repeat of it."""
        work = self._work(tx)
        call = self._call
        if call.request_id:
            if await tx.request(request_key(call, self._ref.app)) is not None:
                return
            row = await work.current(self._ref)
            staging = await tx.staging(row.session.app, self._name(row.session))
            if staging is not None:
                record = _decode(staging)
                if record.complete and record.last_hash == call.payload_hash:
                    return
        await self.stage(work)

    async def copy_kept(self) -> None:
        """Stage the messages that are kept, batch by batch."""
        units, keep = self._units, self._asked.keep

        async def unit(tx: Tx) -> bool:
            call = self._call
            if call.request_id and await tx.request(request_key(call, self._ref.app)) is not None:
                return False
            row, staging, record = await self._opened(self._work(tx))
            which = MessageRange(
                after_sequence=record.at,
                before_sequence=_end(keep, row.session),
                limit=copying.BATCH_ROWS,
            )
            found = await tx.messages(row, which)
            batch = copying.within(found)
            if not batch:
                return False
            await copying.put(tx, staging, batch)
            record = msgspec.structs.replace(
                record,
                at=batch[-1].sequence,
                kept=record.kept + len(batch),
                kept_size=record.kept_size + sum(message.size for message in batch),
                kept_newest=batch[-1].event_time,
            )
            await tx.put_staging(_with(staging, record, tx.now))
            return True

        more = keep > 0
        while more:
            more = (await units.apply(self._ref.app, self._call.actor, unit)).value
            await asyncio.sleep(PAUSE)

    async def switch(self, work: Work) -> ReplaceOutcome:
        """Make what is staged the session's history."""
        row, staging, record = await self._opened(work)
        end = _end(record.keep, row.session)
        left = MessageRange(after_sequence=record.at, before_sequence=end, limit=1)
        if not record.complete or (record.keep and await work.tx.messages(row, left)):
            raise stagings.lost(part=str(record.parts))
        before = row.session
        ceilings.require_within(
            await work.policy(before.app),
            record.kept + record.count,
            record.kept_size + record.size,
        )
        kept = lifecycle.replace(
            before,
            message_count=record.kept,
            message_bytes=record.kept_size,
            last_event_time=record.kept_newest,
        )
        await work.purge(row, 1, SEQUENCE_MOST, before.message_count)
        await work.tx.drop_staging(before.app, staging.name)
        moved = lifecycle.replace(before, history=staging.history, removed_ranges=())
        row = await work.keep(row, moved)
        kept = lifecycle.replace(kept, history=staging.history, removed_ranges=())
        changes = _changes(row.session, kept, record, work.now)
        row = await work.write(row, changes)
        last = row.session.last_sequence
        return ReplaceOutcome(
            session=row.session,
            removed=before.message_count - record.kept,
            message_ids=record.last_ids,
            sequences=tuple(range(last - len(record.last_ids) + 1, last + 1)),
            changed=bool(changes),
        )

    def _name(self, session: Session) -> str:
        """What the staging is found by: nobody comes upon another caller's."""
        return f"replace/{session.uid}/{self._call.principal}/{self._asked.staging_id}"

    async def _opened(
        self, work: Work, *, begin: bool = False
    ) -> tuple[SessionRow, Staging, _Staged]:
        """The session and what is staged of it, still of the history that is there now.

        Args:
            work: The unit.
            begin: Whether to begin anew: what was staged under this id before is given up.
        """
        tx = work.tx
        row = await work.current(self._ref)
        session = row.session
        by_turn = await work.turn_required(session.app)
        work.check(session, self._precondition, turn_required=by_turn)
        name = self._name(session)
        if begin:
            record = _Staged(
                generation=session.generation,
                message_count=session.message_count,
                last_sequence=session.last_sequence,
                keep=self._asked.keep,
            )
            staging = await stagings.begin(
                tx, session.app, name, owner=row.pk, expire_time=work.now + STAGED_FOR
            )
            return row, staging, record
        found = await tx.staging(session.app, name)
        if found is None:
            raise stagings.lost(part="0")
        staging = found
        record = _decode(staging)
        _require_unchanged(session, record)
        return row, staging, record

    async def _put(
        self, work: Work, row: SessionRow, staging: Staging, record: _Staged
    ) -> list[Message]:
        """Stage the new messages of this part behind those of the parts before."""
        shelf = stagings.place(staging)
        placed: list[Message] = []
        taken: set[str] = set()
        sequence = record.last_sequence + record.count
        for new in self._asked.messages:
            if new.message_id:
                await _require_new(work, shelf, new, taken)
                kept = await work.tx.message_by_id(row, new.message_id)
                if kept is not None and kept.sequence <= record.keep:
                    raise appending.exists(new)
            sequence += 1
            placed.append(await appending.store(work, new, sequence))
            taken.add(new.message_id)
        await work.tx.insert_messages(shelf, placed)
        return placed


async def _at_once(work: Work, row: SessionRow, asked: Replacement) -> ReplaceOutcome:
    """Replace within this unit."""
    before = row.session
    row, removal = await truncated(work, row, asked.keep)
    session = before if removal is None else removal.after
    assert session is not None
    placed: list[Message] = []
    taken: set[str] = set()
    sequence = before.last_sequence
    for new in asked.messages:
        if new.message_id:
            await _require_new(work, row, new, taken)
        sequence += 1
        placed.append(await appending.store(work, new, sequence))
        taken.add(new.message_id)
    await work.tx.insert_messages(row, placed)
    changes = [] if removal is None else [removal]
    if placed:
        changes.append(appending.appended(work, session, placed, session.metrics))
        after = changes[-1].after
        assert after is not None
        policy = await work.policy(before.app)
        ceilings.require_within(policy, after.message_count, after.message_bytes)
    if changes:
        row = await work.write(row, changes)
    else:
        row = await work.keep(row, lifecycle.renewed(before, work.now))
    return ReplaceOutcome(
        session=row.session,
        removed=before.message_count + len(placed) - row.session.message_count,
        message_ids=tuple(message.message_id for message in placed),
        sequences=tuple(message.sequence for message in placed),
        changed=bool(changes),
    )


async def _require_new(work: Work, row: SessionRow, new: NewMessage, taken: set[str]) -> None:
    """Refuse an id that a message has that stays, or another new one.

    Raises:
        Refusal: `MESSAGE_EXISTS`.
    """
    if new.message_id in taken or await work.tx.message_by_id(row, new.message_id) is not None:
        raise appending.exists(new)


def _changes(before: Session, kept: Session, record: _Staged, now: Nanos) -> list[Change]:
    """What a switch logs: what went, then what came."""
    changes = []
    session, last = before, before.last_sequence
    if kept.message_count != before.message_count:
        after = lifecycle.edited(
            session,
            now,
            message_count=kept.message_count,
            message_bytes=kept.message_bytes,
            last_event_time=kept.last_event_time,
        )
        detail = ChangeDetail(first_sequence=record.keep + 1, last_sequence=last)
        changes.append(
            Change(cause=ChangeCause.MESSAGES_REMOVED, before=session, after=after, detail=detail)
        )
        session = after
    if record.count:
        after = lifecycle.edited(
            session,
            now,
            message_count=session.message_count + record.count,
            message_bytes=session.message_bytes + record.size,
            last_sequence=last + record.count,
            last_event_time=record.newest,
        )
        detail = ChangeDetail(first_sequence=last + 1, last_sequence=last + record.count)
        changes.append(
            Change(cause=ChangeCause.MESSAGES_APPENDED, before=session, after=after, detail=detail)
        )
    return changes


def _require_unchanged(session: Session, record: _Staged) -> None:
    """Refuse a part once the history is another than the first part found.

    Raises:
        Refusal: `GENERATION_CHANGED` or `SEQUENCE_MISMATCH`.
    """
    if session.generation != record.generation:
        raise Refusal(
            Reason.GENERATION_CHANGED,
            f"the session is in generation {session.generation}",
            {"generation": str(session.generation)},
        )
    same = (record.message_count, record.last_sequence)
    if (session.message_count, session.last_sequence) != same:
        raise Refusal(
            Reason.SEQUENCE_MISMATCH,
            "the history changed since the first part",
            {"last_sequence": str(session.last_sequence)},
        )


def _end(keep: int, session: Session) -> int:
    """The first sequence that is not kept, whatever a caller may have named."""
    return min(keep, session.last_sequence) + 1


def _decode(staging: Staging) -> _Staged:
    return msgspec.msgpack.decode(staging.record, type=_Staged)


def _with(staging: Staging, record: _Staged, now: Nanos) -> Staging:
    return msgspec.structs.replace(
        staging, record=msgspec.msgpack.encode(record), expire_time=now + STAGED_FOR
    )
