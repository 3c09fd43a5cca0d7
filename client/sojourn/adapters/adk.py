"""Google's Agent Development Kit: its sessions kept by Sojourn.

    from sojourn.adapters.adk import SojournSessionService

    runner = Runner(agent=agent, app_name="support",
                    session_service=SojournSessionService("sojourn://localhost:7070"))

An app's name, a user's id and a session's id are what they are in Sojourn. An event is a message,
whole; a state delta is written with it, in one unit. See docs/how-to/adk.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, Unpack

from google.adk.cli.service_registry import ServiceRegistry, get_service_registry
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import (
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)
from google.adk.sessions.session import Session

from sojourn import _acompat as acompat
from sojourn import _checks as check
from sojourn import errors
from sojourn._async.client import AsyncClient
from sojourn.adapters import _adk_events as events
from sojourn.adapters import _adk_sessions as sessions
from sojourn.adapters import _items as items
from sojourn.adapters._adk_sessions import Marker
from sojourn.adapters._connection import ENCRYPTED_SCHEME, SCHEME, Connection
from sojourn.enums import IfExists, View
from sojourn.inputs import (
    ClientFields,
    Duration,
    ListFields,
    NewMessage,
    Precondition,
    StatePatch,
)
from sojourn.models import Session as Stored
from sojourn.models import SessionRef
from sojourn.results import AppendResult
from sojourn.v1 import session_pb2

STALE = (
    "the session was modified in storage since it was loaded: get it again, then append to that one"
)

_MOVED_ON = (
    errors.SequenceMismatchError,
    errors.StateVersionMismatchError,
    errors.GenerationChangedError,
    errors.UidMismatchError,
)
_GONE = (errors.SessionNotFoundError, errors.SessionEndedError)
_ATTEMPTS = 3
"""How often a read begins again when a history is rewritten under it."""


class SojournSessionService(BaseSessionService):
    """Sessions of the Agent Development Kit, kept by a Sojourn server.

    Sessions live until they are deleted: there is no idle timeout and no retention unless one is
    named here. One that has ended, by a timeout or by an operator, is gone: reads do not find it,
    and its id can be used again.

    Args:
        server: A client; or an address, `sojourn://host:port`, with which clients are made from
            the environment, one in each event loop.
        labels: What new sessions are labelled with.
        idle_timeout: After how long without a write a new session ends; None: never.
        max_lifetime: How old a new session may get; None: no limit.
        uri: The address, under the name that ADK's registry of services gives it.
        agents_dir: What ADK's registry passes to each service; not used.
        fields: What else clients are made with: the arguments of `sojourn.connect`.

    Raises:
        ConfigurationError: no address, or one that is none, or fields beside a client.
    """

    def __init__(
        self,
        server: AsyncClient | str = "",
        *,
        labels: Mapping[str, str] | None = None,
        idle_timeout: Duration | None = None,
        max_lifetime: Duration | None = None,
        uri: str = "",
        agents_dir: str | None = None,  # noqa: ARG002 - ADK's registry passes it to everyone
        **fields: Unpack[ClientFields],
    ) -> None:
        if bool(server) == bool(uri):
            raise errors.ConfigurationError("either a server or a uri must be named")
        self._connection = Connection(server or uri, **fields)
        self._labels = dict(labels or {})
        self._idle_timeout: Duration = 0 if idle_timeout is None else idle_timeout
        self._max_lifetime: Duration = 0 if max_lifetime is None else max_lifetime
        self._lines: dict[tuple[int, int], _Line] = {}

    # --- sessions ---

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session, and return it with the state of its app and user merged in.

        Raises:
            AlreadyExistsError: ADK's; the user has an active session with this id.
        """
        delta = sessions.delta(state or {})
        work = self._client.sessions.create(
            session_id,
            if_exists=IfExists.REPLACE_ENDED,
            view=View.FULL,
            app=app_name,
            user=user_id,
            labels=self._labels,
            state=delta.session or None,
            user_state=delta.user or None,
            app_state=delta.app or None,
            idle_timeout=self._idle_timeout,
            max_lifetime=self._max_lifetime,
        )
        try:
            created = await acompat.async_finish(work)
        except errors.SessionExistsError as error:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.") from error
        return sessions.to_session(created, [])

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Read a session with its events, oldest first; None when it is not there, or has ended.

        Of `num_recent_events` newest events, those at or after `after_timestamp` are returned.
        """
        if not session_id.strip():
            return None
        try:
            return await self._read(app_name, user_id, session_id, config or GetSessionConfig())
        except (errors.SessionNotFoundError, errors.UidMismatchError):
            return None

    async def _read(
        self, app: str, user: str, session_id: str, config: GetSessionConfig
    ) -> Session | None:
        limit = config.num_recent_events
        most = items.REQUEST_MESSAGES if limit is None else min(limit, items.REQUEST_MESSAGES)
        attempts = _ATTEMPTS
        while True:
            found = await self._client.sessions.get(
                session_id, user=user, app=app, last_messages=most
            )
            if not found.is_active:
                return None
            history, steady = await events.read(self._client, found, limit, config.after_timestamp)
            attempts -= 1
            if steady or not attempts:
                return sessions.to_session(found, history)

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """List the active sessions of a user, or of all, the oldest update first.

        They come without events, and with state.
        """
        # Straight from what the server sent: ten thousand sessions are not described twice.
        listed = self._client.sessions._lister(  # noqa: SLF001
            session_pb2.SESSION_VIEW_FULL,
            lambda source, _, shared: (source, shared),
            ListFields(app=app_name, user=user_id, page_size=items.REQUEST_MESSAGES),
        )
        listing = sessions.Listing()
        found: list[Session] = []
        pages = listed.pages()
        coming = asyncio.ensure_future(anext(pages, None))
        try:
            while (page := await coming) is not None:
                coming = asyncio.ensure_future(anext(pages, None))
                # In a thread: meanwhile the loop asks for the next page, and is there for others.
                found += await asyncio.to_thread(listing.of_page, page.items)
        finally:
            coming.cancel()
        found.sort(key=lambda one: (one.last_update_time, one.user_id, one.id))
        return ListSessionsResponse.model_construct(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events, and any child sessions that others gave it.

        One that is not there is passed over.
        """
        if not session_id.strip():
            return
        work = self._client.sessions.delete(session_id, user=user_id, app=app_name, force=True)
        with suppress(errors.SessionNotFoundError):
            await acompat.async_finish(work)

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state that all sessions of a user share, without the prefix `user:`."""
        state = await self._client.users.get_state(user_id, app=app_name)
        return dict(state.values)

    # --- events ---

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event and write its state delta: both or nothing, in one unit.

        Partial events are passed over, and so is an event that the session has already. What
        begins with `temp:` stays in memory. When the caller is cancelled meanwhile, the write's
        outcome is awaited first, and `session` shows it.

        Raises:
            StaleSessionError: somebody else has written to the session since it was read. Nothing
                is stored.
            SessionNotFoundError: ADK's; it was deleted, or has ended.
            ContentTooLargeError: the event is over 3 MB, or a scope's state over 256 KiB.
            InvalidFieldError: a name or a state key is too long, or a value is NaN.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        async with self._line(session):
            if not any(known.id == event.id and known == event for known in session.events):
                await acompat.async_finish(self._append(session, event))
        return event

    async def _append(self, session: Session, event: Event) -> None:
        messages = events.to_messages(event)
        if not items.fits(messages):
            raise check.too_large("event", items.REQUEST_BYTES)
        try:
            marker = await self._marker(session)
            try:
                result = await self._write(session, event, marker, messages)
                after, known = result.session, result.sequences[0] <= marker.last_sequence
            except errors.SequenceMismatchError as error:
                after, known = await self._landed(session, marker, messages, error), False
        except _MOVED_ON as error:
            raise StaleSessionError(STALE) from error
        except _GONE as error:
            raise SessionNotFoundError(f"Session {session.id} not found.") from error
        session.last_update_time = sessions.update_time(after)
        sessions.mark(session, after)
        if not known:
            self._commit_event_to_session(session, event)

    async def _write(
        self, session: Session, event: Event, marker: Marker, messages: list[NewMessage]
    ) -> AppendResult:
        delta = sessions.delta(event.actions.state_delta)
        return await self._client.messages.append(
            SessionRef(session.app_name, session.user_id, session.id, marker.uid),
            messages,
            app=session.app_name,
            state=StatePatch(delta.session, expected_version=marker.state_version),
            user_state=delta.user or None,
            app_state=delta.app or None,
            precondition=Precondition(
                generation=marker.generation, last_sequence=marker.last_sequence
            ),
        )

    async def _landed(
        self,
        session: Session,
        marker: Marker,
        messages: list[NewMessage],
        error: errors.SequenceMismatchError,
    ) -> Stored:
        """Return the session if this very append was carried out before, its answer lost."""
        newest = await self._newest(session)
        expected = marker.last_sequence + len(messages)
        last = newest.messages[-1].message_id if newest.messages else ""
        if (
            (newest.uid, newest.generation, newest.last_sequence)
            == (marker.uid, marker.generation, expected)
            and newest.state_version - marker.state_version in (0, 1)
            and last == messages[-1].message_id
        ):
            return newest
        raise error

    async def _marker(self, session: Session) -> Marker:
        """Return what the session was when it was read.

        Raises:
            StaleSessionError: it does not say so itself, and its last event is not the newest.
        """
        marker = Marker.parse(sessions.marked(session))
        if marker is not None:
            return marker
        newest = await self._newest(session)
        mine = events.name_of(session.events[-1].id) if session.events else ""
        stored = events.name_in(newest.messages[-1]) if newest.messages else ""
        if mine != stored:
            raise StaleSessionError(STALE)
        return Marker.of(newest)

    async def _newest(self, session: Session) -> Stored:
        return await self._client.sessions.get(
            session.id,
            user=session.user_id,
            app=session.app_name,
            view=View.BASIC,
            last_messages=1,
        )

    # --- life ---

    @property
    def _client(self) -> AsyncClient:
        return self._connection.client

    @asynccontextmanager
    async def _line(self, session: Session) -> AsyncIterator[None]:
        """Let appends to one session object come one after the other, as they would in memory."""
        key = (id(asyncio.get_running_loop()), id(session))
        line = self._lines.setdefault(key, _Line())
        line.waiting += 1
        try:
            async with line.lock:
                yield
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[key]

    async def close(self) -> None:
        """Close the client that was made in this event loop; one that was given stays open."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Line:
    """Those who append to one session object."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def register(registry: ServiceRegistry | None = None) -> None:
    """Make `sojourn://` and `sojourn+tls://` known to ADK's commands, such as `adk web`.

    Args:
        registry: Where; None: the one that the commands use.
    """
    where = registry or get_service_registry()
    for scheme in (SCHEME, ENCRYPTED_SCHEME):
        where.register_session_service(scheme, _make)


def _make(uri: str, **kwargs: Any) -> SojournSessionService:
    return SojournSessionService(uri=uri, **kwargs)
