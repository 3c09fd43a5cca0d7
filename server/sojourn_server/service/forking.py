"""Forks: a session's copy under a new id, with its lineage."""

from __future__ import annotations

import msgspec

from sojourn_server.domain.commands import Precondition, SessionRef
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.model import ChangeDetail, Lineage, Metrics, Session, Status
from sojourn_server.service import copying, creation, quotas
from sojourn_server.service.answers import Answer, Call, ForkOutcome
from sojourn_server.service.copying import History, Take
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work
from sojourn_server.store.base import SessionRow


async def fork(
    units: Units,
    call: Call,
    ref: SessionRef,
    precondition: Precondition,
    session_id: str,
    through: int | None,
) -> Answer[ForkOutcome]:
    """ForkSession."""

    async def decide(work: Work, take: Take) -> ForkOutcome:
        row = await work.current(ref)
        work.check_conditions(row.session, precondition)
        await require_free(work, row.session, session_id)
        history = await take(work, row, through)
        made = await insert(work, row.session, session_id, history)
        return ForkOutcome(session=made.session)

    return await copying.carry_out(units, call, ref.app, ForkOutcome, decide)


async def require_free(work: Work, source: Session, session_id: str) -> None:
    """Refuse an id that is taken, before anything is copied for it.

    Raises:
        Refusal: `SESSION_EXISTS`.
    """
    if session_id:
        taken = await work.tx.session_by_key(source.app, source.user, session_id)
        if taken is not None:
            work.require_settled(taken)
            raise creation.exists(taken.session)


async def insert(
    work: Work, source: Session, session_id: str, history: History, *, lasting: bool = False
) -> SessionRow:
    """Add the copy of a session as it is now, with a history that was taken for it.

    Args:
        work: The unit.
        source: The session.
        session_id: The copy's id, which is free; empty: its uid.
        history: What `Take` answered.
        lasting: Whether it has no time limits, instead of the source's.

    Raises:
        Refusal: Those of a creation.
    """
    await work.require_app(source.app)
    # The source makes no room for its own copy.
    await quotas.admit(work, source.app, source.user, source.uid)
    now, uid = work.now, uuid7(work.now)
    metadata, values = await work.tx.contents([source.metadata, source.state])
    session = msgspec.structs.replace(
        source,
        uid=uid,
        session_id=session_id or uid,
        status=Status.ACTIVE,
        create_time=now,
        update_time=now,
        activity_time=now,
        end_time=0,
        idle_timeout=0 if lasting else source.idle_timeout,
        max_lifetime=0 if lasting else source.max_lifetime,
        generation=1,
        version=1,
        parent_uid="",
        owner=None,
        metrics=Metrics(),
        message_count=history.count,
        message_bytes=history.size,
        last_sequence=history.last_sequence,
        last_event_time=history.last_event_time,
        turn=None,
        turns_begun=0,
        end_cause=None,
        metadata=await work.tx.put_content(metadata),
        state=await work.tx.put_content(values),
        end_note=0,
        turn_error=0,
        forked_from=Lineage(uid=source.uid, through_sequence=history.last_sequence),
        removed_ranges=(),
        reset_time=0,
        reset_reason=0,
        history=history.number,
    )
    detail = ChangeDetail(
        label_keys=tuple(sorted(session.labels)),
        first_sequence=1 if history.count else 0,
        last_sequence=history.last_sequence if history.count else 0,
    )
    row = await creation.add(work, session, detail)
    await copying.put_own(work.tx, row, history)
    return row
