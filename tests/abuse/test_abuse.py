"""Whatever a connection does, the server lives and an honest client goes on.

`honest` in each test is such a client: none of its calls may fail. What it met is printed.
"""

from __future__ import annotations

import asyncio
import gzip
import resource
from pathlib import Path

import grpc.aio
import pytest

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
)
from tests.abuse import attacks
from tests.abuse.victim import CREATE, GET, MIB, HalfOpen, Victim, get_call, too_large
from tests.faults import counts
from tests.faults.checker import until
from tools.h2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    Call,
    Connection,
    call_headers,
    frame,
    literal,
    message,
)

RESET_RATE = 10_000
SECONDS = counts.count("reset_seconds")
LIST = "/sojourn.v1.HistoryService/ListMessages"


@pytest.mark.timeout(counts.patience("reset_seconds", 4))
@pytest.mark.parametrize(
    ("kind", "connections"),
    [("whole", 4), ("whole", 1), ("without a request", 4)] if SECONDS > 5 else [("whole", 4)],
)
async def test_ten_thousand_resets_a_second(victim: Victim, kind: str, connections: int) -> None:
    call = get_call() if kind == "whole" else Call(GET, None)
    async with victim.abused(f"resets of calls {kind}, {connections} connections"):
        found = await asyncio.to_thread(
            attacks.rapid_resets, victim.target, call, RESET_RATE, SECONDS, connections
        )
    assert found.sent == RESET_RATE * SECONDS
    counts.report("  resets", found.sent, f"{found.rate:,.0f} a second")


async def test_answers_that_nobody_reads(victim: Victim) -> None:
    ref = session_pb2.SessionRef(app="unread", user="u", session_id="large")
    ask = Call(
        LIST, history_service_pb2.ListMessagesRequest(session=ref, page_size=1).SerializeToString()
    )
    async with grpc.aio.insecure_channel(victim.target) as channel:
        await history_service_pb2_grpc.HistoryServiceStub(channel).AppendMessages(
            history_service_pb2.AppendMessagesRequest(
                session=ref,
                messages=[message_pb2.NewMessage(role="user", content="x" * (MIB - 2_000))],
                create_if_missing=True,
            ),
            timeout=60,
        )
    async with victim.abused("answers of 1 MiB that nobody reads") as honest:
        greedy = await asyncio.to_thread(attacks.unread_answers, victim.target, ask, 1_000)
        await honest.more(200)
        greedy.close()

        async def answered() -> bool:
            return await asyncio.to_thread(_is_answered, victim, ask)

        await until(answered, "what they took is given back: the same app answers again")


def _is_answered(victim: Victim, call: Call) -> bool:
    """Whether a call gets a message, and not a refusal."""
    with Connection(victim.target, s4=4 * MIB) as connection:
        connection.send(call.frames(connection.stream()))
        _read_to_the_end(connection)
        return connection.got["DATA"] > 0


def _read_to_the_end(connection: Connection) -> None:
    """Read until a stream has ended."""
    for _ in range(100):
        if connection.ended or connection.closed:
            return
        connection.read(0.2)
    raise AssertionError("there was no answer")


@pytest.mark.timeout(180)
async def test_two_thousand_connections(victim: Victim) -> None:
    count = counts.count("connections")
    async with victim.abused("connections") as honest:
        found, opened = await asyncio.to_thread(
            attacks.many_connections, victim.target, get_call(), count
        )
        await honest.more(10)
        for connection in opened:
            connection.close()
    assert found.ended == {"answered": count}
    counts.report("  connections", count, f"opened within {found.seconds:.1f} s, all answered")


async def test_connections_beyond_the_limit_are_closed(victim: Victim) -> None:
    with Victim(victim.folder / "few", "--max-connections", "20") as few:
        async with few.abused("connections beyond the limit") as honest:
            opened = [Connection(few.target) for _ in range(60)]

            async def closed() -> bool:
                for each in opened:
                    each.read()
                return sum(each.closed for each in opened) == 41

            await until(closed, lambda: f"{sum(each.closed for each in opened)} of 60 closed")
            for each in opened:
                each.close()
            await honest.more(10)


def test_the_server_allows_itself_the_files_that_connections_need(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1_500:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    try:
        with Victim(tmp_path, "--max-connections", "1000") as few:
            allowed = resource.prlimit(few.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert allowed == (1_500, hard)


async def test_floods_of_pings(victim: Victim) -> None:
    told = 0
    async with victim.abused("floods of pings"):
        for _ in range(5):
            with Connection(victim.target) as connection:
                await asyncio.to_thread(attacks.flood, connection, attacks.pings(50), 10_000)
                # Whoever still sends when the server closes may lose what it said last.
                assert connection.goaway or connection.closed
                told += b"too_many_pings" in connection.goaway
    assert told


async def test_floods_of_settings(victim: Victim) -> None:
    async with victim.abused("floods of settings"):
        with Connection(victim.target) as connection:
            flood = attacks.settings_frames(50)
            sent = await asyncio.to_thread(attacks.flood, connection, flood, 10_000)
            assert sent == 10_000 or connection.closed


async def test_floods_of_headers(victim: Victim) -> None:
    more = frame(CONTINUATION, 0, 1, literal("x-a", b"b" * 16_000))
    async with victim.abused("floods of headers"):
        for waits in (True, False):
            with Connection(victim.target) as connection:
                if waits:
                    # Limits hold once they were acknowledged.
                    connection.read_until(0.2)
                connection.send(frame(HEADERS, 0, connection.stream(), call_headers(GET)))
                await asyncio.to_thread(_send_again, connection, more, 20_000)


def _send_again(connection: Connection, data: bytes, times: int) -> None:
    for _ in range(times):
        if not connection.send(data):
            return


@pytest.mark.parametrize(("size", "refused"), [(12_000, False), (17_000, True), (60_000, True)])
def test_metadata_is_taken_up_to_a_size_and_never_by_chance(
    victim: Victim, size: int, refused: bool
) -> None:
    block = call_headers(GET, ("x-large", b"a" * size))
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    for _ in range(5):
        with Connection(victim.target) as connection:
            connection.read_until(0.05)
            stream = connection.stream()
            kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
            flags = [0] * (len(parts) - 1) + [END_HEADERS]
            for kind, flag, part in zip(kinds, flags, parts, strict=True):
                connection.send(frame(kind, flag, stream, part))
            connection.send(frame(DATA, END_STREAM, stream, get_call().body or b""))
            _read_to_the_end(connection)
            assert (b"metadata size exceeds" in connection.last_trailers) is refused


async def test_halves_of_large_requests(victim: Victim) -> None:
    async with victim.abused("halves of requests of 8 MiB", room=1_200 * MIB) as honest:
        uploads = await asyncio.to_thread(
            attacks.half_requests, victim.target, CREATE, 200, 8 * MIB - 100
        )
        await honest.more(20)
        assert uploads.ended[0] >= 136, "all but 64 are refused"
        uploads.close()


async def test_streams_beyond_the_limit_of_a_connection(victim: Victim) -> None:
    async with victim.abused("3,000 calls without a request") as honest:
        with Connection(victim.target) as connection:
            connection.read_until(0.2)
            for _ in range(3_000):
                connection.send(Call(GET, None).frames(connection.stream()))
                connection.read()
            connection.read_until(1.0)
            assert connection.ended[7] >= 2_000, "REFUSED_STREAM"
            await honest.more(10)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_a_compressed_request_is_refused_and_not_inflated(
    victim: Victim, encoding: bytes
) -> None:
    bomb = gzip.compress(b"\0" * (200 * MIB), 1) if encoding == b"gzip" else b"x" * 1_000
    async with victim.abused(f"requests by {encoding.decode()}", room=64 * MIB):
        with Connection(victim.target) as connection:
            stream = connection.stream()
            headers = call_headers(GET, ("grpc-encoding", encoding))
            connection.send(frame(HEADERS, END_HEADERS, stream, headers))
            connection.send(
                frame(DATA, END_STREAM, stream, message(bomb, compressed=True)[:16_384])
            )
            _read_to_the_end(connection)
            assert b"is disabled" in connection.last_trailers
            assert literal("grpc-status", b"12")[1:] in connection.last_trailers, "UNIMPLEMENTED"


async def test_a_request_that_announces_too_much_is_refused_at_once(victim: Victim) -> None:
    async with victim.abused("requests that announce 2 GiB", room=64 * MIB):
        with Connection(victim.target) as connection:
            stream = connection.stream()
            connection.send(frame(HEADERS, END_HEADERS, stream, call_headers(GET)))
            connection.send(frame(DATA, 0, stream, too_large(2**31 - 1)))
            _read_to_the_end(connection)
            assert literal("grpc-status", b"8")[1:] in connection.last_trailers


async def test_half_open_connections_are_closed(victim: Victim, half_open: HalfOpen) -> None:
    async with victim.abused("half-open connections") as honest:

        async def closed() -> bool:
            return not half_open.still_open()

        await until(closed, lambda: f"still open: {half_open.still_open()}")
        await honest.more(10)
