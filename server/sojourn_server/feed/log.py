"""Looking at a log: what came after a place, and whether that place is still in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import AppStatus
from sojourn_server.domain.resume import Point, compacted, feed_changed
from sojourn_server.store.base import LoggedChange, ReadTx, Store


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at a log has shown, all of one state."""

    feed_id: str
    """Empty: the app is not there yet."""
    deleted: bool
    """Whether the app is: its log has come to its end."""
    head: int
    """The newest revision."""
    changes: Sequence[LoggedChange]
    """What came after, whole revisions."""
    end: Point
    """The place after these changes."""


async def look(store: Store, app: str, after: Point, limit: int) -> Look:
    """Read on from a place.

    Args:
        store: Where the log is.
        app: Whose log.
        after: The place; what is at it was read before.
        limit: About how many changes to read.

    Raises:
        Refusal: `REVISION_COMPACTED` or `FEED_CHANGED`: the log does not go on from there.
        StoreDown: It cannot be read.
    """
    return await store.read(partial(look_in, app=app, after=after, limit=limit))


async def look_at_end(store: Store, app: str) -> Look:
    """Look at the end of a log."""

    async def query(tx: ReadTx) -> Look:
        head = await tx.head(app)
        nonce = await tx.nonce(app, head) if head else 0
        found = await tx.app(app)
        return Look(
            feed_id=found.feed_id if found else "",
            deleted=found is not None and found.status is AppStatus.DELETED,
            head=head,
            changes=(),
            end=Point(head, nonce or 0),
        )

    return await store.read(query)


async def look_in(tx: ReadTx, app: str, after: Point, limit: int) -> Look:
    """The same within a read that does more.

    Raises:
        Refusal: `REVISION_COMPACTED` or `FEED_CHANGED`.
    """
    found = await tx.app(app)
    feed_id = found.feed_id if found else ""
    head = await tx.head(app)
    if after.revision:
        nonce = await tx.nonce(app, after.revision)
        # None: it is compacted, which does not matter while the next one is not.
        if head < after.revision or (nonce is not None and nonce != after.nonce):
            raise feed_changed(feed_id)
    changes: Sequence[LoggedChange] = ()
    if head > after.revision:
        changes = await tx.changes(app, after.revision, limit)
        if changes[0].revision != after.revision + 1:
            raise compacted(await tx.oldest(app))
    return Look(
        feed_id=feed_id,
        deleted=found is not None and found.status is AppStatus.DELETED,
        head=head,
        changes=changes,
        end=Point(changes[-1].revision, changes[-1].nonce) if changes else after,
    )


def app_gone(app: str) -> Refusal:
    """The refusal to follow an app that was deleted."""
    return Refusal(Reason.APP_NOT_FOUND, "the app was deleted", {"app": app})
