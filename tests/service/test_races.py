"""A deletion that is forced while 32 callers create, append and take turns, on either store."""

from __future__ import annotations

import asyncio
from collections import Counter

from sojourn_server.domain.commands import OnConflict
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import AppStatus, ChangeCause
from sojourn_server.service.deleting import DeleteMode
from sojourn_server.store.base import LoggedChange
from tests.service.kit import APP, World, message

CALLERS = 32
SESSIONS = 100
LATE = {Reason.APP_DRAINING, Reason.APP_DELETED}
MEANWHILE = {
    *LATE,
    Reason.SESSION_NOT_FOUND,
    Reason.SESSION_EXISTS,
    Reason.TURN_CONFLICT,
    Reason.TURN_SUPERSEDED,
}


def uids(log: list[LoggedChange], cause: ChangeCause) -> Counter[str]:
    return Counter(change.uid for change in log if change.cause is cause)


async def test_whoever_comes_while_an_app_is_forced_away_is_refused(world: World) -> None:
    for number in range(SESSIONS):
        await world.create(f"s-{number}")
    outcomes: Counter[str] = Counter()
    first = asyncio.Event()

    async def caller(number: int) -> None:
        for turn in range(1_000):
            old = f"s-{(number + turn) % SESSIONS}"
            doings = (
                lambda turn=turn: world.make(f"new-{number}-{turn}"),
                lambda old=old: world.append(old, [message()]),
                lambda turn=turn: world.append(f"add-{number}-{turn}", [message()], create=True),
                lambda old=old: world.begin(old, OnConflict.STEAL, create=True),
            )
            for does in doings:
                try:
                    await does()
                    outcomes["OK"] += 1
                    first.set()
                except Refusal as refusal:
                    outcomes[refusal.reason] += 1
                    if refusal.reason is Reason.APP_DELETED:
                        return

    async def force() -> None:
        await first.wait()
        answer = await world.services.deletion.delete(
            world.call("DeleteApp"), APP, DeleteMode.FORCE
        )
        assert answer.outcome.status is AppStatus.DELETED

    callers = [caller(number) for number in range(CALLERS)]
    await asyncio.gather(force(), force(), *callers)
    assert await world.every_session() == []
    assert outcomes.keys() <= {"OK", *MEANWHILE}
    assert outcomes[Reason.APP_DELETED] == CALLERS
    log = await world.log()
    draining = next(each.revision for each in log if each.cause is ChangeCause.APP_DRAINING)
    for cause in (ChangeCause.CREATED, ChangeCause.TURN_BEGAN):
        assert all(each.revision < draining for each in log if each.cause is cause)
    created = uids(log, ChangeCause.CREATED)
    assert len(created) > SESSIONS
    assert uids(log, ChangeCause.ENDED) == uids(log, ChangeCause.DELETED) == created
    assert [each.cause for each in log].count(ChangeCause.APP_DELETED) == 1
    assert log[-1].cause is ChangeCause.APP_DELETED
