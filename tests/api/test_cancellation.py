"""What only the async client knows: cancellation, and event loops."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

import sojourn
from sojourn import AsyncClient, Status, errors, testing
from tests.api.scripted import scripted_server
from tests.api.scripted_parts import parts_server


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with testing.serve() as server, server.client(app="a") as client:
        yield client


async def cancelled_inside(block: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Cancel the task once it is in its block; the cancellation must come out."""
    await block.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_session_has_failed(client: AsyncClient) -> None:
    block = asyncio.Event()

    async def work() -> None:
        async with client.session("s"):
            block.set()
            await asyncio.sleep(60)

    await cancelled_inside(block, asyncio.create_task(work()))
    session = await client.sessions.get("s")
    assert (session.status, session.end_reason) == (Status.FAILED, "CancelledError")


async def test_a_session_whose_creation_is_cancelled_is_not_left_active(
    client: AsyncClient,
) -> None:
    async def work(name: str) -> None:
        async with client.session(name):
            await asyncio.sleep(60)

    await client.sessions.create("warm")
    await client.sessions.end("warm")
    for number in range(40):
        task = asyncio.create_task(work(f"s-{number}"))
        # From before the request is sent to after it is answered.
        await asyncio.sleep(number * 0.00025)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [session.session_id async for session in client.sessions.list()] == []


async def test_a_child_whose_creation_is_cancelled_is_not_left_to_its_lease(
    client: AsyncClient,
) -> None:
    parent = await client.attach("parent")

    async def work() -> None:
        async with parent.child(lease=3_600):
            await asyncio.sleep(60)

    for number in range(40):
        task = asyncio.create_task(work())
        # From before the request is sent to after it is answered.
        await asyncio.sleep(number * 0.00025)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await parent.children(status=Status.ACTIVE).count() == 0
    assert await parent.children().count() > 0


async def test_a_cancelled_turn_ends_as_an_error_and_its_child_with_it(
    client: AsyncClient,
) -> None:
    block = asyncio.Event()
    session = await client.attach("s")

    async def work() -> None:
        async with session.turn(), session.child("sub"):
            block.set()
            await asyncio.sleep(60)

    await cancelled_inside(block, asyncio.create_task(work()))
    stored = await session.refresh()
    assert stored.turn is None
    assert (stored.metrics.request_count, stored.metrics.error_count) == (1, 1)
    assert (await client.sessions.get("sub")).status is Status.FAILED


async def test_a_second_cancellation_does_not_stop_the_end(client: AsyncClient) -> None:
    block = asyncio.Event()

    async def work() -> None:
        async with client.session("s"):
            block.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await block.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.sessions.get("s")).status is Status.FAILED


async def test_a_timeout_of_the_caller_s_own_passes_through(client: AsyncClient) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), client.session("s"):
            await asyncio.sleep(60)
    assert (await client.sessions.get("s")).status is Status.FAILED


async def test_a_call_that_is_cancelled_raises_the_cancellation() -> None:
    with scripted_server() as script:
        script.hold = threading.Event()
        async with sojourn.connect(script.target, app="a") as client:
            task = asyncio.create_task(client.sessions.get("s"))
            while not script.seen:  # noqa: ASYNC110 - the server is in another thread
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_attempts_after_a_cancelled_one_are_not_made(client: AsyncClient) -> None:
    session = await client.attach("s")
    tries = 0

    async def work() -> None:
        nonlocal tries
        async for attempt in sojourn.retrying(session):
            async with attempt:
                tries += 1
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await work()
    assert tries == 1
    assert (await session.refresh()).is_active


async def test_turns_are_taken_one_after_the_other(client: AsyncClient) -> None:
    working = 0

    async def work() -> None:
        nonlocal working
        session = await client.attach("s")
        async with session.turn(on_conflict=sojourn.OnConflict.WAIT, wait_timeout=20):
            working += 1
            assert working == 1
            await asyncio.sleep(0.01)
            working -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    assert (await client.sessions.get("s")).metrics.request_count == 10


def test_a_client_belongs_to_one_event_loop() -> None:
    client = sojourn.connect("localhost:1", app="a", retry=sojourn.RetryOptions(max_attempts=1))

    async def use() -> None:
        await client.sessions.get("s")

    with pytest.raises(errors.UnavailableError):
        asyncio.run(use())
    with pytest.raises(errors.ConfigurationError, match="loop"):
        asyncio.run(use())
    with pytest.raises(errors.ConfigurationError, match="loop"):
        _ = client.stubs


class Endless(io.BytesIO):
    """A file that begins like an export and never comes to an end."""

    def __init__(self) -> None:
        super().__init__()
        self.read_once = threading.Event()
        self.leave = threading.Event()

    def seekable(self) -> bool:
        return False

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"session":{"session":{"key":{"session_id":"s"}}}}\n'
        self.read_once.set()
        self.leave.wait(30)


async def test_a_cancelled_import_ends_at_once_and_is_not_whole() -> None:
    file = Endless()
    with parts_server() as script:
        script.patience = 0.5
        async with sojourn.connect(script.target, app="a") as client:
            task = asyncio.create_task(client.admin.import_jsonl(file))
            assert await asyncio.to_thread(file.read_once.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not file.leave.is_set()
            file.leave.set()
    assert True not in script.whole


async def test_a_client_that_is_closed_ends_its_imports() -> None:
    file = Endless()
    with parts_server() as script:
        client = sojourn.connect(script.target, app="a")
        task = asyncio.create_task(client.admin.import_jsonl(file))
        assert await asyncio.to_thread(file.read_once.wait, 10)
        await client.close()
        with pytest.raises(errors.ClientClosedError):
            await task
        file.leave.set()
