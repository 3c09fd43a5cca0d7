"""A server that takes JWTs: what they open, what they do not, and until when."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import sojourn
import sojourn.testing
from sojourn import ApiKey, SessionRef, errors
from sojourn.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from sojourn_server.access import gate, jwks
from tests.unit.access.issuer import (
    AUDIENCE,
    ISSUER,
    KeyServer,
    claims,
    document,
    ec_key,
    forge,
    jwk,
    rsa_key,
    segment,
    signer,
    token,
)

GRANTS = """
[[grant]]
principal = "jwt:*"
app = "support"
user = "{subject}"
roles = ["write"]

[[grant]]
principal = "jwt:agent"
app = "support"
user = "*"
roles = ["write"]

[[grant]]
group = "readers"
app = "sales"
user = "*"
roles = ["read"]
"""


class Place:
    """A server that takes JWTs, and the file of their issuer's keys.

    Args:
        folder: For files.
    """

    def __init__(self, folder: Path) -> None:
        self.target = ""
        self.jwks = folder / "jwks.json"
        self.grants = folder / "grants.toml"
        self.grants.write_text(GRANTS)
        self.jwks.write_bytes(document(jwk(ec_key()), jwk(rsa_key(), "rsa")))

    def client(self, bearer: str, app: str = "support") -> sojourn.AsyncClient:
        return sojourn.AsyncClient(self.target, app=app, credentials=ApiKey(bearer))


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(jwks, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(gate, "REFRESH", 0.02)
    found = Place(tmp_path)
    async with sojourn.testing.serve(
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        jwt_jwks=str(found.jwks),
        grants_file=found.grants,
        jwt_leeway=0,
    ) as server:
        found.target = server.target
        yield found


async def raw(target: str, *metadata: tuple[str, str | bytes]) -> grpc.aio.AioRpcError | None:
    """Ask for a session of alice with these headers; None: it was answered."""
    ref = session_pb2.SessionRef(app="support", user="alice", session_id="s")
    request = session_service_pb2.GetSessionRequest(session=ref)
    async with grpc.aio.insecure_channel(target) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        try:
            await stub.GetSession(request, metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error
    return None


def details(error: grpc.aio.AioRpcError) -> list[str]:
    """What an error says to machines."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return [info.reason, *info.metadata, *(each.type_url for each in status.details[1:])]


async def test_a_token_opens_its_bearer_s_own_and_nothing_else(place: Place):
    async with (
        place.client(token(sub="alice")) as alice,
        place.client(token(sub="bob")) as bob,
        place.client(token(sub="agent")) as agent,
    ):
        mine = await alice.sessions.create("s", user="alice")
        assert (await agent.sessions.get("s", user="alice")).uid == mine.uid
        for ref in (
            SessionRef("support", "alice", "s"),
            SessionRef("support", "alice", "none"),
            SessionRef("support", uid=mine.uid),
            SessionRef("sales", "bob", "s"),
        ):
            with pytest.raises(errors.SessionNotFoundError):
                await bob.sessions.get(ref)
        with pytest.raises(errors.AppNotFoundError):
            await bob.sessions.create("s", user="alice")
        with pytest.raises(errors.AppNotFoundError):
            await bob.sessions.list(user="alice").to_list()
        with pytest.raises(errors.GrantMissingError):
            await alice.sessions.reset("s", user="alice")
    assert await raw(place.target, ("authorization", f"Bearer {token(sub='alice')}")) is None
    assert await raw(place.target, ("authorization", f"bearer {token(sub='alice')}")) is None


async def test_a_group_opens_what_it_was_granted(place: Place):
    member = token(sub="carol", groups=["readers", "others"])
    stranger = token(sub="carol", groups=["readers2", "reader", "*"])
    async with place.client(member, "sales") as inside, place.client(stranger, "sales") as outside:
        assert await inside.sessions.list().to_list() == []
        with pytest.raises(errors.AppNotFoundError):
            await outside.sessions.list().to_list()


@pytest.mark.parametrize("subject", ["*", "a*", ".*", "{subject}", "alice|bob", "jwt:alice", "%"])
async def test_a_subject_is_no_pattern(place: Place, subject: str):
    async with (
        place.client(token(sub="alice")) as alice,
        place.client(token(sub=subject)) as other,
    ):
        await alice.sessions.create("s", user="alice")
        with pytest.raises(errors.SessionNotFoundError):
            await other.sessions.get("s", user="alice")
        with pytest.raises(errors.GrantMissingError):
            await other.sessions.list().to_list()
        assert (await other.sessions.create("s", user=subject)).user == subject


def attacks() -> dict[str, str]:
    """A token of each kind of attack: the unit tests have many more."""
    head, payload, signature = token().split(".")
    secret = json.dumps(jwk(rsa_key(), "rsa")).encode()

    def shared(text: bytes) -> bytes:
        return hmac.new(secret, text, hashlib.sha256).digest()

    return {
        "none": forge({"alg": "none", "kid": "k1"}, claims(), lambda _: b""),
        "confusion": forge({"alg": "HS256", "kid": "rsa"}, claims(), shared),
        "audience": token(aud="other"),
        "issuer": token(iss="https://attacker.example"),
        "early": token(nbf=int(time.time()) + 600),
        "endless": token(exp=None),
        "subject": token(sub=None),
        "unknown": token(headers={"kid": "../../dev/null"}),
        "stranger": token(ec_key("attacker")),
        "embedded": token(ec_key("attacker"), headers={"jwk": jwk(ec_key("attacker"), "k1")}),
        "tampered": f"{head}.{segment(claims(sub='agent'))}.{signature}",
        "stripped": f"{head}.{payload}.",
        "psychic": forge({"alg": "ES256", "kid": "k1"}, claims(), lambda _: b"\0" * 64),
        "twins": forge(
            {"alg": "ES256", "kid": "k1"},
            json.dumps(claims()).encode()[:-1] + b', "sub": "agent"}',
            signer(),
        ),
        "key": "sj_0123456789ab_" + "x" * 43,
        "noise": "x" * 100,
        "empty": "",
    }


async def test_attacks_are_refused_alike(place: Place):
    async with place.client(token(sub="alice")) as alice:
        await alice.sessions.create("s", user="alice")
    told = set()
    for name, bad in attacks().items():
        error = await raw(place.target, ("authorization", f"Bearer {bad}"))
        assert error is not None, name
        told.add((error.code(), error.details(), *details(error)))
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert told == {(unauthenticated, "the credential is not valid", "CREDENTIAL_INVALID")}


async def test_headers_that_say_who_calls_in_two_ways_are_refused(place: Place):
    good = f"Bearer {token(sub='alice')}"
    bad = f"Bearer {token(ec_key('attacker'), sub='alice')}"
    for headers in (
        [("authorization", good), ("authorization", bad)],
        [("authorization", bad), ("authorization", good)],
        [("authorization", good), ("authorization", good)],
        [("authorization", good.removeprefix("Bearer "))],
        [("authorization", good.replace("Bearer", "Basic"))],
        [("authorization-bin", good.encode())],
        [("x-authorization", good)],
        [],
    ):
        error = await raw(place.target, *headers)
        assert error is not None
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_opens_nothing_once_it_has_expired(place: Place):
    async with place.client(token(sub="alice")) as alice:
        await alice.sessions.create("s", user="alice")
    late = token(sub="alice", exp=int(time.time()) - 1)
    error = await raw(place.target, ("authorization", f"Bearer {late}"))
    assert error is not None
    assert details(error) == ["CREDENTIAL_INVALID"]
    assert error.details() == "the credential has expired"
    brief = token(sub="alice", exp=int(time.time()) + 2)
    async with place.client(brief) as client, asyncio.timeout(10):
        with pytest.raises(errors.CredentialInvalidError, match="expired"):
            while True:
                await client.sessions.get("s", user="alice")
                await asyncio.sleep(0.05)


async def test_a_key_that_left_opens_nothing_and_a_new_one_does(place: Place):
    old, new = token(sub="alice"), token(ec_key("new"), sub="alice", headers={"kid": "new"})
    async with place.client(old) as client, place.client(new) as fresh, asyncio.timeout(10):
        await client.sessions.create("s", user="alice")
        place.jwks.write_bytes(document(jwk(ec_key("new"), "new")))
        with pytest.raises(errors.CredentialInvalidError):
            while True:
                await client.sessions.get("s", user="alice")
                await asyncio.sleep(0.02)
        assert (await fresh.sessions.get("s", user="alice")).session_id == "s"


async def test_until_the_issuer_answers_callers_are_told_to_try_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(jwks, "REST_SECONDS", 0.05)
    place = Place(tmp_path)
    with KeyServer(document(jwk(ec_key()))) as issuer:
        issuer.status = 503
        async with sojourn.testing.serve(
            jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE,
            jwt_jwks=issuer.url,
            grants_file=place.grants,
        ) as server:
            good = ("authorization", f"Bearer {token(sub='alice')}")
            error = await raw(server.target, good)
            assert error is not None
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details(error) == [
                "ISSUER_UNAVAILABLE",
                "type.googleapis.com/google.rpc.RetryInfo",
            ]
            refused = await raw(server.target, ("authorization", "Bearer no.token.this"))
            assert refused is not None
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
            issuer.status = 200
            place.target = server.target
            async with place.client(token(sub="alice")) as client:
                # The client tries again by itself.
                assert (await client.sessions.create("s", user="alice")).session_id == "s"
