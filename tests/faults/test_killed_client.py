"""A client is killed with -9: what it owned ends by itself, and says so."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import pytest

from sojourn import AsyncClient, EndCause, Session, SessionFilter, Status, testing
from tests.api.stores import settings_of
from tests.faults.checker import until
from tests.faults.counts import report
from tests.faults.orphan_maker import EACH
from tests.meta.pages import ROOT
from tests.store.backends import BACKENDS

LEASE = 1.0
MANY = 4 * EACH
PATIENCE = 60.0


async def live(client: AsyncClient) -> int:
    """How many children are ACTIVE."""
    return await client.sessions.list(filter=SessionFilter(has_parent=True)).count()


async def all_children(client: AsyncClient) -> list[Session]:
    return await client.sessions.list(status="any", filter=SessionFilter(has_parent=True)).to_list()


@pytest.mark.parametrize("store", BACKENDS)
async def test_no_child_of_a_killed_client_lingers(store: str) -> None:
    with settings_of(store) as settings:
        async with testing.serve(**settings) as server, server.client(app="dungeon") as client:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.orphan_maker"),
                *(server.target, "dungeon", str(LEASE)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert process.stdout is not None
                async with asyncio.timeout(PATIENCE):
                    assert await process.stdout.readline() == b"working\n"
                # All leases of the beginning are over: these live because they were renewed.
                assert await live(client) == MANY
            finally:
                process.kill()
                await process.wait()

            async def none_left() -> bool:
                return await live(client) == 0

            await until(none_left, "all children ended", PATIENCE)
            await check_trace(client, store)


async def check_trace(client: AsyncClient, store: str) -> None:
    """The roots live on; every child is there as FAILED, ended with its owner and not before."""
    by_turn = await client.sessions.get("by-turn")
    by_lease = await client.sessions.get("by-lease")
    assert (by_turn.status, by_turn.turn) == (Status.ACTIVE, None)
    assert (by_turn.metrics.request_count, by_turn.metrics.error_count) == (1, 1)
    assert by_lease.status is Status.ACTIVE
    children = await all_children(client)
    assert len({child.uid for child in children}) == len(children) == MANY
    assert {child.status for child in children} == {Status.FAILED}
    causes = {
        root.session_id: {child.end_cause for child in children if child.parent_uid == root.uid}
        for root in (by_turn, by_lease)
    }
    assert causes == {"by-turn": {EndCause.OWNER_ENDED}, "by-lease": {EndCause.OWNER_LOST}}
    late = timedelta(0)
    for child in children:
        if child.parent_uid == by_lease.uid:
            assert child.end_time is not None
            assert child.owner_lease_time is not None
            assert child.end_time >= child.owner_lease_time
            late = max(late, child.end_time - child.owner_lease_time)
    outcome = f"0 children left, the last {late.total_seconds():.2f} s after its lease"
    report(f"killed clients, {store}", 1, outcome)
