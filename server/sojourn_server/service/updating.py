"""What UpdateSession changes in a session."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sojourn_server.domain import documents, lifecycle
from sojourn_server.domain.commands import Changes, MetricsDelta, StatePatch
from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.limits import COUNTER_MOST, COUNTERS_MOST, Limits
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    ChangeDetail,
    ContentId,
    Metrics,
    Session,
)
from sojourn_server.service import state, tree
from sojourn_server.service.answers import UpdateOutcome
from sojourn_server.service.ceilings import admit_requests
from sojourn_server.service.work import Work
from sojourn_server.store.base import SessionRow

NO_DELTA = MetricsDelta()


class Metadata(NamedTuple):
    """A session's metadata after an update."""

    content: ContentId
    keys: tuple[str, ...]
    """Keys that changed; empty: none did."""


async def update(work: Work, row: SessionRow, changes: Changes) -> UpdateOutcome:
    """Carry out an update on a session that passed its precondition.

    Raises:
        Refusal: `QUOTA_EXCEEDED`, `STATE_VERSION_MISMATCH`, `CONTENT_TOO_LARGE` or
            `INVALID_FIELD`.
    """
    before = row.session
    policy = await work.policy(before.app)
    admit_requests(policy, before, changes.metrics.requests)
    logged: list[Change] = []
    if updated := await _edit(work, before, changes):
        logged.append(updated)
    session = (updated and updated.after) or before
    if patched := await patch_state(work, session, changes.state.session):
        logged.append(patched)
        assert patched.after is not None
        session = patched.after
    versions, shared_changed = await state.patch_shared(
        work, before.app, before.user, changes.state
    )
    if changes.state.session is not None:
        versions = msgspec.structs.replace(versions, session=session.state_version)
    if logged:
        row = await tree.write_counted(work, row, policy, before, logged)
    else:
        row = await work.keep(row, lifecycle.renewed(before, work.now))
    return UpdateOutcome(
        session=row.session, changed=bool(logged) or shared_changed, versions=versions
    )


def check_labels(labels: dict[str, str], limits: Limits) -> None:
    """Refuse more labels than a session may have.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    if len(labels) > limits.labels:
        raise invalid_field("labels", f"must not exceed {limits.labels} labels")


async def patch_state(work: Work, session: Session, patch: StatePatch | None) -> Change | None:
    """Patch a session's own state; None when nothing changed."""
    values = await state.patch_session(work, session.state, session.state_version, patch)
    if not values.keys:
        return None
    after = lifecycle.edited(session, work.now, state=values.values, state_version=values.version)
    return Change(
        cause=ChangeCause.STATE_CHANGED,
        before=session,
        after=after,
        detail=ChangeDetail(state_keys=values.keys),
    )


def add_metrics(metrics: Metrics, delta: MetricsDelta) -> Metrics:
    """The counters after adding a delta.

    Raises:
        Refusal: `INVALID_FIELD`: a counter would leave 64 bits, or there are too many.
    """
    if delta == NO_DELTA:
        return metrics
    counters = dict(metrics.counters)
    for name, amount in delta.counters.items():
        counters[name] = counters.get(name, 0) + amount
    if len(counters) > COUNTERS_MOST:
        raise invalid_field("metrics.counters", f"must not exceed {COUNTERS_MOST} counters")
    added = Metrics(
        requests=metrics.requests + delta.requests,
        errors=metrics.errors + delta.errors,
        processing_time=metrics.processing_time + delta.processing_time,
        counters=counters,
    )
    sums = (added.requests, added.errors, added.processing_time, *counters.values())
    if any(abs(amount) > COUNTER_MOST for amount in sums):
        raise invalid_field("metrics", "must keep every counter within 64 bits")
    return added


async def _edit(work: Work, session: Session, changes: Changes) -> Change | None:
    """Everything of an update but state; None when nothing changed."""
    labels = documents.merge(
        {} if changes.replace_labels else session.labels,
        changes.labels,
        changes.remove_labels,
    ).document
    label_keys = documents.differing(session.labels, labels)
    check_labels(labels, work.limits)
    metadata = await _edit_metadata(work, session, changes)
    settings = {
        "idle_timeout": _or(changes.idle_timeout, session.idle_timeout),
        "max_lifetime": _or(changes.max_lifetime, session.max_lifetime),
    }
    settings_changed = any(getattr(session, name) != value for name, value in settings.items())
    metrics = add_metrics(session.metrics, changes.metrics)
    if label_keys or metadata.keys or settings_changed:
        after = lifecycle.edited(
            session,
            work.now,
            labels=labels,
            metadata=metadata.content,
            metrics=metrics,
            **settings,
        )
    elif metrics != session.metrics:
        # Counters move no etag: a reader's next conditional write must not fail for them.
        after = msgspec.structs.replace(
            lifecycle.renewed(session, work.now), update_time=work.now, metrics=metrics
        )
    else:
        return None
    return Change(
        cause=ChangeCause.UPDATED,
        before=session,
        after=after,
        detail=ChangeDetail(label_keys=label_keys, metadata_keys=metadata.keys),
    )


async def _edit_metadata(work: Work, session: Session, changes: Changes) -> Metadata:
    if not changes.metadata and not changes.remove_metadata:
        return Metadata(session.metadata, ())
    old = documents.decode(await work.tx.content(session.metadata))
    new = documents.merge(old, changes.metadata, changes.remove_metadata)
    if not new.keys:
        return Metadata(session.metadata, ())
    documents.check_metadata(new.document, work.limits)
    stored = await work.tx.replace_content(session.metadata, documents.encode(new.document))
    return Metadata(stored, new.keys)


def _or(new: int | None, old: int) -> int:
    return old if new is None else new
