"""Sessions with very many ended children: nothing about them is one long read or unit."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.commands import IfExists, NewOwner
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import ChangeCause, DeletedWhy
from sojourn_server.service import creation
from sojourn_server.service import retention as retention_module
from sojourn_server.service.deleting import DeleteMode
from sojourn_server.service.retention import FEW, Retention
from sojourn_server.store.base import Candidates
from tests.service.kit import APP, World, refused
from tests.service.test_trees import grow, small_units

__all__ = ["small_units"]

TRACE = 23
CHILDREN = 120


@pytest.mark.usefixtures("small_units")
async def test_a_session_with_a_long_trace_is_replaced_in_units_of_bounded_size(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "UNIT_ROWS", 5)
    parent = await world.create("p")
    await grow(world, parent, TRACE, owner=NewOwner(lease=HOUR))
    kept = await world.create("own", parent_uid=parent.uid)
    await world.end("p")
    head = await world.head()
    made = await asyncio.gather(
        *(
            world.make("p", if_exists=IfExists.REPLACE_ENDED, request_id="r" if n < 3 else "")
            for n in range(4)
        ),
        return_exceptions=True,
    )
    new = {each.outcome.session.uid for each in made if not isinstance(each, BaseException)}
    assert len(new) == 1
    left = {each.uid for each in await world.every_session()}
    assert kept.uid in left
    assert len(left) == 2
    log = await world.log(head)
    gone = Counter(c.uid for c in log if c.detail.deleted_why is DeletedWhy.REPLACED)
    assert len(gone) == TRACE + 1
    assert set(gone.values()) == {1}
    deletions = Counter(c.revision for c in log if c.cause is ChangeCause.DELETED)
    assert max(deletions.values()) <= 5 + 1


@pytest.mark.usefixtures("small_units")
async def test_nothing_of_a_trace_goes_for_a_session_that_may_not_be_created(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "UNIT_ROWS", 5)
    parent = await world.create("p")
    await world.create("holds it")
    await grow(world, parent, TRACE, owner=NewOwner(lease=HOUR))
    await world.end("p")
    await world.services.deletion.delete(world.call("DeleteApp"), APP, DeleteMode.DRAIN)
    before = await world.every_session()
    with refused(Reason.APP_DRAINING):
        await world.make("p", if_exists=IfExists.REPLACE_ENDED)
    assert await world.every_session() == before
    await world.services.operations.close()


@pytest.mark.parametrize("newest_first", [False, True])
async def test_children_that_wait_for_each_other_are_not_read_again_with_each_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    """The parent ended first: it goes with the last of its children."""
    parent = await world.create("p")
    children = await grow(world, parent, CHILDREN)
    await world.end("p")
    for child in reversed(children) if newest_first else children:
        world.clock.step(0.001)
        await world.end(child)
    world.clock.step(8 * 86_400)
    reads: list[int] = []

    def counting(query: Candidates) -> Candidates:
        reads.append(query.limit)
        return query

    monkeypatch.setattr(retention_module, "LOOK", 20)
    monkeypatch.setattr(
        retention_module, "Candidates", lambda **asked: counting(Candidates(**asked))
    )
    which = Retention(world.units)
    while (await which.batch(APP))[1]:
        pass
    assert await world.every_session() == []
    # All of them are read for the last few only.
    assert reads.count(UNIT_ROWS) <= 4 * FEW
