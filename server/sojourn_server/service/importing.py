"""ImportSessions: sessions that come in parts, each taken in by one unit.

A session that a unit can hold waits in memory until it is whole; of a larger one the
messages are staged as they come. Nobody ever sees half of one.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from sojourn_server.domain import documents, lifecycle
from sojourn_server.domain.clock import MINUTE, Nanos
from sojourn_server.domain.errors import Reason, Refusal, invalid_field
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.imports import (
    ImportedApp,
    ImportedSession,
    ImportedUser,
    OnExisting,
    check_times,
)
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    ChangeDetail,
    EndCause,
    Message,
    ScopeState,
    Session,
)
from sojourn_server.service import copying, creation, quotas, state
from sojourn_server.service import staging as stagings
from sojourn_server.service.answers import Call
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work
from sojourn_server.store.base import (
    KeyTaken,
    ReadTx,
    SessionRow,
    Staging,
    StoreDown,
    StoreFull,
    Tx,
)

STAGED_FOR: Final[Nanos] = 10 * MINUTE
"""How long a part of a large session waits for the next one."""

Incoming = tuple[Message, bytes]
"""A message without its body, and the body as it is stored."""


class Imported(msgspec.Struct):
    """What an import has come to."""

    sessions: int = 0
    messages: int = 0
    revision: int = 0
    skipped: int = 0
    renamed: int = 0


class _Coming(msgspec.Struct):
    """A session whose messages are coming."""

    asked: ImportedSession
    waiting: list[Incoming] = []
    """Messages that are in memory."""
    staging: Staging | None = None
    count: int = 0
    size: int = 0
    last: int = 0
    """The last sequence that came."""
    last_event_time: Nanos | None = None
    skipped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all messages have come."""
        return self.count == self.asked.session.message_count


class Importing:
    """One import.

    Args:
        units: Where.
        call: Who imports.
        app: Where to.
        on_existing: What to do when a session's id is taken.
    """

    def __init__(self, units: Units, call: Call, app: str, on_existing: OnExisting) -> None:
        self._units = units
        self._call = call
        self._app = app
        self._on_existing = on_existing
        self._coming: _Coming | None = None
        self._moved: dict[str, str] = {}
        """The uids of sessions that could not keep theirs, by those that they had."""
        self.done = Imported()

    async def take_app(self, part: ImportedApp) -> None:
        """Take in the app itself, as far as nothing is there yet."""
        self._require_none_coming("app")

        async def unit(tx: Tx) -> None:
            work = self._units.work(tx)
            check_times("app.create_time", part.create_time, work.now)
            new = await tx.app(self._app) is None
            await work.require_app(self._app)
            if new:
                made = await tx.app(self._app)
                assert made is not None
                await tx.put_app(
                    msgspec.structs.replace(
                        made,
                        labels=part.labels,
                        policy=part.policy,
                        create_time=part.create_time or work.now,
                    )
                )
            await self._take_state(work, None, part.state, part.state_version)

        await self._apply(unit)

    async def take_user(self, part: ImportedUser) -> None:
        """Take in the state of a user, if none was ever written."""
        self._require_none_coming("user")

        async def unit(tx: Tx) -> None:
            work = self._units.work(tx)
            await work.require_app(self._app)
            await self._take_state(work, part.user, part.state, part.state_version)

        await self._apply(unit)

    async def _take_state(
        self, work: Work, user: str | None, values: dict[str, str], version: int
    ) -> None:
        scope = "app" if user is None else "user"
        documents.check_state(f"{scope}.state", values, work.limits)
        before = await work.tx.scope_state(self._app, user)
        if before.version or not version:
            return
        stored = await work.tx.put_content(documents.encode(values))
        await work.tx.put_scope_state(self._app, user, ScopeState(version=version, values=stored))
        detail = ChangeDetail(user=user, state_keys=tuple(sorted(values)), state_version=version)
        await work.tx.log(Change(cause=ChangeCause.STATE_CHANGED, detail=detail))

    async def take_session(self, asked: ImportedSession) -> None:
        """Take in a session; unless it has none, its messages are to come."""
        self._require_none_coming("session")
        documents.check_metadata(asked.metadata, self._units.limits)
        documents.check_state("session.state", asked.state, self._units.limits)
        coming = _Coming(asked)
        session = asked.session
        if self._on_existing is not OnExisting.RENAME:
            taken = await self._taken(session)
            if taken is not None and self._on_existing is OnExisting.FAIL:
                raise creation.exists(taken)
            coming.skipped = taken is not None
        self._coming = coming
        await self._take_whole()

    async def _taken(self, session: Session) -> Session | None:
        async def look(tx: ReadTx) -> Session | None:
            row = await tx.session_by_key(self._app, session.user, session.session_id)
            return None if row is None else row.session

        return await self._units.read(look)

    async def take_messages(self, messages: Sequence[Incoming]) -> None:
        """Take in the next messages of the last session."""
        coming = self._coming
        if coming is None:
            raise invalid_field("messages", "must come behind a session that lacks them")
        session = coming.asked.session
        for index, (message, body) in enumerate(messages):
            field = f"messages.messages[{index}]"
            if not coming.last < message.sequence <= session.last_sequence:
                raise invalid_field(
                    f"{field}.sequence", "must ascend, up to the session's last_sequence"
                )
            coming.last = message.sequence
            coming.count += 1
            coming.size += message.size
            coming.last_event_time = message.event_time
            if coming.count > session.message_count:
                raise invalid_field(field, "must not be more than the session's message_count")
            if not coming.skipped:
                coming.waiting.append((message, body))
        waiting = sum(message.size for message, _ in coming.waiting)
        if len(coming.waiting) > UNIT_ROWS or waiting > copying.UNIT_BYTES:
            await self._stage(coming)
        await self._take_whole()

    async def drop(self, uid: str) -> None:
        """Forget the last session."""
        coming = self._coming
        if coming is None or coming.asked.session.uid != uid:
            raise invalid_field("dropped", "must be the uid of the session before")
        await self.give_up()

    async def finish(self) -> Imported:
        """See to it that nothing is missing."""
        self._require_none_coming("messages")
        if not self.done.revision:
            self.done.revision = await self._units.read(lambda tx: tx.head(self._app))
        return self.done

    async def give_up(self) -> None:
        """Remove what came of a session that is not whole."""
        coming, self._coming = self._coming, None
        if coming is None or coming.staging is None:
            return
        staging = coming.staging

        async def unit(tx: Tx) -> None:
            found = await tx.staging(self._app, staging.name)
            if found is not None:
                await stagings.discard(tx, found)

        with contextlib.suppress(StoreFull, StoreDown):  # the job does it later
            await self._units.apply(self._app, "", unit)

    def _require_none_coming(self, field: str) -> None:
        coming = self._coming
        if coming is not None:
            session = coming.asked.session
            raise invalid_field(
                field,
                f"must not come before all messages of the session before: "
                f"{coming.count} of {session.message_count} have",
            )

    async def _apply(self, unit: Callable[[Tx], Awaitable[None]]) -> None:
        applied = await self._units.apply(self._app, self._call.actor, unit)
        if applied.changed:
            self.done.revision = applied.revision

    async def _stage(self, coming: _Coming) -> None:
        """Stage what waits, batch by batch."""

        async def unit(tx: Tx) -> Staging:
            work = self._units.work(tx)
            expire = tx.now + STAGED_FOR
            if coming.staging is None:
                await work.require_app(self._app)
                staging = await stagings.begin(
                    tx, self._app, f"import/{uuid.uuid4()}", owner=0, expire_time=expire
                )
            else:
                found = await tx.staging(self._app, coming.staging.name)
                if found is None:
                    raise stagings.lost()
                staging = msgspec.structs.replace(found, expire_time=expire)
                await tx.put_staging(staging)
            await self._put(tx, staging, batch)
            return staging

        while coming.waiting:
            some = [message for message, _ in coming.waiting[: copying.BATCH_ROWS]]
            batch = coming.waiting[: len(copying.within(some))]
            applied = await self._units.apply(self._app, self._call.actor, unit)
            coming.staging = applied.value
            del coming.waiting[: len(batch)]

    async def _put(self, tx: Tx, staging: Staging, batch: Sequence[Incoming]) -> None:
        try:
            await stagings.put(
                tx, staging, [message for message, _ in batch], [body for _, body in batch]
            )
        except KeyTaken:
            raise _twice() from None

    async def _take_whole(self) -> None:
        """Take in the session that is coming, once all of it has come."""
        coming = self._coming
        if coming is None or not coming.is_whole:
            return
        self._coming = None
        if coming.skipped:
            taken = await self._taken(coming.asked.session)
            if taken is not None:
                self._moved[coming.asked.session.uid] = taken.uid
            self.done.skipped += 1
            return
        if coming.staging is not None and coming.waiting:
            await self._stage(coming)

        async def unit(tx: Tx) -> Session | None:
            return await self._insert(self._units.work(tx), coming)

        try:
            applied = await self._units.apply(self._app, self._call.actor, unit)
        except BaseException:
            self._coming = coming
            raise
        made, asked = applied.value, coming.asked.session
        if made is None:
            self._coming = coming
            await self.give_up()
            self.done.skipped += 1
            return
        if made.uid != asked.uid:
            self._moved[asked.uid] = made.uid
        self.done.sessions += 1
        self.done.messages += coming.count
        self.done.renamed += made.session_id != asked.session_id
        self.done.revision = applied.revision

    async def _insert(self, work: Work, coming: _Coming) -> Session | None:
        """Add a session; None: its id is taken, and it is to be passed over."""
        tx, asked = work.tx, coming.asked
        session = asked.session
        asked.check_times(work.now)
        taken = await tx.session_by_key(self._app, session.user, session.session_id)
        if taken is not None and self._on_existing is not OnExisting.RENAME:
            if self._on_existing is OnExisting.FAIL:
                raise creation.exists(taken.session)
            return None
        await work.require_app(self._app)
        history = 0
        if coming.staging is not None:
            staging = await tx.staging(self._app, coming.staging.name)
            if staging is None:
                raise stagings.lost()
            history = staging.history
            await tx.drop_staging(self._app, staging.name)
        parent = await self._parent(tx, session)
        if session.is_active and parent is not None and not parent.is_active and session.owner:
            # It would have ended with its parent, which was overdue, or has ended here.
            ended = lifecycle.ended(session, work.now, parent.status, EndCause.PARENT_ENDED)
            session = list(ended)[-1].after or session
        if session.is_active:
            parent_uid = "" if parent is None else parent.uid
            await quotas.admit(work, self._app, session.user, parent_uid)
        free = await tx.session_by_uid(self._app, session.uid) is None
        made = msgspec.structs.replace(
            session,
            app=self._app,
            uid=session.uid if free else uuid7(work.now),
            parent_uid="" if parent is None else parent.uid,
            owner=session.owner if parent or not session.parent_uid else None,
            message_bytes=coming.size,
            last_event_time=coming.last_event_time,
            metadata=await tx.put_content(documents.encode(asked.metadata)),
            state=await tx.put_content(documents.encode(asked.state)),
            end_note=await tx.put_content(state.encode_note(asked.note)),
            turn_error=await tx.put_content(asked.turn_error.encode()),
            reset_reason=await tx.put_content(asked.reset_reason.encode()),
            history=history,
        )
        row = await self._add(work, made, asked, renamed=taken is not None)
        if coming.waiting:
            messages = [message for message, _ in coming.waiting]
            bodies = [body for _, body in coming.waiting]
            try:
                await tx.insert_messages(row, await stagings.own(tx, messages, bodies))
            except KeyTaken:
                raise _twice() from None
        return row.session

    async def _add(
        self, work: Work, made: Session, asked: ImportedSession, *, renamed: bool
    ) -> SessionRow:
        detail = ChangeDetail(
            label_keys=tuple(sorted(made.labels)),
            metadata_keys=tuple(sorted(asked.metadata)),
            state_keys=tuple(sorted(asked.state)),
            last_sequence=made.last_sequence if made.message_count else 0,
            first_sequence=1 if made.message_count else 0,
        )
        try:
            return await creation.add(work, _named(made, made.uid, renamed), detail)
        except Refusal as refusal:
            if refusal.reason is not Reason.SESSION_EXISTS:
                raise
        # Its key is free: so it is its uid that another app has taken.
        return await creation.add(work, _named(made, uuid7(work.now), renamed), detail)

    async def _parent(self, tx: Tx, session: Session) -> Session | None:
        """The parent as it is here, if it is."""
        uid = self._moved.get(session.parent_uid, session.parent_uid)
        row = await tx.session_by_uid(self._app, uid) if uid else None
        return None if row is None else row.session


def _named(made: Session, uid: str, renamed: bool) -> Session:
    """The session under a uid, and under an id that nobody has, where its own is taken."""
    session_id = uid if renamed else made.session_id
    return msgspec.structs.replace(made, uid=uid, session_id=session_id)


def _twice() -> Refusal:
    return invalid_field("messages.messages", "must not hold a message_id twice in a session")
