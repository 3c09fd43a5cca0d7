"""The life of LangGraph's threads beside their checkpointer: labels, expiry, turns, erasure.

    threads = Threads("localhost:7070", app="support", idle_timeout=timedelta(days=30))

    async with threads.run("chat-1", user="ann") as config:
        await graph.ainvoke({"messages": [("user", "Hi!")]}, config)

The checkpoints stay where they are, in the checkpointer of your choice. Each thread has a session
in Sojourn beside it, which expires, is labelled, listed, watched, reset, deleted and erased as any
other; and a `ThreadCleaner`, in a process of its own, deletes the checkpoints of what is over:

    await ThreadCleaner(threads, saver).run()

**The saver's thread id is made of the session's uid**, which never comes again, and not of the
thread's own id. So the same thread id of two users is two threads; a thread that is begun anew
after it expired has no checkpoints of the old one, whether the cleaner has come by then or not;
and what the cleaner deletes late is never a thread that is in use. `threads.config` and
`threads.run` give the config with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self, TypeAlias, Unpack

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver

from sojourn import inputs, results
from sojourn._acompat import async_finish
from sojourn._async.client import AsyncClient
from sojourn._async.handles import AsyncSessionHandle
from sojourn._async.live_turn import AsyncTurnHandle
from sojourn._async.pager import AsyncPager
from sojourn.adapters._connection import Connection
from sojourn.adapters._langgraph_cleaner import ThreadCleaner
from sojourn.adapters._langgraph_names import Rules
from sojourn.adapters._langgraph_positions import (
    FilePosition,
    HeldPosition,
    PositionStore,
    SojournPosition,
)
from sojourn.adapters._langgraph_savers import Saver, SaverError, ThreadIds
from sojourn.enums import Status, View
from sojourn.errors import (
    ConfigurationError,
    SessionEndedError,
    SessionNotFoundError,
    UidMismatchError,
)
from sojourn.models import Session

__all__ = [
    "FilePosition",
    "HeldPosition",
    "PositionStore",
    "SaverError",
    "SojournPosition",
    "ThreadCleaner",
    "ThreadIds",
    "Threads",
]

ATTEMPTS = 5
"""How often a run begins anew when its session ends before its turn begins."""
Listed: TypeAlias = AsyncPager[Session]
"""What `Threads.list` gives."""
OVER = (SessionEndedError, SessionNotFoundError, UidMismatchError)


class Threads:
    """The threads of one app: opens them, runs graphs on them, ends, resets and erases them.

    A thread that has ended is gone: opening it begins it anew, without checkpoints. Everything
    that can be done to a session from elsewhere, by `sojourn sessions`, a policy or another
    language, counts for its thread, too.

    Args:
        server: A client, or an address; see `Connection`.
        labels: Labels of every thread that is made.
        idle_timeout: How long a thread may be idle; zero: for ever. It is not idle during a run.
        max_lifetime: How old it may get; zero: no limit.
        clear_on: Threads of these statuses lose their checkpoints. Others keep them until they are
            deleted, as by the app's retention of ended sessions.
        clear_on_reset: Whether a reset, whatever its scope, is a new beginning for the checkpoints,
            too. Choose once: it changes the saver's thread ids.
        prefix: How the saver's thread ids begin; it must be this app's alone in that saver. None:
            `sojourn:<app>:`.
        saver: The checkpointer. Where it is given, a run that was overtaken by a delete or a reset
            takes away itself what it stored afterwards; else the next sweep does.
        fields: `app`, which may be left out where the client has one; and, where `server` is an
            address, the others of `sojourn.connect`.

    Raises:
        ConfigurationError: no app.
    """

    def __init__(
        self,
        server: AsyncClient | str,
        *,
        labels: Mapping[str, str] | None = None,
        idle_timeout: inputs.Duration = 0,
        max_lifetime: inputs.Duration = 0,
        clear_on: Iterable[Status] = (Status.EXPIRED,),
        clear_on_reset: bool = True,
        prefix: str | None = None,
        saver: BaseCheckpointSaver[Any] | None = None,
        **fields: Unpack[inputs.ClientFields],
    ) -> None:
        app = fields.pop("app", "") or ("" if isinstance(server, str) else server.app)
        if not app:
            raise ConfigurationError("threads are of one app: name it")
        self.connection = Connection(server, **fields)
        """How it comes to its client."""
        self.rules = Rules(
            app=app,
            prefix=f"sojourn:{app}:" if prefix is None else prefix,
            clear_on=frozenset(map(Status, clear_on)),
            clear_on_reset=clear_on_reset,
        )
        """How the saver's threads are named, and when they are over."""
        self._labels = labels or {}
        self._idle_timeout = idle_timeout
        self._max_lifetime = max_lifetime
        self._saver = None if saver is None else Saver(saver)

    @property
    def app(self) -> str:
        """The app."""
        return self.rules.app

    async def close(self) -> None:
        """Close the client that was made in this event loop; one that was given stays open."""
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- runs ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def run(
        self,
        thread_id: str,
        *,
        config: RunnableConfig | None = None,
        turn: inputs.TurnFields | None = None,
        **fields: Unpack[inputs.SessionFields],
    ) -> AsyncIterator[RunnableConfig]:
        """Open a thread and run a graph on it: the block is a turn of its session.

            async with threads.run("chat-1", user="ann") as config:
                await graph.ainvoke(input, config)

        So a thread does not expire while it runs, and two runs do not write into each other: the
        second one is refused, or waits if `turn` says so. The turn counts as a request, with its
        time; an exception makes it an error and is raised again.

        Args:
            thread_id: The thread.
            config: What else the graph is to be told; its thread id is replaced.
            turn: How the turn begins: holder, lease, on_conflict, wait_timeout.
            fields: Whose it is, and what it is made with; see `open`.

        Raises:
            TurnConflictError: another run is on this thread.
            TurnSupersededError: when the block is left: the thread was deleted or reset, or
                another run took over, while this one ran.
            Others: as `open`.
        """
        begun: AsyncTurnHandle | None = None
        try:
            async with AsyncExitStack() as stack:
                begun = await self._begin(stack, thread_id, fields, turn or {})
                yield self.config_of(begun.session.info, config)
        finally:
            if begun is not None and not begun.over and self._saver is not None:
                await async_finish(self._take_back(self._saver, begun.session.info))

    async def _begin(
        self,
        stack: AsyncExitStack,
        thread_id: str,
        fields: inputs.SessionFields,
        turn: inputs.TurnFields,
    ) -> AsyncTurnHandle:
        for left in reversed(range(ATTEMPTS)):
            handle = await self._attach(thread_id, fields)
            try:
                return await stack.enter_async_context(handle.turn(**turn))
            except OVER:
                if not left:
                    raise
        raise AssertionError("the last attempt raises")

    async def _take_back(self, saver: Saver, ran: Session) -> None:
        """Delete what a run stored after its thread was over."""
        client = self.connection.client
        now: Session | None = None
        with suppress(SessionNotFoundError):
            now = await client.sessions.get(uid=ran.uid, view=View.BASIC, app=self.app)
        stretch = self.rules.stretch(ran)
        if self.rules.is_over(stretch, now):
            await saver.delete(self.rules.thread_id(stretch))

    # --- threads ---------------------------------------------------------------------------------

    async def open(self, thread_id: str, **fields: Unpack[inputs.SessionFields]) -> Session:
        """Return a thread's session; begin it if it is not there, or has ended.

        `user` is whose it is. The other fields count only when it is begun: labels are added to
        those of all threads, `idle_timeout` and `max_lifetime` take the place of theirs; None is
        the policy's default. Raises as `sessions.create`.
        """
        return (await self._attach(thread_id, fields)).info

    async def _attach(self, thread_id: str, fields: inputs.SessionFields) -> AsyncSessionHandle:
        wanted = inputs.SessionFields(
            idle_timeout=self._idle_timeout, max_lifetime=self._max_lifetime
        )
        wanted |= fields
        wanted["labels"] = {**self._labels, **fields.get("labels", {})}
        return await self.connection.client.attach(
            thread_id, replace_ended=True, app=self.app, **wanted
        )

    async def get(self, thread_id: str, *, user: str = "") -> Session:
        """Read a thread's session, ended ones too.

        Raises:
            SessionNotFoundError: there is none.
        """
        return await self.connection.client.sessions.get(
            thread_id, user=user, view=View.BASIC, app=self.app
        )

    async def config(
        self, thread_id: str, *, user: str = "", config: RunnableConfig | None = None
    ) -> RunnableConfig:
        """Return the config of a thread, to read its state or to run it without a turn.

        Raises:
            SessionNotFoundError: there is no such thread.
        """
        return self.config_of(await self.get(thread_id, user=user), config)

    def config_of(self, session: Session, config: RunnableConfig | None = None) -> RunnableConfig:
        """Return the config of the thread whose session this is, added to another one.

        Nothing is asked of the server: so programs without an event loop use `sojourn.Client` for
        the session and its turn, and this for the config.
        """
        thread_id = self.rules.thread_id(self.rules.stretch(session))
        return merge_configs(config, RunnableConfig(configurable={"thread_id": thread_id}))

    def list(self, *, view: View = View.BASIC, **fields: Unpack[inputs.ListFields]) -> Listed:
        """List the threads' sessions, by labels, user, status and others; see `sessions.list`."""
        fields["app"] = self.app
        return self.connection.client.sessions.list(view=view, **fields)

    # --- their end -------------------------------------------------------------------------------

    async def touch(self, thread_id: str, *, user: str = "") -> Session:
        """Renew the idle deadline; a run does so by itself. Raises as `sessions.touch`."""
        return await self.connection.client.sessions.touch(thread_id, user=user, app=self.app)

    async def end(
        self,
        thread_id: str,
        *,
        user: str = "",
        status: Status = Status.COMPLETED,
        reason: str = "",
    ) -> results.EndResult:
        """End a thread; its checkpoints stay, unless its status is one that clears them.

        Raises as `sessions.end`.
        """
        return await self.connection.client.sessions.end(
            thread_id, user=user, status=status, reason=reason, app=self.app
        )

    async def reset(
        self, thread_id: str, *, user: str = "", reason: str = ""
    ) -> results.ResetResult:
        """Let a thread begin anew with the same session: labels, expiry and id stay.

        Raises as `sessions.reset`.
        """
        return await self.connection.client.sessions.reset(
            thread_id, user=user, reason=reason, app=self.app
        )

    async def delete(
        self, thread_id: str, *, user: str = "", force: bool = False
    ) -> results.DeleteResult:
        """Delete a thread, and with `force` the sessions below it. Raises as `sessions.delete`."""
        return await self.connection.client.sessions.delete(
            thread_id, user=user, force=force, app=self.app
        )

    async def erase(self, user: str) -> results.EraseResult:
        """Erase a user: all sessions with all they hold. Raises as `users.erase`.

        The receipt is Sojourn's own; the checkpoints go when the cleaner hears of it.
        """
        return await self.connection.client.users.erase(user, app=self.app)
