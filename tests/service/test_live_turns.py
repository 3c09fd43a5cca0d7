"""The turns that a drain waits for."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.clock import SECOND
from tests.service.kit import World


async def live(world: World) -> int:
    return await world.turns.live.count()


async def test_turns_count_while_they_are_live_and_no_longer(world: World) -> None:
    assert await live(world) == 0
    for name in ("ends", "is renewed", "is abandoned", "is deleted"):
        await world.create(name)
    ends, renewed = await world.turn("ends"), await world.turn("is renewed")
    await world.turn("is abandoned")
    await world.turn("is deleted")
    assert await live(world) == 4
    await world.end_turn(ends)
    await world.delete("is deleted")
    assert await live(world) == 2
    world.clock.step(20)
    await world.renew(renewed)
    world.clock.step(20)
    assert await live(world) == 1
    await world.end_turn(renewed)
    assert await live(world) == 0


async def test_a_repeated_begin_does_not_hide_a_renewed_lease(world: World) -> None:
    await world.create("s-1")
    begun = (await world.begin("s-1", request_id="r-1")).outcome
    world.clock.step(20)
    await world.renew(world.turns.token(begun.session, begun.turn), 600 * SECOND)
    await world.begin("s-1", request_id="r-1")
    world.clock.step(20)
    await world.create("s-2")
    await world.turn("s-2")
    assert await live(world) == 2


async def test_turns_may_come_and_go_while_they_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("s-1", "s-2", "s-3"):
        await world.create(name)
        await world.turn(name)
    read = world.units.read

    async def with_others_at_work(query: Any) -> Any:
        async def between(tx: Any) -> Any:
            class Slow:
                now = tx.now

                async def session_by_uid(self, app: str, uid: str) -> Any:
                    world.turns.live.forget(uid)
                    return await tx.session_by_uid(app, uid)

            return await query(Slow())

        return await read(between)

    monkeypatch.setattr(world.units, "read", with_others_at_work)
    assert await live(world) == 3
