"""The composition root: a whole server, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sojourn.v1 import admin_service_pb2 as admin_pb
from sojourn.v1 import admin_service_pb2_grpc as admin_grpc
from sojourn.v1 import session_pb2
from sojourn.v1 import session_service_pb2 as pb
from sojourn.v1 import session_service_pb2_grpc as stubs
from sojourn.v1 import turn_service_pb2 as turn_pb
from sojourn.v1 import turn_service_pb2_grpc as turn_grpc
from sojourn_server import app
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.app import CannotListen, RunningServer, start, supervise
from sojourn_server.settings import Settings
from sojourn_server.store.base import StoreDown, StoreUnusable
from tests.api.certificates import make_pair
from tests.unit.rpc.wire import failed


def settings_in(folder: Path, **values: Any) -> Settings:
    return Settings(**{"listen": "127.0.0.1:0", "store": f"sqlite:///{folder}/s.db", **values})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    running = await start(settings_in(tmp_path, port_file=tmp_path / "port"))
    yield running
    await running.stop()


@pytest.fixture
async def channel(server: RunningServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.target) as opened:
        yield opened


def port_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if "port" in path.name]


def creation(session_id: str) -> pb.CreateSessionRequest:
    return pb.CreateSessionRequest(app="a", session=pb.NewSession(session_id=session_id))


def ref(session_id: str) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app="a", session_id=session_id)


async def test_a_session_is_created_and_read(channel: grpc.aio.Channel):
    sessions = stubs.SessionServiceStub(channel)
    await sessions.CreateSession(creation("s"))
    read = await sessions.GetSession(pb.GetSessionRequest(session=ref("s"), view=3))  # type: ignore[arg-type]
    assert read.session.key.session_id == "s"
    assert read.revision == 1


async def test_the_port_is_told_and_the_file_goes_with_the_server(tmp_path: Path):
    port_file = tmp_path / "port"
    running = await start(settings_in(tmp_path, port_file=port_file))
    assert running.port > 0
    assert running.target == f"127.0.0.1:{running.port}"
    assert port_file.read_text() == f"{running.port}\n"
    assert port_file.stat().st_mode & 0o777 == 0o600
    await running.stop()
    assert port_files(tmp_path) == []


async def test_secrets_that_everybody_may_read_are_told_of_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[tuple[Path, str]] = []
    monkeypatch.setattr(app, "warn_of_readers", lambda path, name: told.append((path, name)))
    pair = make_pair(tmp_path, "server")
    files = {"tls_key": pair.key, "keys_file": tmp_path / "keys", "store_file": tmp_path / "store"}
    keys.write_file(files["keys_file"], KeyFile())
    files["store_file"].write_text(f"sqlite:///{tmp_path / 'other.db'}", encoding="utf-8")
    server = await start(settings_in(tmp_path, tls_cert=pair.cert, **files))
    await server.stop(0)
    assert {name: path for path, name in told} == files


async def test_the_server_says_what_it_is(channel: grpc.aio.Channel):
    before = time.time()
    info = await admin_grpc.AdminServiceStub(channel).GetServerInfo(admin_pb.GetServerInfoRequest())
    assert info.version == app.version()
    assert info.store == "sqlite"
    assert info.store_version.startswith("3.")
    assert info.schema_version >= 1
    assert abs(info.start_time.seconds - before) < 60
    assert not info.draining


async def test_health_is_served_for_reads_writes_and_each_service(channel: grpc.aio.Channel):
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "sojourn.write", "sojourn.v1.SessionService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_reflection_and_channelz_are_off_unless_asked_for(
    channel: grpc.aio.Channel, path: str
):
    call: Any = channel.unary_unary(path)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_tells_the_services_when_it_is_on(tmp_path: Path):
    running = await start(settings_in(tmp_path, reflection=True, channelz=True))
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([request]))
        answer = await anext(aiter(call))
        names = {each.name for each in answer.list_services_response.service}
        channelz: Any = channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
        assert await channelz(b"")
    await running.stop()
    assert {"sojourn.v1.SessionService", "grpc.health.v1.Health"} <= names


async def test_a_taken_port_fails_with_a_sentence_and_frees_the_store(
    server: RunningServer, tmp_path: Path
):
    other = settings_in(
        tmp_path, listen=f"127.0.0.1:{server.port}", store=f"sqlite:///{tmp_path}/other.db"
    )
    with pytest.raises(CannotListen, match="already in use"):
        await start(other)
    again = await start(settings_in(tmp_path, store=other.store))
    await again.stop()


async def test_a_second_server_on_one_file_is_refused(server: RunningServer, tmp_path: Path):
    with pytest.raises(StoreUnusable, match="in use by another server"):
        await start(settings_in(tmp_path))


async def test_a_stopped_server_gives_its_file_back_with_all_it_held(tmp_path: Path):
    first = await start(settings_in(tmp_path))
    async with grpc.aio.insecure_channel(first.target) as channel:
        await stubs.SessionServiceStub(channel).CreateSession(creation("s"))
    await first.stop()
    second = await start(settings_in(tmp_path))
    async with grpc.aio.insecure_channel(second.target) as channel:
        read = await stubs.SessionServiceStub(channel).GetSession(
            pb.GetSessionRequest(session=ref("s"))
        )
    await second.stop()
    assert read.session.key.session_id == "s"


async def test_stopping_twice_is_stopping_once(tmp_path: Path):
    running = await start(settings_in(tmp_path))
    await asyncio.gather(running.stop(), running.stop())
    await running.stop()


async def test_a_drain_lets_a_live_turn_finish_and_refuses_new_ones(
    server: RunningServer, channel: grpc.aio.Channel
):
    await stubs.SessionServiceStub(channel).CreateSession(creation("s"))
    turns = turn_grpc.TurnServiceStub(channel)
    turn = await turns.BeginTurn(turn_pb.BeginTurnRequest(session=ref("s")))
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.2)
    failure = await failed(stubs.SessionServiceStub(channel).CreateSession(creation("t")))
    assert failure.reason == "DRAINING"
    await turns.EndTurn(turn_pb.EndTurnRequest(app="a", turn_token=turn.turn_token))
    async with asyncio.timeout(5):
        await stopping


async def test_a_drain_sends_away_whoever_waits_for_a_turn(
    server: RunningServer, channel: grpc.aio.Channel
):
    await stubs.SessionServiceStub(channel).CreateSession(creation("s"))
    turns = turn_grpc.TurnServiceStub(channel)
    turn = await turns.BeginTurn(turn_pb.BeginTurnRequest(session=ref("s")))
    waiting = asyncio.create_task(
        failed(
            turns.BeginTurn(
                turn_pb.BeginTurnRequest(session=ref("s"), on_conflict=turn_pb.ON_CONFLICT_WAIT)
            )
        )
    )
    await asyncio.sleep(0.2)
    stopping = asyncio.create_task(server.stop())
    async with asyncio.timeout(2):
        failure = await waiting
    assert failure.reason == "DRAINING"
    await turns.EndTurn(turn_pb.EndTurnRequest(app="a", turn_token=turn.turn_token))
    await stopping


async def test_a_drain_in_a_hurry_waits_for_no_turn(
    server: RunningServer, channel: grpc.aio.Channel
):
    await stubs.SessionServiceStub(channel).CreateSession(creation("s"))
    await turn_grpc.TurnServiceStub(channel).BeginTurn(turn_pb.BeginTurnRequest(session=ref("s")))
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.1)
    server.hurry()
    async with asyncio.timeout(3):
        await stopping


async def test_a_drain_ends_when_its_time_is_up(tmp_path: Path):
    running = await start(settings_in(tmp_path))
    async with grpc.aio.insecure_channel(running.target) as channel:
        await stubs.SessionServiceStub(channel).CreateSession(creation("s"))
        turns = turn_grpc.TurnServiceStub(channel)
        await turns.BeginTurn(turn_pb.BeginTurnRequest(session=ref("s")))
        begin = time.monotonic()
        await running.stop(grace=0.3)
    assert 0.3 <= time.monotonic() - begin < 3


async def test_an_idle_session_expires_by_itself(channel: grpc.aio.Channel):
    sessions = stubs.SessionServiceStub(channel)
    request = creation("s")
    request.session.idle_timeout.nanos = 50_000_000
    await sessions.CreateSession(request)
    listing = pb.ListSessionsRequest(app="a")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        (session,) = (await sessions.ListSessions(listing)).sessions
        if session.status == session_pb2.SESSION_STATUS_EXPIRED:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not expire")


@pytest.mark.parametrize("error", [ValueError("x"), StoreDown("x"), asyncio.CancelledError()])
async def test_a_failed_job_runs_again(monkeypatch: pytest.MonkeyPatch, error: BaseException):
    monkeypatch.setattr(app, "RESTART_FIRST", 0.001)
    runs = 0
    again = asyncio.Event()

    async def job() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            again.set()
            await asyncio.sleep(60)
        raise error

    task = asyncio.create_task(supervise("job", job))
    async with asyncio.timeout(5):
        await again.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
