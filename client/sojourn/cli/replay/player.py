"""Plays transcripts: N agents at once, each with one session after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

import sojourn
from sojourn import SojournError, errors
from sojourn.cli.replay.measure import Measures
from sojourn.cli.replay.transcripts import Transcript

T = TypeVar("T")
Job = TypeVar("Job")

END_REASON = "replayed"

# After one of these, the other sessions would fail in the same way.
HOPELESS = (
    errors.UnavailableError,
    errors.UnauthenticatedError,
    errors.UnimplementedError,
    errors.StorageFullError,
    errors.AppDeletedError,
    errors.AppDrainingError,
    errors.AppUnknownError,
    errors.ConfigurationError,
)


@dataclass(frozen=True, slots=True)
class Played:
    """A session that was played, and where it is now."""

    transcript: Transcript
    ref: sojourn.SessionRef


@dataclass(slots=True)
class Outcome:
    """What came of playing."""

    played: list[Played] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """One sentence per session that failed."""


async def in_parallel(
    jobs: Iterable[Job], work: Callable[[Job], Awaitable[None]], workers: int
) -> None:
    """Do the work for each job, so many at a time; the first exception ends it all."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await work(job)

    tasks = [asyncio.ensure_future(worker()) for _ in range(workers)]
    try:
        # Raises the first exception as it is; a TaskGroup would wrap it.
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Measured(Generic[T]):
    """A context manager whose entry, and perhaps exit, is a call to measure."""

    def __init__(
        self,
        inner: AbstractAsyncContextManager[T],
        measures: Measures,
        entry: str,
        exit_: str = "",
    ) -> None:
        self._inner = inner
        self._measures = measures
        self._entry = entry
        self._exit = exit_

    async def __aenter__(self) -> T:
        with self._measures.call(self._entry):
            return await self._inner.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if error is not None or not self._exit:
            # Not measured: what is raised from here is the body's own error.
            return await self._inner.__aexit__(kind, error, trace)
        with self._measures.call(self._exit):
            return await self._inner.__aexit__(None, None, None)


@dataclass(slots=True)
class Player:
    """Plays sessions on one client."""

    client: sojourn.AsyncClient
    measures: Measures
    agents: int
    labels: Mapping[str, str]
    if_exists: sojourn.IfExists = sojourn.IfExists.FAIL

    async def play(
        self, transcripts: Iterable[Transcript], progress: Callable[[int], None]
    ) -> Outcome:
        """Play all; call `progress` with the number of messages that were just appended."""
        failed: dict[int, str] = {}
        played: dict[int, Played] = {}

        async def work(job: tuple[int, Transcript]) -> None:
            number, transcript = job
            try:
                ref = await self._play_one(transcript, progress)
            except HOPELESS:
                raise
            except SojournError as error:
                failed[number] = (
                    f"{transcript.session_id}: {error.reason or error.code}: {error.message}"
                )
            else:
                played[number] = Played(transcript, ref)

        await in_parallel(enumerate(transcripts), work, self.agents)
        # In the order of the file, whoever was faster.
        return Outcome(
            [played[number] for number in sorted(played)],
            [failed[number] for number in sorted(failed)],
        )

    async def _play_one(
        self, transcript: Transcript, progress: Callable[[int], None]
    ) -> sojourn.SessionRef:
        measures = self.measures
        described = self.client.session(
            transcript.session_id,
            user=transcript.user,
            labels={**self.labels, "outcome": transcript.status.value.lower()},
            metadata={key: sojourn.RawJson(text) for key, text in transcript.extra.items()},
            if_exists=self.if_exists,
        )
        async with Measured(described, measures, "CreateSession") as session:
            for batches in transcript.requests():
                async with Measured(session.turn(), measures, "BeginTurn", "EndTurn") as turn:
                    for batch in batches:
                        with measures.call("AppendMessages"):
                            await turn.append_many(batch)
                        progress(len(batch))
            with measures.call("EndSession"):
                await session.end(transcript.status, reason=END_REASON)
        return session.ref
