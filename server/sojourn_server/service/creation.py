"""Creating sessions: by CreateSession, and on the way by others."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sojourn_server.domain import documents
from sojourn_server.domain.commands import IfExists, NewOwner, NewSession, SessionRef
from sojourn_server.domain.errors import Reason, Refusal, invalid_field
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.lifecycle import due
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import (
    NO_CONTENT,
    Change,
    ChangeCause,
    ChangeDetail,
    DeletedWhy,
    Owner,
    Session,
    Status,
)
from sojourn_server.service import quotas, state, tree
from sojourn_server.service.answers import CreateOutcome
from sojourn_server.service.updating import check_labels
from sojourn_server.service.work import Work, require_active, require_turn
from sojourn_server.store.base import KeyTaken, SessionRow

replace = msgspec.structs.replace


def check(new: NewSession) -> None:
    """Refuse a session that is wrong in itself.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    documents.check_document("session.metadata", new.metadata)
    state.check_patches(new.state)
    if new.owner is not None and new.owner.turn_token and not new.parent_uid:
        raise invalid_field("session.parent_uid", "must be set for a turn as owner")


async def create(work: Work, app: str, new: NewSession, if_exists: IfExists) -> CreateOutcome:
    """Create a session, or do what `if_exists` says when its id is taken.

    Raises:
        Refusal: `SESSION_EXISTS`, `SESSION_ENDED`, `PARENT_ENDED`, `TURN_SUPERSEDED`,
            `TURN_TOKEN_INVALID`, `APP_DELETED`, `APP_DRAINING`, `APP_UNKNOWN`,
            `QUOTA_EXCEEDED`, `STATE_VERSION_MISMATCH` or `CONTENT_TOO_LARGE`.
    """
    if new.session_id:
        existing = await work.tx.session_by_key(app, new.user, new.session_id)
        if existing is not None:
            work.require_settled(existing)
            if if_exists is IfExists.RETURN_EXISTING:
                require_active(existing.session)
                return CreateOutcome(session=existing.session, created=False)
            if if_exists is not IfExists.REPLACE_ENDED or existing.session.is_active:
                raise exists(existing.session)
            await work.require_app(app)
            await _replace(work, existing)
    await work.require_app(app)
    row = await insert(work, app, new)
    return CreateOutcome(session=row.session, created=True)


async def settle_parents(work: Work, app: str, sessions: Sequence[NewSession]) -> None:
    """Let what is due on the parents of several new sessions come first, all at once.

    Raises:
        Precede, ManyOverdue: Something is due.
    """
    parents = {new.parent_uid: new for new in sessions if new.parent_uid}
    found = [await _parent(work, app, new) for new in parents.values()]
    work.require_settled(*(row for row in found if row is not None))


async def insert(work: Work, app: str, new: NewSession) -> SessionRow:
    """Add a session whose id is free, with its content, and log it.

    Every session comes into being here, so that the app's quotas hold for all of them.

    Raises:
        Refusal: As `create`.
        Precede, ManyOverdue: As `quotas.admit`.
    """
    check_labels(new.labels, work.limits)
    documents.check_metadata(new.metadata, work.limits)
    if new.parent_uid:
        await _require_parent(work, app, new)
    policy = await work.policy(app)
    if quotas.limits_sessions(policy):
        await quotas.admit(work, app, new.user, new.parent_uid)
    now = work.now
    uid = uuid7(now)
    values = await state.patch_session(work, NO_CONTENT, 0, new.state.session)
    metadata = await work.tx.put_content(documents.encode(new.metadata))
    defaults = work.defaults
    session = Session(
        uid=uid,
        app=app,
        user=new.user,
        session_id=new.session_id or uid,
        status=Status.ACTIVE,
        labels=new.labels,
        create_time=now,
        update_time=now,
        activity_time=now,
        idle_timeout=(
            defaults.idle_timeout_of(policy) if new.idle_timeout is None else new.idle_timeout
        ),
        max_lifetime=(
            defaults.max_lifetime_of(policy) if new.max_lifetime is None else new.max_lifetime
        ),
        parent_uid=new.parent_uid,
        owner=_owner(work, app, new.owner),
        metadata=metadata,
        state=values.values,
        state_version=values.version,
    )
    row = await add(
        work,
        session,
        ChangeDetail(
            label_keys=tuple(sorted(new.labels)),
            metadata_keys=tuple(sorted(new.metadata)),
            state_keys=values.keys,
        ),
    )
    await state.patch_shared(work, app, new.user, new.state)
    return row


async def add(work: Work, session: Session, detail: ChangeDetail) -> SessionRow:
    """Add a session as it is to be, of whatever origin, and log it.

    Raises:
        Refusal: `SESSION_EXISTS`.
    """
    try:
        row = await work.tx.insert_session(session, due(session))
    except KeyTaken:
        raise exists(session) from None
    work.made.add(session.uid)
    await work.tx.log(Change(cause=ChangeCause.CREATED, after=session, detail=detail))
    return row


async def find_or_insert(work: Work, ref: SessionRef) -> tuple[SessionRow, bool]:
    """The session of a reference; with defaults, anew, when its id is free.

    Returns:
        The session, and whether it was created.

    Raises:
        Refusal: As `Work.current`, and as `create` for one that has to be made, or
            `AUTO_CREATE_REFUSED`. A reference with a uid means one certain session, and
            never makes another.
    """
    if ref.session_id and not ref.uid:
        existing = await work.tx.session_by_key(ref.app, ref.user, ref.session_id)
        if existing is None:
            await work.require_app(ref.app)
            if (await work.policy(ref.app)).auto_create is False:
                raise Refusal(
                    Reason.AUTO_CREATE_REFUSED,
                    "the app's policy wants sessions created by CreateSession",
                    {"app": ref.app},
                )
            new = NewSession(user=ref.user, session_id=ref.session_id)
            return await insert(work, ref.app, new), True
    return await work.current(ref), False


async def _parent(work: Work, app: str, new: NewSession) -> SessionRow | None:
    """The parent of a new session, if it is there and the caller may name it."""
    row = await work.tx.session_by_uid(app, new.parent_uid)
    return row if row is not None and new.parents.covers(row.session.user) else None


async def _require_parent(work: Work, app: str, new: NewSession) -> None:
    parent = await _parent(work, app, new)
    if parent is not None:
        work.require_settled(parent)
    if parent is None or not parent.session.is_active:
        raise Refusal(
            Reason.PARENT_ENDED,
            "the parent is unknown or has ended",
            {"parent_uid": new.parent_uid},
        )
    if new.owner is not None and new.owner.turn_token:
        require_turn(parent.session, work.open_turn(app, new.owner.turn_token))
        turn = parent.session.turn
        if turn is not None and not turn.owns:
            owning = replace(parent.session, turn=replace(turn, owns=True))
            await work.keep(parent, owning)


def _owner(work: Work, app: str, new: NewOwner | None) -> Owner | None:
    if new is None:
        return None
    if new.turn_token:
        return Owner(turn_number=work.open_turn(app, new.turn_token).number)
    return Owner(lease=new.lease, lease_time=work.now + new.lease)


def exists(session: Session) -> Refusal:
    """The refusal of an id that is taken by this session."""
    return Refusal(
        Reason.SESSION_EXISTS,
        f"the id is taken by a session that is {session.status.name}",
        {"session_id": session.session_id, "status": session.status.name},
    )


class LongTrace(Exception):
    """An ended session left more ephemeral children behind than one unit may delete.

    Units of their own delete them (`cascades.delete_trace`), and then this one comes again.

    Args:
        uid: The session.
    """

    def __init__(self, uid: str) -> None:
        super().__init__("more goes with the session than one unit may delete")
        self.uid = uid


async def _replace(work: Work, row: SessionRow) -> None:
    """Delete an ended session and its ephemeral children, to make room for a new one.

    Raises:
        LongTrace: They are too many for a unit.
    """
    rows = await tree.descendants(
        work.tx, row.session, ended_too=True, all_of_them=False, limit=UNIT_ROWS + 1
    )
    if len(rows) > UNIT_ROWS:
        raise LongTrace(row.session.uid)
    for each in [*reversed(rows), row]:
        await tree.delete_one(work, each, DeletedWhy.REPLACED, end_first=False)
