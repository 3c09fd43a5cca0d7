"""Texts, headers and payloads that can be read in two ways or none, and claims that are wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn_server.access.identity import BadCredential
from sojourn_server.access.jwt import TOKEN_BYTES
from tests.unit.access.issuer import (
    ISSUER,
    KEYS,
    claims,
    ec_key,
    ed_key,
    forge,
    refused,
    segment,
    signer,
    token,
    verifier,
)

# --- the form -----------------------------------------------------------------------------------


async def test_a_token_too_long_to_be_read():
    verify = await verifier(*KEYS)
    made = [token(ed_key(), "EdDSA", headers={"kid": "ed"}, x="x" * n) for n in range(5_800, 5_990)]
    longest = max((each for each in made if len(each) <= TOKEN_BYTES), key=len)
    longer = min((each for each in made if len(each) > TOKEN_BYTES), key=len)
    assert len(longer) - len(longest) <= 2
    await verify.verify(longest)
    for bad in (longer, "x" * (64 * TOKEN_BYTES), "." * (64 * TOKEN_BYTES)):
        assert (await refused(bad, verify)).why == "too long"


async def test_an_encrypted_token():
    header = {"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "rsa"}
    await refused(".".join([segment(header), "QQ", "QQ", "QQ", "QQ"]))
    await refused(".".join([segment({"alg": "dir", "enc": "A128GCM"}), "", "QQ", "QQ", "QQ"]))
    await refused(token() + ".QQ.QQ")


async def test_a_token_within_a_token():
    inner = token()
    await refused(forge({"alg": "ES256", "kid": "k1"}, inner.encode(), signer()))
    await refused(forge({"alg": "ES256", "kid": "k1"}, json.dumps(inner).encode(), signer()))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text + "=",
        lambda text: text.replace(".", "..", 1),
        lambda text: "Bearer " + text,
        lambda text: json.dumps({"payload": text.split(".")[1], "signatures": []}),
        lambda text: text.replace(".", "．"),
        lambda text: text[:-1] + "é",
        lambda text: text[:-1] + "\ud800",
        lambda text: text[:-1] + "+",
        lambda text: text + "\0",
        lambda _: "",
        lambda _: "sj_0123_secret",
    ],
)
async def test_a_text_that_is_no_token(change: Callable[[str], str]):
    await refused(change(token()))


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b'{"alg":"ES256","kid":"\xff"}',
        '{"alg":"ES256","kid":"k1"}'.encode("utf-16"),
        '{"alg":"ES256","kid":"k1"}'.encode("utf-32-le"),
        b'\xef\xbb\xbf{"alg":"ES256","kid":"k1"}',
        b'{"alg":"none","alg":"ES256","kid":"k1"}',
        b'{"alg":"ES256","kid":"x","kid":"k1"}',
        b'{"alg":"ES256","kid":"k1","x":NaN}',
        b'{"alg":"ES256","kid":"k1"} ',
        b'[{"alg":"ES256","kid":"k1"}]',
        b"null",
        b'"ES256"',
        b"",
        b"[" * 5_000,
    ],
)
async def test_a_header_that_can_be_read_in_two_ways_or_none(text: bytes):
    bad = forge(text, claims(), signer())
    if text.endswith(b"} "):
        # White space around an object changes nothing.
        await (await verifier(*KEYS)).verify(bad)
    else:
        await refused(bad)


# --- claims -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exp", "sub", "aud", "iss"])
async def test_a_claim_that_is_missing(name: str):
    kept = {each: value for each, value in claims().items() if each != name}
    await refused(forge({"alg": "ES256", "kid": "k1"}, kept, signer()))
    text = json.dumps(claims(**{name: None}) | {name: None}).encode()
    await refused(forge({"alg": "ES256", "kid": "k1"}, text, signer()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": ISSUER + "/"},
        {"iss": ISSUER.upper()},
        {"iss": "https://attacker.example"},
        {"iss": ISSUER[:-1]},
        {"iss": ""},
        {"aud": "other"},
        {"aud": "sojourn "},
        {"aud": "soj"},
        {"aud": "*"},
        {"aud": ""},
        {"aud": []},
        {"aud": ["other", "soj"]},
        {"aud": [["sojourn"]]},
        {"aud": ["sojourn", 7]},
        {"aud": {"sojourn": True}},
        {"aud": 7},
        {"sub": ""},
        {"sub": "a" * 201},
        {"sub": "al\0ice"},
        {"sub": "ali\nce"},
        {"sub": "\u202eecila"},
        {"sub": "\u200b"},
        {"sub": "\ud800"},
        {"sub": 7},
        {"sub": ["alice"]},
        {"sub": {"name": "alice"}},
        {"sub": True},
        {"jti": 7},
    ],
    ids=repr,
)
async def test_a_claim_that_is_wrong(wrong: dict[str, Any]):
    error = await refused(
        forge({"alg": "ES256", "kid": "k1"}, json.dumps(claims() | wrong).encode(), signer())
    )
    assert not error.expired


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        *('"9999999999"', '"x"', "true", "null", "[]", "{}", "-1"),
        *("NaN", "Infinity", "-Infinity", "1e999", "1e12", "253402300800"),
        *("9" * 400, "9" * 5_000),
    ],
)
async def test_a_time_that_is_none(name: str, value: str):
    text = json.dumps(claims(**{name: None}))[:-1] + f', "{name}": {value}}}'
    await refused(forge({"alg": "ES256", "kid": "k1"}, text.encode(), signer()))


async def test_times_that_are_over_or_to_come():
    now = int(time.time())
    assert (await refused(token(exp=now - 60))).expired
    assert (await refused(token(exp=0))).expired
    assert not (await refused(token(nbf=now + 60))).expired
    assert not (await refused(token(iat=now + 60))).expired
    assert not (await refused(token(nbf=now + 60, exp=now + 30))).expired


@pytest.mark.parametrize(
    "text",
    [
        lambda good: good[:-1] + b', "sub": "root"}',
        lambda good: b'{"sub": "root", ' + good[1:],
        lambda good: good[:-1] + b', "exp": 253402300799}',
        lambda good: good[:-1] + b', "aud": "sojourn"}',
        lambda good: good[:-1] + b', "groups": ["a"], "groups": ["root"]}',
        lambda good: good[:-1] + b', "more": {"a": 1, "a": 2}}',
        lambda good: good[:-1] + b', "more": NaN}',
        lambda good: good[:-1] + b', "more": "\xff"}',
        lambda good: good.decode().encode("utf-16"),
        lambda good: b"\xef\xbb\xbf" + good,
        lambda good: b"[" + good + b"]",
        lambda good: good + good,
        lambda good: good[:-1],
        lambda _: b"null",
        lambda _: b"[" * 5_000,
        lambda _: b"\xff",
    ],
)
async def test_a_payload_that_can_be_read_in_two_ways_or_none(text: Callable[[bytes], bytes]):
    payload = text(json.dumps(claims()).encode())
    await refused(forge({"alg": "ES256", "kid": "k1"}, payload, signer()))


# --- anything at all ----------------------------------------------------------------------------


@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=100).map(segment),
        st.tuples(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=70)).map(
            lambda parts: ".".join(map(segment, parts))
        ),
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_anything_else_is_refused_and_raises_nothing_else(text: str):
    await refused(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "jwk", "x"]),
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "groups", "x"]),
    _JSON,
    _JSON,
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_a_signed_token_of_strange_parts_is_taken_or_refused(
    header: str, claim: str, in_header: Any, in_claim: Any
):
    verify = await verifier(*KEYS)
    made = forge(
        {"alg": "ES256", "kid": "k1"} | {header: in_header}, claims() | {claim: in_claim}, signer()
    )
    try:
        identity = await verify.verify(made)
    except BadCredential:
        return
    assert identity.subject.isprintable()
    assert identity.expires is not None
    assert identity.expires > time.time()


def test_the_library_would_take_some_of_this_by_itself():
    """Why the checks of our own are there: without them, a token with two subjects is good."""
    payload = json.dumps(claims()).encode()[:-1] + b', "sub": "root"}'
    twins = forge({"alg": "ES256", "kid": "k1"}, payload, signer())
    taken = jwt.decode(twins, ec_key().public_key(), ["ES256"], audience="sojourn")
    assert taken["sub"] == "root"
