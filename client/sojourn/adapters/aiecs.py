"""The sessions of AIECS' `ContextEngine`, by its names, in Sojourn.

    context_engine = ContextSessions("localhost:7070", app="agents")  # instead of ContextEngine()

A session is found by its id alone, as there: the label `aiecs.session` holds it. Its `user_id` is
the session's user. What AIECS keeps beside sessions and their messages (checkpoints, contexts of
tasks, compression) is not here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from sojourn._acompat import async_finish
from sojourn._async.client import AsyncClient
from sojourn.adapters._connection import Connection
from sojourn.enums import ResetScope, Status, View
from sojourn.errors import (
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
    SojournError,
    UidMismatchError,
)
from sojourn.inputs import Duration, LabelSelector, MetricsDelta, NewMessage, SessionFilter
from sojourn.models import Message, Session

LABEL: Final = "aiecs.session"
MAX_IDLE: Final = 1800
"""Seconds that AIECS takes for idle unless told otherwise."""
VERDICTS: Final = 10_000
"""How many sessions are remembered that were found expired and not replaced yet."""
CLEARED: Final = "cleared"
"""What AIECS' memory ends a session as whose conversation begins anew."""

_ENDS: Final = {
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "expired": Status.EXPIRED,
}
_COUNTED: Final = frozenset(
    (
        *("session_id", "user_id", "created_at", "last_activity"),
        *("request_count", "error_count", "total_processing_time"),
    )
)
_GONE: Final = (SessionEndedError, SessionNotFoundError, UidMismatchError)


@dataclass(frozen=True)
class ContextSession:
    """What AIECS calls the metrics of a session: as it was when it was read.

    Fields are read as attributes, or by their names in brackets. Times are naive and in UTC, to be
    compared with `datetime.utcnow()`, as in AIECS.
    """

    session_id: str
    user_id: str
    created_at: datetime
    last_activity: datetime
    request_count: int
    error_count: int
    total_processing_time: float
    """In seconds."""
    status: str
    """`active`, `completed`, `failed` or `expired`."""
    metadata: Mapping[str, Any]
    session: Session = field(repr=False, compare=False)
    """The session in Sojourn's own words."""
    _limits: dict[str, float] = field(repr=False, compare=False)

    def is_expired(self, max_idle_seconds: float = MAX_IDLE) -> bool:
        """Say whether it has expired, or is active and was idle for so long.

        Whoever creates a session under this id after a True gets a new one, unless somebody has
        used this one meanwhile.
        """
        expired = self.session.is_expired(max_idle_seconds)
        if expired and self.session.is_active:
            self._limits.pop(self.session.uid, None)
            self._limits[self.session.uid] = max_idle_seconds
            if len(self._limits) > VERDICTS:
                del self._limits[next(iter(self._limits))]
        return expired

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that AIECS has, with times as texts."""
        kept = {name: self[name] for name in (*sorted(_COUNTED), "status")}
        for name in ("created_at", "last_activity"):
            kept[name] = kept[name].isoformat()
        return kept

    def __getitem__(self, name: str) -> Any:
        if name not in _COUNTED and name not in ("status", "metadata"):
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field by its name."""
        return self[name] if name in _COUNTED or name in ("status", "metadata") else default


@dataclass(frozen=True)
class ContextMessage:
    """A message of a conversation."""

    role: str
    content: str
    timestamp: datetime
    """Naive, in UTC."""
    metadata: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it with its time as a text."""
        return {**asdict(self), "timestamp": self.timestamp.isoformat()}


class ContextSessions:
    """AIECS' sessions for any number of processes, kept by a server.

    Where AIECS answers False or None for a session that is not there, so does this. There is no
    memory to fall back to: a server that is away is a `SojournError`.

    Args:
        server: A client; or an address, `host:port` or `sojourn://host:port`, with credentials
            from the environment.
        app: The app of the sessions; None: the client's own.
        labels: More labels of new sessions.
        idle_timeout: How long a session may be idle before the server ends it as expired; zero:
            for ever.
        max_lifetime: How old a session may get; zero: no limit.
    """

    def __init__(
        self,
        server: AsyncClient | str,
        *,
        app: str | None = None,
        labels: Mapping[str, str] | None = None,
        idle_timeout: Duration = 0,
        max_lifetime: Duration = 0,
    ) -> None:
        self._connection = Connection(server)
        self._app = app
        self._labels = dict(labels or {})
        self._idle_timeout = idle_timeout
        self._max_lifetime = max_lifetime
        self._limits: dict[str, float] = {}

    async def initialize(self) -> bool:
        """Ask the server for a session, so that one that is away is noticed; return True."""
        await self._client.sessions.list_ids(app=self._app).count()
        return True

    async def close(self) -> None:
        """Close the client that was made in this event loop; one that was given stays open."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- sessions -----------------------------------------------------------------------------

    async def create_session(
        self, session_id: str, user_id: str = "", metadata: Mapping[str, Any] | None = None
    ) -> ContextSession:
        """Return the active session of this id, created if there is none.

        One that has ended makes way for a new one, and so does one of which `is_expired` has said
        True. One that is active stays as it is, with all that it holds.

        Args:
            session_id: Up to 256 printable characters.
            user_id: Whose it is.
            metadata: JSON values by their names, kept when it is created.

        Raises:
            SessionExistsError: an active session of another user has this id.
        """
        found = await self._find(session_id)
        if found is not None and found.is_active and found.user != user_id.strip():
            raise SessionExistsError(
                "another user's session has this id", metadata={"status": found.status}
            )
        limit = None if found is None else self._limits.pop(found.uid, None)
        made, _ = await self._client.sessions.get_or_replace(
            session_id,
            max_idle=limit,
            app=self._app,
            user=user_id,
            labels={**self._labels, LABEL: session_id.strip()},
            metadata=metadata or {},
            idle_timeout=self._idle_timeout,
            max_lifetime=self._max_lifetime,
        )
        return self._seen(await self._client.sessions.get(made.ref))

    async def get_session(self, session_id: str) -> ContextSession | None:
        """Return a session, ended ones too; None if there is none."""
        found = await self._find(session_id)
        return None if found is None else self._seen(found)

    async def update_session(
        self,
        session_id: str,
        updates: Mapping[str, Any] | None = None,
        *,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
    ) -> bool:
        """Count a request, its time and its error, all in one step; say whether that was done.

        Without anything to count it is a sign of life. Nothing is counted, and False returned,
        where there is no session or it has ended.

        Args:
            session_id: Which session.
            updates: Metadata to merge; a `status` among them ends the session afterwards.
            increment_requests: One request more.
            add_processing_time: So many seconds more.
            mark_error: One error more.

        Raises:
            ValueError: `updates` would set what is counted, or the `status` is none.
        """
        changes = dict(updates or {})
        if counted := _COUNTED & changes.keys():
            raise ValueError(f"{sorted(counted)} are the server's to say")
        status = changes.pop("status", "active")
        if status != "active":
            _end_of(status)
        found = await self._find(session_id)
        if found is None:
            return False
        metrics = MetricsDelta(
            requests=int(increment_requests),
            errors=int(mark_error),
            processing_time=add_processing_time if add_processing_time > 0 else None,
        )
        try:
            if changes or metrics != MetricsDelta():
                await self._client.sessions.update(found.ref, metadata=changes, metrics=metrics)
            else:
                await self._client.sessions.touch(found.ref)
        except _GONE:
            return False
        return True if status == "active" else await self.end_session(session_id, status)

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        """End a session; return whether there is one.

        The first end wins, and another one after it is no error. With `cleared` the session goes
        on with an empty history: that is what AIECS' memory means by it.

        Args:
            session_id: Which session.
            status: `completed`, `failed`, `expired` or `cleared`.

        Raises:
            ValueError: another status.
        """
        end_as = None if status == CLEARED else _end_of(status)
        found = await self._find(session_id)
        if found is None:
            return False
        sessions = self._client.sessions
        try:
            if end_as is None:
                await sessions.reset(found.ref, scope=ResetScope.HISTORY, reason=CLEARED)
            else:
                await sessions.end(found.ref, status=end_as)
        except SessionEndedError:
            return True
        except (SessionNotFoundError, UidMismatchError):
            return False
        return True

    async def list_sessions(
        self, user_id: str | None = None, status: str | None = None
    ) -> list[ContextSession]:
        """Return all sessions, in the order of their creation; ended ones too.

        Args:
            user_id: Of this user only.
            status: With this status only.

        Raises:
            ValueError: a status that there is none of.
        """
        wanted = "any" if status is None else _status_of(status)
        pager = self._client.sessions.list(
            app=self._app,
            user=user_id,
            status=wanted,
            labels=[LabelSelector.exists(LABEL)],
            view=View.FULL,
            page_size=1_000,
        )
        return [self._seen(session) async for session in pager]

    async def cleanup_inactive_sessions(self, max_idle_seconds: float = MAX_IDLE) -> int:
        """End the sessions that were idle for longer as expired, and return how many."""
        return await self._client.sessions.cleanup_inactive(
            max_idle_seconds, app=self._app, labels=[LabelSelector.exists(LABEL)]
        )

    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        """Remove the sessions that were idle for longer, with all they held; return how many."""
        idle = SessionFilter(idle_longer_than=max_idle_hours * 3_600, has_turn=False)
        done = await self._client.sessions.delete_many(
            app=self._app, filter=idle, labels=[LabelSelector.exists(LABEL)]
        )
        return done.count

    # --- conversations ------------------------------------------------------------------------

    async def add_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        strategy: object = None,  # noqa: ARG002 - of AIECS' compression
    ) -> bool:
        """Append a message, to a session that is created if there is none.

        Returns:
            Whether that was done: not if the session has ended.
        """
        found = await self._find(session_id)
        try:
            if found is None:
                found = (await self.create_session(session_id)).session
            message = NewMessage(role, content, metadata=metadata or {})
            await self._client.messages.append(found.ref, message)
        except _GONE:
            return False
        return True

    async def get_conversation_history(
        self, session_id: str, limit: int = 50
    ) -> list[ContextMessage]:
        """Return the newest messages, the oldest first; all with a limit of 0."""
        found = await self._find(session_id)
        if found is None:
            return []
        last = limit if limit > 0 else None
        messages = self._client.messages.list(found.ref, last=last, page_size=1_000)
        return [_told(message) async for message in messages]

    # --- the whole ----------------------------------------------------------------------------

    async def get_metrics(self) -> dict[str, Any]:
        """Return sums over all sessions, made by the server."""
        groups = await self._client.sessions.aggregate(
            app=self._app, group_by="status", labels=[LabelSelector.exists(LABEL)]
        ).to_list()
        active = [one.session_count for one in groups if one.group == Status.ACTIVE]
        return {
            "total_sessions": sum(one.session_count for one in groups),
            "active_sessions": sum(active),
            "total_messages": sum(one.message_count for one in groups),
            "total_requests": sum(one.metrics.request_count for one in groups),
            "storage_backend": "sojourn",
            "timestamp": _naive(datetime.now(UTC)).isoformat(),
        }

    async def health_check(self) -> dict[str, Any]:
        """Say whether the server answers: `healthy`, or `degraded` with what it is."""
        issues = []
        try:
            await self.initialize()
        except SojournError as error:
            issues.append(type(error).__name__)
        status = "degraded" if issues else "healthy"
        return {"status": status, "storage_backend": "sojourn", "issues": issues}

    def track(self, agent: Any) -> Any:
        """Return an agent whose `execute_task` counts: each call a request, with time and error.

        The session is the `session_id` of the call's context, created for its `user_id` if there
        is none. Without one, nothing is counted. All else is the agent's own.
        """
        return _TrackedAgent(agent, self)

    @property
    def _client(self) -> AsyncClient:
        return self._connection.client

    async def _find(self, session_id: str) -> Session | None:
        """The session of an id: the active one, or the last that was."""
        pager = self._client.sessions.list(
            app=self._app,
            status="any",
            labels={LABEL: session_id.strip()},
            view=View.FULL,
            descending=True,
        )
        found = await pager.to_list()
        active = [one for one in found if one.is_active]
        return next(iter(active or found), None)

    def _seen(self, session: Session) -> ContextSession:
        metrics = session.metrics
        return ContextSession(
            session_id=session.session_id,
            user_id=session.user,
            created_at=_naive(session.create_time),
            last_activity=_naive(session.activity_time),
            request_count=metrics.request_count,
            error_count=metrics.error_count,
            total_processing_time=metrics.processing_time.total_seconds(),
            status=session.status.lower(),
            metadata=dict(session.metadata),
            session=session,
            _limits=self._limits,
        )


class _TrackedAgent:
    """An agent whose tasks are counted."""

    def __init__(self, agent: Any, sessions: ContextSessions) -> None:
        self._agent = agent
        self._sessions = sessions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    async def execute_task(self, task: Any, context: Mapping[str, Any]) -> Any:
        """Execute a task as the agent does, and count it."""
        session_id = str(context.get("session_id") or "")
        if not session_id:
            return await self._agent.execute_task(task, context)
        if await self._sessions.get_session(session_id) is None:
            await self._sessions.create_session(session_id, str(context.get("user_id") or ""))
        begin = time.monotonic()
        try:
            result = await self._agent.execute_task(task, context)
        except BaseException:
            # What went wrong with the task is what the caller must hear of.
            with suppress(SojournError):
                await self._count(session_id, begin, failed=True)
            raise
        await self._count(session_id, begin, failed=False)
        return result

    async def _count(self, session_id: str, begin: float, *, failed: bool) -> None:
        await async_finish(
            self._sessions.update_session(
                session_id,
                increment_requests=True,
                add_processing_time=time.monotonic() - begin,
                mark_error=failed,
            )
        )


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _told(message: Message) -> ContextMessage:
    return ContextMessage(
        role=message.role,
        content=message.content or "",
        timestamp=_naive(message.create_time),
        metadata=dict(message.metadata),
    )


def _end_of(status: object) -> Status:
    if isinstance(status, str) and status in _ENDS:
        return _ENDS[status]
    raise ValueError(f"a session ends as {', '.join(_ENDS)}, not as {status!r}")


def _status_of(status: str) -> Status:
    return Status.ACTIVE if status == "active" else _end_of(status)
