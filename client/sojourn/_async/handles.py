"""A session in one's hands: its writes, its turns and its ephemeral children."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Unpack

from sojourn import _checks as check
from sojourn import inputs, results
from sojourn._acompat import AsyncTicker, async_acquire, async_finish
from sojourn._async.live_turn import AsyncTurnHandle
from sojourn._async.pager import AsyncPager
from sojourn._async.services import AsyncServices
from sojourn._async.watch import AsyncWatch
from sojourn._errands import inherited, too_late_for_result
from sojourn._json import RawJson, decode
from sojourn.enums import OnConflict, ResetScope, Status, View
from sojourn.errors import AbortedError, FailedPreconditionError, NotFoundError, SojournError
from sojourn.models import Message, Session, SessionRef, State

logger = logging.getLogger("sojourn")

CHILD_LEASE = timedelta(seconds=30)


class AsyncSessionHandle:
    """One session, as `client.session()` and `client.attach()` hand it out.

    Every call names the session's uid too: if it is deleted and made anew under the same id, calls
    raise `UidMismatchError` and never touch the new one. Inside `async with session.turn()` writes
    carry the turn's token. Use one handle for one turn at a time.
    """

    def __init__(self, services: AsyncServices, session: Session) -> None:
        self._services = services
        self._info = session
        self._result = ""
        self._turn: AsyncTurnHandle | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._info.key}, {self._info.status})"

    @property
    def info(self) -> Session:
        """The session as it was last seen by this handle; `refresh` looks again."""
        return self._info

    @property
    def ref(self) -> SessionRef:
        """Points at this very session."""
        return self._info.ref

    @property
    def app(self) -> str:
        """The agent application."""
        return self._info.app

    @property
    def user(self) -> str:
        """Whose session it is; empty: the app's own."""
        return self._info.user

    @property
    def session_id(self) -> str:
        """The id within the user."""
        return self._info.session_id

    @property
    def uid(self) -> str:
        """The server-made id."""
        return self._info.uid

    @property
    def result(self) -> Any:
        """What the session hands back when it ends, COMPLETED or FAILED: any JSON value.

        Taken as it is when it is set; None: nothing. Whoever reads the session finds it as
        `end_result`. Setting it raises `SessionEndedError` when this handle knows of the end.
        """
        return decode(self._result) if self._result else None

    @result.setter
    def result(self, value: Any) -> None:
        if not self._info.is_active:
            raise too_late_for_result(self._info)
        self._result = check.json_text("result", value, maximum=check.MAX_STATE_VALUE)

    async def refresh(
        self,
        *,
        view: View = View.FULL,
        last_messages: int | None = None,
        roll_up: bool = False,
    ) -> Session:
        """Read the session and return it; see `sessions.get`."""
        self._info = await self._services.sessions.get(
            self.ref, view=view, last_messages=last_messages, roll_up=roll_up
        )
        return self._info

    # --- history ---------------------------------------------------------------------------------

    async def append(
        self,
        role: str,
        content: str | None = None,
        *,
        payload: bytes = b"",
        content_type: str = "",
        metadata: Mapping[str, Any] | None = None,
        message_id: str = "",
        event_time: datetime | int | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> results.AppendResult:
        """Append one message; its fields are those of `NewMessage`. See `messages.append`."""
        message = inputs.NewMessage(
            role=role,
            content=content,
            payload=payload,
            content_type=content_type,
            metadata=metadata or {},
            message_id=message_id,
            event_time=event_time,
        )
        return await self.append_many([message], precondition=precondition)

    async def append_many(
        self,
        messages: Sequence[inputs.NewMessage],
        *,
        state: inputs.StateChange | None = None,
        user_state: inputs.StateChange | None = None,
        app_state: inputs.StateChange | None = None,
        metrics: inputs.MetricsDelta | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> results.AppendResult:
        """Append messages and patch state and counters, all or nothing. See `messages.append`."""
        result = await self._services.messages.append(
            self.ref,
            messages,
            state=state,
            user_state=user_state,
            app_state=app_state,
            metrics=metrics,
            precondition=self._fenced(precondition),
        )
        self._info = result.session
        return result

    async def messages(self, *, last: int | None = None) -> list[Message]:
        """Read the newest `last` messages, oldest first; None: all of them."""
        return await self._services.messages.list(self.ref, last=last, page_size=1000).to_list()

    async def message(
        self, message_id: str | None = None, *, sequence: int | None = None
    ) -> Message:
        """Read one message, by its id or by its sequence. See `messages.get`."""
        return await self._services.messages.get(self.ref, message_id, sequence=sequence)

    async def pop(
        self, count: int = 1, *, precondition: inputs.Precondition | None = None
    ) -> tuple[Message, ...]:
        """Remove the newest messages and return them, oldest first. See `messages.pop`."""
        result = await self._services.messages.pop(
            self.ref, count, precondition=self._fenced(precondition)
        )
        self._info = result.session
        return result.messages

    async def truncate(
        self, keep_through_sequence: int, *, precondition: inputs.Precondition | None = None
    ) -> results.TruncateResult:
        """Remove all messages after a sequence; 0 keeps none."""
        result = await self._services.messages.truncate(
            self.ref, keep_through_sequence, precondition=self._fenced(precondition)
        )
        self._info = result.session
        return result

    async def replace_messages(
        self,
        messages: Iterable[inputs.NewMessage],
        *,
        keep_through_sequence: int = 0,
        precondition: inputs.Precondition | None = None,
    ) -> results.ReplaceResult:
        """Put messages in the place of all after a sequence. See `messages.replace`."""
        result = await self._services.messages.replace(
            self.ref,
            messages,
            keep_through_sequence=keep_through_sequence,
            precondition=self._fenced(precondition),
        )
        self._info = result.session
        return result

    # --- state and settings ----------------------------------------------------------------------

    async def get_state(self) -> State:
        """Read this session's own state."""
        full = (await self.refresh()).content
        return State() if full is None else full.state

    async def update_state(
        self, change: inputs.StateChange, *, precondition: inputs.Precondition | None = None
    ) -> results.UpdateResult:
        """Patch this session's own state: a mapping of keys to write, or a `StatePatch`."""
        return await self.update(state=change, precondition=precondition)

    async def update(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        remove_labels: Iterable[str] = (),
        replace_labels: bool = False,
        metadata: Mapping[str, Any] | None = None,
        remove_metadata: Iterable[str] = (),
        state: inputs.StateChange | None = None,
        user_state: inputs.StateChange | None = None,
        app_state: inputs.StateChange | None = None,
        metrics: inputs.MetricsDelta | None = None,
        idle_timeout: inputs.Duration | None = None,
        max_lifetime: inputs.Duration | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> results.UpdateResult:
        """Change the session, all together. See `sessions.update`."""
        result = await self._services.sessions.update(
            self.ref,
            labels=labels,
            remove_labels=remove_labels,
            replace_labels=replace_labels,
            metadata=metadata,
            remove_metadata=remove_metadata,
            state=state,
            user_state=user_state,
            app_state=app_state,
            metrics=metrics,
            idle_timeout=idle_timeout,
            max_lifetime=max_lifetime,
            precondition=self._fenced(precondition),
        )
        self._info = result.session
        return result

    async def touch(self) -> Session:
        """Renew the idle deadline."""
        self._info = await self._services.sessions.touch(self.ref)
        return self._info

    async def reset(
        self,
        scope: ResetScope = ResetScope.ALL,
        *,
        if_idle: bool = False,
        reason: str = "",
        backup_session_id: str = "",
        precondition: inputs.Precondition | None = None,
    ) -> results.ResetResult:
        """Clear history, state, counters or all. Inside a turn, this ends the turn."""
        result = await self._services.sessions.reset(
            self.ref,
            scope=scope,
            if_idle=if_idle,
            reason=reason,
            backup_session_id=backup_session_id,
            precondition=self._fenced(precondition),
        )
        self._info = result.session
        self._turn_is_over()
        return result

    async def end(
        self,
        status: Status = Status.COMPLETED,
        *,
        reason: str = "",
        result: Any = None,
        cascade: bool = False,
        precondition: inputs.Precondition | None = None,
    ) -> results.EndResult:
        """End the session; leaving `async with` does not end it again. See `sessions.end`.

        Without a `result` it takes what was set as `session.result`.
        """
        if result is not None and self._info.is_active:
            self.result = result
        elif result is None and self._result:
            result = RawJson(self._result)
        ended = await self._services.sessions.end(
            self.ref,
            status=status,
            reason=reason,
            result=result,
            cascade=cascade,
            precondition=self._fenced(precondition),
        )
        self._info = ended.session
        self._turn_is_over()
        return ended

    async def delete(
        self, *, force: bool = False, precondition: inputs.Precondition | None = None
    ) -> results.DeleteResult:
        """Remove the session with all it held; with `force` its descendants too.

        Inside `async with` end it first, or work with `attach`: what is gone cannot be ended.
        """
        return await self._services.sessions.delete(
            self.ref, force=force, precondition=self._fenced(precondition)
        )

    async def fork(
        self,
        session_id: str | None = None,
        *,
        through_sequence: int | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> AsyncSessionHandle:
        """Copy the session and return the copy, which nothing here ends. See `sessions.fork`."""
        copy = await self._services.sessions.fork(
            self.ref, session_id, through_sequence=through_sequence, precondition=precondition
        )
        return AsyncSessionHandle(self._services, copy)

    # --- turns and children ----------------------------------------------------------------------

    @asynccontextmanager
    async def turn(
        self,
        *,
        holder: str = "",
        lease: inputs.Duration | None = None,
        on_conflict: OnConflict = OnConflict.REJECT,
        wait_timeout: inputs.Duration | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> AsyncIterator[AsyncTurnHandle]:
        """Work on the session: begin a turn, renew it in the background, end it.

        The turn ends OK, or ERROR on an exception, which is raised again. A turn that somebody took
        over shows it in `turn.lost`; its writes, and leaving the block without another exception,
        raise `TurnSupersededError`. See `turns.begin` for the arguments and what else is raised.
        """
        begun = await self._services.turns.begin(
            self.ref,
            holder=holder,
            lease=lease,
            on_conflict=on_conflict,
            wait_timeout=wait_timeout,
            precondition=precondition,
        )
        self._info = begun.session
        turn = AsyncTurnHandle(self, self._services.turns, begun)
        self._turn = turn
        try:
            yield turn
        except BaseException as error:
            await async_finish(turn.fail_after(error))
            raise
        else:
            await async_finish(turn.complete())
        finally:
            if self._turn is turn:
                self._turn = None

    @asynccontextmanager
    async def child(
        self,
        session_id: str | None = None,
        *,
        lease: inputs.Duration = CHILD_LEASE,
        inherit_state: Iterable[str] = (),
        **fields: Unpack[inputs.SessionFields],
    ) -> AsyncIterator[AsyncSessionHandle]:
        """Run an ephemeral child of this session: as `client.session()`, but never left over.

        Inside `session.turn()` the turn owns it, and it ends with the turn. Outside, a lease of 1 s
        to 24 h does, which is renewed in the background. What it sets as its `result` is kept with
        its end, for `session.children()`.

        It begins with an empty state of its own, unless `inherit_state` names keys of this
        session's state to copy, as they are now; keys that are not there are passed over.
        """
        fields = {"user": self.user, **fields, "parent": self.info}
        if keys := check.names("inherit_state", inherit_state, maximum=check.MAX_ITEMS):
            own = await self._services.sessions.get(self.ref)
            fields["state"] = inherited(fields.get("state"), own.state_json, keys)
        turn = self._turn
        if turn is not None:
            fields["owner_turn_token"] = turn.token
        else:
            fields["owner_lease"] = lease
        sessions = self._services.sessions
        created = await async_acquire(
            sessions.create(session_id, app=self.app, **fields), self._give_up
        )
        handle = AsyncSessionHandle(self._services, created)
        if turn is not None:
            async with handle.to_its_end() as same:
                yield same
            return
        owner_lease = created.owner_lease_time
        seconds = (
            CHILD_LEASE if owner_lease is None else owner_lease - created.activity_time
        ).total_seconds()
        ticker = AsyncTicker(max(seconds / 3, 0.1), handle.keep_alive)
        try:
            async with handle.to_its_end() as same:
                yield same
        finally:
            await ticker.stop()

    def children(
        self, *, view: View = View.FULL, **fields: Unpack[inputs.ListFields]
    ) -> AsyncPager[Session]:
        """List the session's children, of any status unless told, with their results.

        See `sessions.list`.
        """
        found: inputs.ListFields = {"status": None, **fields, "parent": self.uid, "app": self.app}
        return self._services.sessions.list(view=view, **found)

    def watch_children(self, **fields: Unpack[inputs.WatchFields]) -> AsyncWatch:
        """Watch every change of the session's children. See `sessions.watch`."""
        return self._services.sessions.watch(**fields, parent=self.uid, app=self.app)

    # --- for the client's own use ----------------------------------------------------------------

    async def _give_up(self, created: Session, why: BaseException) -> None:
        """End a child whose creation was cancelled before its block began."""
        await AsyncSessionHandle(self._services, created).fail_after(why)

    @asynccontextmanager
    async def to_its_end(self) -> AsyncIterator[AsyncSessionHandle]:
        """End the session when the block is left: COMPLETED, or FAILED on an exception."""
        try:
            yield self
        except BaseException as error:
            await async_finish(self.fail_after(error))
            raise
        else:
            if self._info.is_active:
                ended = await async_finish(self.end())
                if self._result and not ended.changed:
                    self._info = ended.session
                    raise too_late_for_result(ended.session)

    async def fail_after(self, error: BaseException) -> bool:
        """End the session as FAILED and return whether it is ended.

        What goes wrong with that never hides the error itself.
        """
        if not self._info.is_active:
            return True
        try:
            await self.end(Status.FAILED, reason=type(error).__name__)
        except SojournError as failure:
            error.add_note(f"sojourn: the session could not be ended as FAILED: {failure}")
            logger.warning("session %s could not be ended as FAILED: %s", self.uid, failure)
            return False
        return True

    async def end_quietly(self) -> bool:
        """End the session as COMPLETED and return whether it is ended; a failure is only logged."""
        if not self._info.is_active:
            return True
        try:
            await self.end()
        except SojournError as failure:
            logger.warning("session %s could not be ended as COMPLETED: %s", self.uid, failure)
            return False
        return True

    def saw(self, session: Session) -> None:
        """Take note of what an answer said of the session."""
        self._info = session

    async def keep_alive(self) -> bool:
        """Renew the owner's lease; return whether there is still something to renew."""
        try:
            await self._services.sessions.touch(self.ref)
        except (AbortedError, FailedPreconditionError, NotFoundError):
            return False
        except SojournError as failure:
            logger.debug("session %s was not touched: %s", self.uid, failure)
        return self._info.is_active

    def _fenced(self, precondition: inputs.Precondition | None) -> inputs.Precondition | None:
        """Add the live turn's token, unless the caller names one."""
        if self._turn is None or (precondition is not None and precondition.turn_token):
            return precondition
        return self._turn.fenced(precondition)

    def _turn_is_over(self) -> None:
        if self._turn is not None:
            self._turn.over = True
