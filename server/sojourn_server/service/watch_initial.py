"""Initial state: all sessions page by page, while others write, true at one revision.

The cursor goes through the sessions in the order of their creation. Each step is one
short read: first the changes since the step before, but only of sessions that the cursor
has passed; and once these have come to the head of the log, the next page as it is at
that head. So what was sent is at every step the truth about all sessions passed, at one
revision; when the cursor is through, that revision ends the initial state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sojourn_server.domain import filter as filters
from sojourn_server.domain.limits import KIB
from sojourn_server.domain.model import Session
from sojourn_server.domain.resume import Point
from sojourn_server.domain.watching import Interest, Lens, Sight
from sojourn_server.feed.log import look_in
from sojourn_server.feed.parts import PART_BYTES, Press, Seen, see
from sojourn_server.service.answers import SessionSnapshot
from sojourn_server.service.watch_content import Contents
from sojourn_server.service.watch_forms import Forms
from sojourn_server.store.base import Candidates, Position, ReadTx, Store

PAGE: Final = 250
"""How many sessions are looked at in one read."""
PAGE_BYTES: Final = 512 * KIB
"""A page with content ends at this size."""
CHANGES: Final = 256
"""How many changes are read at once."""


class Step(NamedTuple):
    """What one read has found."""

    messages: list[bytes]
    point: Point
    """What was sent up to here is true here."""
    cursor: Position | None
    """The last session that was passed."""
    done: bool
    """Whether all were passed."""
    feed_id: str


class Initial:
    """Sends the initial state of one watch.

    Args:
        store: Where it is.
        interest: What is asked for.
        lens: Sees it.
        forms: Gives messages their form.
        contents: Reads content; None: it is not asked for.
    """

    def __init__(
        self, store: Store, interest: Interest, lens: Lens, forms: Forms, contents: Contents | None
    ) -> None:
        self._store = store
        self._interest = interest
        self._lens = lens
        self._forms = forms
        self._contents = contents
        self._last: Step | None = None

    async def step(self) -> Step:
        """The next messages. They say nothing of where to resume.

        Raises:
            Refusal: The log does not go on: it was compacted in between, or is another one.
            StoreDown: It cannot be read.
        """
        self._last = await self._store.read(self._read)
        return self._last

    async def _read(self, tx: ReadTx) -> Step:
        """A read may be carried out more than once, so it changes nothing here."""
        app, last = self._interest.app, self._last
        head = await tx.head(app)
        found = await tx.app(app)
        messages: list[bytes] = []
        if last is None:
            nonce = await tx.nonce(app, head) if head else 0
            point, cursor = Point(head, nonce or 0), None
        else:
            log = await look_in(tx, app, last.point, CHANGES)
            messages = await self._tell(tx, see(self._lens, log.changes), last.cursor)
            point, cursor = log.end, last.cursor
        done = False
        if point.revision == head:
            bodies, cursor, done = await self._page(tx, cursor)
            messages += _joined(bodies)
        return Step(messages, point, cursor, done, found.feed_id if found else "")

    async def _page(
        self, tx: ReadTx, cursor: Position | None
    ) -> tuple[list[bytes], Position | None, bool]:
        """The next sessions, as they are at the head."""
        rows = await tx.candidates(self._candidates(cursor))
        bodies: list[bytes] = []
        size = 0
        for row in rows:
            if self._lens.shows(row.session):
                body = await self._body(tx, row.session)
                if bodies and size + len(body) > PAGE_BYTES:
                    return bodies, cursor, False
                bodies.append(body)
                size += len(body)
            cursor = Position(row.create_order, row.create_order)
        return bodies, cursor, len(rows) < PAGE

    async def _body(self, tx: ReadTx, session: Session) -> bytes:
        if self._contents is None:
            return self._forms.initial(SessionSnapshot(session=session), tx.now)
        return self._forms.initial(await self._contents.snapshot(tx, session), tx.now)

    async def _tell(self, tx: ReadTx, seen: Sequence[Seen], cursor: Position | None) -> list[bytes]:
        """Changes of what the cursor has passed."""
        kept = [each for each in seen if await self._passed(tx, each, cursor)]
        if self._contents is not None:
            bound = await self._contents.read_in(tx, kept)
            return [told.body for told in self._contents.bind(bound, ends=True)]
        return [part.body for part in Press(self._forms).bind(kept, self._interest)]

    async def _passed(self, tx: ReadTx, each: Seen, cursor: Position | None) -> bool:
        change, sight = each
        if sight is Sight.APP:
            return True
        row = await tx.session_by_uid(self._interest.app, change.uid)
        if row is None:
            # It is gone, and nobody knows whether the cursor had passed it. That it has
            # left may be said of one that was never told of.
            return sight is Sight.LEFT
        return cursor is not None and row.create_order <= cursor.create_order

    def _candidates(self, cursor: Position | None) -> Candidates:
        interest = self._interest
        return Candidates(
            app=interest.app,
            user=interest.user,
            status=filters.status_hint(interest.filter),
            label=filters.label_hint(interest.filter),
            parent_uid=interest.parent_uid or interest.filter.parent_uid or None,
            after=cursor,
            limit=PAGE,
        )


def _joined(bodies: Sequence[bytes]) -> list[bytes]:
    """Messages of at most `PART_BYTES`, or of one session."""
    messages: list[bytes] = []
    some: list[bytes] = []
    size = 0
    for body in bodies:
        if some and size + len(body) > PART_BYTES:
            messages.append(b"".join(some))
            some, size = [], 0
        some.append(body)
        size += len(body)
    return [*messages, b"".join(some)] if some else messages
