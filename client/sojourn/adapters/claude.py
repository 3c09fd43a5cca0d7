"""Transcripts of the Claude Agent SDK in Sojourn: its `SessionStore`.

    store = SojournSessionStore("localhost:7070", app="coder")
    options = ClaudeAgentOptions(session_store=store, resume=session_id)

A transcript is a session: the `project_key` is its user, the SDK's `session_id` its id. The
transcript of a sub-agent (a key with a `subpath`) is a child of the main one. Each entry is a
message (see `_claude_entries`), each append one unit.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Self, TypeVar, cast

import anyio
from claude_agent_sdk import (
    SessionKey,
    SessionListSubkeysKey,
    SessionStore,
    SessionStoreEntry,
    SessionStoreListEntry,
    SessionSummaryEntry,
)

from sojourn import models
from sojourn._acompat import async_finish
from sojourn._async.client import AsyncClient
from sojourn.adapters import _claude_entries as entries_of
from sojourn.adapters import _claude_summary as summaries
from sojourn.adapters import _items as items
from sojourn.adapters._claude_entries import Batch, Names
from sojourn.adapters._connection import Connection
from sojourn.enums import View
from sojourn.errors import (
    GenerationChangedError,
    MessageExistsError,
    MessageNotFoundError,
    ParentEndedError,
    SequenceMismatchError,
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
    UidMismatchError,
)
from sojourn.inputs import Duration, Precondition, SessionFilter
from sojourn.models import Session

T = TypeVar("T")

ATTEMPTS: Final = 100
"""How often an append begins again: whoever is overtaken was overtaken by one that got through."""
PROBES: Final = 16
"""How many messages are looked for at once."""
PAGE: Final = 1_000

_OVERTAKEN: Final = (
    GenerationChangedError,
    ParentEndedError,
    SequenceMismatchError,
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
    UidMismatchError,
)


class SojournSessionStore(SessionStore):
    """Keeps the transcripts of the Claude Agent SDK, for any number of processes at once.

    A transcript whose session has ended, by a timeout or an operator, is not there any more: it
    is neither loaded nor listed, and an append begins a new one. `mtime` is the server's clock at
    the session's last change, in milliseconds since 1970.

    Raises `SojournError`s where a call cannot be done; the SDK says so in a `MirrorErrorMessage`
    or, at resume, in a `RuntimeError`.

    Args:
        server: A client; or an address, `host:port` or `sojourn://host:port`, with credentials
            from the environment.
        app: The app that holds the transcripts and nothing else; None: the client's own.
        labels: Labels of new sessions, sub-agents' too.
        idle_timeout: How long a transcript may be left alone before it expires; zero: for ever.
            What a sub-agent writes keeps its main transcript alive, too.
        max_lifetime: How old a transcript may get; zero: no limit.
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

    async def close(self) -> None:
        """Close the client that was made in this event loop; one that was given stays open."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def names(self, key: SessionKey) -> models.SessionKey:
        """Return which session a transcript is, to label, watch or end it by other means."""
        names = Names.of(key)
        app = self._app or self._connection.client.app
        return models.SessionKey(app, names.user, names.child or names.main)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Add entries to a transcript, all or none, however many and however large.

        An entry whose `uuid` the transcript holds already is passed over, whatever else it says.
        The session is created at its first entry. A call that is cancelled waits for the outcome
        of what it has sent.
        """
        batch = Batch.of(entries)
        for attempt in itertools.count(1):
            if not batch.entries:
                return
            try:
                batch = await self._append(key, batch)
            except _OVERTAKEN:
                if attempt >= ATTEMPTS:
                    raise

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries of a transcript in their order; None where there are none."""
        for attempt in itertools.count(1):
            session = await self._find(key)
            if session is None:
                return None
            try:
                return await self._read(session)
            except (GenerationChangedError, SessionNotFoundError, UidMismatchError):
                if attempt >= ATTEMPTS:
                    raise
        raise AssertionError("the loop above ends by itself")

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the main transcripts of a project and when each last changed."""
        found = [one for one in await self._mains(project_key, View.BASIC) if one.message_count]
        exact = await self._exact_ids(found)
        return [{"session_id": exact[one.uid], "mtime": _mtime(one)} for one in found]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return what the SDK's own fold says of the main transcripts of a project.

        One is left out while its summary does not cover its newest entry, which a process that
        died in the midst of a very large append leaves so until the next append: the SDK loads
        such a transcript instead.
        """
        found: list[SessionSummaryEntry] = []
        for one in await self._mains(project_key, View.FULL):
            summary = summaries.of(one)
            if one.message_count and summary is not None and summary.data is not None:
                name = entries_of.exact_session_id(one)
                found.append({"session_id": name, "mtime": _mtime(one), "data": summary.data})
        return found

    async def delete(self, key: SessionKey) -> None:
        """Remove a transcript with all it held: a main one with those of its sub-agents."""
        names = Names.of(key)
        try:
            await _finish(
                self._client.sessions.delete(
                    names.child or names.main, user=names.user, app=self._app, force=True
                )
            )
        except SessionNotFoundError:
            return

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths that were written under a main transcript, the oldest first."""
        names = Names.of(cast(SessionKey, key))
        main, _ = await self._both(names)
        if main is None or not main.is_active:
            return []
        children = self._client.sessions.list(
            app=self._app, parent=main, view=View.FULL, page_size=PAGE
        )
        return [entries_of.exact_subpath(child) async for child in children if child.message_count]

    @property
    def _client(self) -> AsyncClient:
        return self._connection.client

    # --- which session -----------------------------------------------------------------------

    async def _both(self, names: Names) -> tuple[Session | None, Session | None]:
        """The sessions of the main transcript and of the sub-agent's, as they are stored."""
        wanted = [name for name in (names.main, names.child) if name]
        answer = await self._client.sessions.get_many(wanted, user=names.user, app=self._app)
        found = {one.session_id: one for one in answer.sessions}
        return found.get(names.main), found.get(names.child)

    async def _find(self, key: SessionKey) -> Session | None:
        """The session of a transcript that can be read; None where nothing was written."""
        names = Names.of(key)
        main, child = await self._both(names)
        found = child if names.child else main
        if main is None or not main.is_active or found is None or not found.is_active:
            return None
        if found is not main and found.parent_uid != main.uid:
            return None  # Of a main transcript that had the same name before.
        return found if found.message_count else None

    async def _open(self, key: SessionKey) -> Session:
        """The session that an append goes to, created where it is not there or has ended.

        Of a main transcript it is read in the view FULL, with the summary.
        """
        names = Names.of(key)
        if not names.child:
            return await self._open_main(key, names)
        main, child = await self._both(names)
        if main is None or not main.is_active:
            main = await self._open_main(key, names)
        elif main.idle_timeout:
            await self._client.sessions.touch(main.ref)
        if child is not None and child.is_active and child.parent_uid == main.uid:
            return child
        if child is not None:
            await self._remove(child)
        return await self._create(names.child, names, entries_of.described(key), parent=main.uid)

    async def _open_main(self, key: SessionKey, names: Names) -> Session:
        try:
            found = await self._client.sessions.get(names.main, user=names.user, app=self._app)
        except SessionNotFoundError:
            pass
        else:
            if found.is_active:
                return found
            await self._remove(found)
        described = entries_of.described({**key, "subpath": ""})
        return await self._create(names.main, names, described)

    async def _create(
        self, name: str, names: Names, metadata: Mapping[str, Any], parent: str = ""
    ) -> Session:
        """Make a session: it counts as not there until it has its first entry."""
        return await _finish(
            self._client.sessions.create(
                name,
                user=names.user,
                app=self._app,
                parent=parent,
                labels=self._labels,
                metadata=metadata,
                idle_timeout=self._idle_timeout,
                max_lifetime=self._max_lifetime,
            )
        )

    async def _remove(self, ended: Session) -> None:
        """Remove a transcript that is over, and its sub-agents': nothing of it is shown again."""
        await _finish(self._client.sessions.delete(ended.ref, force=True))

    async def _mains(self, project_key: str, view: View) -> list[Session]:
        # By creation: in that order none is missed or told twice while others write.
        pager = self._client.sessions.list(
            app=self._app,
            user=entries_of.user_of(project_key),
            filter=SessionFilter(has_parent=False),
            view=view,
            page_size=PAGE,
        )
        return await pager.to_list()

    async def _exact_ids(self, sessions: Sequence[Session]) -> dict[str, str]:
        """The SDK's ids by uid: only where they could not be taken as they are, read them."""
        exact = {one.uid: one.session_id for one in sessions}
        changed = [one.ref for one in sessions if entries_of.is_shortened(one.session_id)]
        if changed:
            answer = await self._client.sessions.get_many(changed, view=View.FULL, app=self._app)
            exact |= {one.uid: entries_of.exact_session_id(one) for one in answer.sessions}
        return exact

    # --- entries ------------------------------------------------------------------------------

    async def _read(self, session: Session) -> list[SessionStoreEntry]:
        found = await items.newest(self._client, session.ref)
        return entries_of.entries(found)

    async def _append(self, key: SessionKey, batch: Batch) -> Batch:
        """Append a batch; return what of it is left to do, once what was known is left out."""
        session = await self._open(key)
        try:
            await self._write(key, session, batch)
        except MessageExistsError:
            left = await self._unknown(session, batch)
            if len(left.entries) == len(batch.entries):
                raise
            return left
        return Batch(())

    async def _write(self, key: SessionKey, session: Session, batch: Batch) -> None:
        """Append to a session as it was read; whoever was faster makes it begin again."""
        if session.parent_uid:
            await _finish(
                items.append_many(
                    self._client,
                    session.ref,
                    batch.messages,
                    generation=session.generation,
                )
            )
            return
        before = await self._folded(key, session)
        held = Precondition(generation=session.generation, last_sequence=session.last_sequence)
        through = session.last_sequence + len(batch.messages)
        after = summaries.fold(key, before, batch.values)
        if items.fits(batch.messages):
            written = await _finish(
                self._client.messages.append(
                    session.ref,
                    batch.messages,
                    state=summaries.patch(after, session.generation, through),
                    precondition=held,
                )
            )
            fresh = batch.later_than(session.last_sequence, written.sequences)
            if len(fresh) == len(batch.entries):
                return
            # Some were known: the summary that was written counts them twice, and says that it
            # covers more than there is, which no reader takes for true.
            through = written.session.last_sequence
            after = summaries.fold(key, before, fresh)
        else:
            await _finish(
                self._client.messages.replace(
                    session.ref,
                    batch.messages,
                    keep_through_sequence=session.last_sequence,
                    precondition=held,
                )
            )
        await self._summarize(session, after, through)

    async def _folded(self, key: SessionKey, session: Session) -> summaries.Data | None:
        """The summary of all that a session holds: the stored one, if it covers it."""
        if session.last_sequence == 0:
            return {}
        summary = summaries.of(session)
        if summary is not None:
            return summary.data
        return summaries.fold(key, {}, await self._read(session))

    async def _summarize(self, session: Session, data: summaries.Data | None, through: int) -> None:
        """Write a summary by itself; whoever appends meanwhile makes a better one."""
        try:
            await _finish(
                self._client.sessions.update(
                    session.ref,
                    state=summaries.patch(data, session.generation, through),
                    precondition=Precondition(generation=session.generation, last_sequence=through),
                )
            )
        except _OVERTAKEN:
            return

    async def _unknown(self, session: Session, batch: Batch) -> Batch:
        """The batch without the entries that the session holds."""
        limit = asyncio.Semaphore(PROBES)

        async def is_known(message_id: str) -> bool:
            async with limit:
                try:
                    await self._client.messages.get(session.ref, message_id)
                except MessageNotFoundError:
                    return False
                return True

        known = await asyncio.gather(*(is_known(one.first_id) for one in batch.entries))
        pairs = zip(batch.entries, known, strict=True)
        return Batch(tuple(one for one, is_there in pairs if not is_there))


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Do a write to its end, also when the SDK gives up waiting for it.

    The SDK cancels by a scope of anyio, which would go on cancelling at each turn of the loop.
    """
    with anyio.CancelScope(shield=True):
        done = await async_finish(work)
    return done  # noqa: RET504 - inside, a scope might swallow an exception, says its type


def _mtime(session: Session) -> int:
    """When a session last changed, in milliseconds since 1970."""
    return (session.update_time - models.EPOCH) // timedelta(milliseconds=1)
