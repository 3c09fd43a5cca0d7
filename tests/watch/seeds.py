"""Bugs that can be switched on, one at a time: each must be seen by a validator.

Each is one that some change feed has had. `docs/explanation/watch.md` has the table.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from sojourn.v1 import change_pb2
from sojourn_server.domain import resume, watching
from sojourn_server.domain.errors import Refusal
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter
from sojourn_server.domain.model import ChangeCause
from sojourn_server.domain.resume import Point
from sojourn_server.domain.tokens import ResumePoint
from sojourn_server.domain.watching import Sight
from sojourn_server.feed import blocks, log, parts, stream, tail
from sojourn_server.rpc import convert_change
from sojourn_server.service import watch_content, watch_initial, watch_pump
from sojourn_server.service import watching as service
from tests.service.kit import APP
from tests.watch.kit import Scene, Watcher
from tests.watch.storm import Storm
from tests.watch.validators import broken, observed

GOLD = SessionFilter(labels=(LabelSelector("tier", LabelOperator.IN, ("gold",)),))
PATIENCE = 1.5
"""How long a revision may take to be seen, in seconds: longer, and it is lost."""

Patch = pytest.MonkeyPatch
Scenario = Callable[[Scene], Awaitable[dict[str, str]]]


class Seed(NamedTuple):
    """A bug."""

    name: str
    guarantee: str
    plant: Callable[[Patch], None]
    scenario: Scenario


# --- what is done while a bug is on ----------------------------------------------------------


async def usual(world: Scene) -> dict[str, str]:
    """Watchers of every kind, while others write."""
    storm = Storm([world])
    tokens: list[tuple[str, int]] = []
    async with storm.blowing():
        await storm.answered(20)
        watchers = [
            await world.watch_now(previous=True),
            await world.watch_now(previous=True),
            await world.watch_now(filter=GOLD),
            await world.watch_now(filter=GOLD, user="ann"),
        ]
        tokens.append((watchers[0].record.token, watchers[0].record.revision))
        await storm.answered(60)
        watchers.append(world.watch(token=tokens[0][0], start=tokens[0][1]))
        watchers.append(world.watch(initial=True))
        await storm.answered(100)
    made = await world.make("of-bob", user="bob", labels={"tier": "gold"})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await watchers[2].reach(made.revision)
    first = watchers[3].record
    begin, token = first.messages[0].revision, first.messages[0].resume_token
    watchers.append(world.watch(token=token, start=begin, filter=GOLD, user="ann"))
    await world.create("idle", idle_timeout=1)
    world.clock.step(1)
    await world.units.settle(APP, (await world.stored("idle")).uid)
    return await _found(world, storm, watchers)


async def initial_states(world: Scene) -> dict[str, str]:
    """Initial states, while others write."""
    storm = Storm([world], sessions=25)
    async with storm.blowing():
        await storm.answered(60)
        watchers = [world.watch(initial=True) for _ in range(12)]
        await storm.answered(200)
    return await _found(world, storm, watchers)


async def one_by_one(world: Scene) -> dict[str, str]:
    """Writes that wait for each other, and one watcher."""
    watcher = await world.watch_now()
    for number in range(40):
        await world.create(f"s-{number}")
    return await _found(world, Storm([world]), [watcher])


async def with_large_units(world: Scene) -> dict[str, str]:
    """Units that do not fit into one part."""
    labels = {f"k{n}": "v" * 200 for n in range(60)}
    root = await world.create("root")
    for number in range(30):
        await world.create(f"s-{number}", parent_uid=root.uid, labels=labels)
    watcher = await world.watch_now(previous=True)
    await world.end("root", cascade=True)
    return await _found(world, Storm([world]), [watcher])


async def slow(world: Scene) -> dict[str, str]:
    """A watcher that takes nothing for a while, and may have little waiting for it."""
    storm = Storm([world])
    watcher = await world.watch_now()
    for each in world.hub._streams:
        each._most = 5_000
    watcher.stuck.clear()
    async with storm.blowing():
        await storm.answered(100)
    watcher.stuck.set()
    return await _found(world, storm, [watcher])


async def compacted(world: Scene) -> dict[str, str]:
    """A token just before the log's beginning."""
    for number in range(10):
        await world.create(f"s-{number}")
    storm = Storm([world])
    await storm.archive.keep()
    token = await _token(world, 5)
    await world.store.compact(APP, 0, 4, 100)
    return await _resumed(world, storm, world.watch(token=token, start=5))


async def another_nonce(world: Scene) -> dict[str, str]:
    """A token of a revision that a failover has lost."""
    for number in range(5):
        await world.create(f"s-{number}")
    token = await _token(world, 3, flip=1)
    return await _refused(world.watch(token=token, start=3))


async def another_filter(world: Scene) -> dict[str, str]:
    """A token of a watch of everything, brought by one of gold."""
    for number in range(5):
        await world.create(f"s-{number}")
    return await _refused(world.watch(token=await _token(world, 3), start=3, filter=GOLD))


async def erased(world: Scene) -> dict[str, str]:
    """Content that is gone, and whose id another session's content has taken."""
    watcher = await world.watch_now()
    await world.create("s-1", metadata={"m": "1"})
    await world.update("s-1", remove_metadata=("m",))
    await world.create("s-2", metadata={"m": '"another one"'})
    head = await world.head()
    await watcher.reach(head)
    token, start = watcher.record.messages[0].resume_token, 0
    full = world.watch(token=token, start=start, content=True)
    await full.reach(head)
    wrong = [
        change.revision
        for change in full.record.changes
        if change.session.session.key.session_id == "s-1" and dict(change.session.session.metadata)
    ]
    return {"W20": f"W20: not the content of now: {wrong}"} if wrong else {}


async def _found(world: Scene, storm: Storm, watchers: Sequence[Watcher]) -> dict[str, str]:
    found: dict[str, str] = {}
    kept = await storm.archive.keep()
    head = await world.head()

    async def reach(watcher: Watcher) -> None:
        async with asyncio.timeout(PATIENCE):
            await watcher.reach(head)
        observed(watcher.record, head)

    for ended in await asyncio.gather(*map(reach, watchers), return_exceptions=True):
        if isinstance(ended, (TimeoutError, Refusal, AssertionError)):
            found["W5"] = f"W5: {head} was returned, and not seen"
        elif ended is not None:
            raise ended
    for watcher in watchers:
        found |= broken(watcher.record, kept)
    return found


async def _resumed(world: Scene, storm: Storm, watcher: Watcher) -> dict[str, str]:
    try:
        async with asyncio.timeout(PATIENCE):
            await watcher.reach(await world.head())
    except (TimeoutError, Refusal):
        pass
    return broken(watcher.record, await storm.archive.keep())


async def _refused(watcher: Watcher) -> dict[str, str]:
    try:
        await watcher.opened()
    except Refusal:
        return {}
    return {"W9": "W9: a token that is of something else was taken"}


async def _token(world: Scene, revision: int, flip: int = 0) -> str:
    async def read(tx: Any) -> tuple[str, int]:
        return (await tx.app(APP)).feed_id, await tx.nonce(APP, revision)

    feed_id, nonce = await world.store.read(read)
    scope = resume.scope_hash(APP, None, "", SessionFilter())
    return resume.seal(world.services.sealer, feed_id, Point(revision, nonce ^ flip), scope)


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

    def fill(target: Any, change: Any, *rest: Any) -> None:
        before = last[-1] if last and change.before is not None else change.before
        last.append(change.after or change.before)
        real(target, msgspec.structs.replace(change, before=before), *rest)

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
