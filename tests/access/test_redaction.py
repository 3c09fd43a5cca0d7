"""No line of the log, no page of metrics and no error holds content, secrets or exceptions' texts.

A server at level debug is fed texts that are nowhere else, through every path, also those
that fail.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import secrets
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from sojourn.v1 import session_pb2, session_service_pb2
from sojourn_server import app as apps
from sojourn_server import logs
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.app import RunningServer, start
from sojourn_server.command import command
from sojourn_server.domain.access import Grant, Role
from sojourn_server.rpc.methods import Method, methods
from sojourn_server.service.sessions import Sessions
from sojourn_server.settings import Settings
from sojourn_server.store.base import StoreDown, StoreFull
from tests.access.requests import WHOLE, make, paths
from tests.access.tenants import METHODS, Line, Wanted, furnish, scar
from tests.unit.access import issuer
from tests.unit.server.scrape import fetch

REFRESH = "sojourn_server.access.gate.REFRESH"


@dataclass
class Place:
    """A server that says all it ever says, and all that must not be heard."""

    server: RunningServer
    folder: Path
    channel: Any
    key: str
    entries: tuple[keys.Key, ...]
    stderr: Path
    told: list[str] = field(default_factory=list)
    """All that callers and readers of metrics were told until now."""
    heard: list[str] = field(default_factory=list)
    """All that the log said until now, and whatever else was written to stderr."""
    secrets: list[str] = field(default_factory=list)

    def secret(self) -> str:
        """A text that must not be heard."""
        self.secrets.append(f"cnry{secrets.token_hex(8)}")
        return self.secrets[-1]

    def line(self, *authorizations: str) -> Line:
        found = authorizations or (f"Bearer {self.key}",)
        return Line(self.channel, tuple(("authorization", each) for each in found))

    async def send(self, line: Line, method: Method, raw: bytes) -> str:
        """Send bytes; what comes back is heard only where it is a refusal."""
        _, refused = await line.send(method, raw)
        self.told.append(repr(refused))
        return str(refused[0]) if refused else "OK"

    def lines(self) -> list[dict[str, Any]]:
        """The log's new lines."""
        fresh = self.stderr.read_text(encoding="utf-8")[sum(map(len, self.heard)) :]
        self.heard.append(fresh)
        return [json.loads(each) for each in fresh.splitlines() if each.startswith("{")]

    def assert_silent(self) -> None:
        """Nothing that must not be heard was heard."""
        self.lines()
        told = "\n".join(self.told + self.heard)
        assert len(told) > 100
        assert [each for each in self.secrets if each in told] == []


@pytest.fixture
def as_before() -> Iterator[None]:
    """Logs and hooks are as they were afterwards."""
    sink, root = logs.Log.sink, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    yield
    # What is left of a server complains when it is thrown away; not to the next test.
    gc.collect()
    logs.Log.sink = sink
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


@pytest.fixture
def stderr(tmp_path: Path, as_before: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that takes all that is written to stderr, also by what is no Python."""
    path, kept = tmp_path / "stderr", os.dup(2)
    with path.open("w", encoding="utf-8", buffering=1) as file:
        monkeypatch.setattr(sys, "stderr", file)
        os.dup2(file.fileno(), 2)
        yield path
        os.dup2(kept, 2)
        os.close(kept)


@pytest.fixture
async def place(
    tmp_path: Path, stderr: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setattr(REFRESH, 0.02)
    logs.configure("debug", "json")
    logs.guard()
    key, entry = keys.make("owner", (Grant(Role.ADMIN, "*"),), None, keys.utc_now())
    keys.write_file(tmp_path / "keys.json", KeyFile(keys=(entry,)))
    (tmp_path / "jwks.json").write_bytes(issuer.document(issuer.jwk(issuer.ec_key())))
    server = await start(
        Settings(
            listen="127.0.0.1:0",
            metrics_listen="127.0.0.1:0",
            store=f"sqlite:///{tmp_path / 'sojourn.db'}",
            sqlite_synchronous="OFF",
            keys_file=tmp_path / "keys.json",
            jwt_issuer=issuer.ISSUER,
            jwt_audience=issuer.AUDIENCE,
            jwt_jwks=str(tmp_path / "jwks.json"),
            reflection=True,
            log_level="debug",
        )
    )
    async with grpc.aio.insecure_channel(server.target) as channel:
        found = Place(server, tmp_path, channel, key, (entry,), stderr)
        found.secrets += [key, key.split("_", 2)[2], entry.hash]
        yield found
        await server.stop(0.1)
        found.assert_silent()


async def test_content_is_in_no_line_and_on_no_page(place: Place):
    secret = place.secret()
    line = place.line()
    wanted = [Wanted(f"s-{number}") for number in range(len(list(methods())))]
    targets = await furnish(line, "acme", "ann", wanted, secret)
    await scar(line, "acme", "ann", secret)
    for method, target in zip(methods(), targets, strict=True):
        raw = make(method, WHOLE, target, target).SerializeToString()
        if method.name == "DeleteApp":
            # Its refusal names sessions and holders: that is what it is asked for.
            await line.send(method, raw)
        else:
            await place.send(line, method, raw)
    assert place.server.metrics_port is not None
    page = await asyncio.to_thread(fetch, place.server.metrics_port)
    place.told.append(page)
    assert "sojourn_" in page
    # Calls are in the log, one line each.
    assert len([each for each in place.lines() if each["event"] == "call"]) > len(wanted)
    # Ids may be in errors; what stands in them is the caller's own.
    assert secret not in page


async def test_credentials_good_and_bad_are_in_no_line(place: Place):
    bad, secret = place.key[:-10] + "0123456789", place.secret()
    place.secrets.append("0123456789")
    good_jwt = issuer.token()
    forged = [
        issuer.token(issuer.ec_key("other"), headers={"kid": secret}, sub=secret),
        issuer.token(sub=secret, exp=1),
        issuer.token(aud=secret),
        issuer.token(iss=secret),
        f"{good_jwt[:-8]}{'A' * 8}",
        f"{secret}.{secret}.{secret}",
    ]
    for each in (*forged, good_jwt):
        place.secrets += [part for part in each.split(".") if len(part) > 20]
    codes = {
        await place.send(place.line(*values), METHODS["ListSessions"], b"\x0a\x04acme")
        for values in (
            (f"Bearer {bad}",),
            (f"Basic {secret}",),
            (secret,),
            (f"Bearer {secret}",),
            (f"Bearer {place.key}", f"Bearer {secret}"),
            (f"Bearer sj_{secret}_{secret}",),
            *((f"Bearer {each}",) for each in forged),
        )
    }
    assert codes == {"UNAUTHENTICATED"}
    assert await place.send(place.line(f"Bearer {good_jwt}"), METHODS["GetServerInfo"], b"") == "OK"
    refusals = [each for each in place.lines() if each["event"] == "credential refused"]
    assert len(refusals) == 6 + len(forged)


async def test_what_is_refused_is_quoted_in_no_line(place: Place):
    line = place.line()
    for method in methods():
        secret = place.secret()
        raw = secret.encode()
        assert await place.send(line, method, b"\xff" + raw) in ("INVALID_ARGUMENT", "OK")
        [target] = await furnish(line, f"app-{secret}", secret, [Wanted(secret)], secret)
        for path in paths(method):
            request = make(method, path, target, target)
            await line.send(method, request.SerializeToString())
    # Refusals may name what the caller brought, to the caller alone.
    place.told = []
    assert len(place.lines()) > 100


async def test_texts_of_exceptions_are_in_no_line_and_reach_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    line, ref = place.line(), session_pb2.SessionRef(app="a", session_id="s")
    raw = session_service_pb2.GetSessionRequest(session=ref).SerializeToString()
    secret = place.secret()
    for error, code in (
        (RuntimeError(secret), "INTERNAL"),
        (KeyError(secret), "INTERNAL"),
        (sqlite3.OperationalError(f'near "{secret}": syntax error'), "INTERNAL"),
        (UnicodeDecodeError("utf-8", secret.encode(), 0, 1, secret), "INTERNAL"),
        (ExceptionGroup(secret, [ValueError(secret)]), "INTERNAL"),
        (StoreDown(secret), "UNAVAILABLE"),
        (StoreFull(secret), "RESOURCE_EXHAUSTED"),
        (asyncio.CancelledError(secret), "UNAVAILABLE"),
        (TimeoutError(secret), "INTERNAL"),
    ):

        async def fails(*_: Any, error: BaseException = error) -> None:
            try:
                raise ValueError(secret)
            except ValueError:
                raise error  # noqa: B904 - so that it has a context

        monkeypatch.setattr(Sessions, "get", fails)
        assert await place.send(line, METHODS["GetSession"], raw) == code
    failed = [each for each in place.lines() if each["event"] == "call failed"]
    assert len(failed) == 6
    assert all(each["error"] and each["frames"] and each["correlation_id"] for each in failed)


async def test_faults_outside_of_calls_say_where_and_not_what(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """Jobs, threads, tasks and callbacks that nobody looks after, and libraries that log."""
    secret = place.secret()

    async def fails() -> None:
        raise RuntimeError(secret)

    def callback(_: str) -> None:
        raise RuntimeError(secret)

    def thread() -> None:
        raise RuntimeError(secret)

    monkeypatch.setattr(apps, "RESTART_FIRST", 60.0)
    job = asyncio.create_task(apps.supervise("bad", fails))
    lost = asyncio.create_task(fails())
    asyncio.get_running_loop().call_soon(callback, secret)
    # Not pytest's own hook, which it puts there for each test.
    logs.guard()
    threading.Thread(target=thread).start()
    sys.excepthook(RuntimeError, RuntimeError(secret), None)
    logging.getLogger("library").warning("it failed: %s", secret)
    logging.getLogger("library").error(f"it failed: {secret}")
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("library").exception("it failed with %s", secret)
    await asyncio.sleep(0.05)
    job.cancel()
    del lost
    gc.collect()
    await asyncio.sleep(0)
    found = place.lines()
    events = [each["event"] for each in found]
    assert events.count("job failed") == 1
    assert events.count("exception that nobody caught") == 2
    said = [each for each in found if each["event"] == "a library says something"]
    assert [each["library"] for each in said].count("asyncio") == 2
    assert {"it failed: %s", "it failed with %s", ""} == {each["said"] for each in said}


async def test_a_fault_of_grpc_s_own_services_reaches_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    secret = place.secret()

    stub = reflection_pb2_grpc.ServerReflectionStub(place.channel)
    monkeypatch.setattr(
        reflection.aio.ReflectionServicer, "_file_containing_symbol", lambda *_: _throw(secret)
    )
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="sojourn.v1.Session")
    call = stub.ServerReflectionInfo(
        iter([asked]), metadata=(("authorization", f"Bearer {place.key}"),)
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    place.told.append(repr(refused.value))
    assert refused.value.code().name == "INTERNAL"


async def test_files_that_break_are_told_of_and_not_quoted(place: Place):
    secret = place.secret()
    broken = json.dumps({"version": 1, "keys": [{"id": secret}]})[:-1]
    for name in ("keys.json", "jwks.json"):
        (place.folder / name).write_text(broken)
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not found:
            await asyncio.sleep(0.02)
            found = [each for each in place.lines() if each["level"] == "error"]
    assert found[0]["event"] == "file cannot be used; what it said before stays"


async def test_a_drain_says_how_much_and_not_what(place: Place, monkeypatch: pytest.MonkeyPatch):
    line, secret = place.line(), place.secret()
    entered = asyncio.Event()

    async def waits(*_: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError(secret)

    monkeypatch.setattr(Sessions, "get", waits)
    ref = session_pb2.SessionRef(app="a", session_id=secret)
    raw = session_service_pb2.GetSessionRequest(session=ref).SerializeToString()
    running = asyncio.create_task(place.send(line, METHODS["GetSession"], raw))
    await entered.wait()
    await place.server.stop(0.05)
    assert await running in ("INTERNAL", "UNAVAILABLE")
    assert {"draining", "breaking off calls", "stopped"} <= {
        each["event"] for each in place.lines()
    }


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://sojourn:{}@127.0.0.1:1/sojourn",
        "postgresql://127.0.0.1:1/sojourn?password={}",
        "postgresql://sojourn:{}@127.0.0.1:1/sojourn?sslmode=nonsense",
        "postgresql://[::1:{}@/",
        "postgres:/sojourn:{}@127.0.0.1/sojourn",
        "mysql://root:{}@127.0.0.1/sojourn",
    ],
)
@pytest.mark.parametrize("how", ["store", "store_file", "migrate"])
@pytest.mark.usefixtures("as_before")
def test_a_password_of_the_store_is_never_told(store: str, how: str, tmp_path: Path):
    secret = f"cnry{secrets.token_hex(8)}"
    text = store.format(secret)
    flags = ["--listen=127.0.0.1:0", "--log-level=debug", "--postgres-connect-timeout=2s"]
    if how == "store_file":
        (tmp_path / "store").write_text(text)
        flags.append(f"--store-file={tmp_path / 'store'}")
    else:
        flags.append(f"--store={text}")
    done = CliRunner().invoke(command(), [*flags, *(["migrate"] if how == "migrate" else [])])
    assert done.exit_code in (2, 3), done.output
    assert done.output.startswith("sojourn-server: ") or '"event"' in done.output
    assert secret not in done.output


def _throw(secret: str) -> Any:
    raise RuntimeError(secret)
