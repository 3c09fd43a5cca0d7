"""What callers of both servers are answered is as if one had answered them all, in one order."""

from __future__ import annotations

import random
from collections import Counter

import pytest

import sojourn
from tests.cluster.histories import History, record
from tests.cluster.kit import PATIENT, Clients, Cluster
from tests.cluster.linear import Did, Operation, is_linearizable
from tests.faults import counts

HISTORIES = counts.count("histories")


def holds(histories: list[History]) -> bool:
    return all(is_linearizable(each.first, each.operations) for each in histories)


@pytest.mark.timeout(counts.patience("histories", 10))
async def test_histories_through_both_servers_are_linearizable(clients: Clients) -> None:
    chance = random.Random()
    done: Counter[Did] = Counter()
    for number in range(HISTORIES):
        histories = await record(clients, f"h-{number}", chance)
        for history in histories:
            assert is_linearizable(history.first, history.operations), history.operations
            done.update(operation.did for operation in history.operations)
    assert done[Did.UPDATE] > HISTORIES
    assert done[Did.MISMATCH] > HISTORIES
    counts.report(
        "histories of both servers",
        HISTORIES,
        f"{done.total():,} calls ("
        + ", ".join(f"{times:,} {did.name.lower()}" for did, times in sorted_by_times(done))
        + "); all linearizable",
    )


def sorted_by_times(done: Counter[Did]) -> list[tuple[Did, int]]:
    return sorted(done.items(), key=lambda pair: -pair[1])


async def a_history_with_updates(clients: Clients, chance: random.Random) -> History:
    histories = await record(clients, f"h-{chance.random()}", chance)
    found = max(histories, key=lambda each: sum(o.did is Did.UPDATE for o in each.operations))
    assert is_linearizable(found.first, found.operations)
    return found


async def test_a_stale_read_put_into_a_history_is_found(clients: Clients) -> None:
    history = await a_history_with_updates(clients, random.Random(3))
    newest = max(o.end for o in history.operations)
    stale = Operation(newest + 1, newest + 2, Did.GET, history.first)
    assert not is_linearizable(history.first, [*history.operations, stale])


async def test_a_lost_update_put_into_a_history_is_found(clients: Clients) -> None:
    """A writer that was refused, for another came first, was told instead that it has written."""
    chance = random.Random(4)
    for _ in range(20):
        history = await a_history_with_updates(clients, chance)
        taken = {o.expected for o in history.operations if o.did is Did.UPDATE}
        late = [o for o in history.operations if o.did is Did.MISMATCH and o.expected in taken]
        for each in late:
            seen = history.first._replace(etag="never seen", value=-1)
            for generation in range(1, 10):
                lost = each._replace(did=Did.UPDATE, seen=seen._replace(generation=generation))
                others = [o for o in history.operations if o is not each]
                assert not is_linearizable(history.first, [*others, lost])
        if late:
            return
    raise AssertionError("nobody came too late")


async def test_a_server_that_believes_its_memory_is_found(
    cluster: Cluster, clients: Clients
) -> None:
    chance = random.Random(5)
    with cluster.another(module="tests.cluster.forgetful_server") as forgetful:
        async with sojourn.connect(forgetful.target, app=clients.app, retry=PATIENT) as client:
            for number in range(20):
                if not holds(await record((clients.a, client), f"h-{number}", chance)):
                    return
    raise AssertionError("nobody has noticed")
