"""The worker that deletes the checkpoints of threads that are over."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from sojourn import _checks as check
from sojourn import inputs
from sojourn._async.client import AsyncClient
from sojourn._async.watch import AsyncWatch
from sojourn._retry import backoff
from sojourn.adapters._langgraph_names import ALL, Stretch
from sojourn.adapters._langgraph_positions import HeldPosition, PositionStore, SojournPosition
from sojourn.adapters._langgraph_savers import Saver, SaverError, ThreadIds
from sojourn.changes import SessionChange, WatchEvent, WatchPosition
from sojourn.enums import AppStatus
from sojourn.errors import (
    AbortedError,
    AppNotFoundError,
    ClientClosedError,
    DeadlineExceededError,
    FeedChangedError,
    NotFoundError,
    ResourceExhaustedError,
    RevisionFutureError,
    UnavailableError,
    WatchCompactedError,
)
from sojourn.models import SessionRef
from sojourn.options import RetryOptions

if TYPE_CHECKING:
    from sojourn.adapters.langgraph import Threads

logger = logging.getLogger("sojourn")

PAUSES = RetryOptions(initial_backoff=timedelta(seconds=1), max_backoff=timedelta(minutes=1))
"""Between attempts to work at all; the saver's failures have them, too."""
SAVE_EVERY = 30.0
"""Seconds after which a position is saved although nothing was deleted."""
MAX_FAILING = 500
"""So many threads may wait for the saver; then no more changes are read."""
MAX_STORED = 4_000
"""So many of them fit into a position, which is a session's state."""
AT_ONCE = 1_000
"""So many threads are deleted before it is stored."""
LOOK_AGAIN = "the log is another one; look at what is there, and then `await cleaner.sweep()`"

# What passes: the server is away, another cleaner took over, or the app is not there yet.
PASSING = (
    AbortedError,
    DeadlineExceededError,
    NotFoundError,
    ResourceExhaustedError,
    SaverError,
    UnavailableError,
)
# There is nothing to go on from, and maybe not because time has passed.
ANOTHER_LOG = (FeedChangedError, RevisionFutureError)


@dataclass
class _Progress:
    """How far a cleaner has come; as a text it is what a position store keeps."""

    position: WatchPosition = field(default_factory=lambda: WatchPosition(""))
    failing: dict[Stretch, int] = field(default_factory=dict)
    """What the saver could not delete yet, and how often it has failed."""
    swept: float = 0.0
    """When all threads were last looked at, in seconds since 1970; 0: they are still to be."""
    rules: str = ""
    """By which rules."""

    def dump(self) -> str:
        failing = {str(stretch): attempts for stretch, attempts in self.failing.items()}
        return json.dumps(
            {
                "position": asdict(self.position),
                "failing": failing,
                "swept": self.swept,
                "rules": self.rules,
            }
        )

    @classmethod
    def read(cls, text: str) -> _Progress:
        if not text:
            return cls()
        found = json.loads(text)
        failing = {Stretch.parse(name): count for name, count in found["failing"].items()}
        return cls(
            WatchPosition(**found["position"]), failing, found["swept"], found.get("rules", "")
        )


class ThreadCleaner:
    """Follows an app, and deletes the checkpoints of its threads that are over.

        cleaner = ThreadCleaner(threads, saver)
        await cleaner.run()

    Over are threads whose session expired or was deleted, whoever did that and why, and what they
    stored before a reset; see `Threads`. Every deletion is done at least once: how far it has come
    is stored after it. Deleting twice does no harm, since no session ever gets the thread id of
    another one; so two cleaners at once would do none either, but one position is held by one.

    A thread that the saver fails to delete is tried again with growing pauses for as long as it
    takes, and stored with the position, so it is never forgotten and holds up no other; see
    `failing`. When 500 wait, no more changes are read until there are fewer.

    At first, where the log no longer reaches back, when the threads' rules have changed, and every
    `sweep_every`, all threads that the saver has of this app are held against the sessions there
    are. Threads of other origin are never touched.

    Args:
        threads: The threads; how they are named and when they are over.
        saver: The checkpointer that the graphs use.
        position: Where to keep how far it has come, for each saver elsewhere; None: in Sojourn,
            under the name of the threads' prefix, see `SojournPosition`.
        thread_ids: Tells the saver's thread ids that begin with a text. None: all its checkpoints
            are read for that, which takes long where there are many.
        sweep_every: How often to look at all threads; zero: only when it has to.
        concurrency: How many threads are deleted at once.
        on_failure: Is told of each failed deletion: the thread id, and what the saver raised. What
            it raises itself ends the work.

    Raises:
        ConfigurationError: a saver that cannot delete threads.
    """

    def __init__(
        self,
        threads: Threads,
        saver: BaseCheckpointSaver[Any],
        *,
        position: PositionStore | None = None,
        thread_ids: ThreadIds | None = None,
        sweep_every: inputs.Duration = timedelta(days=1),
        concurrency: int = 4,
        on_failure: Callable[[str, BaseException], object] | None = None,
    ) -> None:
        self._threads = threads
        self._rules = threads.rules
        self._saver = Saver(saver, thread_ids)
        self._position = position or SojournPosition(threads.connection, self._rules.prefix)
        seconds = check.duration("sweep_every", sweep_every).total_seconds()
        self._sweep_every = seconds or math.inf
        self._sweep_again = 0.0
        self._failed_sweeps = 0
        self._at_once = asyncio.Semaphore(check.integer("concurrency", concurrency, minimum=1))
        self._on_failure = on_failure
        self._progress = _Progress()
        self._due: dict[Stretch, float] = {}
        self._saved = 0.0
        self._failures = 0

    @property
    def failing(self) -> Mapping[str, int]:
        """The saver's thread ids that could not be deleted yet, and how often that has failed.

        Of an erased user's it is the id before any reset.
        """
        return MappingProxyType(
            {
                self._rules.thread_id(Stretch(one.uid, one.generation or 1)): attempts
                for one, attempts in self._progress.failing.items()
            }
        )

    async def run(self) -> None:
        """Work until it is cancelled; first wait until no other cleaner holds the position.

        It gets over a server that is away, a saver that fails, and an app that is not there yet.

        Raises:
            FeedChangedError, RevisionFutureError: the log is another one, as after a restore from
                a backup: sessions that it does not know may be in use. Nothing is deleted; whoever
                has made sure that it is the right server calls `sweep`.
            UnauthenticatedError, PermissionDeniedError, ResumeTokenInvalidError: as a watch.
        """
        while True:
            try:
                async with self._position.hold() as held:
                    await self._lead(held)
            except ANOTHER_LOG as error:
                error.add_note(LOOK_AGAIN)
                raise
            except PASSING as error:
                self._failures += 1
                pause = backoff(self._failures, PAUSES, random.random)
                why = type(error).__name__
                logger.warning("the cleaner of threads goes on in %.1f s: %s", pause, why)
                await asyncio.sleep(pause)

    async def sweep(self) -> int:
        """Hold all threads of this app that the saver has against the sessions there are.

        Deletes those that are over, and lets `run` go on from now. Returns how many there were;
        those that the saver failed to delete are among them, and are stored for `run`. It waits
        for a cleaner that is at work, which does the same by itself.

        Raises:
            NotFoundError: there is no such app, or its every user is not the caller's to read.
            SaverError: the saver does not tell its threads.
        """
        async with self._position.hold() as held:
            await self._load(held)
            await self._begin_now(held)
            return await self._sweep(held)

    # --- following -------------------------------------------------------------------------------

    async def _lead(self, held: HeldPosition) -> None:
        await self._load(held)
        while True:
            if not self._progress.position.token:
                await self._begin_now(held)
            try:
                await self._follow(held)
            except WatchCompactedError:
                logger.warning("the log no longer reaches back: all threads are looked at")
                self._progress.position = WatchPosition("")
            except AppNotFoundError:
                # This log has come to its end. If the app is allowed again, it has another one.
                self._progress.position, self._progress.swept = WatchPosition(""), 0.0
                await held.save(self._progress.dump())
                raise

    async def _load(self, held: HeldPosition) -> None:
        self._progress = _Progress.read(await held.load())
        self._due = {}
        if self._progress.rules != (rules := self._rules.describe()):
            # What is over by the new ones may have been over for long.
            self._progress.rules, self._progress.swept = rules, 0.0

    async def _begin_now(self, held: HeldPosition) -> None:
        """Follow from now on; all that was before is looked at."""
        # Of an app that is not there a list is empty; but then the address may be wrong.
        app = await self._client.apps.get(self._rules.app)
        if app.status is AppStatus.DELETED:
            # There is nothing to follow, and a position here would be one of a log that is over.
            if not self._progress.swept:
                await self._sweep(held)
            raise AppNotFoundError("the app is deleted, and all threads were looked at since")
        pages = self._client.sessions.list(status=None, page_size=1, app=self._rules.app)
        self._progress.position = WatchPosition((await pages.page(1)).resume_token)
        self._progress.swept = 0.0

    async def _follow(self, held: HeldPosition) -> None:
        """Deal with what changes, and now and then with all that is there."""
        watch = self._client.sessions.watch(
            after=self._progress.position,
            bookmark_interval=SAVE_EVERY,
            app=self._rules.app,
        )
        async with watch:
            while True:
                if self._sweep_in() <= 0:
                    await self._try_to_sweep(held)
                over: set[Stretch] = set()
                for event in await self._next(watch):
                    if isinstance(event, SessionChange):
                        over.update(self._rules.over_with(event))
                self._progress.position = watch.position
                await self._clear(held, over)

    async def _next(self, watch: AsyncWatch) -> Iterable[WatchEvent]:
        """Wait for what happens next, or for a thread that is to be tried again."""
        now = time.monotonic()
        pause = max(min([now + SAVE_EVERY, now + self._sweep_in(), *self._due.values()]) - now, 0.0)
        if len(self._progress.failing) >= MAX_FAILING:
            logger.error("%d threads wait for the saver", len(self._progress.failing))
            await asyncio.sleep(pause)
            return ()
        try:
            async with asyncio.timeout(pause):
                events = await watch.batch()
        except TimeoutError:
            return ()
        if events is None:
            raise ClientClosedError("the watch was closed")
        return events

    # --- clearing --------------------------------------------------------------------------------

    async def _clear(
        self, held: HeldPosition, over: Iterable[Stretch], *, anyway: bool = False
    ) -> None:
        """Delete what is over and what is due again; then save how far all this has come."""
        now = time.monotonic()
        for stretch in self._progress.failing:
            self._due.setdefault(stretch, now)
        again = {stretch for stretch, due in self._due.items() if due <= now}
        todo = again.union(over)
        await asyncio.gather(*map(self._delete, await self._thread_ids(todo)))
        if len(self._progress.failing) > MAX_STORED:
            # Begun anew from where it was stored last.
            raise SaverError("too many threads wait for the saver")
        if todo or anyway or now - self._saved >= SAVE_EVERY:
            await held.save(self._progress.dump())
            self._saved = now
            self._failures = 0

    async def _thread_ids(self, todo: set[Stretch]) -> list[tuple[Stretch, set[str]]]:
        """Return the saver's thread ids of what is over, as far as they can be told."""
        found = {
            one: {self._rules.thread_id(Stretch(one.uid, one.generation or 1))} for one in todo
        }
        unknown = {one.uid: one for one in todo if one.generation == ALL}
        if unknown and self._rules.clear_on_reset:
            one_id = self._rules.thread_id(Stretch(next(iter(unknown)), 1))
            try:
                told = await self._saver.thread_ids(
                    one_id if len(unknown) == 1 else self._rules.prefix
                )
            except SaverError as error:
                for one in unknown.values():
                    self._failed(one, found.pop(one), error)
                return list(found.items())
            for thread_id in told:
                stretch = self._rules.parse(thread_id)
                if stretch is not None and stretch.uid in unknown:
                    found[unknown[stretch.uid]].add(thread_id)
        return list(found.items())

    async def _delete(self, todo: tuple[Stretch, set[str]]) -> None:
        stretch, thread_ids = todo
        try:
            async with self._at_once:
                for thread_id in thread_ids:
                    await self._saver.delete(thread_id)
        except SaverError as error:
            self._failed(stretch, thread_ids, error)
        else:
            self._progress.failing.pop(stretch, None)
            self._due.pop(stretch, None)

    def _failed(self, stretch: Stretch, thread_ids: Iterable[str], error: SaverError) -> None:
        attempts = self._progress.failing.get(stretch, 0) + 1
        self._progress.failing[stretch] = attempts
        pause = backoff(attempts, PAUSES, random.random)
        self._due[stretch] = time.monotonic() + pause
        why = type(error.__cause__).__name__
        logger.warning("thread %s was not deleted, attempt %d: %s", stretch, attempts, why)
        if self._on_failure is not None:
            for thread_id in thread_ids:
                self._on_failure(thread_id, error.__cause__ or error)

    # --- all of it -------------------------------------------------------------------------------

    def _sweep_in(self) -> float:
        """Return in how many seconds all threads are to be looked at."""
        if not self._progress.swept:
            return self._sweep_again - time.monotonic()
        return self._progress.swept + self._sweep_every - time.time()

    async def _try_to_sweep(self, held: HeldPosition) -> None:
        """Look at all threads, or do so later: what changes meanwhile is dealt with anyway."""
        try:
            await self._sweep(held)
        except SaverError as error:
            if len(self._progress.failing) > MAX_STORED:
                raise
            self._progress.swept = 0.0
            self._failed_sweeps += 1
            pause = backoff(self._failed_sweeps, PAUSES, random.random)
            self._sweep_again = time.monotonic() + pause
            logger.warning("all threads are looked at in %.1f s: %s", pause, error)

    async def _sweep(self, held: HeldPosition) -> int:
        # The order is the proof. A session is there before its first checkpoint: so one that is
        # not there after the saver's threads were told is gone. And what is over after that comes
        # as a change, since the position is older.
        begun = time.time()
        found = map(self._rules.parse, await self._saver.thread_ids(self._rules.prefix))
        mine = [one for one in found if one is not None]
        refs = [SessionRef(uid=uid) for uid in sorted({one.uid for one in mine})]
        known = await self._client.sessions.get_many(refs, app=self._rules.app)
        sessions = {one.uid: one for one in known.sessions}
        over = sorted(one for one in mine if self._rules.is_over(one, sessions.get(one.uid)))
        for start in range(0, len(over), AT_ONCE):
            await self._clear(held, over[start : start + AT_ONCE])
        self._progress.swept = begun
        self._failed_sweeps = 0
        await self._clear(held, (), anyway=True)
        logger.info("%d of %d threads of the saver were over", len(over), len(mine))
        return len(over)

    @property
    def _client(self) -> AsyncClient:
        return self._threads.connection.client
