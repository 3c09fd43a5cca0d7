"""What ResetSession clears."""

from __future__ import annotations

from sojourn_server.domain import documents, lifecycle
from sojourn_server.domain.commands import ResetScope
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import Session
from sojourn_server.service import staging, tree
from sojourn_server.service.answers import ResetOutcome
from sojourn_server.service.work import Work
from sojourn_server.store.base import SessionRow


async def reset(
    work: Work, row: SessionRow, scope: ResetScope, *, if_idle: bool, reason: str
) -> ResetOutcome:
    """Clear parts of a session that passed its precondition, and erase their content.

    Raises:
        Refusal: `NOT_IDLE`.
    """
    before = row.session
    if if_idle:
        require_idle(before)
    history = scope in (ResetScope.HISTORY, ResetScope.ALL)
    state = scope in (ResetScope.STATE, ResetScope.ALL)
    metrics = scope in (ResetScope.METRICS, ResetScope.ALL)
    state_keys = 0
    if state and before.state:
        state_keys = len(documents.decode(await work.tx.content(before.state)))
    changes = list(
        lifecycle.reset(
            before,
            work.now,
            history=history,
            state=state,
            metrics=metrics,
            reason=await work.tx.replace_content(before.reset_reason, reason.encode()),
        )
    )
    row = await tree.write_with_dependents(work, row, changes)
    cleared = changes[-1].before
    assert cleared is not None
    await work.tx.erase_content(cleared.turn_error)
    if history:
        row = await _erase_history(work, row, before)
    if state:
        await work.tx.erase_content(before.state)
    return ResetOutcome(
        session=row.session,
        messages=before.message_count if history else 0,
        state_keys=state_keys,
        metrics=metrics,
    )


def require_idle(session: Session) -> None:
    """Refuse a session with a live turn.

    Raises:
        Refusal: `NOT_IDLE`.
    """
    if session.turn is not None:
        raise Refusal(
            Reason.NOT_IDLE, "the session has a live turn", {"holder": session.turn.holder}
        )


async def _erase_history(work: Work, row: SessionRow, before: Session) -> SessionRow:
    await work.tx.erase_held(row)
    await staging.discard_of(work, row)
    last = before.last_sequence
    if last and not await work.purge(row, 1, last, before.message_count):
        # Out of sight at once; the rows follow in batches.
        hidden = lifecycle.replace(row.session, removed_ranges=((1, last),))
        row = await work.keep(row, hidden)
    return row
