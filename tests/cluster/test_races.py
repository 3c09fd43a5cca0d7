"""Drain, reset and erasure while 32 callers are at work through two servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc.aio
import pytest

import sojourn
from sojourn.v1 import app_pb2, app_service_pb2, session_service_pb2
from sojourn_server.domain.model import ChangeCause
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import USER, Clients, Cluster, log_of
from tests.cluster.test_operations import (
    CALLERS,
    LATE,
    apps_of,
    by_cause,
    fill,
    sessions_of,
    until_deleted,
)
from tests.faults import counts
from tests.faults.harness import reason_of

SECONDS = counts.count("race_seconds")
"""How long such a race goes on."""
BOB = "bob"
pytestmark = pytest.mark.timeout(counts.patience("race_seconds", 4))
GONE = (sojourn.errors.SessionNotFoundError, sojourn.errors.UidMismatchError)


async def test_a_drain_lets_nobody_in_and_waits_for_all_who_were(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    """Each caller creates, takes turns, ends them and its sessions, as agents do."""
    outcomes: Counter[str] = Counter()

    async def agent(number: int) -> None:
        client = clients[number % 2]
        for work in range(10_000):
            name = f"s-{number}-{work}"
            try:
                await client.sessions.create(name, user=USER, idle_timeout=None)
            except LATE:
                outcomes["late to create"] += 1
                return
            try:
                token = (await client.turns.begin(name, user=USER)).turn_token
            except sojourn.errors.AppDrainingError:
                outcomes["late to begin"] += 1
            else:
                precondition = sojourn.Precondition(turn_token=token)
                text = sojourn.NewMessage("user", "x")
                await client.messages.append(name, text, user=USER, precondition=precondition)
                await client.turns.end(token)
            # Whatever was let in may finish, turn or not: nothing is taken from under it.
            await clients[(number + 1) % 2].sessions.end(name, user=USER)
            outcomes["done"] += 1

    drain = app_service_pb2.DeleteAppRequest(
        app=clients.app, mode=app_service_pb2.DELETE_MODE_DRAIN
    )
    async with apps_of(cluster) as stubs:
        agents = [asyncio.create_task(agent(number)) for number in range(CALLERS)]
        await asyncio.sleep(SECONDS)
        answers = await asyncio.gather(*(stubs[number % 2].DeleteApp(drain) for number in range(2)))
        await asyncio.gather(*agents)
        assert app_pb2.APP_STATUS_DRAINING in {answer.status for answer in answers}
        await until_deleted(stubs[0], clients.app)
    log = await log_of(store, clients.app)
    draining = by_cause(log, ChangeCause.APP_DRAINING)[0].revision
    for cause in (ChangeCause.CREATED, ChangeCause.TURN_BEGAN):
        assert max(each.revision for each in by_cause(log, cause)) < draining
    assert [each.cause for each in log].count(ChangeCause.APP_DELETED) == 1
    assert log[-1].cause is ChangeCause.APP_DELETED
    created = {each.uid for each in by_cause(log, ChangeCause.CREATED)}
    for cause in (ChangeCause.ENDED, ChangeCause.DELETED):
        assert Counter(each.uid for each in by_cause(log, cause)) == Counter(created)
    # Nobody was ended by the drain: each ended by its own agent.
    last = by_cause(log, ChangeCause.ENDED)[-1].revision
    assert min(each.revision for each in by_cause(log, ChangeCause.DELETED)) > last
    assert outcomes["late to create"] == CALLERS
    assert outcomes["done"] == len(created)


async def test_no_message_survives_a_reset_and_none_is_lost_after_it(clients: Clients) -> None:
    """Half of the appenders name the generation they mean, half take what there is."""
    name = "s"
    made = await clients.a.sessions.create(name, user=USER)
    current = made.generation
    kept: dict[str, int] = {}
    outcomes: Counter[str] = Counter()
    done = asyncio.Event()

    async def appender(number: int) -> None:
        client = clients[number % 2]
        careful = number % 4 < 2
        for turn in range(10_000):
            if done.is_set():
                return
            meant = current
            text = f"{number}/{turn}"
            precondition = sojourn.Precondition(generation=meant) if careful else None
            try:
                answer = await client.messages.append(
                    name, sojourn.NewMessage("user", text), user=USER, precondition=precondition
                )
            except sojourn.errors.GenerationChangedError:
                outcomes["changed"] += 1
                continue
            if careful:
                assert answer.session.generation == meant
            outcomes["appended"] += 1
            kept[text] = answer.session.generation

    async def resetter() -> None:
        nonlocal current
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while loop.time() < end:
            client = clients[outcomes["reset"] % 2]
            answer = await client.sessions.reset(name, user=USER)
            assert answer.session.generation == current + 1
            outcomes["reset"] += 1
            current = answer.session.generation
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        done.set()

    await asyncio.gather(resetter(), *(appender(number) for number in range(CALLERS)))
    left = [each.content async for each in clients.a.messages.list(name, user=USER)]
    assert Counter(left) == Counter(text for text, made in kept.items() if made == current)
    assert left
    assert min(outcomes["appended"], outcomes["changed"], outcomes["reset"]) > 0, outcomes
    assert (await clients.b.sessions.get(name, user=USER)).message_count == len(left)


async def test_a_user_is_erased_through_both_servers_while_32_callers_are_at_work(
    clients: Clients, store: PostgresStore
) -> None:
    """What there was goes, once; what is created meanwhile stays; others notice nothing."""
    await fill(clients)
    await clients.a.sessions.create_many(
        [sojourn.NewSession(f"b-{number}", user=BOB) for number in range(8)]
    )
    old = {each.uid async for each in clients.a.sessions.list(user=USER)}
    texts: dict[str, list[str]] = {f"b-{number}": [] for number in range(8)}
    new: set[str] = set()
    outcomes: Counter[str] = Counter()
    done = asyncio.Event()

    async def caller(number: int) -> None:
        client = clients[number % 2]
        for turn in range(10_000):
            text = f"{number}/{turn}"
            message = sojourn.NewMessage("user", text)
            if number % 4 == 0:
                new.add((await client.sessions.create(f"n-{text}", user=USER)).uid)
            elif number % 4 == 1:
                answer = await client.messages.append(f"b-{number % 8}", message, user=BOB)
                texts[answer.session.session_id].append(text)
            else:
                try:
                    await client.messages.append(f"s-{(number + turn) % 200}", message, user=USER)
                except GONE:
                    outcomes["gone"] += 1
            if done.is_set():
                return

    async def erase() -> list[sojourn.EraseResult]:
        try:
            await asyncio.sleep(0.1)
            same = [clients[number % 2].users.erase(USER, request_id="e") for number in range(4)]
            return await asyncio.gather(*same, clients.b.users.erase(USER))
        finally:
            done.set()

    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    receipts = await erase()
    await asyncio.gather(*callers)
    assert len({(each.sessions, each.revision) for each in receipts[:4]}) == 1
    left = {each.uid async for each in clients.b.sessions.list(user=USER)}
    assert not left & old
    assert left <= new
    # The two receipts share what there was, and what was created before the second began.
    assert receipts[0].sessions + receipts[4].sessions == len(old) + len(new - left)
    assert outcomes["gone"]
    log = await log_of(store, clients.app)
    gone = Counter(each.uid for each in by_cause(log, ChangeCause.DELETED))
    assert gone == Counter(old | (new - left))
    named = [each.after for each in by_cause(log, ChangeCause.CREATED) if each.after is not None]
    assert {each.uid for each in named if each.user == USER} == left
    assert not any(
        session is not None and session.uid in gone
        for each in log
        for session in (each.before, each.after)
    )
    for name, wrote in texts.items():
        read = [each.content async for each in clients.a.messages.list(name, user=BOB)]
        assert Counter(read) == Counter(wrote)


async def test_one_request_id_through_both_servers_deletes_once(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    await fill(clients)
    request = session_service_pb2.DeleteSessionsRequest(app=clients.app, all=True, request_id="r")
    other = session_service_pb2.DeleteSessionsRequest(app=clients.app, user=BOB, request_id="r")
    async with sessions_of(cluster) as stubs:
        answers: list[Any] = await asyncio.gather(
            *(stubs[number % 2].DeleteSessions(request) for number in range(CALLERS))
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs[1].DeleteSessions(other)
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"
    assert {answer.count for answer in answers} == {200}
    assert len({answer.revision for answer in answers}) == 1
    gone = Counter(
        each.uid for each in by_cause(await log_of(store, clients.app), ChangeCause.DELETED)
    )
    assert len(gone) == 200
    assert set(gone.values()) == {1}
