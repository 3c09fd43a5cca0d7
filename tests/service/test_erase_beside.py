"""EraseUser beside other long work, and beside others whose names look alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.commands import NewOwner, NewSession
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import ChangeCause, Status
from sojourn_server.service import bulk as bulk_module
from sojourn_server.service import erasing as erasing_module
from sojourn_server.service import taking as taking_module
from sojourn_server.service.bulk import Which
from sojourn_server.service.deleting import DELETE_APP, DeleteMode
from sojourn_server.service.operations import WAIT, order_of
from sojourn_server.store.base import ReadTx
from tests.service.kit import APP, USER, World
from tests.service.test_erase import BOB, erase, everything, make, request_id_of
from tests.service.test_jobs import until


@pytest.mark.parametrize("kind", [bulk_module.END, bulk_module.DELETE])
async def test_long_work_that_knows_the_user_s_sessions_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It names them in its record, and leaves them in the outcome that a repeat gets."""
    for module in (bulk_module, taking_module):
        monkeypatch.setattr(module, "STEP_ROWS", 1)
    for number in range(3):
        await make(world, USER, f"{USER}-s{number}")
    goes_on = asyncio.Event()
    steps = 0
    original = {bulk_module.END: "_end_step", bulk_module.DELETE: "_delete_step"}[kind]
    take = getattr(bulk_module, original)

    async def held(work: Any, task: Any) -> Any:
        nonlocal steps
        if steps and not goes_on.is_set():
            return WAIT
        steps += 1
        return await take(work, task)

    world.services.operations.register(kind, held)
    call = world.call(kind, request_id_of("all", "r"))
    which = Which(user=USER)
    other = asyncio.create_task(
        world.services.bulk.delete(call, APP, which)
        if kind == bulk_module.DELETE
        else world.services.bulk.end(call, APP, which, Status.FAILED, f"of {USER}")
    )

    async def begun() -> bool:
        return steps == 1

    async def emptied() -> bool:
        return not await world.every_session()

    await until(begun)
    erased = asyncio.create_task(erase(world, request_id="e"))
    await until(emptied)
    goes_on.set()
    assert (await other).outcome.count >= 1
    await erased
    assert USER not in await everything(world)
    assert not await world.store.read(lambda tx: tx.operations(2**62, 10))


async def test_a_drain_that_goes_on_names_the_user_no_more(world: World) -> None:
    await make(world, BOB, "his")
    call = msgspec.structs.replace(world.call("DeleteApp"), actor=f"jwt:{USER}")
    await world.services.deletion.delete(call, APP, DeleteMode.DRAIN)
    await erase(world, request_id="e")

    async def actor(tx: ReadTx) -> str:
        operation = await tx.operation(APP, DELETE_APP)
        assert operation is not None
        return order_of(operation).actor

    assert (await world.store.read(actor)).startswith("erased-")
    await world.end((await world.every_session())[0])
    await world.services.operations.finished(APP, DELETE_APP)
    assert USER not in await everything(world)


@pytest.mark.parametrize("user", [APP, "his", "team-bob", ""])
async def test_what_is_called_like_the_user_is_answered_as_ever(world: World, user: str) -> None:
    """An app, another's session_id or label: a retry of another's call finds what it made."""
    first = await make(world, BOB, "his")
    app = await world.set(labels={"team": "team-bob"}, request_id=request_id_of("set", "app"))
    await make(world, user, "own")
    await erase(world, user)
    again = await world.make("his", user=BOB, request_id=request_id_of("make", "his"))
    assert again.outcome.session == first
    same = await world.set(labels={"team": "team-bob"}, request_id=request_id_of("set", "app"))
    assert same.revision == app.revision
    assert [each.session_id for each in await world.every_session()] == ["his"]


async def test_many_ephemeral_children_of_others_end_in_units_of_bounded_size(
    world: World,
) -> None:
    parent = await make(world, USER, "parent")
    for begin in (0, UNIT_ROWS):
        await world.sessions.create_many(
            world.call("BatchCreateSessions"),
            APP,
            [
                NewSession(
                    user=BOB,
                    session_id=f"c-{begin + number}",
                    parent_uid=parent.uid,
                    owner=NewOwner(lease=60_000_000_000),
                )
                for number in range(UNIT_ROWS)
            ],
        )
    head = await world.head()
    await erase(world)
    assert Counter(each.status for each in await world.every_session()) == {
        Status.FAILED: 2 * UNIT_ROWS
    }
    units = Counter(change.revision for change in await world.log(head))
    assert max(units.values()) <= UNIT_ROWS + 1


async def test_records_are_looked_through_as_far_as_time_allows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record may tell of a whole batch, so a step stops behind the one it is at."""
    monkeypatch.setattr(erasing_module, "STEP", 0)
    monkeypatch.setattr(erasing_module, "RECORDS", 2)
    for number in range(5):
        await make(world, (USER, BOB)[number % 2], f"s{number}")
    await erase(world)
    assert USER not in await everything(world)
    again = await world.make("s1", user=BOB, request_id=request_id_of("make", "s1"))
    assert again.outcome.session.session_id == "s1"


async def test_a_user_is_erased_from_a_deleted_app_too_with_a_receipt(world: World) -> None:
    """Its log and its audit still name the user."""
    await make(world, USER, "hers")
    await world.services.deletion.delete(world.call("DeleteApp"), APP, DeleteMode.FORCE)
    assert USER in await everything(world)
    receipt = await erase(world, request_id="e")
    assert receipt.outcome.erased.sessions == 0
    assert receipt.outcome.erased.audit_entries > 0
    assert USER not in await everything(world)
    assert (await erase(world, request_id="e")).outcome == receipt.outcome
    assert (await world.log())[-1].cause is ChangeCause.APP_DELETED
