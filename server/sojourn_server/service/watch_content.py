"""Content for a watch: as it is when it is delivered, never by what the log points at.

A content id in the log is of its time, and may have been given to other content since.
So sessions are found again by their uid, and messages by their sequence, in one read
that says which revision it is true at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sojourn_server.domain.access import Users
from sojourn_server.domain.commands import View
from sojourn_server.domain.limits import KIB, MIB
from sojourn_server.domain.model import ChangeCause, Session
from sojourn_server.domain.resume import Point
from sojourn_server.domain.watching import Interest, Sight
from sojourn_server.feed.parts import Seen
from sojourn_server.service import reading
from sojourn_server.service.answers import MessageSnapshot, SessionContent, SessionSnapshot
from sojourn_server.service.watch_forms import Forms
from sojourn_server.store.base import LoggedChange, MessageRange, ReadTx, Store

AT_ONCE: Final = 16
"""Of how many changes content is read at once."""
MESSAGE_BYTES: Final = MIB - 4 * KIB
"""What one message holds beside its end; a larger change is one by itself."""
MESSAGES: Final = 1_000
"""How many appended messages one change can tell of."""


class Bound(NamedTuple):
    """One change, ready to be sent."""

    body: bytes
    point: Point


class Told(NamedTuple):
    """One message, but for its end."""

    body: bytes
    point: Point
    whole: bool
    """Whether its last revision ends with it."""


class Contents:
    """Reads content for one watch.

    Args:
        store: Where it is.
        interest: What is asked for.
        users: Whose sessions the caller may read.
        forms: Gives changes their form.
    """

    def __init__(self, store: Store, interest: Interest, users: Users, forms: Forms) -> None:
        self._store = store
        self._interest = interest
        self._users = users
        self._forms = forms

    async def snapshot(self, tx: ReadTx, session: Session) -> SessionSnapshot:
        """A session with the content of now."""
        return await reading.snapshot(tx, session, View.FULL, self._users)

    async def read(self, seen: Sequence[Seen]) -> list[Bound]:
        """Changes with the content of now."""

        async def query(tx: ReadTx) -> list[Bound]:
            return await self.read_in(tx, seen)

        return await self._store.read(query)

    async def read_in(self, tx: ReadTx, seen: Sequence[Seen]) -> list[Bound]:
        """The same within a read that does more."""
        head = await tx.head(self._interest.app)
        bound: list[Bound] = []
        for change, sight in seen:
            body = await self._body(tx, change, sight, head)
            bound.append(Bound(body, Point(change.revision, change.nonce)))
        return bound

    def bind(self, bound: Sequence[Bound], *, ends: bool) -> Iterator[Told]:
        """Messages that hold changes.

        Args:
            bound: The changes.
            ends: Whether the last one's revision ends with it.
        """
        begin = size = 0
        for number, each in enumerate(bound):
            if number > begin and size + len(each.body) > MESSAGE_BYTES:
                last = bound[number - 1].point
                yield _told(bound[begin:number], last.revision != each.point.revision)
                begin, size = number, 0
            size += len(each.body)
        if bound:
            yield _told(bound[begin:], ends)

    async def _body(self, tx: ReadTx, change: LoggedChange, sight: Sight, head: int) -> bytes:
        content: SessionContent | None = None
        messages: Sequence[MessageSnapshot] = ()
        if sight in {Sight.ENTERED, Sight.CHANGED}:
            row = await tx.session_by_uid(self._interest.app, change.uid)
            if row is not None:
                shot = await self.snapshot(tx, row.session)
                content = shot.content
                detail = change.detail
                if change.cause is ChangeCause.MESSAGES_APPENDED:
                    which = MessageRange(
                        after_sequence=detail.first_sequence - 1,
                        before_sequence=detail.last_sequence + 1,
                        limit=MESSAGES,
                    )
                    taken = reading.session_size(shot, View.FULL)
                    messages = await reading.fitting(tx, await tx.messages(row, which), taken)
        return self._forms.content(
            self._interest.app, change, sight, self._interest.previous, content, messages, head
        )


def _told(bound: Sequence[Bound], whole: bool) -> Told:
    return Told(b"".join(each.body for each in bound), bound[-1].point, whole)
