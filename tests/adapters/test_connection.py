"""An adapter's client: given, or made in each event loop from an address and the environment."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

import sojourn
from sojourn.adapters._connection import Connection, environment, parse
from sojourn.errors import ConfigurationError
from tests.acceptance.kit import Place


@pytest.mark.parametrize(
    ("address", "target", "encrypted"),
    [
        ("sojourn://localhost:7071", "localhost:7071", False),
        ("sojourn://sessions.internal", "sessions.internal:7070", False),
        ("sojourn+tls://sessions.internal/", "sessions.internal:7070", True),
        ("sojourn://[::1]:7071", "[::1]:7071", False),
        ("localhost:7070", "localhost:7070", False),
        ("dns:///sessions.internal:7070", "dns:///sessions.internal:7070", False),
    ],
)
def test_addresses(address: str, target: str, encrypted: bool) -> None:
    assert parse(address) == (target, encrypted)


@pytest.mark.parametrize(
    "address",
    [
        "sojourn://",
        "sojourn://:7070",
        "sojourn://ann:secret@localhost",
        "sojourn://localhost/app",
        "sojourn://localhost?tls=1",
        "sojourn://localhost:70700",
        "sojourn+tls://localhost:port",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(address)
    assert "secret" not in str(caught.value)


def test_the_environment_says_who_calls_and_whom_to_trust(tmp_path: Path) -> None:
    key, roots = tmp_path / "key", tmp_path / "ca.pem"
    key.write_text("sojourn_k1\n")
    roots.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    found = environment(
        {
            "SOJOURN_API_KEY_FILE": str(key),
            "SOJOURN_TLS_CA": str(roots),
            "SOJOURN_ACTOR": "ann",
        }
    )
    assert isinstance(found["credentials"], sojourn.ApiKey)
    assert found["credentials"].key == "sojourn_k1"
    assert found["tls"] is not None
    assert found["tls"].root_certificates == roots.read_bytes()
    assert found["actor"] == "ann"
    assert environment({}) == {}
    assert "tls" in environment({}, encrypted=True)
    assert isinstance(
        environment({"SOJOURN_TOKEN_FILE": str(key)})["credentials"], sojourn.BearerToken
    )


def test_an_environment_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        environment({"SOJOURN_API_KEY": "a", "SOJOURN_TOKEN_FILE": "b"})


async def test_a_client_that_is_given_is_used_and_stays_open(client: sojourn.AsyncClient) -> None:
    async with Connection(client) as connection:
        assert connection.client is client
    assert (await client.sessions.create("s")).session_id == "s"
    with pytest.raises(ConfigurationError):
        Connection(client, actor="ann")


def test_each_event_loop_has_a_client_of_its_own(place: Place, app: str) -> None:
    connection = Connection(f"sojourn://{place.target}", app=app)
    seen: list[sojourn.AsyncClient] = []

    async def call() -> str:
        assert connection.client is connection.client
        seen.append(connection.client)
        return (await connection.client.sessions.create()).session_id

    async def call_and_close() -> str:
        try:
            return await call()
        finally:
            await connection.close()

    made = {asyncio.run(call()), asyncio.run(call()), asyncio.run(call_and_close())}
    assert len(made) == 3
    assert len(set(map(id, seen))) == 3
    assert not connection._own
    seen.clear()
    gc.collect()
