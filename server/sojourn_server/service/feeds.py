"""New feeds: what an operator orders once a store has gone back in time.

A feed_id names one history of an app's log. A store that was restored, or that a
failover took commits from, counts the same revisions again for other changes; with a new
feed_id nobody who followed the log before takes the one history for the other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.model import AppStatus, Change, ChangeCause
from sojourn_server.store.base import Priority, Store, Tx

ACTOR: Final = "new-feeds"
"""Who the log names."""
PAGE: Final = 500
"""How many apps are looked up at once."""


async def renew(store: Store) -> int:
    """Give every app a new feed_id, each in a unit of its own.

    Args:
        store: Opened. Servers may write to it meanwhile, if it bears several.

    Returns:
        How many apps have one.

    Raises:
        StoreFull, StoreDown: It failed; some may have one and others not. To begin anew
            is safe.
    """
    count, after = 0, ""
    while names := await store.apps(after, PAGE):
        for name in names:
            await _renew(store, name)
        count, after = count + len(names), names[-1]
    return count


async def _renew(store: Store, name: str) -> None:
    async def unit(tx: Tx) -> None:
        app = await tx.app(name)
        assert app is not None, "apps are never removed"
        await tx.put_app(msgspec.structs.replace(app, feed_id=uuid7(tx.now)))
        if app.status is not AppStatus.DELETED:  # its last change is that it was deleted
            await tx.log(Change(cause=ChangeCause.APP_UPDATED))

    await store.apply(name, ACTOR, unit, Priority.JOB)
