"""Tokens that somebody made to get in: each is refused, and nothing in it is obeyed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.access.issuer import (
    KEYS,
    KeyServer,
    claims,
    document,
    ec_key,
    ed448_key,
    ed_key,
    forge,
    jwk,
    refused,
    rsa_key,
    segment,
    signer,
    token,
    verifier,
)


async def test_the_tokens_that_these_attacks_begin_with_are_good():
    verify = await verifier(*KEYS)
    await verify.verify(token())
    await verify.verify(token(rsa_key(), "RS256", headers={"kid": "rsa"}))
    await verify.verify(forge({"alg": "ES256", "kid": "k1"}, claims(), signer()))


# --- the algorithm ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", " none", None, [], "null"])
@pytest.mark.parametrize("kid", ["k1", "rsa", None])
async def test_no_algorithm(name: Any, kid: str | None):
    header = {"alg": name, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    unsigned = forge(header, claims(), lambda _: b"")
    await refused(unsigned)
    await refused(unsigned.rstrip("."))
    await refused(forge(header, claims(), signer()))
    await refused(forge({"typ": "JWT", "kid": "k1"}, claims(), signer()))


def public_forms() -> list[bytes]:
    """The public key in all the ways in which it could be taken for a shared secret."""
    public = rsa_key().public_key()
    encoding, form = serialization.Encoding, serialization.PublicFormat
    pem = public.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo)
    shown = jwk(rsa_key(), "rsa")
    return [
        pem,
        pem.strip(),
        public.public_bytes(encoding.PEM, form.PKCS1),
        public.public_bytes(encoding.DER, form.SubjectPublicKeyInfo),
        public.public_bytes(encoding.OpenSSH, form.OpenSSH),
        json.dumps(shown).encode(),
        shown["n"].encode(),
        base64.urlsafe_b64decode(shown["n"] + "=="),
        b"",
    ]


@pytest.mark.parametrize("secret", public_forms(), ids=range(9))
@pytest.mark.parametrize("bits", [256, 384, 512])
async def test_the_public_key_as_a_shared_secret(secret: bytes, bits: int):
    def sign(text: bytes) -> bytes:
        return hmac.new(secret, text, f"sha{bits}").digest()

    for kid in ("rsa", "k1"):
        error = await refused(forge({"alg": f"HS{bits}", "kid": kid}, claims(), sign))
        assert error.why == "algorithm"
    # Also where the allowed algorithm is claimed and the shared secret used.
    await refused(forge({"alg": "RS256", "kid": "rsa"}, claims(), sign))


async def test_a_shared_secret_in_the_issuer_s_own_set_is_no_key():
    secret = b"s" * 32
    shared = {"kty": "oct", "k": segment(secret), "kid": "oct"}
    for more in ({}, {"alg": "HS256"}, {"alg": "RS256"}):
        verify = await verifier(*KEYS, shared | more)

        def sign(text: bytes) -> bytes:
            return hmac.new(secret, text, hashlib.sha256).digest()

        await refused(forge({"alg": "HS256", "kid": "oct"}, claims(), sign), verify)
        await refused(forge({"alg": "RS256", "kid": "oct"}, claims(), sign), verify)


@pytest.mark.parametrize(
    ("algorithm", "kid"),
    [("ES256", "rsa"), ("RS256", "k1"), ("EdDSA", "k1"), ("ES384", "k1"), ("PS256", "ed")],
)
async def test_an_algorithm_that_the_key_is_not_for(algorithm: str, kid: str):
    await refused(forge({"alg": algorithm, "kid": kid}, claims(), signer()))


async def test_an_algorithm_that_is_not_allowed():
    good = token(rsa_key(), "RS512", headers={"kid": "rsa"})
    assert (await refused(good)).why == "algorithm"


async def test_a_key_that_is_for_another_algorithm_by_its_own_word():
    verify = await verifier(jwk(rsa_key(), "rsa", alg="PS256"))
    await verify.verify(token(rsa_key(), "PS256", headers={"kid": "rsa"}))
    await refused(token(rsa_key(), "RS256", headers={"kid": "rsa"}), verify)


async def test_the_wrong_curve():
    p384 = ec_key("p384", ec.SECP384R1)
    verify = await verifier(*KEYS, jwk(p384, "k384"))
    await verify.verify(token(p384, "ES384", headers={"kid": "k384"}))
    # ES256's hash with a key on P-384, and a curve that nobody allowed.
    await refused(forge({"alg": "ES256", "kid": "k384"}, claims(), signer()), verify)
    k1 = ec_key("koblitz", ec.SECP256K1)
    with_k1 = await verifier(*KEYS, jwk(k1, "koblitz"))
    await refused(token(k1, "ES256K", headers={"kid": "koblitz"}), with_k1)
    await refused(forge({"alg": "ES256", "kid": "koblitz"}, claims(), signer()), with_k1)
    with_ed448 = await verifier(*KEYS, jwk(ed448_key(), "ed448"))
    await refused(token(ed448_key(), "EdDSA", headers={"kid": "ed448"}), with_ed448)


# --- the signature ------------------------------------------------------------------------------


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256: zero, to whoever forgets to look."""


@pytest.mark.parametrize("r", [0, 1, ORDER])
@pytest.mark.parametrize("s", [0, 1, ORDER])
async def test_a_psychic_signature(r: int, s: int):
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    await refused(forge({"alg": "ES256", "kid": "k1"}, claims(), lambda _: raw))


@pytest.mark.parametrize("length", [0, 1, 63, 65, 70, 256])
@pytest.mark.parametrize(("algorithm", "kid"), [("ES256", "k1"), ("EdDSA", "ed"), ("RS256", "rsa")])
async def test_a_signature_of_zeros_or_another_length(length: int, algorithm: str, kid: str):
    await refused(forge({"alg": algorithm, "kid": kid}, claims(), lambda _: b"\0" * length))


async def test_a_signature_stripped():
    head, payload, signature = token().split(".")
    for bad in (
        f"{head}.{payload}",
        f"{head}.{payload}.",
        f"{head}..{signature}",
        f"{head}..",
        "..",
    ):
        await refused(bad)


async def test_somebody_else_s_key():
    await refused(token(ec_key("attacker")))
    await refused(token(rsa_key("attacker"), "RS256", headers={"kid": "rsa"}))
    await refused(token(ed_key("attacker"), "EdDSA", headers={"kid": "ed"}))


async def test_a_payload_or_header_changed_after_signing():
    head, payload, signature = token().split(".")
    await refused(f"{head}.{segment(claims(sub='root'))}.{signature}")
    await refused(f"{segment({'alg': 'ES256', 'kid': 'k1', 'x': 1})}.{payload}.{signature}")
    other = token(sub="bob").split(".")
    await refused(f"{head}.{payload}.{other[2]}")
    await refused(f"{head}.{other[1]}.{signature}")


async def test_every_bit_of_the_signature_counts():
    head, payload, signature = token(ed_key(), "EdDSA", headers={"kid": "ed"}).split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    verify = await verifier(*KEYS)
    for bit in range(0, len(raw) * 8, 37):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        await refused(f"{head}.{payload}.{segment(bytes(flipped))}", verify)


# --- where the key comes from -------------------------------------------------------------------

STRANGE_IDS = [
    "unknown",
    "",
    "../../../../dev/null",
    "/dev/null",
    "file:///dev/null",
    "k1' OR '1'='1",
    "k1\0",
    "k1 ",
    "K1",
    "|/usr/bin/id",
    "*",
]


@pytest.mark.parametrize("kid", STRANGE_IDS)
async def test_a_key_id_names_a_key_of_the_set_and_nothing_else(kid: str):
    await refused(token(headers={"kid": kid}))
    await refused(forge({"alg": "ES256", "kid": kid}, claims(), lambda _: b"\0" * 64))


@pytest.mark.parametrize("kid", [1, None, True, ["k1"], {"kid": "k1"}])
async def test_a_key_id_that_is_no_string(kid: Any):
    assert (await refused(forge({"alg": "ES256", "kid": kid}, claims(), signer()))).why == "key id"


async def test_a_token_that_brings_or_names_its_own_key():
    mine = ec_key("attacker")
    shown = jwk(mine, "mine")
    with KeyServer(document(shown, jwk(mine, "k1"))) as server:
        url = server.url
        for header in (
            {"jwk": shown},
            {"jwk": jwk(mine, "k1")},
            {"jku": url},
            {"x5u": url},
            {"x5c": [base64.b64encode(b"certificate").decode()]},
            {"jku": url, "x5u": url, "jwk": shown, "iss": url},
            {"kid": url},
        ):
            for kid in ("k1", "mine"):
                await refused(token(mine, headers={"kid": kid} | header))
                await refused(token(mine, headers={"kid": kid} | header, iss=url))
            await refused(token(mine, headers=header))
        assert not server.paths, "a token's own address was asked"


async def test_a_good_token_may_tell_where_its_issuer_s_keys_are_and_nobody_asks():
    verify = await verifier(*KEYS)
    with KeyServer(b"") as server:
        await verify.verify(token(headers={"kid": "k1", "jku": server.url, "x5t": "t"}))
        assert not server.paths


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None},
        {"crit": "exp"},
        {"b64": False},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
        {"typ": "logout+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": "JWE"},
        {"typ": ""},
        {"typ": 7},
        {"typ": None},
    ],
    ids=str,
)
async def test_a_header_that_changes_what_the_rest_means(more: dict[str, Any]):
    await refused(forge({"alg": "ES256", "kid": "k1"} | more, claims(), signer()))
