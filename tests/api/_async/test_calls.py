"""What happens to a call on its way: deadline, repeats, metadata, closing, limits."""

import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

import sojourn
from sojourn import ApiKey, AsyncClient, NewMessage, NewSession, RetryOptions, errors, testing
from sojourn._acompat import async_sleep
from sojourn.v1 import session_service_pb2
from tests.api.scripted import Failure, Script, reasoned
from tests.api.together import async_together

AWAY = Failure(grpc.StatusCode.UNAVAILABLE)
QUICK = RetryOptions(initial_backoff=timedelta(milliseconds=1))


@pytest.fixture
async def quick(script: Script) -> AsyncIterator[AsyncClient]:
    """A client with short pauses."""
    async with sojourn.connect(script.target, app="a", retry=QUICK, deadline=5) as client:
        yield client


def request_ids(script: Script) -> list[str]:
    kind = session_service_pb2.CreateSessionRequest
    return [kind.FromString(one.request).request_id for one in script.seen]


async def test_a_write_is_repeated_with_the_same_request_id(
    script: Script, quick: AsyncClient
) -> None:
    script.answers = [AWAY, AWAY]
    await quick.sessions.create("s")
    ids = request_ids(script)
    assert len(ids) == 3
    assert len(set(ids)) == 1
    await quick.sessions.create("s")
    assert len(set(request_ids(script))) == 2


async def test_a_write_whose_request_id_is_switched_off_is_not_repeated(
    script: Script, quick: AsyncClient
) -> None:
    script.always = AWAY
    with pytest.raises(errors.UnavailableError):
        await quick.sessions.create("s", request_id="")
    assert script.methods == ["CreateSession"]


async def test_a_read_is_repeated_until_the_attempts_are_used_up(
    script: Script, quick: AsyncClient
) -> None:
    script.always = AWAY
    with pytest.raises(errors.UnavailableError):
        await quick.sessions.get("s")
    assert script.methods == ["GetSession"] * RetryOptions().max_attempts


async def test_no_other_code_is_repeated(script: Script, quick: AsyncClient) -> None:
    for code in grpc.StatusCode:
        if code in {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}:
            continue
        script.seen.clear()
        # With a correlation id: a handler has answered. Without, CANCELLED is gRPC's own word.
        script.always = Failure(code, trailers=(("x-sojourn-correlation-id", "c0ffee"),))
        with pytest.raises(errors.SojournError):
            await quick.sessions.get("s")
        assert script.methods == ["GetSession"], code


async def test_the_server_s_pushback_is_obeyed(script: Script, quick: AsyncClient) -> None:
    pause = timedelta(milliseconds=150)
    script.answers = [reasoned(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", retry_after=pause)]
    begin = time.monotonic()
    await quick.sessions.get("s")
    assert time.monotonic() - begin >= 0.15
    script.always = Failure(
        grpc.StatusCode.UNAVAILABLE, trailers=(("grpc-retry-pushback-ms", "-1"),)
    )
    script.seen.clear()
    with pytest.raises(errors.UnavailableError):
        await quick.sessions.get("s")
    assert script.methods == ["GetSession"]


async def test_the_deadline_bounds_all_attempts_together(script: Script) -> None:
    slow = RetryOptions(
        max_attempts=1000,
        initial_backoff=timedelta(milliseconds=50),
        max_backoff=timedelta(milliseconds=50),
    )
    script.always = AWAY
    async with sojourn.connect(script.target, app="a", retry=slow, deadline=0.6) as client:
        begin = time.monotonic()
        with pytest.raises(errors.UnavailableError):
            await client.sessions.get("s")
        assert time.monotonic() - begin < 3.0
    assert len(script.seen) >= 3
    remaining = [one.time_remaining for one in script.seen]
    assert all(left <= 0.7 for left in remaining)
    assert remaining[-1] < remaining[0]


async def test_every_call_has_a_deadline(script: Script) -> None:
    async with sojourn.connect(script.target, app="a") as client:
        await client.sessions.create("s")
        assert script.seen[-1].time_remaining == pytest.approx(30, abs=1)
        await client.with_options(deadline=timedelta(seconds=3)).sessions.create("s")
        assert script.seen[-1].time_remaining == pytest.approx(3, abs=1)


async def test_a_server_that_hangs_is_a_deadline_exceeded(script: Script) -> None:
    script.hold = threading.Event()
    async with sojourn.connect(script.target, app="a", deadline=0.2) as client:
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await client.sessions.create("s")
    assert caught.value.method == "CreateSession"
    assert caught.value.request_id
    assert len(script.seen) == 1


async def test_actor_and_credentials_go_with_every_call(script: Script) -> None:
    key = ApiKey("k-1")
    async with sojourn.connect(
        script.target, app="a", actor="Änne", credentials=key, retry=QUICK
    ) as client:
        script.answers = [AWAY]
        await client.sessions.create("s")
        await client.with_options(actor="bob").sessions.create("s")
    actors = [one.metadata["x-sojourn-actor-bin"] for one in script.seen]
    assert actors == ["Änne".encode(), "Änne".encode(), b"bob"]
    assert {one.metadata["authorization"] for one in script.seen} == {"Bearer k-1"}


async def test_a_request_over_the_limit_is_not_sent(script: Script, quick: AsyncClient) -> None:
    large = [NewMessage("user", "a" * 1_000_000) for _ in range(5)]
    with pytest.raises(errors.RequestTooLargeError) as caught:
        await quick.messages.append("s", large)
    assert caught.value.metadata == {"limit_bytes": "4194304"}
    assert caught.value.method == "AppendMessages"
    with pytest.raises(errors.ContentTooLargeError):
        await quick.messages.append("s", NewMessage("user", "a" * 1_048_577))
    assert script.seen == []


async def test_a_wrong_field_is_not_sent(script: Script, quick: AsyncClient) -> None:
    for labels in ({"": "v"}, {"k": ""}, {"k": None}, {1: "v"}):
        with pytest.raises(errors.InvalidFieldError) as caught:
            await quick.sessions.create("s", labels=labels)  # type: ignore[arg-type]
        assert "labels" in caught.value.field_violations[0].field
        with pytest.raises(errors.InvalidFieldError):
            await quick.sessions.update("s", labels=labels)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidFieldError):
        await quick.sessions.create("s", state={"x": float("nan")})
    assert script.seen == []


async def test_a_call_without_an_app_is_not_sent(script: Script) -> None:
    async with sojourn.connect(script.target) as client:
        with pytest.raises(errors.InvalidFieldError, match="app"):
            await client.sessions.get("s")
        await client.sessions.get("s", app="b")
        await client.with_options(app="c").sessions.get("s")
    assert len(script.seen) == 2


async def test_a_closed_client_says_so(script: Script) -> None:
    client = sojourn.connect(script.target, app="a")
    await client.sessions.create("s")
    await client.close()
    await client.close()
    for _ in range(2):
        with pytest.raises(errors.ClientClosedError):
            await client.sessions.create("s")
    with pytest.raises(errors.ClientClosedError):
        _ = client.stubs


async def test_closing_ends_calls_that_are_under_way(script: Script) -> None:
    script.hold = threading.Event()
    client = sojourn.connect(script.target, app="a")

    async def close() -> None:
        while not script.seen:
            await async_sleep(0.01)
        await client.close()

    outcomes = await async_together(lambda: client.sessions.create("s"), close)
    assert isinstance(outcomes[0], errors.ClientClosedError)


async def test_the_raw_stubs_are_within_reach(client: AsyncClient, app: str) -> None:
    request = session_service_pb2.CreateSessionRequest(
        app=app, session=session_service_pb2.NewSession(session_id="raw")
    )
    answer = await client.stubs.sessions.CreateSession(request, timeout=5)
    assert answer.created
    assert (await client.sessions.get("raw")).is_active


async def test_a_thousand_increments_give_exactly_a_thousand(client: AsyncClient) -> None:
    await client.sessions.create("s")
    one = sojourn.MetricsDelta(requests=1)
    for _ in range(10):
        await async_together(*[lambda: client.sessions.update("s", metrics=one)] * 100)
    assert (await client.sessions.get("s")).metrics.request_count == 1000


async def test_concurrent_pops_share_a_history_without_overlap(client: AsyncClient) -> None:
    await client.sessions.create("s")
    messages = [NewMessage("user", str(number)) for number in range(100)]
    await client.messages.append("s", messages)
    results = await async_together(*[lambda: client.messages.pop("s")] * 50)
    popped = [
        message.content
        for result in results
        if isinstance(result, sojourn.PopResult)
        for message in result.messages
    ]
    assert len(popped) == len(set(popped)) == 50


async def test_only_one_of_many_creates_wins(client: AsyncClient) -> None:
    outcomes = await async_together(*[lambda: client.sessions.create("s")] * 20)
    created = [one for one in outcomes if isinstance(one, sojourn.Session)]
    assert len(created) == 1
    assert all(isinstance(one, errors.SessionExistsError | sojourn.Session) for one in outcomes)


async def test_only_one_of_many_turns_wins(client: AsyncClient) -> None:
    await client.sessions.create("s")
    outcomes = await async_together(*[lambda: client.turns.begin("s")] * 20)
    conflicts = [one for one in outcomes if isinstance(one, errors.TurnConflictError)]
    assert len(conflicts) == 19


async def test_a_server_of_one_s_own_runs_in_the_tests() -> None:
    async with testing.serve() as server, server.client(app="mine") as client:
        await client.sessions.create_many([NewSession("a"), NewSession("b")])
        assert await client.sessions.list().count() == 2
        assert server.target.startswith("127.0.0.1:")
    async with testing.serve(unknown_apps=False) as server, server.client(app="mine") as client:
        with pytest.raises(errors.AppUnknownError) as caught:
            await client.sessions.create("s")
        assert caught.value.metadata == {"app": "mine"}
