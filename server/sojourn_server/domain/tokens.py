"""Opaque tokens and keyed hashes: they carry facts, prove them, and grant nothing.

A token is base64url of: version (1 byte), key id (1 byte), MAC (16 bytes), body
(msgpack). The MAC covers version, key id, the token's kind and the body, so a token
of one kind is never taken for another.

The body of a page token is encrypted as well, by AES-SIV, whose tag is the MAC: the next page
may begin behind something that the caller may not see, and its name is none of theirs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sojourn_server.domain.errors import Reason, Refusal

T = TypeVar("T")

VERSION: Final = 1
_HEAD: Final = 18
_MAC: Final = 16


class Key(Protocol):
    """A key for tokens and hashes."""

    @property
    def key_id(self) -> int:
        """0 to 255."""
        ...

    @property
    def secret(self) -> bytes:
        """32 bytes."""
        ...


class PagePosition(msgspec.Struct, frozen=True, array_like=True):
    """Where the next page of a list begins."""

    request: bytes
    """Hash of the request's other fields: a token serves the request it was made for."""
    now: int
    """What relative predicates call now, from the first page on."""
    value: int | str
    tie: int
    generation: int = 0
    """Of the session whose messages are listed."""
    remaining: int = -1
    """How many items may still come, for a list of the last N; -1: no limit."""


class TurnClaim(msgspec.Struct, frozen=True, array_like=True):
    """Which turn of which session a turn token stands for."""

    app: str
    uid: str
    number: int


class ResumePoint(msgspec.Struct, frozen=True, array_like=True):
    """Where a watch goes on."""

    feed_id: str
    revision: int
    nonce: int
    scope: bytes
    """Hash of scope and filter."""
    check: bytes = b""
    """Tells a token of another store, whose MAC we cannot know, from one that was damaged."""


_KINDS: Final[dict[type, tuple[bytes, Reason]]] = {
    PagePosition: (b"page", Reason.PAGE_TOKEN_INVALID),
    TurnClaim: (b"turn", Reason.TURN_TOKEN_INVALID),
    ResumePoint: (b"resume", Reason.RESUME_TOKEN_INVALID),
}


class Sealer:
    """Makes and opens tokens.

    Args:
        keys: The current key first, then those that old tokens may still name.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self._current = keys[0]
        self._secrets = {key.key_id: key.secret for key in keys}
        self._ciphers = {key_id: _cipher(secret) for key_id, secret in self._secrets.items()}

    def seal(self, body: PagePosition | TurnClaim | ResumePoint) -> str:
        """The token of a body."""
        kind, _ = _KINDS[type(body)]
        prefix = bytes((VERSION, self._current.key_id))
        data = msgspec.msgpack.encode(body)
        if isinstance(body, PagePosition):
            sealed = self._ciphers[self._current.key_id].encrypt(data, [kind, prefix])
        else:
            sealed = _mac(self._current.secret, kind, prefix, data) + data
        return base64.urlsafe_b64encode(prefix + sealed).rstrip(b"=").decode()

    def open(self, token: str, kind: type[T]) -> T:
        """The body of a token.

        Args:
            token: What `seal` made.
            kind: `PagePosition`, `TurnClaim` or `ResumePoint`.

        Raises:
            Refusal: The kind's own reason, for anything `seal` did not make.
        """
        return self._open(token, kind, proven=True)

    def peek(self, token: str, kind: type[T]) -> T:
        """The body of what looks like a token, of whatever store: nothing proves it.

        Raises:
            Refusal: The kind's own reason.
        """
        return self._open(token, kind, proven=False)

    def _open(self, token: str, kind: type[T], *, proven: bool) -> T:
        name, _ = _KINDS[kind]
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            prefix, mac, data = raw[:2], raw[2:_HEAD], raw[_HEAD:]
            if prefix[0] != VERSION:
                raise ValueError("version")
            if kind is PagePosition:
                data = self._ciphers[prefix[1]].decrypt(raw[2:], [name, prefix])
            elif proven and not hmac.compare_digest(
                mac, _mac(self._secrets[prefix[1]], name, prefix, data)
            ):
                raise ValueError("MAC")
            # Base64 ignores spare bits in the last character; only one spelling is valid.
            if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
                raise ValueError("spelling")
            return msgspec.msgpack.decode(data, type=kind)
        except (ValueError, KeyError, IndexError, InvalidTag, msgspec.MsgspecError):
            raise self.invalid(kind) from None

    def invalid(self, kind: type) -> Refusal:
        """The refusal of a token: changed, made for something else, or none at all."""
        name, reason = _KINDS[kind]
        return Refusal(reason, f"not a valid {name.decode()} token")

    def aliases(self, app: str, user: str) -> tuple[str, ...]:
        """What a log may call an erased user, the current key's first: a keyed hash each."""
        data = msgspec.msgpack.encode((app, user))
        secrets = {self._current.secret: None, **dict.fromkeys(self._secrets.values())}
        return tuple(
            hashlib.blake2b(data, digest_size=16, key=secret, person=b"erased").hexdigest()
            for secret in secrets
        )

    def fingerprint(self, data: bytes) -> bytes:
        """A keyed hash, 16 bytes: tells two payloads apart, tells nothing of them."""
        return hashlib.blake2b(data, digest_size=16, key=self._current.secret).digest()


def digest(data: bytes) -> bytes:
    """A hash, 16 bytes, of what a token is bound to: the same whatever key is current."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _cipher(secret: bytes) -> AESSIV:
    """What hides bodies, under a key of its own."""
    return AESSIV(hashlib.blake2b(key=secret, person=b"page bodies").digest())


def _mac(secret: bytes, kind: bytes, prefix: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(
        prefix + data, digest_size=_MAC, key=secret, person=kind.ljust(16, b"\0")
    ).digest()


def etag(uid: str, version: int) -> str:
    """What a session's etag shows: opaque to callers, differs between uids."""
    raw = binascii.unhexlify(uid.replace("-", "")) + version.to_bytes(8, "big")
    return base64.urlsafe_b64encode(raw).decode()
