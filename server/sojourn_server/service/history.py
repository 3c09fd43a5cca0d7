"""The history of a session: appending, reading and removing messages."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sojourn_server.domain import lifecycle
from sojourn_server.domain.commands import (
    MetricsDelta,
    NewMessage,
    Precondition,
    SessionRef,
    StatePatches,
    View,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import NO_CONTENT
from sojourn_server.service import reading, replacing, state
from sojourn_server.service.answers import (
    Answer,
    AppendOutcome,
    Call,
    MessagePage,
    MessageRead,
    PopOutcome,
    Popped,
    ReplaceOutcome,
    SessionSnapshot,
    TruncateOutcome,
)
from sojourn_server.service.appending import append, check_messages
from sojourn_server.service.message_listing import MessageQuery, list_messages
from sojourn_server.service.removing import remove, truncated
from sojourn_server.service.replacing import Replacement
from sojourn_server.service.units import Held, Units, request_key
from sojourn_server.service.work import Work
from sojourn_server.store.base import MessageRange, ReadTx, RequestKey, SessionRow


class History:
    """The use cases of HistoryService."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def append(
        self,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        messages: Sequence[NewMessage],
        patches: StatePatches,
        metrics: MetricsDelta,
        create_if_missing: bool,
    ) -> Answer[AppendOutcome]:
        """AppendMessages."""
        check_messages(messages, self._units.limits)
        state.check_patches(patches)

        async def decide(work: Work) -> AppendOutcome:
            return await append(
                work, ref, precondition, messages, patches, metrics, create=create_if_missing
            )

        return await self._units.write(call, ref.app, AppendOutcome, decide)

    async def list(self, call: Call, query: MessageQuery) -> MessagePage:
        """ListMessages."""
        return await list_messages(self._units, query)

    async def get(
        self, call: Call, ref: SessionRef, message_id: str | None, sequence: int | None
    ) -> MessageRead:
        """GetMessage."""

        async def query(tx: ReadTx, row: SessionRow) -> MessageRead:
            if message_id is not None:
                named = {"message_id": message_id}
                message = await tx.message_by_id(row, message_id)
            else:
                named = {"sequence": str(sequence)}
                message = await tx.message_by_sequence(row, sequence or 0)
            if message is None:
                raise Refusal(Reason.MESSAGE_NOT_FOUND, "the session holds no such message", named)
            shots = await reading.with_bodies(tx, [message])
            return MessageRead(snapshot=shots[0], revision=await tx.head(ref.app))

        return await reading.read_settled(self._units, ref, query)

    async def pop(
        self, call: Call, ref: SessionRef, precondition: Precondition, count: int
    ) -> Answer[Popped]:
        """PopMessages."""
        read: list[tuple[PopOutcome, Popped]] = []

        async def decide(work: Work) -> PopOutcome:
            row = await work.current(ref)
            by_turn = await work.turn_required(ref.app)
            work.check(row.session, precondition, turn_required=by_turn)
            newest = await work.tx.messages(row, MessageRange(descending=True, limit=count))
            taken = reading.session_size(SessionSnapshot(session=row.session), View.BASIC)
            shots = tuple(reversed(await reading.fitting(work.tx, newest, taken)))
            messages = tuple(shot.message for shot in shots)
            if messages:
                row = await remove(work, row, messages)
            if not call.request_id:
                for message in messages:
                    await work.tx.replace_content(message.body, b"")
            outcome = PopOutcome(
                session=row.session,
                messages=messages,
                changed=bool(messages),
                session_pk=row.pk,
            )
            popped = Popped(session=row.session, messages=shots, changed=bool(messages))
            read[:] = [(outcome, popped)]
            return outcome

        answer = await self._units.write(call, ref.app, PopOutcome, decide, held=_held)
        # A run that was taken back may have read something, too.
        mine = [popped for outcome, popped in read if outcome is answer.outcome]
        if not mine:
            repeat = _Repeat(request_key(call, ref.app), answer.outcome)
            mine = [await self._units.read(repeat.read)]
        return Answer(
            outcome=mine[0],
            revision=answer.revision,
            scrubbed=answer.scrubbed,
            now=answer.now,
        )

    async def truncate(
        self,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        keep_through_sequence: int,
    ) -> Answer[TruncateOutcome]:
        """TruncateMessages."""

        async def decide(work: Work) -> TruncateOutcome:
            row = await work.current(ref)
            by_turn = await work.turn_required(ref.app)
            work.check(row.session, precondition, turn_required=by_turn)
            count = row.session.message_count
            row, change = await truncated(work, row, keep_through_sequence)
            if change is None:
                row = await work.keep(row, lifecycle.renewed(row.session, work.now))
                return TruncateOutcome(session=row.session, removed=0, changed=False)
            row = await work.write(row, [change])
            count -= row.session.message_count
            return TruncateOutcome(session=row.session, removed=count, changed=True)

        return await self._units.write(call, ref.app, TruncateOutcome, decide)

    async def replace(
        self, call: Call, ref: SessionRef, precondition: Precondition, asked: Replacement
    ) -> Answer[ReplaceOutcome]:
        """ReplaceMessages."""
        return await replacing.replace(self._units, call, ref, precondition, asked)


class _Repeat:
    """Reads again what an earlier pop answered, from what its request record holds.

    Once the session was reset or deleted, or its user erased, nothing is held any more
    and the bodies come out empty: the messages' ids and sequences stay. What the record
    no longer holds must not be looked up: its id may belong to other content by now.
    """

    def __init__(self, key: RequestKey, outcome: PopOutcome) -> None:
        self._key = key
        self._outcome = outcome

    async def read(self, tx: ReadTx) -> Popped:
        record = await tx.request(self._key)
        held = () if record is None else record.held
        messages = [
            message if message.body in held else msgspec.structs.replace(message, body=NO_CONTENT)
            for message in self._outcome.messages
        ]
        shots = await reading.with_bodies(tx, messages)
        return Popped(
            session=self._outcome.session,
            messages=tuple(
                msgspec.structs.replace(shot, message=message)
                for shot, message in zip(shots, self._outcome.messages, strict=True)
            ),
            changed=self._outcome.changed,
        )


def _held(outcome: PopOutcome) -> Held:
    return Held(outcome.session_pk, tuple(message.body for message in outcome.messages))
