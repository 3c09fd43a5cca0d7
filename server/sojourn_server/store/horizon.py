"""How far a log is shortened: the same rule for every backend."""

from __future__ import annotations

from collections.abc import Iterable

from sojourn_server.domain.clock import Nanos


def last_to_go(rows: Iterable[tuple[int, Nanos]], head: int, before: Nanos, keep: int) -> int:
    """The last revision that may be removed from the beginning of a log; 0 for none.

    Args:
        rows: Revision and time of the log's first changes, in its order.
        head: Its newest revision, which always stays: tokens are held to its nonce.
        before: What was made before this instant goes,
        keep: and what has as many newer revisions.
    """
    last = 0
    for revision, time in rows:
        if revision >= head or not (time < before or revision <= head - keep):
            break
        last = revision
    return last
