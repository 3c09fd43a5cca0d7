"""API keys: kept in one file as hashes, several at once for one name.

A key is `sj_` + id + `_` + secret. The id is for people; the secret has 256 random bits. What
is stored is SHA-256 of the whole key, which is enough for what nobody can guess. Whoever
reads the file can use none of its keys.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from sojourn_server.access.files import BadFile, replace_file
from sojourn_server.access.identity import BadCredential, Identity
from sojourn_server.domain.access import Grant, Principal

PREFIX: Final = "sj_"
KIND: Final = "key:"
_VERSION: Final = 1
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_KEY_CHARACTERS: Final = 200
"""Longer texts are no keys, and not worth a hash."""


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key, as the file keeps it."""

    id: str
    name: str
    """Whose it is; several keys may have one name."""
    hash: str
    """SHA-256 of the key, in hex."""
    create_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    grants: tuple[Grant, ...] = ()

    def status(self, now: datetime) -> str:
        """`live`, `expired` or `revoked`."""
        if self.revoke_time is not None:
            return "revoked"
        if self.expire_time is not None and self.expire_time <= now:
            return "expired"
        return "live"


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    version: int = _VERSION
    keys: tuple[Key, ...] = ()


class _Entry(NamedTuple):
    """A key, with all that a call needs made beforehand."""

    digest: bytes
    revoked: bool
    identity: Identity
    principal: Principal


def _entry(key: Key) -> _Entry:
    principal = Principal(KIND + key.name, key.grants, key.name)
    expires = None if key.expire_time is None else key.expire_time.timestamp()
    return _Entry(
        bytes.fromhex(key.hash),
        key.revoke_time is not None,
        Identity(name=principal.name, subject=key.name, expires=expires),
        principal,
    )


class Keys:
    """The keys of a file, ready to be looked up.

    Args:
        keys: All of them, also those that are good no more.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self._entries = {bytes.fromhex(key.hash): _entry(key) for key in keys}
        self._keys = tuple(keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and other._keys == self._keys

    __hash__ = None  # type: ignore[assignment]

    def check(self, presented: str, now: float) -> tuple[Identity, Principal]:
        """Whose key it is.

        Args:
            presented: What the caller sent.
            now: Seconds since 1970.

        Raises:
            BadCredential: It is no key, or no longer one.
        """
        if len(presented) > _KEY_CHARACTERS:
            raise BadCredential("no key")
        digest = hashlib.sha256(presented.encode()).digest()
        # How long it takes to look up a hash tells nothing: nobody can choose one. And what was
        # found is compared in constant time all the same.
        found = self._entries.get(digest)
        if found is None or not hmac.compare_digest(digest, found.digest):
            raise BadCredential("no such key")
        if found.revoked:
            raise BadCredential("revoked key")
        expires = found.identity.expires
        if expires is not None and expires <= now:
            raise BadCredential("expired key", expired=True)
        return found.identity, found.principal


def parse(data: bytes) -> Keys:
    """The keys of a file's bytes.

    Raises:
        BadFile: It is no such file.
    """
    return Keys(read_file(data).keys)


def read_file(data: bytes) -> KeyFile:
    """What a file's bytes say.

    Raises:
        BadFile: It is no such file.
    """
    try:
        found = msgspec.json.decode(data, type=KeyFile)
        for key in found.keys:
            if len(bytes.fromhex(key.hash)) != hashlib.sha256().digest_size:
                raise ValueError("hash")
    except (msgspec.MsgspecError, ValueError):
        raise BadFile("keys_file: it is no file of keys; make one with keys create.") from None
    if found.version != _VERSION:
        raise BadFile(f"keys_file: it has version {found.version}, not {_VERSION}.")
    if len({key.id for key in found.keys}) != len(found.keys):
        raise BadFile("keys_file: two keys have one id.")
    return found


def make(
    name: str, grants: Sequence[Grant], lifetime: timedelta | None, now: datetime
) -> tuple[str, Key]:
    """A new key.

    Args:
        name: Whose.
        grants: What it may do.
        lifetime: How long it is good; None: for ever.
        now: The time.

    Returns:
        The key itself, to be shown once, and its entry.
    """
    identifier = secrets.token_hex(_ID_BYTES)
    key = f"{PREFIX}{identifier}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    entry = Key(
        id=identifier,
        name=name,
        hash=hashlib.sha256(key.encode()).hexdigest(),
        create_time=now,
        expire_time=None if lifetime is None else now + lifetime,
        grants=tuple(grants),
    )
    return key, entry


def revoke(file: KeyFile, chosen: Sequence[str], now: datetime) -> tuple[KeyFile, list[Key]]:
    """The file with keys revoked; their entries stay, so that a list still shows them.

    Args:
        file: What the file says.
        chosen: Ids of keys, or names: all keys of each.
        now: The time.

    Returns:
        The new file, and the keys that were live until now.

    Raises:
        LookupError: One of them names no key.
    """
    unknown = set(chosen) - {each for key in file.keys for each in (key.id, key.name)}
    if unknown:
        raise LookupError(min(unknown))
    keys: list[Key] = []
    revoked: list[Key] = []
    for key in file.keys:
        gone = key
        if (key.id in chosen or key.name in chosen) and key.revoke_time is None:
            gone = msgspec.structs.replace(key, revoke_time=now)
            revoked.append(gone)
        keys.append(gone)
    return msgspec.structs.replace(file, keys=tuple(keys)), revoked


def write_file(path: Path, file: KeyFile) -> None:
    """Put a file in the place of another, as `replace_file` does; what was a link stays one.

    Raises:
        OSError: It cannot be written.
    """
    replace_file(path.resolve(), msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")


def utc_now() -> datetime:
    """The time, without parts of a second."""
    return datetime.now(UTC).replace(microsecond=0)
