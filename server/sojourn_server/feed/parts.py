"""Changes made ready to be sent: encoded once, shared by all who want them in that form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from sojourn_server.domain.limits import KIB
from sojourn_server.domain.resume import Point
from sojourn_server.domain.watching import Interest, Lens, Sight
from sojourn_server.store.base import LoggedChange

PART_BYTES: Final = 128 * KIB
"""Changes are bound together up to this size; a larger one is a part by itself."""
UNBOUND_BYTES: Final = 2 * KIB
"""What a change counts for whose content is only read when it is sent."""


class Encoder(Protocol):
    """Gives changes their form on the wire."""

    def change(self, app: str, change: LoggedChange, sight: Sight, previous: bool) -> bytes:
        """One change, such that several of them joined are a message's changes.

        Args:
            app: Whose log it is in.
            change: As the log has it.
            sight: How it shows.
            previous: Whether to tell of the session before.
        """
        ...


class Seen(NamedTuple):
    """A change, and how it shows to somebody."""

    change: LoggedChange
    sight: Sight


class Part(NamedTuple):
    """Changes that are sent in one message."""

    body: bytes
    """Encoded; empty where content must be read first."""
    seen: Sequence[Seen]
    """What it was made of; only where content must be read first."""
    size: int
    """What it takes of memory, in bytes."""
    point: Point
    """Of its last change."""
    whole: bool
    """Whether that revision ends with it."""


class Press:
    """Makes parts of one look at one app's log, for everybody.

    Args:
        encoder: Gives changes their form.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._done: dict[tuple[int, int, Sight, bool], bytes] = {}

    def bind(self, seen: Sequence[Seen], interest: Interest) -> list[Part]:
        """Parts that tell somebody of changes.

        Args:
            seen: The changes, in order; whole revisions as far as they show.
            interest: How they are to be told.
        """
        parts: list[Part] = []
        bodies: list[bytes] = []
        begin = size = 0
        for number, (change, sight) in enumerate(seen):
            body = b"" if interest.content else self._encode(interest, change, sight)
            cost = UNBOUND_BYTES if interest.content else len(body)
            if number > begin and size + cost > PART_BYTES:
                parts.append(_part(seen, begin, number, bodies, size, interest))
                begin, size, bodies = number, 0, []
            bodies.append(body)
            size += cost
        if seen:
            parts.append(_part(seen, begin, len(seen), bodies, size, interest))
        return parts

    def _encode(self, interest: Interest, change: LoggedChange, sight: Sight) -> bytes:
        key = (change.revision, change.index, sight, interest.previous)
        body = self._done.get(key)
        if body is None:
            body = self._done[key] = self._encoder.change(
                interest.app, change, sight, interest.previous
            )
        return body


def see(lens: Lens, changes: Iterable[LoggedChange]) -> list[Seen]:
    """The changes that show through a lens."""
    found: list[Seen] = []
    for change in changes:
        sight = sight_of(lens, change)
        if sight is not None:
            found.append(Seen(change, sight))
    return found


def sight_of(lens: Lens, change: LoggedChange) -> Sight | None:
    """How a change shows through a lens; None: not at all."""
    if change.detail.alias:
        return lens.see_erased(change.cause, change.uid, change.detail)
    if not change.uid:
        return lens.see_app(change.cause, change.detail)
    return lens.see(change.before, change.after)


def _part(
    seen: Sequence[Seen],
    begin: int,
    end: int,
    bodies: Sequence[bytes],
    size: int,
    interest: Interest,
) -> Part:
    last = seen[end - 1].change
    return Part(
        body=b"".join(bodies),
        seen=seen[begin:end] if interest.content else (),
        size=size,
        point=Point(last.revision, last.nonce),
        whole=end == len(seen) or seen[end].change.revision != last.revision,
    )
