"""JSON Web Tokens: who a token says its bearer is, if its issuer signed it for this server.

PyJWT checks signatures, times, issuer and audience. What it leaves open is closed here:
which key may be used for what, which headers are taken, and what claims may look like.
Nothing in a token says where its key comes from: `jku`, `x5u` and `jwk` are not read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import jwt

from sojourn_server.access.documents import FileSource, source_of
from sojourn_server.access.identity import BadCredential, Identity
from sojourn_server.access.jwks import Jwks, Key, no_twins
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.settings import Settings, SettingsError

KIND: Final = "jwt:"
TOKEN_BYTES: Final = 8 * 1024
"""Longer tokens are not read."""
NAME_CHARACTERS: Final = 200
"""The most of a subject or a group."""
REMEMBERED: Final = 10_000
"""How many good tokens are remembered."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_REQUIRED: Final = ("iss", "aud", "sub", "exp")
_TIMES: Final = ("exp", "nbf", "iat")
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999. What is later is given in milliseconds, by mistake."""


class Rules(NamedTuple):
    """What a token must be."""

    issuer: str
    """Its `iss`, to the letter."""
    audience: str
    """Its `aud`, or one of them, to the letter."""
    algorithms: frozenset[str]
    """Asymmetric ones alone: a public key must never do as a shared secret."""
    groups_claim: str = "groups"
    """Names the groups; empty: no claim does."""
    leeway: float = 30.0
    """How far clocks may be apart, in seconds."""


class _Entry(NamedTuple):
    """A token that was good."""

    identity: Identity
    thumbprint: str
    """Of the key that signed it."""


class _Token(NamedTuple):
    """What a token says of itself before it is verified."""

    kid: str | None
    algorithm: str


class Verifier:
    """Verifies tokens, and remembers the good ones.

    Args:
        rules: What a token must be.
        keys: The issuer's.
        clock: Seconds since 1970; for what is remembered alone.
        remembered: How many tokens are remembered; those not seen for longest go first.
    """

    def __init__(
        self,
        rules: Rules,
        keys: Jwks,
        *,
        clock: Callable[[], float] = time.time,
        remembered: int = REMEMBERED,
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._size = remembered
        self._entries: dict[bytes, _Entry] = {}
        self._decoder = _StrictDecoder()

    @property
    def keys(self) -> Jwks:
        """The issuer's keys; somebody must `run` them."""
        return self._keys

    def known(self, token: str) -> Identity | None:
        """Who it is, for a token that was verified before and is still good.

        Costs a hash. None says nothing about the token: ask `verify`.
        """
        if len(token) > TOKEN_BYTES or not token.isascii():
            return None
        digest = _digest(token)
        entry = self._entries.pop(digest, None)
        if entry is None or not self._is_good(entry):
            return None
        self._entries[digest] = entry
        return entry.identity

    async def verify(self, token: str) -> Identity:
        """Who it is.

        Raises:
            BadCredential: The token proves nothing.
            Refusal: `ISSUER_UNAVAILABLE`: the key that could tell cannot be had.
        """
        said = _read_header(token, self._rules.algorithms)
        key = await self._key(said)
        claims = self._decode(token, key.fits[said.algorithm])
        identity = self._identity(claims)
        self._remember(token, _Entry(identity, key.thumbprint))
        return identity

    async def _key(self, said: _Token) -> Key:
        """The one key that may have signed a token."""
        now = self._keys.current
        if now is None or (said.kid is not None and not now.names(said.kid)):
            await self._keys.look_again()
            now = self._keys.current
        if now is None:
            raise _unavailable()
        fitting = now.fitting(said.kid, said.algorithm)
        if len(fitting) == 1:
            return fitting[0]
        if self._keys.failing and said.kid is not None and not now.names(said.kid):
            # It may be a new key, of which only the issuer can tell.
            raise _unavailable()
        raise BadCredential("no key fits" if not fitting else "several keys fit")

    def _decode(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        """The claims of a token that holds the rules."""
        rules = self._rules
        try:
            return self._decoder.decode(
                token,
                key,
                algorithms=sorted(rules.algorithms),
                options={"require": list(_REQUIRED)},
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway,
            )
        except jwt.ExpiredSignatureError:
            raise BadCredential("expired", expired=True) from None
        except jwt.PyJWTError as error:
            raise BadCredential(type(error).__name__) from None

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = claims["sub"]
        if not _is_name(subject):
            raise BadCredential("subject")
        return Identity(
            name=KIND + subject,
            subject=subject,
            groups=self._groups(claims),
            # As PyJWT reckons, so that the token and what it opened end at once.
            expires=int(claims["exp"]) + self._rules.leeway,
        )

    def _groups(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """The groups that a token names.

        What is neither a name nor a list of names refuses the whole token: whoever makes
        such tokens means something by it that would be lost in silence.
        """
        named = claims.get(self._rules.groups_claim, []) if self._rules.groups_claim else []
        groups = [named] if isinstance(named, str) else named
        if not isinstance(groups, list) or not all(map(_is_name, groups)):
            raise BadCredential("groups")
        return frozenset(groups)

    def _remember(self, token: str, entry: _Entry) -> None:
        self._entries[_digest(token)] = entry
        if len(self._entries) > self._size:
            del self._entries[next(iter(self._entries))]

    def _is_good(self, entry: _Entry) -> bool:
        keys, expires = self._keys.current, entry.identity.expires
        assert keys is not None
        assert expires is not None
        return self._clock() < expires and entry.thumbprint in keys.thumbprints


class _StrictDecoder(jwt.PyJWT):
    """PyJWT, with claims that can be read in one way alone."""

    def _decode_payload(self, decoded: dict[str, Any]) -> Any:
        claims = _object(decoded["payload"])
        for name in _TIMES:
            if name in claims and not _is_time(claims[name]):
                raise jwt.DecodeError(name)
        return claims


async def make_verifier(settings: Settings) -> Verifier | None:
    """The verifier that the settings ask for, with its keys read once.

    Keys of a URL may come later: until then, tokens are refused with a reason to try
    again. A file must be there and good.

    Returns:
        It, or None: JWTs are not accepted.

    Raises:
        SettingsError: The file of keys cannot be used.
    """
    place = settings.jwt_jwks
    if place is None:
        return None
    assert settings.jwt_issuer is not None
    assert settings.jwt_audience is not None
    rules = Rules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithm_set,
        groups_claim=settings.jwt_groups_claim,
        leeway=settings.jwt_leeway / SECOND,
    )
    source = source_of(place)
    is_file = isinstance(source, FileSource)
    refresh = None if is_file else settings.jwt_refresh / SECOND
    keys = Jwks(source, rules.algorithms, refresh=refresh)
    await keys.read()
    if is_file and keys.current is None:
        raise SettingsError(f"jwt_jwks: {place}: {keys.failing}.")
    return Verifier(rules, keys)


def _read_header(token: str, algorithms: frozenset[str]) -> _Token:
    """What a token says of its key, read before anything in it is believed.

    Raises:
        BadCredential: It is no token, or one that is not taken.
    """
    if len(token) > TOKEN_BYTES:
        raise BadCredential("too long")
    if not _COMPACT.fullmatch(token):
        raise BadCredential("no token")
    try:
        header = _object(_decoded(token.partition(".")[0]))
    except (jwt.DecodeError, ValueError):
        raise BadCredential("header") from None
    if header.keys() & {"crit", "b64", "cty", "zip", "enc"}:
        # Each changes what the rest means; nested and encrypted tokens are not taken.
        raise BadCredential("header")
    if not _is_type(header.get("typ", "JWT")):
        raise BadCredential("type")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise BadCredential("algorithm")
    if "kid" in header and not isinstance(kid, str):
        raise BadCredential("key id")
    return _Token(kid, algorithm)


def _decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object: UTF-8, no name twice, no numbers that are none.

    Raises:
        jwt.DecodeError: It is none.
    """
    try:
        found = json.loads(text.decode(), object_pairs_hook=no_twins, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise jwt.DecodeError("JSON") from None
    if not isinstance(found, dict):
        raise jwt.DecodeError("object")
    return found


def _no_number(_: str) -> float:
    raise ValueError("no number")


def _is_type(kind: object) -> bool:
    """Whether a token is meant to say who its bearer is: not for logging out, say."""
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES


def _is_time(value: object) -> bool:
    """Whether a claim is a time; True is no number, though Python thinks so."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _LAST_SECOND


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME_CHARACTERS and value.isprintable()


def _digest(token: str) -> bytes:
    """What a token is remembered by: memory holds no credentials."""
    return hashlib.sha256(token.encode()).digest()


def _unavailable() -> Refusal:
    return Refusal(
        Reason.ISSUER_UNAVAILABLE,
        "the keys of the tokens' issuer cannot be had; nothing of the call happened",
        retry_after=SECOND,
    )
