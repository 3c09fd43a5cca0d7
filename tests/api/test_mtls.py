"""Client certificates that say who calls, and keys that are exchanged under traffic."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

import sojourn
from sojourn import TLS, ApiKey, BearerToken, OnConflict, _tls_files, errors, testing
from sojourn_server.access import gate as gates
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Role
from tests.api.certificates import Pair, make_pair

AGENT = x509.UniformResourceIdentifier("spiffe://example/agent")
GRANTS = """
[[grant]]
principal = "cert:spiffe://example/agent"
roles = ["write"]
app = "support"
user = "*"

[[grant]]
principal = "cert:*.internal"
roles = ["write"]
app = "support"
user = "{subject}"
"""


class Clock:
    """The gate's time."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Place:
    """A server that demands client certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.ca = make_pair(folder, "ca")
        self.server = make_pair(folder, "server")
        self.store = folder / "s.db"
        self.keys = folder / "keys.json"
        self.grants = folder / "grants.toml"
        self.grants.write_text(GRANTS, encoding="utf-8")
        keys.write_file(self.keys, KeyFile())
        self.target = ""

    def member(self, name: str, *names: x509.GeneralName) -> Pair:
        return make_pair(self.folder, name, names=names, signed_by=self.ca)

    def client(
        self, own: Pair, credentials: ApiKey | BearerToken | None = None
    ) -> sojourn.AsyncClient:
        tls = TLS.from_files(self.server.cert, own.cert, own.key)
        return sojourn.connect(self.target, app="support", tls=tls, credentials=credentials)

    def actors(self) -> list[str]:
        """Who made each change, as the store says."""
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as database:
            return [actor for (actor,) in database.execute("SELECT actor FROM change ORDER BY 1")]


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(gates, "REFRESH", 0.02)
    place = Place(tmp_path)
    defaults = gates.Gate.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "clock", place.clock)
    async with testing.serve(
        store=f"sqlite:///{place.store}",
        tls_cert=place.server.cert,
        tls_key=place.server.key,
        tls_client_ca=place.ca.cert,
        keys_file=place.keys,
        grants_file=place.grants,
    ) as server:
        place.target = server.target
        yield place


async def test_a_certificate_says_who_calls_and_is_the_actor(place: Place) -> None:
    agent = place.member("agent", x509.DNSName("ignored.internal"), AGENT)
    own = place.member("own", x509.DNSName("bob.internal"))
    async with place.client(agent) as client:
        await client.sessions.create("s", user="ann")
    async with place.client(own) as client:
        await client.sessions.create("t", user="bob.internal")
        with pytest.raises(errors.SessionNotFoundError):
            await client.sessions.get("s", user="ann")
    assert sorted(set(place.actors())) == ["cert:bob.internal", "cert:spiffe://example/agent"]


async def test_a_certificate_that_was_granted_nothing_or_names_nobody_opens_nothing(
    place: Place,
) -> None:
    async with place.client(place.member("stranger")) as client:
        with pytest.raises(errors.GrantMissingError, match="nothing is granted to cert:stranger"):
            await client.sessions.create("s")
    nobody = make_pair(place.folder, "nobody", names=(), common_name=" agent", signed_by=place.ca)
    async with place.client(nobody) as client:
        with pytest.raises(errors.CredentialInvalidError):
            await client.sessions.create("s")


async def test_a_certificate_that_expires_on_an_open_connection_is_good_no_longer(
    place: Place,
) -> None:
    async with place.client(place.member("agent", AGENT)) as client:
        await client.sessions.create("s")
        place.clock.ahead = 2 * 86_400
        with pytest.raises(errors.CredentialInvalidError, match="expired"):
            await client.sessions.get("s")


async def test_a_client_s_certificate_is_exchanged_under_traffic_without_one_failed_call(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tls_files, "LOOK_EVERY", 0.0)
    used = place.member("used", x509.DNSName("one.internal"))
    fresh = place.member("fresh", x509.DNSName("two.internal"))
    agent = place.member("agent", AGENT)
    async with asyncio.timeout(60), place.client(agent) as holder, place.client(used) as client:
        await client.sessions.create("s", user="one.internal")
        turn = await holder.turns.begin("s", user="one.internal")
        waiting = asyncio.create_task(
            client.turns.begin("s", user="one.internal", on_conflict=OnConflict.WAIT)
        )
        # Two calls later on the same connection, the one that waits has arrived.
        for _ in range(2):
            await client.sessions.get("s", user="one.internal")
        used.cert.write_bytes(fresh.cert.read_bytes())
        await client.sessions.get("s", user="one.internal")
        used.key.write_bytes(fresh.key.read_bytes())
        await client.sessions.create("t", user="two.internal")
        with pytest.raises(errors.SessionNotFoundError):
            await client.sessions.get("s", user="one.internal")
        await holder.turns.end(turn.turn_token)
        assert (await waiting).turn.number == 2, "it ended where it began"


async def test_a_key_counts_for_more_than_the_certificate_of_its_connection(place: Place) -> None:
    key, entry = keys.make("ci", (Grant(Role.WRITE, "support"),), None, keys.utc_now())
    keys.write_file(place.keys, KeyFile(keys=(entry,)))
    stranger = place.member("stranger")
    async with asyncio.timeout(30), place.client(stranger, ApiKey(key)) as client:
        while True:
            try:
                await client.sessions.create("s")
                break
            except errors.CredentialInvalidError:
                # The server has not looked at its file yet.
                continue
    assert place.actors()[0] == "key:ci"


async def test_a_key_is_exchanged_under_traffic_without_one_failed_call(place: Place) -> None:
    """Add the new key, write it to the client's file, revoke the old one."""
    made = [
        keys.make(name, (Grant(Role.WRITE, "support"),), None, keys.utc_now())
        for name in ("old", "new")
    ]
    (old, old_entry), (new, new_entry) = made
    file = place.folder / "key"
    file.write_text(old, encoding="ascii")
    stranger = place.member("stranger")

    async def until_the_server_takes(*entries: keys.Key) -> None:
        """Change the server's keys, and wait until it has seen that."""
        keys.write_file(place.keys, KeyFile(keys=entries))
        good = {entry.name for entry in entries}
        for name, key in (("old", old), ("new", new)):
            async with place.client(stranger, ApiKey(key)) as client:
                taken = None
                while taken is not (name in good):
                    try:
                        await client.sessions.get("none")
                    except errors.SessionNotFoundError:
                        taken = True
                    except errors.CredentialInvalidError:
                        taken = False

    async def calls(client: sojourn.AsyncClient, over: asyncio.Event) -> int:
        count = 0
        while not over.is_set():
            await client.sessions.create(f"s-{count}")
            count += 1
        return count

    async with asyncio.timeout(60):
        await until_the_server_takes(old_entry)
        over = asyncio.Event()
        async with place.client(stranger, ApiKey.from_file(file)) as client:
            traffic = asyncio.create_task(calls(client, over))
            await until_the_server_takes(old_entry, new_entry)
            file.write_text(new, encoding="ascii")
            await until_the_server_takes(new_entry)
            over.set()
            await traffic
            await client.sessions.create("after")
    assert set(place.actors()) == {"key:old", "key:new"}
