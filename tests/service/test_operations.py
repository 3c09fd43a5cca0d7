"""Work of many units: it is done once and to the end, whoever brings it on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import Change, ChangeCause
from sojourn_server.jobs import operations as job
from sojourn_server.service import Services
from sojourn_server.service.deleting import DeleteMode
from sojourn_server.service.operations import WAIT, Begun, Done, Task, Wait
from sojourn_server.service.work import Defaults, Work
from sojourn_server.store.base import StoreDown
from tests.service.kit import APP, World, refused
from tests.service.test_jobs import running, until

STEPS = 5


class Counting(msgspec.Struct):
    """What the operation of these tests comes to."""

    count: int


def encode(count: int) -> bytes:
    return msgspec.msgpack.encode(Counting(count))


async def begin(_: Work) -> Begun:
    return Begun(encode(0))


async def step(work: Work, task: Task) -> bytes | Done:
    """Log one change a step."""
    count = msgspec.msgpack.decode(task.order.state, type=Counting).count + 1
    await work.require_app(task.app)
    await work.tx.log(Change(cause=ChangeCause.APP_UPDATED))
    return Done(encode(count)) if count == STEPS else encode(count)


class Counter:
    """Two servers' worth of use cases over one store, with an operation that counts."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.apps.add(APP)
        other = Services(
            world.store,
            world.services.sealer,
            world.services.units.limits,
            Defaults(idle_timeout=0, max_lifetime=0),
        )
        self.operations = [world.services.operations, other.operations]
        self.use(step)

    def use(self, step: Callable[[Work, Task], Awaitable[bytes | Done | Wait]]) -> None:
        for each in self.operations:
            each.register("EndSessions", step)

    async def run(self, server: int = 0, request_id: str = "r", payload: bytes = b"same") -> Any:
        call = self.world.call("EndSessions", request_id, payload)
        return await self.operations[server].run(call, APP, "EndSessions", Counting, begin)

    async def steps(self) -> int:
        """How many steps were taken."""
        log = await self.world.log()
        return sum(change.cause is ChangeCause.APP_UPDATED for change in log)

    async def left(self) -> int:
        found = await self.world.store.read(
            lambda tx: tx.operations(self.world.clock.now() + SECOND, 100)
        )
        return len(found)

    async def close(self) -> None:
        for each in self.operations:
            await each.close()


@pytest.fixture
async def counter(world: World) -> Any:
    made = Counter(world)
    yield made
    await made.close()


async def test_an_operation_is_brought_to_its_end(counter: Counter) -> None:
    answer = await counter.run()
    assert answer.outcome.count == STEPS
    assert answer.revision == await counter.world.head()
    assert await counter.steps() == STEPS
    assert await counter.left() == 0


async def test_a_repeat_answers_what_it_came_to(counter: Counter) -> None:
    first = await counter.run()
    assert (await counter.run()).revision == first.revision
    assert (await counter.run(1)).outcome == first.outcome
    assert await counter.steps() == STEPS
    with refused(Reason.REQUEST_ID_REUSED):
        await counter.run(payload=b"other")


async def test_one_without_a_request_id_is_a_new_one_each_time(counter: Counter) -> None:
    assert (await counter.run(request_id="")).outcome.count == STEPS
    assert (await counter.run(request_id="")).outcome.count == STEPS
    assert await counter.steps() == 2 * STEPS


async def test_32_callers_with_one_request_id_on_two_servers_do_it_once(counter: Counter) -> None:
    answers = await asyncio.gather(*(counter.run(number % 2) for number in range(32)))
    assert {answer.outcome.count for answer in answers} == {STEPS}
    assert len({answer.revision for answer in answers}) == 1
    assert await counter.steps() == STEPS


async def test_another_payload_is_refused_while_it_runs(counter: Counter) -> None:
    async def waits(work: Work, task: Task) -> bytes | Done | Wait:
        return WAIT

    counter.use(waits)
    task = asyncio.create_task(counter.run())
    await until(counter.left)
    with refused(Reason.REQUEST_ID_REUSED):
        await counter.run(1, payload=b"other")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_it_goes_on_when_its_caller_leaves(counter: Counter) -> None:
    gone = False
    driven = asyncio.Event()

    async def once_gone(work: Work, task: Task) -> bytes | Done | Wait:
        driven.set()
        return await step(work, task) if gone else WAIT

    counter.use(once_gone)
    task = asyncio.create_task(counter.run())
    # Not before: of one whose caller leaves earlier only the job knows, and there is none here.
    await driven.wait()
    gone = True
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    async def done() -> bool:
        return await counter.steps() == STEPS

    await until(done)
    assert (await counter.run()).outcome.count == STEPS


async def stopped_halfway(counter: Counter) -> None:
    """An operation whose server died after two steps."""
    taken = 0

    async def dies(work: Work, task: Task) -> bytes | Done:
        nonlocal taken
        taken += 1
        if taken > 2:
            raise Refusal(Reason.INTERNAL, "the server dies")
        return await step(work, task)

    counter.use(dies)
    with refused(Reason.INTERNAL):
        await counter.run()
    await counter.operations[0].close()
    counter.use(step)
    assert await counter.steps() == 2
    assert await counter.left() == 1


async def test_the_job_takes_up_what_nobody_brings_on(counter: Counter) -> None:
    world = counter.world
    await stopped_halfway(counter)
    async with running(job.run(world.store, counter.operations[1], 0.02)):
        await asyncio.sleep(0.1)
        assert await counter.steps() == 2, "it was taken up at once, from under its server"
        world.clock.step(3)

        async def done() -> bool:
            return await counter.left() == 0

        await until(done)
    assert await counter.steps() == STEPS
    assert (await counter.run()).outcome.count == STEPS
    assert await counter.steps() == STEPS


async def test_a_retry_goes_on_from_where_it_stopped(counter: Counter) -> None:
    await stopped_halfway(counter)
    assert (await counter.run(1)).outcome.count == STEPS
    assert await counter.steps() == STEPS


async def test_what_it_holds_is_erased_when_it_is_done(counter: Counter) -> None:
    held: list[int] = []

    async def with_content(work: Work) -> Begun:
        held.append(await work.tx.put_content(b"the reason"))
        return Begun(encode(0), (held[-1],))

    call = counter.world.call("EndSessions", "r")
    await counter.operations[0].run(call, APP, "EndSessions", Counting, with_content)
    store = counter.world.store
    assert await store.read(lambda tx: tx.content(held[0])) == b""


async def test_a_job_that_fails_leaves_alone_what_callers_wait_for(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = asyncio.Event()

    async def held(work: Work, task: Task) -> bytes | Done | Wait:
        return await step(work, task) if goes_on.is_set() else WAIT

    counter.use(held)
    asked = asyncio.create_task(counter.run())
    await until(counter.left)

    async def down(job: str) -> bool:
        raise StoreDown("the connection is gone")

    monkeypatch.setattr(counter.world.store, "leads", down)
    with pytest.raises(StoreDown):
        await job.run(counter.world.store, counter.operations[0], 0.02)
    goes_on.set()
    assert (await asked).outcome.count == STEPS


async def test_one_that_cannot_go_on_is_not_passed_over_in_silence(counter: Counter) -> None:
    heard: list[BaseException] = []
    counter.operations[1].note_failed = heard.append
    await stopped_halfway(counter)

    async def bad(work: Work, task: Task) -> bytes | Done | Wait:
        raise ZeroDivisionError

    counter.use(bad)
    counter.world.clock.step(3)
    async with running(job.run(counter.world.store, counter.operations[1], 0.02)):

        async def told() -> bool:
            return bool(heard)

        await until(told)
    assert isinstance(heard[0], ZeroDivisionError)


async def test_each_step_is_taken_in_the_name_of_who_asked_last(world: World) -> None:
    await world.create("s")
    for actor, mode in (("ann", DeleteMode.DRAIN), ("bob", DeleteMode.FORCE)):
        call = msgspec.structs.replace(world.call("DeleteApp"), actor=actor)
        await world.services.deletion.delete(call, APP, mode)
    told = [(each.cause, each.actor) for each in await world.log()]
    assert told[2:] == [
        (ChangeCause.APP_DRAINING, "ann"),
        (ChangeCause.APP_DRAINING, "bob"),
        (ChangeCause.ENDED, "bob"),
        (ChangeCause.DELETED, "bob"),
        (ChangeCause.APP_DELETED, "bob"),
    ]
