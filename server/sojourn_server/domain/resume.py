"""Resume tokens: where a watch goes on, and whether it may.

A token is held, in this order, to its version, its feed, its MAC, and its scope and
filter. What needs the log comes later: the revision's nonce, and the log's beginning.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.tokens import ResumePoint, Sealer, digest
from sojourn_server.domain.watching import Interest

_CHECK: Final = 4


class Point(NamedTuple):
    """A place in a log: everything up to a revision, the revision included."""

    revision: int
    nonce: int
    """Of that revision: after a failover that lost it, its number is given again."""


def scope_hash(app: str, user: str | None, parent_uid: str, which: SessionFilter) -> bytes:
    """What a token is bound to."""
    return digest(msgspec.msgpack.encode((app, user, parent_uid, which)))


def scope_of(interest: Interest) -> bytes:
    """What the tokens of a watch are bound to."""
    return scope_hash(interest.app, interest.user, interest.parent_uid, interest.filter)


def seal(sealer: Sealer, feed_id: str, point: Point, scope: bytes) -> str:
    """The token of a place.

    Args:
        sealer: Makes it.
        feed_id: The feed's; empty for an app that has none yet.
        point: The place.
        scope: See `scope_hash`.
    """
    check = _check(feed_id, point.revision, point.nonce, scope)
    return sealer.seal(ResumePoint(feed_id, point.revision, point.nonce, scope, check))


def accept(sealer: Sealer, token: str, feed_id: str, scope: bytes) -> Point:
    """The place of a token.

    Args:
        sealer: Has the keys.
        token: What a caller brings.
        feed_id: The feed's; empty for an app that has none yet.
        scope: Of what the caller asks for.

    Raises:
        Refusal: `RESUME_TOKEN_INVALID`: it was damaged, or is of another scope or filter.
            `FEED_CHANGED`: it is of this scope, and of another feed or another store.
    """
    point = sealer.peek(token, ResumePoint)
    if point.check != _check(point.feed_id, point.revision, point.nonce, point.scope):
        raise _invalid()
    # A token from before the app was there is of whatever feed it has got.
    of_no_feed = not point.feed_id and point.revision == 0
    if point.feed_id != feed_id and not of_no_feed:
        # Of another app, and so of another scope: that is none of this caller's business.
        raise feed_changed(feed_id) if point.scope == scope else _invalid()
    sealer.open(token, ResumePoint)
    if point.scope != scope:
        raise _invalid()
    return Point(point.revision, point.nonce)


def feed_changed(feed_id: str) -> Refusal:
    """The refusal to go on in a log that is not the one of before.

    Args:
        feed_id: Of the log as it is now.
    """
    return Refusal(
        Reason.FEED_CHANGED, "the log is not the one that was watched", {"feed_id": feed_id}
    )


def compacted(oldest: int) -> Refusal:
    """The refusal to go on from before the log's beginning.

    Args:
        oldest: The first revision that is left.
    """
    return Refusal(
        Reason.REVISION_COMPACTED,
        f"the log begins at revision {oldest}",
        {"oldest_revision": str(oldest)},
    )


def _invalid() -> Refusal:
    return Refusal(Reason.RESUME_TOKEN_INVALID, "not a valid resume token of this watch")


def _check(feed_id: str, revision: int, nonce: int, scope: bytes) -> bytes:
    return digest(msgspec.msgpack.encode((feed_id, revision, nonce, scope)))[:_CHECK]
