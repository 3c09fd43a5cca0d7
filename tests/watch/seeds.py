"""Bugs that can be switched on, one at a time: each must be seen by a validator.

Each is one that some change feed has had. `docs/explanation/watch.md` has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from sojourn.v1 import change_pb2
from sojourn_server.domain import resume, watching
from sojourn_server.domain.model import ChangeCause
from sojourn_server.domain.resume import Point
from sojourn_server.domain.tokens import ResumePoint
from sojourn_server.domain.watching import Sight
from sojourn_server.feed import blocks, log, parts, stream, tail
from sojourn_server.rpc import convert_change
from sojourn_server.service import watch_content, watch_initial, watch_pump
from sojourn_server.service import watching as service
from tests.watch.scenarios import (
    Scenario,
    another_filter,
    another_nonce,
    compacted,
    erased,
    initial_states,
    one_by_one,
    slow,
    usual,
    with_large_units,
)

Patch = pytest.MonkeyPatch


class Seed(NamedTuple):
    """A bug."""

    name: str
    guarantee: str
    plant: Callable[[Patch], None]
    scenario: Scenario


# --- the bugs --------------------------------------------------------------------------------


def delivered_before_commit(patch: Patch) -> None:
    """Tells of a change that is not in the log yet, and may never be."""
    real = log.look

    async def look(store: Any, app: str, after: Point, limit: int) -> log.Look:
        found = await real(store, app, after, limit)
        if not found.changes:
            return found
        phantom = msgspec.structs.replace(found.changes[-1], revision=found.head + 1_000, index=0)
        return msgspec.structs.replace(found, changes=[*found.changes, phantom])

    patch.setattr(tail, "look", look)


def skip_at_a_full_batch(patch: Patch) -> None:
    """Takes a batch as long as the limit for the end of what there is, and skips one."""
    real = log.look

    async def look(store: Any, app: str, after: Point, limit: int) -> log.Look:
        found = await real(store, app, after, 3)
        if len(found.changes) >= 3:
            return msgspec.structs.replace(found, changes=found.changes[:-1])
        return found

    patch.setattr(blocks, "look", look)
    patch.setattr(stream, "NEAR", 0)


def bookmark_overtakes(patch: Patch) -> None:
    """Says how far the log was read, not how far the stream has been sent it."""
    patch.setattr(watch_pump.Pump, "_message", _ahead)


def _ahead(pump: Any, some: Sequence[parts.Part]) -> bytes:
    ahead = Point(some[-1].point.revision + 1, some[-1].point.nonce)
    return b"".join([*(part.body for part in some), pump._end(ahead)])


def token_goes_back(patch: Patch) -> None:
    """A bookmark from where the stream began."""

    def write(self: Any) -> Point:
        return Point(max(0, self.__dict__["_true"].revision - 1), 1)

    patch.setattr(
        stream.Stream,
        "point",
        property(write, lambda self, value: self.__dict__.__setitem__("_true", value)),
        raising=False,
    )


def filter_exit_dropped(patch: Patch) -> None:
    """Asks only whether a session matches now."""
    real = watching.Lens.see

    def see(self: Any, before: Any, after: Any) -> Sight | None:
        sight = real(self, before, after)
        return None if sight is Sight.LEFT else sight

    patch.setattr(watching.Lens, "see", see)


def before_not_evaluated(patch: Patch) -> None:
    """Takes every match for one that had matched before."""
    real = watching.Lens.see

    def see(self: Any, before: Any, after: Any) -> Sight | None:
        sight = real(self, before, after)
        return Sight.CHANGED if sight is Sight.ENTERED else sight

    patch.setattr(watching.Lens, "see", see)


def compaction_off_by_one(patch: Patch) -> None:
    """Lets a token through that is just before the log's beginning, and reads on."""

    async def look_in(tx: Any, app: str, after: Point, limit: int) -> log.Look:
        found = await tx.app(app)
        changes = await tx.changes(app, after.revision, limit)
        end = Point(changes[-1].revision, changes[-1].nonce) if changes else after
        return log.Look(
            feed_id=found.feed_id if found else "",
            deleted=False,
            head=await tx.head(app),
            changes=changes,
            end=end,
        )

    patch.setattr(log, "look_in", look_in)
    patch.setattr(service, "_kept", lambda held: held.point)


def resume_inclusive(patch: Patch) -> None:
    """Begins with the token's revision."""
    real = stream.Stream.__init__

    def init(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        revision = max(0, self._end.revision - 1)
        # No row has a nonce of None, and so none is compared.
        self._end = Point(revision, self._end.nonce)

    patch.setattr(stream.Stream, "__init__", init)
    _unchecked_nonces(patch)


def duplicate_at_the_snapshots_edge(patch: Patch) -> None:
    """Goes on from before the marker."""

    def restart(self: Any, begin: Point) -> None:
        self.point = self._end = Point(max(0, begin.revision - 2), begin.nonce)

    patch.setattr(stream.Stream, "restart", restart)
    _unchecked_nonces(patch)


def _unchecked_nonces(patch: Patch) -> None:
    real = log.look_in

    async def look_in(tx: Any, app: str, after: Point, limit: int) -> log.Look:
        nonce = await tx.nonce(app, after.revision) if after.revision else 0
        return await real(tx, app, Point(after.revision, nonce or 0), limit)

    patch.setattr(log, "look_in", look_in)


def shared_buffer_mutated(patch: Patch) -> None:
    """Uses one buffer for the bytes of all, and again for the next."""
    real = parts.Press.bind
    buffer = bytearray()

    def bind(self: Any, seen: Any, interest: Any) -> list[parts.Part]:
        bound = real(self, seen, interest)
        for part in bound:
            buffer[:] = part.body
        return [part._replace(body=buffer) for part in bound]  # type: ignore[arg-type]

    patch.setattr(parts.Press, "bind", bind)


def cause_missing_on_expiry(patch: Patch) -> None:
    """Tells an expiry as if somebody had ended the session."""
    real = convert_change._fill_head

    def fill(target: change_pb2.Change, change: Any) -> None:
        real(target, change)
        if change.cause is ChangeCause.EXPIRED:
            target.cause = change_pb2.CHANGE_CAUSE_ENDED

    patch.setattr(convert_change, "_fill_head", fill)


def token_not_bound_to_its_filter(patch: Patch) -> None:
    """Believes a token whatever watch it was made for."""

    def accept(sealer: Any, token: str, feed_id: str, scope: bytes) -> Point:
        point = sealer.open(token, ResumePoint)
        return Point(point.revision, point.nonce)

    patch.setattr(resume, "accept", accept)


def nonce_unchecked(patch: Patch) -> None:
    """Takes a revision's number for the revision."""
    patch.setattr(service, "_kept", lambda held: held.point)
    _unchecked_nonces(patch)


def lost_wake_up_without_poll(patch: Patch) -> None:
    """Believes that every hint arrives, and looks for nothing by itself."""
    real = tail.Tail.wake
    left = 20

    def wake(self: Any) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            real(self)

    patch.setattr(tail.Tail, "wake", wake)


def coalesced(patch: Patch) -> None:
    """Tells of each session only as it was last in a batch."""
    real = tail.Tail._wanted

    def wanted(self: Any, changes: Any) -> Any:
        newest = {change.uid: change for change in changes}
        return real(self, [each for each in changes if newest[each.uid] is each])

    patch.setattr(tail.Tail, "_wanted", wanted)
    patch.setattr(tail, "READ", 64)


def unit_cut_without_a_word(patch: Patch) -> None:
    """Gives every part of a unit a token."""
    real = parts._part

    def part(*arguments: Any) -> parts.Part:
        return real(*arguments)._replace(whole=True)

    patch.setattr(parts, "_part", part)


def previous_from_memory(patch: Patch) -> None:
    """Takes what it last sent of any session for the one before."""
    real = convert_change._fill_session
    last: list[Any] = []

    def fill(target: Any, app: str, change: Any, *rest: Any) -> None:
        before = last[-1] if last and change.before is not None else change.before
        last.append(change.after or change.before)
        real(target, app, msgspec.structs.replace(change, before=before), *rest)

    patch.setattr(convert_change, "_fill_session", fill)


def marker_from_the_first_page(patch: Patch) -> None:
    """Says of the initial state that it is true where it began."""
    real = watch_initial.Initial.step
    patch.setattr(watch_initial, "PAGE", 2)

    async def step(self: Any) -> Any:
        found = await real(self)
        first = self.__dict__.setdefault("_first", found.point)
        return found._replace(point=first) if found.done else found

    patch.setattr(watch_initial.Initial, "step", step)


def pages_of_different_revisions(patch: Patch) -> None:
    """Reads page after page, and nothing of what happens in between."""

    async def tell(self: Any, *arguments: Any) -> list[bytes]:
        return []

    patch.setattr(watch_initial, "PAGE", 2)
    patch.setattr(watch_initial.Initial, "_tell", tell)


def overflow_forgotten(patch: Patch) -> None:
    """Drops what a slow watcher has no room for, and goes on."""
    real = stream.Stream.offer

    def offer(self: Any, some: Any) -> bool:
        if self._queued + sum(part.size for part in some) > self._most:
            return True
        return real(self, some)

    patch.setattr(stream.Stream, "offer", offer)


def gap_before_the_live_end(patch: Patch) -> None:
    """Joins the end of the log without looking at what lies between."""

    async def go_on(self: Any, loop: Any, until: float) -> None:
        self._tail.join(self)

    patch.setattr(stream.Stream, "_go_on", go_on)


def other_users_shown(patch: Patch) -> None:
    """Leaves the scope to an index, and forgets it where the log is read."""
    patch.setattr(watching.Lens, "_in_scope", lambda self, session: True)


def content_by_the_logs_ids(patch: Patch) -> None:
    """Follows content ids of the log, which others may have by now."""

    async def body(self: Any, tx: Any, change: Any, sight: Any, head: int) -> bytes:
        content = None
        if change.after is not None:
            content = (await self.snapshot(tx, change.after)).content
        return bytes(
            self._forms.content(self._interest.app, change, sight, False, content, (), head)
        )

    patch.setattr(watch_content.Contents, "_body", body)


SEEDS = [
    Seed("delivered before commit", "W4", delivered_before_commit, usual),
    Seed("skip at a full batch", "W2", skip_at_a_full_batch, usual),
    Seed("bookmark overtakes a change", "W10", bookmark_overtakes, usual),
    Seed("token goes back", "W10", token_goes_back, usual),
    Seed("filter exit dropped", "W11", filter_exit_dropped, usual),
    Seed("filter not asked of the session before", "W11", before_not_evaluated, usual),
    Seed("compaction off by one", "W2", compaction_off_by_one, compacted),
    Seed("resume inclusive", "W2", resume_inclusive, usual),
    Seed("duplicate at the snapshot's edge", "W2", duplicate_at_the_snapshots_edge, usual),
    Seed("shared buffer mutated", "W2", shared_buffer_mutated, usual),
    Seed("cause missing on expiry", "W11", cause_missing_on_expiry, usual),
    Seed("token not bound to its filter", "W9", token_not_bound_to_its_filter, another_filter),
    Seed("nonce unchecked", "W9", nonce_unchecked, another_nonce),
    Seed("lost wake-up without poll", "W5", lost_wake_up_without_poll, one_by_one),
    Seed("changes coalesced", "W13", coalesced, usual),
    Seed("unit cut without a word", "W3", unit_cut_without_a_word, with_large_units),
    Seed("previous from memory", "W12", previous_from_memory, usual),
    Seed("marker from the first page", "W6", marker_from_the_first_page, initial_states),
    Seed("pages of different revisions", "W6", pages_of_different_revisions, initial_states),
    Seed("overflow forgotten", "W2", overflow_forgotten, slow),
    Seed("gap before the live end", "W2", gap_before_the_live_end, usual),
    Seed("other users shown", "W2", other_users_shown, usual),
    Seed("content by the log's ids", "W20", content_by_the_logs_ids, erased),
]
"""Every bug, the guarantee it breaks, and what shows it."""

SCENARIOS: Sequence[Scenario] = sorted({seed.scenario for seed in SEEDS}, key=lambda s: s.__name__)
