"""The gate: which credential counts, and what it comes to."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from sojourn_server.access import gate as gates
from sojourn_server.access import grants, keys
from sojourn_server.access.files import WatchedFile
from sojourn_server.access.gate import Gate, NoCredential
from sojourn_server.access.identity import BadCredential, Identity
from sojourn_server.access.keys import Key, KeyFile
from sojourn_server.domain.access import Grant, Permission, Principal, Role

READ, WRITE = Permission.READ, Permission.WRITE
GRANTS = """
[[grant]]
principal = "jwt:*"
app = "support"
user = "{subject}"
roles = ["write"]

[[grant]]
principal = "key:ci"
app = "extra"
user = "*"
roles = ["read"]

[[grant]]
principal = "cert:agent"
app = "support"
user = "*"
roles = ["read"]
"""


class Connection(NamedTuple):
    pem: bytes | None = None

    def certificate(self) -> bytes | None:
        return self.pem


PLAIN = Connection()


class Tokens:
    """Takes the place of the verifier of JWTs."""

    def __init__(self) -> None:
        self.verified: set[str] = set()

    def known(self, token: str) -> Identity | None:
        return self._identity(token) if token in self.verified else None

    async def verify(self, token: str) -> Identity:
        if not token.startswith("good-"):
            raise BadCredential("no good")
        self.verified.add(token)
        return self._identity(token)

    def _identity(self, token: str) -> Identity:
        subject = token.removeprefix("good-")
        return Identity(name=f"jwt:{subject}", subject=subject)


class Place:
    """A gate with files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.entries: list[Key] = []
        self.folder = folder
        (folder / "grants").write_text(GRANTS)
        self.write()
        self.gate = Gate(
            keys=WatchedFile(folder / "keys", "keys_file", keys.parse),
            grants=WatchedFile(folder / "grants", "grants_file", grants.parse),
            tokens=Tokens(),
            certificates=lambda pem: (f"cert:{pem.decode()}", 1_000.0),
            clock=lambda: self.now,
        )

    def write(self) -> None:
        keys.write_file(self.folder / "keys", KeyFile(keys=tuple(self.entries)))

    def key(self, name: str, *granted: Grant, lifetime: timedelta | None = None) -> str:
        key, entry = keys.make(name, granted, lifetime, keys.utc_now())
        self.entries.append(entry)
        self.write()
        self.gate.refresh()
        return key

    def enters(self, authorization: str | None, peer: Connection = PLAIN) -> Principal:
        found = self.gate.known(authorization, peer)
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_key_brings_its_grants_and_the_file_s(place: Place):
    principal = place.enters("Bearer " + place.key("ci", Grant(Role.WRITE, "support", "ann")))
    assert principal.name == "key:ci"
    assert principal.users("support", WRITE).covers("ann")
    assert not principal.users("support", WRITE).covers("bob")
    assert principal.users("extra", READ).everyone


def test_two_keys_of_one_name_may_differ(place: Place):
    weak = place.key("ci", Grant(Role.READ, "support"))
    strong = place.key("ci", Grant(Role.ADMIN, "*"))
    for _ in range(2):  # what is remembered of one is not taken for the other
        assert place.enters(f"Bearer {weak}").users("support", WRITE).nobody
        assert place.enters(f"Bearer {strong}").users("support", WRITE).everyone


def test_without_a_credential_nobody_enters(place: Place):
    with pytest.raises(NoCredential):
        place.gate.known(None, PLAIN)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic c2o6eA==", "sj_1_2", "bearer sj_", "Bearer sj_1_2"]
)
def test_a_header_that_proves_nothing_is_no_lack_of_one(place: Place, header: str):
    """It is refused even on a connection whose certificate would do."""

    async def enter() -> Principal:
        known = place.gate.known(header, Connection(b"agent"))
        return known or await place.gate.authenticate(header)

    with pytest.raises(BadCredential):
        asyncio.run(enter())


def test_the_scheme_s_name_may_be_written_in_any_case(place: Place):
    key = place.key("ci")
    assert place.enters(f"bearer {key}").name == place.enters(f"BEARER  {key}").name == "key:ci"


async def test_a_token_is_verified_once_and_known_after(place: Place):
    assert place.gate.known("Bearer good-ann", PLAIN) is None
    first = await place.gate.authenticate("Bearer good-ann")
    assert first.name == "jwt:ann"
    assert first.users("support", WRITE).covers("ann")
    assert not first.users("support", WRITE).covers("bob")
    assert place.enters("Bearer good-ann") is first
    with pytest.raises(BadCredential):
        await place.gate.authenticate("Bearer evil-ann")


async def test_a_subject_that_is_a_star_is_granted_itself_alone(place: Place):
    principal = await place.gate.authenticate("Bearer good-*")
    users = principal.users("support", WRITE)
    assert users.covers("*")
    assert not users.everyone
    assert not users.covers("ann")


def test_a_certificate_counts_where_no_header_came_and_while_it_is_valid(place: Place):
    principal = place.enters(None, Connection(b"agent"))
    assert principal.name == "cert:agent"
    assert principal.users("support", READ).everyone
    assert principal.users("support", WRITE).nobody
    assert place.enters("Bearer " + place.key("ci"), Connection(b"agent")).name == "key:ci"
    place.now = 1_000.0
    with pytest.raises(BadCredential) as refused:
        place.gate.known(None, Connection(b"agent"))
    assert refused.value.expired


async def test_names_of_one_kind_are_not_taken_for_another(place: Place):
    names = {
        place.enters("Bearer " + place.key("agent")).name,
        (await place.gate.authenticate("Bearer good-agent")).name,
        place.enters(None, Connection(b"agent")).name,
    }
    assert names == {"key:agent", "jwt:agent", "cert:agent"}


def test_a_revoked_key_and_a_changed_grant_count_at_the_next_look(place: Place):
    key = place.key("ci", Grant(Role.READ, "support"))
    assert place.enters(f"Bearer {key}").users("extra", READ).everyone
    (place.folder / "grants").write_text("")
    place.gate.refresh()
    assert place.enters(f"Bearer {key}").users("extra", READ).nobody
    file, _ = keys.revoke(KeyFile(keys=tuple(place.entries)), ["ci"], keys.utc_now())
    keys.write_file(place.folder / "keys", file)
    place.gate.refresh()
    with pytest.raises(BadCredential):
        place.gate.known(f"Bearer {key}", PLAIN)


async def test_files_are_looked_at_while_it_runs(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gates, "REFRESH", 0.01)
    running = asyncio.create_task(place.gate.run())
    key, entry = keys.make("late", (), None, keys.utc_now())
    place.entries.append(entry)
    place.write()
    os.utime(place.folder / "keys")
    async with asyncio.timeout(10):
        while True:
            try:
                assert place.enters(f"Bearer {key}").name == "key:late"
                break
            except BadCredential:
                await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_gate_without_parts_lets_nobody_in():
    nothing = Gate()
    with pytest.raises(NoCredential):
        nothing.known(None, Connection(b"agent"))
    for header in ("Bearer sj_1_2", "Bearer a.b.c"):
        with pytest.raises(BadCredential):
            nothing.known(header, PLAIN)


def test_what_changes_while_a_caller_is_looked_up_counts_from_then_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    key = "Bearer " + place.key("ci", Grant(Role.READ, "support"))
    looked_up = grants.Rules.grants

    def meanwhile(rules: grants.Rules, identity: Identity) -> list[Grant]:
        """The thread that reads files runs in the middle of a call's own look."""
        found = looked_up(rules, identity)
        monkeypatch.undo()
        (place.folder / "grants").write_text("")
        place.gate.refresh()
        return found

    monkeypatch.setattr(grants.Rules, "grants", meanwhile)
    assert place.enters(key).users("extra", READ).everyone
    assert place.enters(key).users("extra", READ).nobody


def test_the_gate_remembers_no_key(place: Place):
    # A secret may hold underlines; a few dozen make it sure that some do.
    keys_made = [place.key("ci", Grant(Role.READ, "support")) for _ in range(40)]
    for key in keys_made:
        place.enters(f"Bearer {key}")
    remembered = repr(vars(place.gate)["_principals"].keys())
    for key in keys_made:
        assert key.split("_", 2)[2][:4] not in remembered
