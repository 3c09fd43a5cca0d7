"""Sessions: from Create to Delete."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sojourn_server.domain import documents, lifecycle
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import (
    Changes,
    IfExists,
    NewSession,
    Precondition,
    ResetScope,
    SessionRef,
    View,
)
from sojourn_server.domain.model import (
    EndCause,
    EndNote,
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.service import (
    cascades,
    copying,
    creation,
    forking,
    quotas,
    reading,
    resetting,
    state,
    tree,
    updating,
)
from sojourn_server.service.aggregating import AggregatePage, AggregateQuery, Aggregating
from sojourn_server.service.answers import (
    Answer,
    Call,
    CreateManyOutcome,
    CreateOutcome,
    DeleteOutcome,
    EndOutcome,
    ForkOutcome,
    ResetOutcome,
    SessionContent,
    SessionPage,
    SessionRead,
    SessionSnapshot,
    SessionsRead,
    TouchOutcome,
    UpdateOutcome,
)
from sojourn_server.service.copying import Take
from sojourn_server.service.listing import Listing, ListQuery
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work


class Sessions:
    """The use cases of SessionService."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._listing = Listing(units)
        self._aggregating = Aggregating(units)

    async def create(
        self, call: Call, app: str, new: NewSession, if_exists: IfExists
    ) -> Answer[CreateOutcome]:
        """CreateSession, in view BASIC."""
        answer, _ = await self.create_shown(call, app, new, if_exists, View.BASIC)
        return answer

    async def create_shown(
        self, call: Call, app: str, new: NewSession, if_exists: IfExists, view: View
    ) -> tuple[Answer[CreateOutcome], SessionSnapshot]:
        """CreateSession.

        Returns:
            The answer, and the session as the view shows it.
        """
        creation.check(new)
        content: SessionContent | None = None

        async def decide(work: Work) -> CreateOutcome:
            nonlocal content
            outcome = await creation.create(work, app, new, if_exists)
            if view is View.FULL:
                content = await state.read_content(work.tx, outcome.session, call.users)
            return outcome

        answer = None
        while answer is None:
            try:
                answer = await self._units.write(call, app, CreateOutcome, decide)
            except creation.LongTrace as long:
                await cascades.delete_trace(self._units, call, app, long.uid)
        session = answer.outcome.session
        if view is View.FULL and content is None:
            content = await reading.content_now(self._units, session, call.users)
        return answer, SessionSnapshot(session=session, content=content)

    async def create_many(
        self, call: Call, app: str, sessions: Sequence[NewSession]
    ) -> Answer[CreateManyOutcome]:
        """BatchCreateSessions."""
        for new in sessions:
            creation.check(new)

        async def decide(work: Work) -> CreateManyOutcome:
            await creation.settle_parents(work, app, sessions)
            await quotas.foresee(work, app, [new.user for new in sessions])
            created = [
                (await creation.create(work, app, new, IfExists.FAIL)).session for new in sessions
            ]
            return CreateManyOutcome(sessions=tuple(created))

        return await self._units.write(call, app, CreateManyOutcome, decide)

    async def get(
        self, call: Call, ref: SessionRef, view: View, last_messages: int, roll_up: bool = False
    ) -> SessionRead:
        """GetSession."""
        return await reading.get(self._units, ref, view, last_messages, roll_up)

    async def get_many(
        self, call: Call, app: str, refs: Sequence[SessionRef], view: View
    ) -> SessionsRead:
        """BatchGetSessions."""
        return await reading.get_many(self._units, app, refs, view)

    async def list(self, call: Call, query: ListQuery) -> SessionPage:
        """ListSessions."""
        return await self._listing.page(query)

    async def aggregate(self, call: Call, query: AggregateQuery) -> AggregatePage:
        """AggregateSessions."""
        return await self._aggregating.page(query)

    async def update(
        self, call: Call, ref: SessionRef, precondition: Precondition, changes: Changes
    ) -> Answer[UpdateOutcome]:
        """UpdateSession."""
        documents.check_document("metadata", changes.metadata)
        documents.check_apart("remove_metadata", changes.metadata, changes.remove_metadata)
        documents.check_apart("remove_labels", changes.labels, changes.remove_labels)
        state.check_patches(changes.state)

        async def decide(work: Work) -> UpdateOutcome:
            row = await work.current(ref)
            by_turn = changes.state.session is not None and await work.turn_required(ref.app)
            work.check(row.session, precondition, turn_required=by_turn)
            await state.check_versions(work, row.session, changes.state)
            return await updating.update(work, row, changes)

        return await self._units.write(call, ref.app, UpdateOutcome, decide)

    async def touch(self, call: Call, ref: SessionRef, lease: Nanos | None) -> Answer[TouchOutcome]:
        """TouchSession."""

        async def decide(work: Work) -> TouchOutcome:
            row = await work.current(ref)
            work.check(row.session, Precondition())
            touched = _leased(lifecycle.renewed(row.session, work.now), work.now, lease)
            return TouchOutcome(session=(await work.keep(row, touched)).session)

        return await self._units.write(call, ref.app, TouchOutcome, decide)

    async def end(
        self,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        status: Status,
        reason: str,
        result: str,
        cascade: bool,
    ) -> Answer[EndOutcome]:
        """EndSession."""
        if result:
            documents.check_json("result", result)
        note = state.encode_note(EndNote(reason=reason, result=result))
        earlier = cascades.Taken()
        if cascade:
            earlier = await cascades.end_all_but_a_unit(
                self._units, call, ref, precondition, status
            )

        async def decide(work: Work) -> EndOutcome:
            row = await work.current(ref)
            session = row.session
            again = session.status is status
            if again and not cascade:
                return EndOutcome(session=session, changed=False, descendants=0)
            if not again:
                work.check(session, precondition)
            count = earlier.sessions
            for uid in earlier.rest:
                count += await tree.end_branch(work, ref.app, uid, status)
            if cascade:
                count += await tree.end_descendants(
                    work, session, status, EndCause.PARENT_ENDED, all_of_them=True
                )
            else:
                count += work.ended_ahead + await tree.end_dependents(work, session, 0, status)
            if again:
                return EndOutcome(session=session, changed=count > 0, descendants=count)
            end_note = await work.tx.put_content(note)
            ending = lifecycle.ended(
                session,
                work.now,
                status,
                EndCause.REQUEST,
                end_note,
                turn_outcome=_turn_outcome(precondition, status),
            )
            row = await work.write(row, ending)
            return EndOutcome(session=row.session, changed=True, descendants=count)

        return await self._units.write(call, ref.app, EndOutcome, decide)

    async def reset(
        self,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        scope: ResetScope,
        if_idle: bool,
        reason: str,
        backup_id: str = "",
    ) -> Answer[ResetOutcome]:
        """ResetSession."""

        async def decide(work: Work, take: Take) -> ResetOutcome:
            row = await work.current(ref)
            session = row.session
            work.check(session, precondition)
            backup = None
            if backup_id:
                if if_idle:
                    resetting.require_idle(session)
                await forking.require_free(work, session, backup_id)
                history = await take(work, row, None)
                made = await forking.insert(work, session, backup_id, history, lasting=True)
                backup = made.session
            outcome = await resetting.reset(work, row, scope, if_idle=if_idle, reason=reason)
            return msgspec.structs.replace(outcome, backup=backup)

        return await copying.carry_out(
            self._units, call, ref.app, ResetOutcome, decide, erases=True
        )

    async def fork(
        self,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        session_id: str,
        through: int | None,
    ) -> Answer[ForkOutcome]:
        """ForkSession."""
        return await forking.fork(self._units, call, ref, precondition, session_id, through)

    async def delete(
        self, call: Call, ref: SessionRef, precondition: Precondition, force: bool
    ) -> Answer[DeleteOutcome]:
        """DeleteSession."""
        earlier = cascades.Taken()
        if force:
            earlier = await cascades.delete_all_but_a_unit(self._units, call, ref, precondition)

        async def decide(work: Work) -> DeleteOutcome:
            row = await work.current(ref)
            work.check_conditions(row.session, precondition)
            if not force and (children := await tree.first_children(work.tx, row.session)):
                known = [each for each in children if ref.users.covers(each.session.user)]
                raise tree.has_children(
                    [each.session.session_id for each in known],
                    others=len(known) < len(children),
                )
            sessions, messages = await tree.delete_tree(work, row, ref.users, end_first=False)
            work.left_over |= earlier.left_over or not earlier.scrubbed
            return DeleteOutcome(
                sessions=earlier.sessions + sessions, messages=earlier.messages + messages
            )

        return await self._units.write(call, ref.app, DeleteOutcome, decide, erases=True)


def _turn_outcome(precondition: Precondition, status: Status) -> TurnOutcome:
    """How a live turn ends with its session: by its holder's own will, or revoked."""
    if not precondition.turn_token or status is Status.EXPIRED:
        return TurnOutcome.REVOKED
    return TurnOutcome.OK if status is Status.COMPLETED else TurnOutcome.ERROR


def _leased(session: Session, now: Nanos, lease: Nanos | None) -> Session:
    """The session with its owner's lease renewed, if it has one."""
    owner = session.owner
    if owner is None or not owner.lease:
        return session
    length = owner.lease if lease is None else lease
    renewed = msgspec.structs.replace(owner, lease=length, lease_time=now + length)
    return msgspec.structs.replace(session, owner=renewed)
