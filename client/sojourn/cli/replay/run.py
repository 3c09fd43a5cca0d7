"""One replay from beginning to end: play, read back, clean up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sojourn
from sojourn import errors
from sojourn.cli.replay.checker import Checker
from sojourn.cli.replay.measure import Measures
from sojourn.cli.replay.player import Outcome, Played, Player, in_parallel
from sojourn.cli.replay.progress import bar
from sojourn.cli.replay.report import Report
from sojourn.cli.replay.transcripts import Transcript


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    file: str
    """The file's name, without its folders."""
    agents: int = 8
    play: bool = True
    verify: bool = False
    delete: bool = False
    replace: bool = False
    """Whether sessions with the same ids that have ended are replaced."""

    def labels(self) -> dict[str, str]:
        """Return the labels that tell where the sessions come from."""
        name = "".join(letter if letter.isprintable() else "?" for letter in self.file)
        return {"source": name[:256]}


async def run(connection: Mapping[str, Any], transcripts: list[Transcript], plan: Plan) -> Report:
    """Do it, and return the report; raise a SojournError when going on makes no sense."""
    measures = Measures()
    report = Report(
        file=plan.file,
        app=str(connection["app"]),
        agents=plan.agents,
        sessions=len(transcripts),
        messages=sum(len(one.messages) for one in transcripts),
        requests=sum(len(one.turns()) for one in transcripts),
        measures=measures,
    )
    async with sojourn.connect(**connection) as client:
        played = [
            Played(one, sojourn.SessionRef(user=one.user, session_id=one.session_id))
            for one in transcripts
        ]
        if plan.play:
            report.outcome = await _play(client, transcripts, plan, report)
            played = report.outcome.played
        if plan.verify:
            checker = Checker(client, measures, plan.agents, plan.labels())
            begin = time.perf_counter()
            with bar("reading back", sum(len(one.transcript.messages) for one in played)) as step:
                report.verdict = await checker.check(played, step)
            report.check_seconds = time.perf_counter() - begin
        # What differs is left for whoever wants to look at it.
        if plan.delete and not report.mismatches:
            report.deleted = await _delete(client, played, plan, measures)
    return report


async def _play(
    client: sojourn.AsyncClient, transcripts: list[Transcript], plan: Plan, report: Report
) -> Outcome:
    player = Player(
        client,
        report.measures,
        plan.agents,
        plan.labels(),
        sojourn.IfExists.REPLACE_ENDED if plan.replace else sojourn.IfExists.FAIL,
    )
    begin = time.perf_counter()
    with bar("playing", report.messages) as step:
        outcome = await player.play(transcripts, step)
    report.play_seconds = time.perf_counter() - begin
    return outcome


async def _delete(
    client: sojourn.AsyncClient, played: list[Played], plan: Plan, measures: Measures
) -> int:
    deleted = 0

    async def work(one: Played) -> None:
        nonlocal deleted
        try:
            with measures.call("DeleteSession"):
                done = await client.sessions.delete(one.ref)
        except (errors.NotFoundError, errors.UidMismatchError):
            return
        deleted += done.sessions_deleted

    with bar("deleting", len(played)) as step:

        async def work_and_show(one: Played) -> None:
            await work(one)
            step(1)

        await in_parallel(played, work_and_show, plan.agents)
    return deleted
