"""Tokens prove what they carry; any change to them is found out."""

from __future__ import annotations

import base64
import hashlib
import string
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn_server.domain import tokens
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.tokens import PagePosition, ResumePoint, Sealer, TurnClaim

UID = "018bcfe5-6800-7000-8000-000000000001"


class Key(NamedTuple):
    key_id: int
    secret: bytes


OLD, NEW = Key(1, b"o" * 32), Key(2, b"n" * 32)
SEALER = Sealer([NEW])

BODIES: list[Any] = [
    PagePosition(b"r" * 16, 1_700_000_000_000_000_000, "s-1", 7, 2, 40),
    PagePosition(b"", 0, -5, 0),
    TurnClaim("support", UID, 3),
    ResumePoint("feed", 12, 2**64 - 1, b"s" * 16),
]
REASONS: dict[Any, Reason] = {
    PagePosition: Reason.PAGE_TOKEN_INVALID,
    TurnClaim: Reason.TURN_TOKEN_INVALID,
    ResumePoint: Reason.RESUME_TOKEN_INVALID,
}
URL_SAFE = string.ascii_letters + string.digits + "-_"


def raw_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def token_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refused(sealer: Sealer, token: str, kind: type[Any]) -> None:
    with pytest.raises(Refusal) as caught:
        sealer.open(token, kind)
    assert caught.value.reason is REASONS[kind]


@pytest.mark.parametrize("body", BODIES)
def test_a_token_gives_back_what_was_sealed_in_it(body: Any) -> None:
    token = SEALER.seal(body)
    assert SEALER.open(token, type(body)) == body
    assert set(token) <= set(URL_SAFE)


@pytest.mark.parametrize("body", BODIES)
def test_any_flipped_bit_is_refused_with_the_reason_of_the_kind(body: Any) -> None:
    raw = raw_of(SEALER.seal(body))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        refused(SEALER, token_of(bytes(changed)), type(body))


@pytest.mark.parametrize("body", BODIES)
def test_any_other_character_in_any_place_is_refused(body: Any) -> None:
    token = SEALER.seal(body)
    for place, letter in enumerate(token):
        for other in (*URL_SAFE[:: 1 if place == len(token) - 1 else 9], "=", "+", "/", " ", "é"):
            if other != letter:
                refused(SEALER, token[:place] + other + token[place + 1 :], type(body))


@pytest.mark.parametrize("body", BODIES)
def test_a_token_that_is_cut_or_longer_is_refused(body: Any) -> None:
    token = SEALER.seal(body)
    for length in range(len(token)):
        refused(SEALER, token[:length], type(body))
    for more in ("A", "=", "==", "\n", " ", "AAAA"):
        refused(SEALER, token + more, type(body))


@given(st.text(max_size=80), st.sampled_from(list(REASONS)))
@settings(max_examples=300, deadline=None)
def test_any_text_at_all_is_refused_with_the_documented_reason(text: str, kind: type[Any]) -> None:
    refused(SEALER, text, kind)


@pytest.mark.parametrize("body", BODIES)
def test_a_token_of_one_kind_is_never_taken_for_another(body: Any) -> None:
    for kind in REASONS.keys() - {type(body)}:
        refused(SEALER, SEALER.seal(body), kind)


@pytest.mark.parametrize("body", BODIES)
def test_a_token_of_another_store_is_refused(body: Any) -> None:
    foreign = Sealer([Key(NEW.key_id, b"x" * 32)])
    refused(SEALER, foreign.seal(body), type(body))


@pytest.mark.parametrize("version", [0, 2, 255])
@pytest.mark.parametrize("key_id", [NEW.key_id, 9])
def test_a_token_of_an_unknown_version_is_refused_even_with_a_mac_that_anyone_can_make(
    version: int, key_id: int
) -> None:
    prefix, data = bytes((version, key_id)), msgspec.msgpack.encode(TurnClaim("support", UID, 3))
    mac = hashlib.blake2b(
        prefix + data, digest_size=16, key=b"", person=b"turn".ljust(16, b"\0")
    ).digest()
    refused(SEALER, token_of(prefix + mac + data), TurnClaim)


def test_after_a_rotation_tokens_of_the_old_key_are_still_good_and_new_ones_name_the_new_key() -> (
    None
):
    before, after = Sealer([OLD]), Sealer([NEW, OLD])
    for body in BODIES:
        assert after.open(before.seal(body), type(body)) == body
        assert raw_of(after.seal(body))[1] == NEW.key_id
        refused(Sealer([NEW]), before.seal(body), type(body))


def test_a_key_id_does_not_stand_for_another_key() -> None:
    token = raw_of(Sealer([OLD]).seal(BODIES[2]))
    refused(Sealer([NEW, OLD]), token_of(token[:1] + bytes([NEW.key_id]) + token[2:]), TurnClaim)


def test_the_token_of_a_turn_is_always_the_same() -> None:
    assert SEALER.seal(TurnClaim("a", UID, 1)) == Sealer([NEW]).seal(TurnClaim("a", UID, 1))
    assert len({SEALER.seal(TurnClaim("a", UID, number)) for number in range(50)}) == 50


def test_a_fingerprint_tells_payloads_apart_and_depends_on_the_key() -> None:
    assert SEALER.fingerprint(b"a") == Sealer([NEW]).fingerprint(b"a")
    assert SEALER.fingerprint(b"a") != SEALER.fingerprint(b"b")
    assert SEALER.fingerprint(b"a") != Sealer([OLD]).fingerprint(b"a")
    assert len(SEALER.fingerprint(b"a")) == 16


def test_an_etag_differs_between_versions_and_between_uids() -> None:
    other = "018bcfe5-6800-7000-8000-000000000002"
    etags = [tokens.etag(uid, version) for uid in (UID, other) for version in range(1, 100)]
    assert len(set(etags)) == len(etags)
    assert all(len(etag) <= 128 for etag in etags)
    assert tokens.etag(UID, 1) == tokens.etag(UID, 1)
