"""TLS from files, with and without client certificates."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from sojourn.v1 import admin_service_pb2 as pb
from sojourn.v1 import admin_service_pb2_grpc as stubs
from sojourn_server.app import RunningServer, start
from sojourn_server.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


class Pair(NamedTuple):
    """A certificate that signed itself, and its key."""

    cert: Path
    key: Path


def a_pair(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:sojourn.example,IP:127.0.0.1"),
            *("-out", str(pair.cert), "-keyout", str(pair.key)),
        ],
        check=True,
        capture_output=True,
    )
    return pair


def settings_in(folder: Path, pair: Pair, tls_client_ca: Path | None = None) -> Settings:
    return Settings(
        listen="127.0.0.1:0",
        store=f"sqlite:///{folder}/s.db",
        tls_cert=pair.cert,
        tls_key=pair.key,
        tls_client_ca=tls_client_ca,
    )


async def info_of(server: RunningServer, credentials: grpc.ChannelCredentials | None) -> str:
    """The version that a server says it has."""
    if credentials is None:
        channel = grpc.aio.insecure_channel(server.target)
    else:
        channel = grpc.aio.secure_channel(server.target, credentials)
    async with channel:
        stub = stubs.AdminServiceStub(channel)
        return (await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=5)).version


async def test_a_server_with_tls_answers_those_who_trust_it_alone(tmp_path: Path):
    pair = a_pair(tmp_path, "server")
    server = await start(settings_in(tmp_path, pair))
    try:
        trusting = grpc.ssl_channel_credentials(pair.cert.read_bytes())
        assert await info_of(server, trusting)
        for credentials in (None, grpc.ssl_channel_credentials()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await info_of(server, credentials)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop()


async def test_a_server_that_wants_client_certificates_answers_only_those(tmp_path: Path):
    pair, client = a_pair(tmp_path, "server"), a_pair(tmp_path, "client")
    server = await start(settings_in(tmp_path, pair, tls_client_ca=client.cert))
    try:
        root = pair.cert.read_bytes()
        named = grpc.ssl_channel_credentials(
            root, client.key.read_bytes(), client.cert.read_bytes()
        )
        assert await info_of(server, named)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await info_of(server, grpc.ssl_channel_credentials(root))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop()


async def test_the_health_command_trusts_the_server_s_own_certificate(tmp_path: Path):
    pair = a_pair(tmp_path, "server")
    server = await start(settings_in(tmp_path, pair))
    flags = ["--tls-cert", str(pair.cert), "health", "--target", server.target]
    command = [sys.executable, "-m", "sojourn_server", *flags]
    try:
        for more in ([], ["--tls-name", "sojourn.example"]):
            done = await asyncio.to_thread(
                subprocess.run, [*command, *more], capture_output=True, check=False, text=True
            )
            assert done.returncode == 0, done.stderr
    finally:
        await server.stop()
