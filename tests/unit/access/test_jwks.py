"""An issuer's keys: which are used, how they are kept fresh, and what fails without harm."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms

from sojourn_server.access import jwks
from sojourn_server.access.documents import (
    BadDocument,
    UrlSource,
)
from sojourn_server.access.identity import BadCredential
from sojourn_server.access.jwks import Jwks, parse
from sojourn_server.access.jwt import Verifier
from sojourn_server.domain.errors import Reason, Refusal
from tests.unit.access.issuer import (
    ALGORITHMS,
    PATIENCE,
    RULES,
    KeyServer,
    Shelf,
    document,
    down,
    ec_key,
    ed_key,
    jwk,
    rsa_key,
    token,
    until,
    verifier,
)

GOOD = document(jwk(ec_key()))


def left_out(*keys: Any) -> dict[str, int]:
    """What becomes of keys beside a good one."""
    found = parse(json.dumps({"keys": [jwk(ed_key(), "good"), *keys]}).encode(), ALGORITHMS)
    assert [key.kid for key in found.keys] == ["good"]
    return dict(found.left_out)


# --- documents ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1024, 1536, 2040])
def test_a_weak_rsa_key_is_left_out(bits: int):
    assert left_out(jwk(rsa_key("weak", bits))) == {"weak": 1}


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"},
        jwk(rsa_key(), alg="HS256"),
        jwk(rsa_key(), alg="none"),
        jwk(rsa_key(), alg="RSA-OAEP"),
        jwk(rsa_key(), alg=["RS256"]),
        jwk(ec_key(), alg="RS256"),
        jwk(ec_key(), alg="ES384"),
        jwk(ec_key("koblitz", ec.SECP256K1)),
        {"kty": ["EC"], "crv": {"P-256": 1}},
        {"kty": "EC"},
        {},
    ],
    ids=lambda key: f"{key.get('kty')}-{key.get('alg')}",
)
def test_a_key_for_no_allowed_algorithm_is_left_out(key: dict[str, Any]):
    assert left_out(key) == {"algorithm": 1}


@pytest.mark.parametrize(
    "use", [{"use": "enc"}, {"use": None}, {"key_ops": ["encrypt"]}, {"key_ops": []}], ids=str
)
def test_a_key_for_other_uses_is_left_out(use: dict[str, Any]):
    assert left_out(jwk(ec_key(), **use)) == {"use": 1}


def test_a_key_whose_secret_half_is_shown_is_left_out():
    for key, name in ((rsa_key(), "RS256"), (ec_key(), "ES256"), (ed_key(), "EdDSA")):
        shown = dict(get_default_algorithms()[name].to_jwk(key, as_dict=True))
        shown.pop("key_ops", None)
        assert left_out(shown) == {"private": 1}


def without(key: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in key.items() if each != name}


@pytest.mark.parametrize(
    "key",
    [
        7,
        "key",
        None,
        [],
        jwk(ec_key()) | {"kid": 7},
        without(jwk(ec_key()), "x"),
        without(jwk(rsa_key()), "n"),
        without(jwk(ed_key()), "x"),
        jwk(ec_key(), x="AAAA"),
        jwk(ec_key(), x=7),
        jwk(ec_key(), x=jwk(ec_key("two"))["x"]),
        jwk(rsa_key(), e="AA"),
        jwk(rsa_key(), n="x"),
        jwk(rsa_key(), n=""),
        jwk(ed_key(), x="AAAA"),
        jwk(ec_key(), crv="P-384"),
    ],
    ids=range(16),
)
def test_a_malformed_key_is_left_out(key: Any):
    assert left_out(key) in ({"malformed": 1}, {"use": 1})


def test_a_key_is_for_what_it_says_and_for_all_that_fits_where_it_says_nothing():
    found = parse(document(jwk(rsa_key(), "a"), jwk(rsa_key(), "b", alg="PS256")), ALGORITHMS)
    assert [sorted(key.fits) for key in found.keys] == [["PS256", "RS256"], ["PS256"]]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [], "keys": []}',
        GOOD[:-1],
        GOOD + GOOD,
        GOOD.decode().encode("utf-16"),
        b"\xff",
        b"[" * 100_000,
        b"<html>" + GOOD,
        document({"kty": "oct", "k": "c2VjcmV0"}),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_a_document_without_a_usable_key_is_broken(text: bytes):
    with pytest.raises(BadDocument):
        parse(text, ALGORITHMS)


# --- kept fresh ---------------------------------------------------------------------------------


async def test_a_new_key_is_found_by_the_first_token_that_names_it_and_an_old_one_leaves():
    verify = await verifier(jwk(ec_key("old"), "old"))
    old = token(ec_key("old"), headers={"kid": "old"})
    new = token(ec_key("new"), headers={"kid": "new"})
    await verify.verify(old)
    shelf = shelf_of(verify)
    with pytest.raises(BadCredential):
        await verify.verify(new)
    shelf.document = document(jwk(ec_key("old"), "old"), jwk(ec_key("new"), "new"))
    await verify.verify(new)
    await verify.verify(old)
    shelf.document = document(jwk(ec_key("new"), "new"))
    await verify.keys.read()
    assert verify.known(old) is None
    with pytest.raises(BadCredential):
        await verify.verify(old)
    await verify.verify(new)


def shelf_of(verify: Verifier) -> Shelf:
    shelf = verify.keys._source
    assert isinstance(shelf, Shelf)
    return shelf


async def test_unknown_keys_cause_one_reading_in_a_while():
    verify = await verifier(jwk(ec_key()), rest=3_600.0)
    shelf = shelf_of(verify)
    verify.keys._begun = float("-inf")
    bad = [token(headers={"kid": f"unknown-{n}"}) for n in range(100)]
    outcomes = await asyncio.gather(*map(verify.verify, bad), return_exceptions=True)
    assert {type(each) for each in outcomes} == {BadCredential}
    assert shelf.reads == 2, "the first, and one for all of these"
    for each in bad:
        with pytest.raises(BadCredential):
            await verify.verify(each)
    assert shelf.reads == 2
    await verify.verify(token())


async def test_a_token_of_a_known_key_causes_no_reading():
    verify = await verifier(jwk(ec_key()))
    shelf = shelf_of(verify)
    for bad in (token(ec_key("attacker")), token(aud="other"), token(exp=1), "a.b.c"):
        with pytest.raises(BadCredential):
            await verify.verify(bad)
    assert shelf.reads == 1


async def test_whoever_waits_for_keys_may_give_up_and_the_reading_goes_on():
    with KeyServer(GOOD) as server:
        server.go_on.clear()
        keys = Jwks(UrlSource(server.url), ALGORITHMS, refresh=300.0)
        waiting = [asyncio.create_task(keys.read()) for _ in range(3)]
        await asyncio.to_thread(server.asked.wait, PATIENCE)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        server.go_on.set()
        await asyncio.gather(*waiting[1:])
        assert keys.current is not None
        assert len(server.paths) == 1


async def test_a_slow_issuer_does_not_hold_the_loop():
    with KeyServer(GOOD) as server:
        verify = await verifier(jwk(ec_key(), "k1"), rules=RULES)
        slow = Jwks(UrlSource(server.url), ALGORITHMS, refresh=300.0, rest=0.0)
        slow.current = verify.keys.current
        verify = Verifier(RULES, slow)
        server.go_on.clear()
        reading = asyncio.create_task(verify.verify(token(headers={"kid": "new"})))
        await asyncio.to_thread(server.asked.wait, PATIENCE)
        # The answer is under way, and comes when the test says so: all else goes on.
        for n in range(50):
            await verify.verify(token(sub=f"user-{n}"))
        assert not reading.done()
        server.go_on.set()
        with pytest.raises(BadCredential):
            await reading


async def test_keys_are_read_again_unasked(monkeypatch: pytest.MonkeyPatch):
    shelf = Shelf(jwk(ec_key()))
    keys = Jwks(shelf, ALGORITHMS, refresh=0.01)
    running = asyncio.create_task(keys.run())
    await until(lambda: shelf.reads >= 3)
    assert keys.current is not None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert shelf.closed


async def test_after_a_failure_keys_are_read_again_sooner():
    shelf = Shelf(jwk(ec_key()))
    shelf.document = down()
    keys = Jwks(shelf, ALGORITHMS, refresh=3_600.0, rest=0.01)
    running = asyncio.create_task(keys.run())
    await until(lambda: shelf.reads >= 3)
    assert keys.current is None
    shelf.document = GOOD
    await until(lambda: keys.current is not None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("broken", [down(), b"{", document(), document({"kty": "oct"})], ids=repr)
async def test_the_last_good_keys_stay(broken: bytes | Exception):
    verify = await verifier(jwk(ec_key()))
    shelf = shelf_of(verify)
    shelf.document = broken
    await verify.keys.read()
    assert verify.keys.failing
    await verify.verify(token())
    with pytest.raises(BadCredential):
        await verify.verify(token(ec_key("attacker")))
    shelf.document = GOOD
    await verify.keys.read()
    assert not verify.keys.failing


async def test_without_any_keys_yet_a_caller_is_told_to_try_again():
    keys = Jwks(shelf := Shelf(), ALGORITHMS, refresh=300.0, rest=0.0)
    shelf.document = down()
    verify = Verifier(RULES, keys)
    with pytest.raises(Refusal) as caught:
        await verify.verify(token())
    assert caught.value.reason is Reason.ISSUER_UNAVAILABLE
    assert caught.value.retry_after
    # What no key could make good is refused for good, keys or not.
    for bad in ("a.b.c", token(headers={"kid": "k1", "typ": "x"}), token(ec_key(), "ES256")[:-1]):
        with pytest.raises((BadCredential, Refusal)):
            await verify.verify(bad)
    shelf.document = GOOD
    await verify.verify(token())


async def test_an_unknown_key_of_an_issuer_that_is_away_may_be_a_new_one():
    verify = await verifier(jwk(ec_key()))
    shelf_of(verify).document = down()
    with pytest.raises(Refusal) as caught:
        await verify.verify(token(headers={"kid": "new"}))
    assert caught.value.reason is Reason.ISSUER_UNAVAILABLE
    with pytest.raises(BadCredential):
        await verify.verify(token(rsa_key(), "RS256"))


async def test_a_fault_in_a_reading_is_not_the_end_of_it():
    shelf = Shelf()
    shelf.document = RuntimeError("secret")
    keys = Jwks(shelf, ALGORITHMS, refresh=300.0)
    with pytest.raises(RuntimeError):
        await keys.read()
    shelf.document = GOOD
    await keys.read()
    assert keys.current is not None
    assert not keys.failing


class Lines:
    """Takes the place of the log."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, object]] = []

    def info(self, event: str, **facts: object) -> None:
        self.events.append(("info", event, facts.get("why")))

    def warning(self, event: str, **facts: object) -> None:
        self.events.append(("warning", event, facts.get("why")))


async def test_a_failure_is_said_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch):
    lines = Lines()
    monkeypatch.setattr(jwks, "_log", lines)
    shelf = Shelf()
    keys = Jwks(shelf, ALGORITHMS, refresh=300.0)
    for text in (GOOD, GOOD, down(), down(), b"{", b"{", GOOD, GOOD):
        shelf.document = text
        await keys.read()
    assert lines.events == [
        ("info", "keys read", None),
        ("warning", "keys not read; the last good ones stay", "down"),
        ("warning", "keys not read; the last good ones stay", "it is no JSON"),
        ("info", "keys can be read again", None),
    ]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (jwk(rsa_key(), "x", use="enc"), ("info", "keys left out", {"use": 1})),
        (jwk(rsa_key(), "x", alg="RSA-OAEP"), ("info", "keys left out", {"algorithm": 1})),
        (jwk(rsa_key("weak", 1024), "x"), ("warning", "keys left out", {"weak": 1})),
        (jwk(ec_key(), "x", y="AA"), ("warning", "keys left out", {"malformed": 1})),
    ],
    ids=["use", "algorithm", "weak", "malformed"],
)
async def test_what_is_wrong_with_keys_is_said_and_what_is_only_for_others_in_a_low_voice(
    key: dict[str, Any], said: tuple[str, str, object], monkeypatch: pytest.MonkeyPatch
):
    lines = Lines()
    monkeypatch.setattr(jwks, "_log", lines)
    await verifier(jwk(ec_key()), key)
    assert lines.events == [("info", "keys read", None), said]
