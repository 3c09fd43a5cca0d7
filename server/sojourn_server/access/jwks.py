"""The keys that an issuer signs its tokens with: a JWKS document, kept fresh.

The document is read and parsed in threads, for both take their time, and never twice at
once. One that cannot be had or used leaves the last good one as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sojourn_server import logs
from sojourn_server.access.documents import BadDocument, Source

REST_SECONDS: Final = 10.0
"""The least between two readings that tokens cause, and the rest after one that failed."""
LOOK_SECONDS: Final = 1.0
"""How often a file is looked at."""
CLOSE_SECONDS: Final = 1.0
"""How long a reading that was cut off may take to notice."""
RSA_BITS: Final = 2048
"""The least of an RSA key."""

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final[Mapping[tuple[str, str], str]] = {
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
_PRIVATE: Final = "private"
"""Why a key is left out whose secret half stands in the document for all to read."""
_WEAK: Final = "weak"
_MALFORMED: Final = "malformed"
_WRONG: Final = frozenset({_PRIVATE, _WEAK, _MALFORMED})
"""Why a key is left out that whoever made the document should look at."""

_log = logs.Log("access")


class _Unusable(Exception):
    """A key that cannot be used.

    Args:
        why: A word for the log.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Key(NamedTuple):
    """One key of a set."""

    kid: str | None
    """Its name within the set."""
    thumbprint: str
    """Tells it from every other, also from one with the same name."""
    fits: Mapping[str, jwt.PyJWK]
    """Ready to be used, for each algorithm that it may be used with."""


class KeySet(NamedTuple):
    """The usable keys of a document."""

    keys: tuple[Key, ...]
    thumbprints: frozenset[str]
    left_out: Mapping[str, int]
    """How many keys of the document cannot be used, by why."""

    def names(self, kid: str) -> bool:
        """Whether a key has this name."""
        return any(key.kid == kid for key in self.keys)

    def fitting(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token.

        Args:
            kid: The name that the token gives its key; None: it gives none.
            algorithm: The token's.
        """
        return [
            key for key in self.keys if (kid is None or key.kid == kid) and algorithm in key.fits
        ]


class Jwks:
    """Keeps the keys of an issuer.

    Args:
        source: Where they come from.
        algorithms: What keys may be used for.
        refresh: How often they are read again unasked, in seconds; None: when the source
            has changed.
        rest: The least between two readings that unknown keys cause, and the rest after one
            that failed, in seconds; None: `REST_SECONDS`.
    """

    def __init__(
        self,
        source: Source,
        algorithms: Collection[str],
        *,
        refresh: float | None,
        rest: float | None = None,
    ) -> None:
        self._source = source
        self._algorithms = frozenset(algorithms)
        self._refresh = refresh
        self._rest = REST_SECONDS if rest is None else rest
        self._reading: asyncio.Task[None] | None = None
        self._begun = float("-inf")
        self.current: KeySet | None = None
        """The last good set; None: there was none yet."""
        self.failing = ""
        """Why the last reading failed; empty: it did not."""

    async def read(self) -> None:
        """Read the document, or wait for the reading that is under way.

        Whatever comes of it is in `current` and `failing`. Whoever waits may be cancelled;
        the reading goes on.
        """
        if self._reading is None:
            self._begun = time.monotonic()
            self._reading = asyncio.create_task(self._read(), name="sojourn-jwks-read")
            self._reading.add_done_callback(self._read_is_over)
        await asyncio.shield(self._reading)

    async def look_again(self) -> None:
        """Read the document for a token whose key is unknown, unless that was done just now."""
        if self._reading is not None or time.monotonic() - self._begun >= self._rest:
            await self.read()

    async def run(self) -> None:
        """Keep the keys fresh, until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._pause())
                if self._refresh is not None or await asyncio.to_thread(self._source.changed):
                    await self.read()
        finally:
            self._source.close()
            if self._reading is not None:
                await asyncio.wait({self._reading}, timeout=CLOSE_SECONDS)

    def _pause(self) -> float:
        """How long the keys may stay as they are, in seconds."""
        if self._refresh is None:
            return LOOK_SECONDS
        rest = min(self._rest, self._refresh) if self.failing else self._refresh
        return max(0.0, self._begun + rest - time.monotonic())

    async def _read(self) -> None:
        try:
            fresh = await asyncio.to_thread(self._load)
        except BadDocument as error:
            why = str(error)
            if why != self.failing:
                _log.warning("keys not read; the last good ones stay", why=why)
            self.failing = why
            return
        if self.failing:
            _log.info("keys can be read again")
        before, self.current, self.failing = self.current, fresh, ""
        if before is None or before.thumbprints != fresh.thumbprints:
            _log.info("keys read", keys=len(fresh.keys))
            if fresh.left_out:
                # Keys for other uses are in many sets, and nothing to look at.
                say = _log.warning if fresh.left_out.keys() & _WRONG else _log.info
                say("keys left out", why=dict(fresh.left_out))

    def _load(self) -> KeySet:
        return parse(self._source.read(), self._algorithms)

    def _read_is_over(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled() and task.exception() is not None:
            # Whoever waits gets the exception too; where nobody does, it is not lost.
            self.failing = "fault"
            _log.error("keys not read", **logs.fault(task.exception() or AssertionError()))


def parse(document: bytes, algorithms: Collection[str]) -> KeySet:
    """The usable keys of a document. Others are left out, and counted.

    Args:
        document: A JSON object with `keys`: RFC 7517.
        algorithms: What keys may be used for.

    Raises:
        BadDocument: It is no such document, or no key in it can be used.
    """
    try:
        found = json.loads(document.decode(), object_pairs_hook=no_twins)
    except (ValueError, RecursionError):
        raise BadDocument("it is no JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise BadDocument("it is no set of keys")
    keys: dict[str, Key] = {}
    left_out: dict[str, int] = {}
    for entry in listed:
        try:
            key = _key(entry, algorithms)
        except _Unusable as error:
            left_out[error.why] = left_out.get(error.why, 0) + 1
        else:
            keys[key.thumbprint] = key
    if not keys:
        raise BadDocument("no key in it can be used")
    return KeySet(tuple(keys.values()), frozenset(keys), left_out)


def no_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; who reads the first of two names and who the last must agree.

    Raises:
        ValueError: It has a name twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _key(entry: Any, algorithms: Collection[str]) -> Key:
    """One key of a document.

    Raises:
        _Unusable: It is none for signatures of these algorithms, or a weak one.
    """
    if not isinstance(entry, dict):
        raise _Unusable(_MALFORMED)
    fitting = _algorithms_of(entry) & frozenset(algorithms)
    if not fitting:
        raise _Unusable("algorithm")
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        raise _Unusable("use")
    if "d" in entry:
        raise _Unusable(_PRIVATE)
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise _Unusable(_MALFORMED)
    try:
        fits = {name: jwt.PyJWK(entry, name) for name in sorted(fitting)}
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        raise _Unusable(_MALFORMED) from None
    if any(_is_weak(each.key) for each in fits.values()):
        raise _Unusable(_WEAK)
    canonical = json.dumps(entry, sort_keys=True).encode()
    return Key(kid, hashlib.sha256(canonical).hexdigest(), fits)


def _algorithms_of(entry: Mapping[str, Any]) -> frozenset[str]:
    """What a key may be used for, by its type and curve, and by its own word."""
    kind, curve, own = entry.get("kty"), entry.get("crv"), entry.get("alg")
    if kind == "RSA":
        possible = _RSA
    elif isinstance(kind, str) and isinstance(curve, str):
        possible = frozenset({_CURVES.get((kind, curve), "")})
    else:
        possible = frozenset()
    return possible if own is None else frozenset(each for each in possible if each == own)


def _is_weak(key: object) -> bool:
    return isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS
