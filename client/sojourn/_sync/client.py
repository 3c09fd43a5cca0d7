# Generated from client/sojourn/_async/client.py by `make gen`. Edit the source, never this file.
"""The client: one connection to a server, and all that can be done over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar, Unpack

from sojourn import _checks as check
from sojourn import inputs
from sojourn._acompat import (
    SyncChannel,
    SyncFunction,
    SyncStubs,
    sync_acquire,
    sync_finish,
)
from sojourn._config import Config, refuse_open_secrets
from sojourn._sync.admin import Admin
from sojourn._sync.apps import Apps
from sojourn._sync.bearer import Credential
from sojourn._sync.caller import Caller
from sojourn._sync.handles import SessionHandle
from sojourn._sync.messages import Messages
from sojourn._sync.services import Services
from sojourn._sync.sessions import Sessions
from sojourn._sync.turns import Turns
from sojourn._sync.users import Users
from sojourn.enums import IfExists
from sojourn.errors import ConfigurationError
from sojourn.models import Session
from sojourn.options import TLS, Credentials, KeepaliveOptions, RetryOptions

T = TypeVar("T")


class Client:
    """Talks to a Sojourn server.

        with sojourn.connect_sync("localhost:7070", app="support") as client:
            with client.session("user-123", user="u-456") as session:
                session.append("user", "Where is my order?")

    Nothing is sent before the first call, and the connection mends itself. Only exceptions of
    `sojourn.errors` leave the client.

    Args:
        target: The server: `host:port`, or any gRPC target.
        app: The app of all calls that name none, 1 to 128 characters.
        tls: Encrypt the connection, and show a client certificate. None: plain text.
        credentials: Say who calls: an `ApiKey` or a `BearerToken`. Refused without TLS to any
            machine but this one. None: nothing, or the certificate in `tls`.
        retry: How calls are repeated, where that is safe.
        keepalive: How a dead connection is noticed.
        deadline: How long a call may take, repeats counted: a timedelta, or seconds.
        default_labels: Labels for every session that this client creates.
        actor: Who acts, for the audit log of a server that does not authenticate.

    Raises:
        ConfigurationError: options that do not fit together.
        InvalidFieldError: an app, a label or an actor that breaks its rule.
    """

    sessions: Sessions
    """Create, read, list, watch, change, end, reset, fork, delete and sum up sessions."""
    messages: Messages
    """Append, read, pop, truncate and replace histories."""
    turns: Turns
    """Begin, renew and end turns."""
    users: Users
    """The state of users, and their erasure."""
    apps: Apps
    """Read, list, change and delete apps; their state."""
    admin: Admin
    """The audit, export and import, backup, and what the server is."""

    def __init__(
        self,
        target: str,
        *,
        app: str = "",
        tls: TLS | None = None,
        credentials: Credentials | None = None,
        retry: RetryOptions | None = None,
        keepalive: KeepaliveOptions | None = None,
        deadline: inputs.Duration = 30.0,
        default_labels: Mapping[str, str] | None = None,
        actor: str = "",
    ) -> None:
        if not target:
            raise ConfigurationError("the target must not be empty")
        refuse_open_secrets(target, tls, credentials)
        self._target = target
        self._channel = SyncChannel(target, tls, keepalive or KeepaliveOptions())
        self._credential = None if credentials is None else Credential(credentials)
        self._use(
            Config(
                app=app,
                deadline=check.duration("deadline", deadline),
                default_labels=default_labels or {},
                actor=actor,
                retry=retry or RetryOptions(),
            )
        )

    def _use(self, config: Config) -> None:
        self._config = config
        self._services = Services(Caller(self._channel, config, self._credential))
        self.sessions = self._services.sessions
        self.messages = self._services.messages
        self.turns = self._services.turns
        self.users = self._services.users
        self.apps = self._services.apps
        self.admin = self._services.admin

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r}, app={self._config.app!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Calls that are under way, and later ones: `ClientClosedError`."""
        self._channel.close()

    @property
    def app(self) -> str:
        """The app of all calls that name none."""
        return self._config.app

    @property
    def stubs(self) -> SyncStubs:
        """The raw generated stubs, for what has no method here; their errors are grpc's own."""
        return self._channel.stubs

    def with_options(
        self,
        *,
        app: str | None = None,
        deadline: inputs.Duration | None = None,
        default_labels: Mapping[str, str] | None = None,
        actor: str | None = None,
        retry: RetryOptions | None = None,
    ) -> Self:
        """Return a client with other defaults on the same connection; None: as they are.

        Closing either closes both.
        """
        old = self._config
        other = object.__new__(type(self))
        other._target = self._target
        other._channel = self._channel
        other._credential = self._credential
        other._use(
            replace(
                old,
                app=old.app if app is None else app,
                deadline=old.deadline if deadline is None else check.duration("deadline", deadline),
                default_labels=old.default_labels if default_labels is None else default_labels,
                actor=old.actor if actor is None else actor,
                retry=old.retry if retry is None else retry,
            )
        )
        return other

    @contextmanager
    def session(
        self,
        session_id: str | None = None,
        *,
        if_exists: IfExists = IfExists.FAIL,
        app: str | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> Iterator[SessionHandle]:
        """Create a session, and end it when the block is left.

        It ends COMPLETED; on an exception FAILED, with the exception's type name as its reason, and
        the exception is raised again, whether the end succeeds or not. A session that was ended
        inside the block stays as it is. Arguments and errors are those of `sessions.create`.
        """
        created = sync_acquire(
            self.sessions.create(session_id, if_exists=if_exists, app=app, **fields),
            self._give_up,
        )
        with SessionHandle(self._services, created).to_its_end() as handle:
            yield handle

    def run(
        self,
        operation: SyncFunction[[SessionHandle], T],
        session_id: str | None = None,
        *,
        if_exists: IfExists = IfExists.FAIL,
        app: str | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> T:
        """Create a session, do something with it, end it, and return what came of it.

        As `session()`, but what was done counts more than how it ended: when it was done and only
        the end fails, that is a warning in the log, and the result is returned. The session then
        ends by its idle timeout.
        """
        created = sync_acquire(
            self.sessions.create(session_id, if_exists=if_exists, app=app, **fields),
            self._give_up,
        )
        handle = SessionHandle(self._services, created)
        try:
            result = operation(handle)
        except BaseException as error:
            sync_finish(handle.fail_after(error))
            raise
        sync_finish(handle.end_quietly())
        return result

    def _give_up(self, created: Session, why: BaseException) -> None:
        """End a session whose creation was cancelled before its block began."""
        SessionHandle(self._services, created).fail_after(why)

    def attach(
        self,
        session_id: str,
        *,
        replace_ended: bool = False,
        max_idle: inputs.Duration | None = None,
        max_requests: int | None = None,
        app: str | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> SessionHandle:
        """Get or create a session and return it, without ending it: for stateless workers.

        The fields count only when it is created. Arguments and errors are those of
        `sessions.get_or_create`; an ended session is `SessionEndedError`. With `replace_ended`,
        `max_idle` or `max_requests` one that is used up makes way for a new one: see
        `sessions.get_or_replace`.
        """
        if replace_ended or max_idle is not None or max_requests is not None:
            session, _ = self.sessions.get_or_replace(
                session_id, max_idle=max_idle, max_requests=max_requests, app=app, **fields
            )
        else:
            session, _ = self.sessions.get_or_create(session_id, app=app, **fields)
        return SessionHandle(self._services, session)
