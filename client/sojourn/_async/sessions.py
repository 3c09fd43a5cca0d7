"""Sessions: their life from create to delete, and the reads and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, Unpack

from sojourn import _bulk_calls as bulk_calls
from sojourn import _calls as calls
from sojourn import _convert as convert
from sojourn import inputs, results
from sojourn._async.following import AsyncFollowedSessions
from sojourn._async.pager import AsyncPager
from sojourn._errands import spent
from sojourn.enums import IfExists, ResetScope, Status, View
from sojourn.errors import (
    EtagMismatchError,
    InternalError,
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
    UidMismatchError,
)
from sojourn.models import Page, Session, SessionRef
from sojourn.v1 import session_pb2, session_service_pb2

T = TypeVar("T")

# How often `get_or_replace` begins again when somebody else was faster, and what says so.
ATTEMPTS = 4
OVERTAKEN = (
    EtagMismatchError,
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
    UidMismatchError,
)


class AsyncSessions(AsyncFollowedSessions):
    """The RPCs of SessionService.

    A session is named by its id (with `user`, where it has one), by a `SessionKey` or `SessionRef`,
    or by a `Session` that was read; the last also fences: a session made anew under the same id is
    `UidMismatchError`. `app` overrides the client's own. Every write takes a `request_id`, with
    which repeating it within 24 hours does nothing twice; without one each call makes its own.

    Any call may raise `InvalidFieldError`, `UnauthenticatedError`, `UnavailableError`,
    `DeadlineExceededError` or `InternalError`; writes also `RequestIdReusedError` and
    `StorageFullError`.
    """

    async def create(
        self,
        session_id: str | None = None,
        *,
        if_exists: IfExists = IfExists.FAIL,
        view: View = View.BASIC,
        app: str | None = None,
        request_id: str | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> Session:
        """Create a session and return it; with `view=View.FULL`, with the state of all scopes.

        Without a `session_id` the server makes one. The other fields are those of `NewSession`; the
        client's default labels are added.

        Raises: `SessionExistsError`, `SessionEndedError` (RETURN_EXISTING of an ended one),
        `ParentEndedError`, `TurnSupersededError` (the owning turn is over), `QuotaExceededError`,
        `AppDeletedError`, `AppDrainingError`, `AppUnknownError`, `ContentTooLargeError`,
        `StateVersionMismatchError`.
        """
        answer = await self._create(session_id, if_exists, app, request_id, fields, view)
        return convert.session(answer.session, answer.revision, full=view == View.FULL)

    async def get_or_create(
        self,
        session_id: str,
        *,
        app: str | None = None,
        request_id: str | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> tuple[Session, bool]:
        """Return the session in the view BASIC, and whether this call created it.

        The fields count only when it is created. Raises as `create`.
        """
        answer = await self._create(session_id, IfExists.RETURN_EXISTING, app, request_id, fields)
        return convert.session(answer.session, answer.revision), answer.created

    async def get_or_replace(
        self,
        session_id: str,
        *,
        max_idle: inputs.Duration | None = None,
        max_requests: int | None = None,
        app: str | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> tuple[Session, bool]:
        """Return a session that can be used, in the view BASIC, and whether this call created it.

        One that has ended is replaced by a new one under the same id. So is one that was idle for
        `max_idle`, which ends as EXPIRED first, and one that has served `max_requests`, which ends
        as COMPLETED; a session with a live turn is left alone. Raises as `create`.
        """
        for _ in range(ATTEMPTS):
            with suppress(*OVERTAKEN):
                return await self._usable(session_id, max_idle, max_requests, app, fields)
        return await self._usable(session_id, max_idle, max_requests, app, fields)

    async def _usable(
        self,
        session_id: str,
        max_idle: inputs.Duration | None,
        max_requests: int | None,
        app: str | None,
        fields: inputs.SessionFields,
    ) -> tuple[Session, bool]:
        try:
            found, created = await self.get_or_create(session_id, app=app, **fields)
        except SessionEndedError:
            pass
        else:
            used_up = spent(found, max_idle, max_requests)
            if created or used_up is None:
                return found, created
            # The etag: whoever wrote meanwhile keeps the session.
            fence = inputs.Precondition(etag=found.etag)
            await self.end(found, status=used_up, reason="replaced", precondition=fence)
        made = await self.create(session_id, if_exists=IfExists.REPLACE_ENDED, app=app, **fields)
        return made, True

    async def fork(
        self,
        session: inputs.SessionLike,
        session_id: str | None = None,
        *,
        user: str = "",
        through_sequence: int | None = None,
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> Session:
        """Copy a session, through a sequence or whole, and return the copy in the view BASIC.

        The copy is of the same user, and knows what it was forked from; without a `session_id` the
        server makes one.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `GenerationChangedError`,
        `TurnSupersededError`, `EtagMismatchError`, `SequenceMismatchError`, `SessionExistsError`,
        `QuotaExceededError`.
        """
        request = bulk_calls.fork_session(
            self._caller.app(app),
            session,
            session_id,
            user=user,
            through_sequence=through_sequence,
            precondition=precondition,
            request_id=request_id,
        )
        answer = await self._caller.call(self._caller.stubs.sessions.ForkSession, request)
        return convert.session(answer.session, answer.revision)

    async def create_many(
        self,
        sessions: Iterable[inputs.NewSession],
        *,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.CreateManyResult:
        """Create 1 to 1,000 sessions at once: all or none. Raises as `create`."""
        request = calls.create_sessions(
            self._caller.app(app),
            sessions,
            default_labels=self._caller.config.default_labels,
            request_id=request_id,
        )
        stub = self._caller.stubs.sessions.BatchCreateSessions
        answer = await self._caller.call(stub, request)
        return results.CreateManyResult(
            tuple(convert.ref_of(one) for one in answer.sessions), answer.revision
        )

    async def get(
        self,
        session: inputs.SessionLike = "",
        *,
        user: str = "",
        uid: str = "",
        view: View = View.FULL,
        last_messages: int | None = None,
        roll_up: bool = False,
        app: str | None = None,
    ) -> Session:
        """Read a session, by id or by `uid`; ended ones too, and by default with its content.

        `last_messages` brings the newest N messages along, 0 to 1,000, all read at one revision;
        they are cut at 1 MiB from the older end, and `messages.list` reads on before them.
        `roll_up` brings the sums over the session and all its descendants along, as `rolled_up`;
        the server reads every one of them, up to 10,000.

        Raises `SessionNotFoundError`, `UidMismatchError`.
        """
        request = calls.get_session(
            self._caller.app(app),
            session,
            user=user,
            uid=uid,
            view=view,
            last_messages=last_messages,
            roll_up=roll_up,
        )
        answer = await self._caller.call(self._caller.stubs.sessions.GetSession, request)
        return convert.session(
            answer.session,
            answer.revision,
            full=view == View.FULL,
            messages=None
            if last_messages is None
            else tuple(convert.message(one) for one in answer.messages),
            sums=convert.rolled_up(answer.rolled_up) if roll_up else None,
        )

    async def get_many(
        self,
        sessions: Iterable[inputs.SessionLike],
        *,
        user: str = "",
        view: View = View.BASIC,
        app: str | None = None,
    ) -> results.GetManyResult:
        """Read any number of sessions of one app, and say which are not there.

        As with lists, metadata and state come only with `view=View.FULL`.
        """
        found: tuple[Session, ...] = ()
        not_found: tuple[SessionRef, ...] = ()
        for request in calls.get_sessions(self._caller.app(app), sessions, user=user, view=view):
            while request.sessions:
                stub = self._caller.stubs.sessions.BatchGetSessions
                answer = await self._caller.call(stub, request)
                if answer.covered < 1:
                    raise InternalError("the answer covers nothing", method="BatchGetSessions")
                found += tuple(
                    convert.session(one, answer.revision, full=view == View.FULL)
                    for one in answer.sessions
                )
                not_found += tuple(convert.session_ref(one) for one in answer.not_found)
                del request.sessions[: answer.covered]
        return results.GetManyResult(found, not_found)

    async def update(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
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
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.UpdateResult:
        """Change labels, metadata, state, settings and counters, all together.

        Labels and metadata are merged per key; `replace_labels` makes `labels` the only ones. State
        is a mapping of keys to write, or a `StatePatch`. Timeouts that are None stay; zero means
        for ever.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `SessionEndedError`,
        `GenerationChangedError`, `TurnSupersededError`, `EtagMismatchError`,
        `SequenceMismatchError`, `StateVersionMismatchError`, `TurnRequiredError`,
        `ContentTooLargeError`.
        """
        request = calls.update_session(
            self._caller.app(app),
            session,
            user=user,
            precondition=precondition,
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
            request_id=request_id,
        )
        stub = self._caller.stubs.sessions.UpdateSession
        return convert.updated(await self._caller.call(stub, request))

    async def touch(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
        owner_lease: inputs.Duration | None = None,
        app: str | None = None,
    ) -> Session:
        """Renew the idle deadline and, of an ephemeral session, its owner's lease.

        `owner_lease` is a new length of that lease, 1 s to 24 h. Raises `SessionNotFoundError`,
        `UidMismatchError`, `SessionEndedError`.
        """
        request = calls.touch_session(
            self._caller.app(app), session, user=user, owner_lease=owner_lease
        )
        answer = await self._caller.call(self._caller.stubs.sessions.TouchSession, request)
        return convert.session(answer.session, answer.revision)

    async def end(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
        status: Status = Status.COMPLETED,
        reason: str = "",
        result: Any = None,
        cascade: bool = False,
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.EndResult:
        """End a session as COMPLETED, FAILED or EXPIRED; the first end wins.

        `reason` is a text of up to 4 KiB, `result` any JSON value but None, up to 256 KiB. With
        `cascade` all descendants end too, else only the ephemeral ones.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `SessionEndedError` (with another
        status), `GenerationChangedError`, `TurnSupersededError`, `EtagMismatchError`,
        `SequenceMismatchError`.
        """
        request = calls.end_session(
            self._caller.app(app),
            session,
            user=user,
            status=status,
            reason=reason,
            result=result,
            cascade=cascade,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.sessions.EndSession
        return convert.ended(await self._caller.call(stub, request))

    async def reset(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
        scope: ResetScope = ResetScope.ALL,
        if_idle: bool = False,
        reason: str = "",
        backup_session_id: str = "",
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.ResetResult:
        """Clear history, state, counters or all of them, under the same id.

        Labels, metadata and expiry stay; the generation grows by one; a live turn is revoked,
        unless `if_idle` refuses it. With `backup_session_id` a copy is kept under that new id of
        the same user.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `SessionEndedError`,
        `GenerationChangedError`, `TurnSupersededError`, `EtagMismatchError`,
        `SequenceMismatchError`, `NotIdleError`, `SessionExistsError` (of the copy).
        """
        request = calls.reset_session(
            self._caller.app(app),
            session,
            user=user,
            scope=scope,
            if_idle=if_idle,
            reason=reason,
            backup_session_id=backup_session_id,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.sessions.ResetSession
        return convert.reset(await self._caller.call(stub, request))

    async def delete(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
        force: bool = False,
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.DeleteResult:
        """Remove a session, ended or not, with all it held; with `force` its descendants too.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `HasChildrenError`,
        `GenerationChangedError`, `TurnSupersededError`, `EtagMismatchError`,
        `SequenceMismatchError`.
        """
        request = calls.delete_session(
            self._caller.app(app),
            session,
            user=user,
            force=force,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.sessions.DeleteSession
        return convert.deleted(await self._caller.call(stub, request))

    def list_ids(self, **fields: Unpack[inputs.ListFields]) -> AsyncPager[SessionRef]:
        """List sessions as references only. The arguments are those of `list`, but for `view`."""

        def ref(source: session_pb2.Session, _: int, _shared: convert.SharedState) -> SessionRef:
            return convert.ref_of(source)

        return self._lister(session_pb2.SESSION_VIEW_IDS, ref, fields)

    # Last, because from here on `list` in this class means the method.
    def list(
        self, *, view: View = View.BASIC, **fields: Unpack[inputs.ListFields]
    ) -> AsyncPager[Session]:
        """List sessions, ACTIVE ones unless told otherwise, by their order of creation.

        See `ListFields` for what can be asked. The pager reads items, pages, page N, or a count.
        Raises `PageTokenInvalidError` when it is read.
        """
        full = view == View.FULL

        def session(
            source: session_pb2.Session, revision: int, shared: convert.SharedState
        ) -> Session:
            return convert.session(source, revision, full=full, shared=shared)

        return self._lister(calls.view_number(view), session, fields)

    async def _create(
        self,
        session_id: str | None,
        if_exists: IfExists,
        app: str | None,
        request_id: str | None,
        fields: inputs.SessionFields,
        view: View = View.BASIC,
    ) -> session_service_pb2.CreateSessionResponse:
        request = calls.create_session(
            self._caller.app(app),
            inputs.NewSession(session_id=session_id or "", **fields),
            default_labels=self._caller.config.default_labels,
            if_exists=if_exists,
            request_id=request_id,
            view=view,
        )
        return await self._caller.call(self._caller.stubs.sessions.CreateSession, request)

    def _lister(
        self,
        view: session_pb2.SessionView.V,
        item: Callable[[session_pb2.Session, int, convert.SharedState], T],
        fields: inputs.ListFields,
    ) -> AsyncPager[T]:
        request = calls.list_sessions(self._caller.app(fields.get("app")), fields)

        async def fetch(ask: calls.PageAsk) -> Page[T]:
            stub = self._caller.stubs.sessions.ListSessions
            answer = await self._caller.call(stub, calls.sessions_page(request, ask, view))
            shared = convert.SharedState(answer)
            return Page(
                items=tuple(item(one, answer.revision, shared) for one in answer.sessions),
                next_page_token=answer.next_page_token,
                revision=answer.revision,
                total_size=answer.total_size if answer.HasField("total_size") else None,
                resume_token=answer.resume_token,
            )

        return AsyncPager(
            fetch,
            page_size=fields.get("page_size", 0),
            page_token=fields.get("page_token", ""),
        )
