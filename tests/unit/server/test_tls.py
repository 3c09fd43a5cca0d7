"""TLS from files, with and without client certificates, and files that are exchanged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc

from sojourn.v1 import admin_service_pb2 as pb
from sojourn.v1 import admin_service_pb2_grpc as stubs
from sojourn_server.app import RunningServer, start
from sojourn_server.settings import Settings
from tests.api.certificates import Pair, make_pair

# Channels of equal options share a connection; here each has to make its own.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@asynccontextmanager
async def served(folder: Path, pair: Pair, client_ca: Path | None = None) -> AsyncIterator[str]:
    """A server with TLS: its address."""
    server = await start(
        Settings(
            listen="127.0.0.1:0",
            store=f"sqlite:///{folder}/s.db",
            tls_cert=pair.cert,
            tls_key=pair.key,
            tls_client_ca=client_ca,
        )
    )
    assert isinstance(server, RunningServer)
    try:
        yield server.target
    finally:
        await server.stop(0.1)


def trusting(server: Pair, own: Pair | None = None) -> grpc.ChannelCredentials:
    """What a client has that trusts a server's certificate, and shows its own."""
    root = server.cert.read_bytes()
    if own is None:
        return grpc.ssl_channel_credentials(root)
    return grpc.ssl_channel_credentials(root, own.key.read_bytes(), own.cert.read_bytes())


async def ask(channel: grpc.aio.Channel) -> str:
    """The version that a server says it has."""
    stub = stubs.AdminServiceStub(channel)
    return (await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=5)).version


async def is_let_in(target: str, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a new connection is made; if it is, a call on it must be answered."""
    channel = (
        grpc.aio.insecure_channel(target, OWN_CONNECTION)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, OWN_CONNECTION)
    )
    async with channel:
        try:
            return bool(await ask(channel))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


async def test_a_server_with_tls_answers_those_who_trust_it_alone(tmp_path: Path):
    pair = make_pair(tmp_path, "server")
    async with served(tmp_path, pair) as target:
        assert await is_let_in(target, trusting(pair))
        assert not await is_let_in(target, None)
        assert not await is_let_in(target, grpc.ssl_channel_credentials())


async def test_a_server_that_wants_client_certificates_answers_only_those(tmp_path: Path):
    pair, ca = make_pair(tmp_path, "server"), make_pair(tmp_path, "ca")
    member = make_pair(tmp_path, "member", signed_by=ca)
    stranger = make_pair(tmp_path, "stranger")
    late = make_pair(tmp_path, "late", signed_by=ca, ends=timedelta(seconds=-1))
    async with served(tmp_path, pair, ca.cert) as target:
        assert await is_let_in(target, trusting(pair, member))
        assert not await is_let_in(target, trusting(pair)), "it showed no certificate"
        assert not await is_let_in(target, trusting(pair, stranger))
        assert not await is_let_in(target, trusting(pair, late)), "it has expired"


async def test_a_certificate_is_rotated_under_traffic_without_one_failed_call(tmp_path: Path):
    """Callers on open connections and on new ones; they trust the old and the new."""
    used, fresh = make_pair(tmp_path, "server"), make_pair(tmp_path, "fresh")
    old = make_pair(tmp_path, "old")
    old.replaced_by(used)
    both = grpc.ssl_channel_credentials(old.cert.read_bytes() + fresh.cert.read_bytes())
    async with served(tmp_path, used) as target:
        done = {"open": 0, "new": 0}
        over = asyncio.Event()

        async def call_on_one() -> None:
            async with grpc.aio.secure_channel(target, both, OWN_CONNECTION) as channel:
                while not over.is_set():
                    await ask(channel)
                    done["open"] += 1

        async def call_on_new_ones() -> None:
            while not over.is_set():
                assert await is_let_in(target, both)
                done["new"] += 1

        async def until_more(count: int) -> None:
            begin = dict(done)
            while any(done[kind] < begin[kind] + count for kind in done):
                assert await is_let_in(target, both)

        async def exchange() -> None:
            await until_more(10)
            used.cert.write_bytes(fresh.cert.read_bytes())
            await until_more(10)
            assert await is_let_in(target, trusting(old)), "half a pair is not taken"
            used.key.write_bytes(fresh.key.read_bytes())
            await until_more(10)
            assert await is_let_in(target, trusting(fresh))
            assert not await is_let_in(target, trusting(old))
            over.set()

        async with asyncio.timeout(60):
            await asyncio.gather(call_on_one(), call_on_new_ones(), exchange())


async def test_when_the_client_ca_is_exchanged_its_clients_are(tmp_path: Path):
    pair = make_pair(tmp_path, "server")
    old, new = make_pair(tmp_path, "old"), make_pair(tmp_path, "new")
    yesterday = make_pair(tmp_path, "yesterday", signed_by=old)
    today = make_pair(tmp_path, "today", signed_by=new)
    used = tmp_path / "ca.pem"
    used.write_bytes(old.cert.read_bytes())
    async with served(tmp_path, pair, used) as target:
        connected = grpc.aio.secure_channel(target, trusting(pair, yesterday), OWN_CONNECTION)
        async with connected:
            assert await ask(connected)
            assert not await is_let_in(target, trusting(pair, today))
            used.write_bytes(old.cert.read_bytes() + new.cert.read_bytes())
            assert await is_let_in(target, trusting(pair, yesterday))
            assert await is_let_in(target, trusting(pair, today))
            used.write_bytes(new.cert.read_bytes())
            assert await is_let_in(target, trusting(pair, today))
            assert not await is_let_in(target, trusting(pair, yesterday))
            assert await ask(connected), "what is open stays open"


def health(target: str, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `sojourn-server health` with the server's flags; `more` are those of the command."""
    own = [word for name, value in more.items() for word in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "sojourn_server", *flags, "health", "--target", target]
    return subprocess.run([*command, *own], capture_output=True, check=False, text=True, timeout=60)


async def test_the_health_command_trusts_the_server_s_own_certificate(tmp_path: Path):
    pair = make_pair(tmp_path, "server")
    async with served(tmp_path, pair) as target:
        for more in ({}, {"tls_name": "sojourn.example"}):
            done = await asyncio.to_thread(health, target, "--tls-cert", str(pair.cert), **more)
            assert done.returncode == 0, done.stderr


async def test_the_health_command_shows_a_certificate_where_one_is_demanded(tmp_path: Path):
    ca = make_pair(tmp_path, "ca")
    pair = make_pair(tmp_path, "server", signed_by=ca)
    member = make_pair(tmp_path, "member", signed_by=ca)
    files = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    demanding = [*files, "--tls-client-ca", str(ca.cert)]
    shown = {"tls_cert": str(member.cert), "tls_key": str(member.key)}
    async with served(tmp_path, pair, ca.cert) as target:
        own = await asyncio.to_thread(health, target, *demanding)
        assert own.returncode == 0, "the server's own, which this authority signed too"
        named = await asyncio.to_thread(health, target, tls_ca=str(ca.cert), **shown)
        assert named.returncode == 0, named.stderr
        none = await asyncio.to_thread(health, target, *files)
        assert (none.returncode, none.stderr) == (1, f"{target}: UNAVAILABLE\n")
        half = await asyncio.to_thread(health, target, *demanding, tls_cert=shown["tls_cert"])
        assert (half.returncode, half.stderr) == (
            2,
            "sojourn-server: --tls-cert and --tls-key of health go together.\n",
        )
