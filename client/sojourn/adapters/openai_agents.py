"""Sessions of the OpenAI Agents SDK (`openai-agents`) in Sojourn.

    from agents import Agent, Runner
    from sojourn.adapters.openai_agents import SojournSession

    session = SojournSession("user-123", "sojourn://localhost:7070", app="support")
    result = await Runner.run(agent, "Where is my order?", session=session)

An item of the SDK is one message: its JSON text is the payload, byte for byte, and its role or type
the message's role. What exceeds a message's 1 MiB becomes several, which are written, read and
removed together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from agents.memory import SessionSettings
from agents.memory import session as sdk
from agents.memory.session_settings import resolve_session_limit

from sojourn._acompat import async_finish
from sojourn._async.client import AsyncClient
from sojourn.adapters import _items as things
from sojourn.adapters._connection import Connection
from sojourn.enums import IfExists, ResetScope
from sojourn.errors import (
    EtagMismatchError,
    SequenceMismatchError,
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
    StagingLostError,
    UidMismatchError,
)
from sojourn.inputs import ClientFields, Duration, NewMessage, Precondition
from sojourn.models import Session

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from agents.memory.session import _CompactionSnapshot

T = TypeVar("T")

_GONE: Final = (SessionNotFoundError, SessionEndedError)
_OVERTAKEN: Final = (
    EtagMismatchError,
    SequenceMismatchError,
    StagingLostError,
    UidMismatchError,
)
ATTEMPTS: Final = 100
"""How often a write that says what it found begins again. Whoever was faster has come further, so
this is how many others may be at it at once."""
_PAUSE: Final = 0.05
"""Up to so many seconds before it begins again, lest the same ones meet again."""
_ROLE_MOST: Final = 64
_NO_ROLE: Final = "item"


class SojournSession:
    """The history of one conversation, as the `Session` protocol of the SDK has it.

    The session comes into being with its first items, also when several workers add the first ones
    at once, and neither expires nor is removed unless told. One that has ended counts as none: it
    reads as empty, and the next items begin a new one in its place. Whatever a call raises is of
    `sojourn.errors`. A write whose caller is cancelled is brought to its end before the
    cancellation goes on.

    Args:
        session_id: Which conversation, up to 256 characters. It authorises nobody: whoever can
            name it, and may write to the app, reads it.
        server: A client, which stays open; or an address, `sojourn://host:port`, with which this
            object makes its own client in each event loop. Where many sessions are served, give
            them one client.
        user: Whose conversation, up to 256 characters. The same id of two users is two sessions.
        session_settings: What the SDK lets a session decide: `limit`, how many of the newest items
            a run reads. A mapping is taken, too.
        labels: Labels for the session when it is created.
        idle_timeout: After how long without a write it expires; None: never.
        max_lifetime: How old it may get; None: as old as it likes.
        client_fields: `app`, the app of the session, if not the client's own; and, with an address,
            the other arguments of `sojourn.connect`.

    Raises:
        ValueError: an id that begins or ends with a blank: it would be that of another session, the
            one without.
        ConfigurationError: arguments that do not fit together.
    """

    session_id: str
    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        server: AsyncClient | str,
        *,
        user: str = "",
        session_settings: SessionSettings | Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        idle_timeout: Duration | None = None,
        max_lifetime: Duration | None = None,
        **client_fields: Unpack[ClientFields],
    ) -> None:
        if session_id != session_id.strip() or user != user.strip():
            raise ValueError("a session id or user must not begin or end with a blank")
        self.session_id = session_id
        if not isinstance(session_settings, SessionSettings):
            session_settings = SessionSettings(**(session_settings or {}))
        self.session_settings = session_settings
        self._user = user
        self._labels = dict(labels or {})
        self._idle_timeout = idle_timeout or 0
        self._max_lifetime = max_lifetime or 0
        self._app = client_fields.pop("app", None)
        self._connection = Connection(server, **client_fields)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client that was made in this event loop; one that was given stays open."""
        await self._connection.close()

    # --- the protocol ----------------------------------------------------------------------------

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the newest items, oldest first; none of a session that is not there.

        Messages that others wrote, and that hold no JSON object, are passed over and do not count.

        Args:
            limit: How many; None: as the settings say, and if they say nothing, all. Zero or less:
                none.
        """
        most = resolve_session_limit(limit, self.session_settings)
        if most is not None and most <= 0:
            return []
        try:
            seen, found = await self._read(None if most is None else int(most))
        except SessionNotFoundError:
            return []
        return [item.value for item in found] if seen.is_active else []

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, all or none, however many and large; no items change nothing.

        Raises:
            TypeError: an item that is no dict of what JSON knows; nothing was written.
        """
        messages = _messages(items)
        if messages:
            await async_finish(self._append(messages))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it, to one caller only; None: there is none.

        Messages behind it that hold no item go with it.
        """
        return await async_finish(_again(self._pop))

    async def clear_session(self) -> None:
        """Remove all items; the session stays, with its id and labels."""
        await async_finish(self._clear())

    # --- how -------------------------------------------------------------------------------------

    async def _read(
        self, limit: int | None, wanted: things.Wanted | None = None
    ) -> tuple[Session, list[things.Item]]:
        """Read the session with its newest items; by default only what is one."""
        return await things.snapshot(
            self._connection.client,
            self.session_id,
            limit,
            user=self._user,
            app=self._app,
            wanted=wanted or _is_item,
        )

    async def _create(self) -> None:
        """Create the session, unless somebody else just did."""
        with suppress(SessionExistsError):
            await self._connection.client.sessions.create(
                self.session_id,
                if_exists=IfExists.REPLACE_ENDED,
                user=self._user,
                app=self._app,
                labels=self._labels,
                idle_timeout=self._idle_timeout,
                max_lifetime=self._max_lifetime,
            )

    async def _append(self, messages: Sequence[NewMessage]) -> None:
        for _ in range(ATTEMPTS):
            with suppress(*_GONE):
                return await self._append_once(messages)
            await self._create()
        return await self._append_once(messages)

    async def _append_once(self, messages: Sequence[NewMessage]) -> None:
        await things.append_many(
            self._connection.client, self.session_id, messages, user=self._user, app=self._app
        )

    async def _pop(self) -> TResponseInputItem | None:
        try:
            seen, found = await self._read(1)
            if not seen.is_active or not found:
                return None
            # The content is here; so what must happen once is the removal. The etag says that this
            # item is still the newest: others pop, too, and no sequence is given twice.
            await self._connection.client.messages.truncate(
                seen, found[0].first_sequence - 1, precondition=Precondition(etag=seen.etag)
            )
        except _GONE:
            return None
        item: TResponseInputItem = found[0].value
        return item

    async def _clear(self) -> None:
        with suppress(*_GONE):
            await self._connection.client.sessions.reset(
                self.session_id, scope=ResetScope.HISTORY, user=self._user, app=self._app
            )

    # --- compaction ------------------------------------------------------------------------------
    # `OpenAIResponsesCompactionSession` and `EncryptedSession` look for these two by name, private
    # as they are. An SDK that does not know them clears and adds instead.

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[TResponseInputItem], bool] | None = None,
    ) -> _CompactionSnapshot | None:
        """Return the newest items, and how to replace the last of them, if nobody wrote since.

        Args:
            limit: How many items.
            prune_prefix: Says of an older item that it has expired. If all that are older than
                what is replaced have, they go with it.

        Returns:
            None where that cannot be: for subclasses, which may store something else than they
            return, and where there is something among the messages that is no item.
        """
        made: type[_CompactionSnapshot] | None = getattr(sdk, "_CompactionSnapshot", None)
        if made is None or type(self) is not SojournSession:
            return None
        found = await self._tail(limit + 1)
        held = found[-limit:]
        if not all(_is_item(item) for item in held):
            return None

        async def replace_suffix(start: int, output: list[TResponseInputItem]) -> bool:
            expected, messages = held[start:], _messages(output)

            async def once() -> bool:
                return await self._replace_suffix(expected, messages, prune_prefix)

            return bool(expected) and await async_finish(_again(once))

        return made([item.value for item in held], len(found) <= limit, replace_suffix)

    async def _tail(self, limit: int) -> list[things.Item]:
        """Read the newest things, items or not; none of a session that is not there."""
        try:
            seen, found = await self._read(limit, wanted=_anything)
        except SessionNotFoundError:
            return []
        return found if seen.is_active else []

    async def _replace_suffix(
        self,
        expected: Sequence[things.Item],
        messages: Sequence[NewMessage],
        prune_prefix: Callable[[TResponseInputItem], bool] | None,
    ) -> bool:
        """Replace these items if they still are the newest; return whether they were."""
        try:
            seen, now = await self._read(len(expected), wanted=_anything)
            if not seen.is_active or _places(now) != _places(expected):
                return False
            keep = expected[0].first_sequence - 1
            if prune_prefix is not None and await self._all_expired(seen, keep, prune_prefix):
                keep = 0
            await self._connection.client.messages.replace(
                seen,
                messages,
                keep_through_sequence=keep,
                precondition=Precondition(etag=seen.etag),
            )
        except _GONE:
            return False
        return True

    async def _all_expired(
        self, seen: Session, last: int, expired: Callable[[TResponseInputItem], bool]
    ) -> bool:
        """Return whether all items up to this sequence have expired."""
        other = await things.newest(
            self._connection.client,
            seen,
            1,
            before_sequence=last + 1,
            wanted=lambda item: not _is_item(item) or not expired(item.value),
        )
        return not other

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        """Replace all items at once, whatever they are now; return whether that can be done."""
        if type(self) is not SojournSession:
            return False
        messages = _messages(items)

        async def once() -> None:
            try:
                await self._replace_all(messages)
            except _GONE:
                if messages:
                    await self._create()
                    await self._replace_all(messages)

        await async_finish(_again(once))
        return True

    async def _replace_all(self, messages: Sequence[NewMessage]) -> None:
        await self._connection.client.messages.replace(
            self.session_id, messages, user=self._user, app=self._app
        )


def _messages(items: Sequence[TResponseInputItem]) -> list[NewMessage]:
    """Return the messages that hold items.

    Raises:
        TypeError: an item that is no dict of what JSON knows.
    """
    messages: list[NewMessage] = []
    for item in items:
        if not isinstance(item, dict):
            raise TypeError(f"an item must be a dict, not {type(item).__name__}")
        messages += things.to_messages(things.dump(item), role=_role(item))
    return messages


def _role(item: Mapping[str, Any]) -> str:
    """Return who speaks, for whoever looks at the session from elsewhere: the role, or the type."""
    for word in (item.get("role"), item.get("type")):
        if isinstance(word, str) and word and word.isprintable() and word == word.strip():
            return word[:_ROLE_MOST].rstrip()
    return _NO_ROLE


def _is_item(item: things.Item) -> bool:
    """Return whether it is one of the SDK's: a JSON object."""
    try:
        return isinstance(item.value, dict)
    except ValueError:
        return False


def _anything(_: things.Item) -> bool:
    return True


def _places(items: Sequence[things.Item]) -> list[tuple[str, int]]:
    """Return what tells items from all others that ever were."""
    return [(item.message_id, item.last_sequence) for item in items]


async def _again(work: Callable[[], Awaitable[T]]) -> T:
    """Do work that says what it found, and do it again when others were faster."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await work()
        except _OVERTAKEN:
            await asyncio.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - only to part them
    return await work()
