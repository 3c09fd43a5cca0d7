"""Documents: a JSON text per key. Checking, patching, and their stored form."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sojourn_server.domain.commands import StatePatch
from sojourn_server.domain.errors import Reason, Refusal, invalid_field, too_large
from sojourn_server.domain.limits import Limits
from sojourn_server.domain.model import Document

_decode_document = msgspec.msgpack.Decoder(Document).decode
_json = msgspec.json.Decoder(msgspec.Raw)


def encode(document: Document) -> bytes:
    """The stored form; no bytes for an empty document."""
    return msgspec.msgpack.encode(document) if document else b""


def decode(data: bytes) -> Document:
    """The document of a stored form."""
    return _decode_document(data) if data else {}


def check_json(field: str, text: str) -> None:
    """Refuse a text that is not JSON, with RFC 8259's own rules: no NaN, no comments.

    Args:
        field: Its path in the request, for the refusal.
        text: The text.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    if "\0" in text:
        raise invalid_field(field, "must not hold a NUL character")
    try:
        _json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise invalid_field(field, "must be a JSON text") from None


def check_document(field: str, document: Document) -> None:
    """Refuse a document with a value that is not JSON.

    Raises:
        Refusal: `INVALID_FIELD`, naming the key.
    """
    for key, text in document.items():
        check_json(f"{field}[{key!r}]", text)


def size(document: Document) -> int:
    """Bytes of all keys and values."""
    return sum(len(key.encode()) + len(text.encode()) for key, text in document.items())


class Patched(NamedTuple):
    """A document after a patch."""

    document: Document
    keys: tuple[str, ...]
    """Keys whose value changed, came or went; sorted. Empty: nothing changed."""


def differing(old: Document, new: Document) -> tuple[str, ...]:
    """The keys whose value came, went or changed, sorted."""
    return tuple(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))


def merge(old: Document, changes: Document, remove: tuple[str, ...] = ()) -> Patched:
    """The document with some keys written and some removed."""
    new = {**old, **changes}
    for key in remove:
        new.pop(key, None)
    return Patched(new, differing(old, new))


def check_apart(field: str, written: Document, remove: tuple[str, ...]) -> None:
    """Refuse to write and to remove a key at once.

    Args:
        field: The path of what is removed.
        written: What is written.
        remove: The keys that are removed.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    both = written.keys() & set(remove)
    if both:
        raise invalid_field(field, f"{min(both)!r} is also written")


def check_metadata(document: Document, limits: Limits) -> None:
    """Refuse metadata that is over its ceilings.

    Raises:
        Refusal: `INVALID_FIELD` for too many keys, or `CONTENT_TOO_LARGE`.
    """
    if len(document) > limits.metadata_keys:
        raise invalid_field("metadata", f"must not exceed {limits.metadata_keys} keys")
    if size(document) > limits.metadata_bytes:
        raise too_large("metadata", limits.metadata_bytes)


def check_state(field: str, document: Document, limits: Limits) -> None:
    """Refuse a scope's whole state that is over its ceilings, or holds what is not JSON.

    Raises:
        Refusal: `INVALID_FIELD`, or `CONTENT_TOO_LARGE`.
    """
    check_document(f"{field}.values", document)
    if len(document) > limits.state_keys:
        raise invalid_field(field, f"must not exceed {limits.state_keys} keys")
    if size(document) > limits.state_bytes:
        raise too_large(field, limits.state_bytes)


def check_patch(scope: str, patch: StatePatch) -> None:
    """Refuse a patch that is wrong in itself.

    Args:
        scope: `session`, `user` or `app`.
        patch: The patch.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    check_document(f"state.{scope}.set", patch.set)
    check_apart(f"state.{scope}.remove", patch.set, patch.remove)


def check_version(scope: str, version: int, patch: StatePatch) -> None:
    """Refuse a patch that expects another version.

    Raises:
        Refusal: `STATE_VERSION_MISMATCH`.
    """
    if patch.expected_version is not None and patch.expected_version != version:
        raise Refusal(
            Reason.STATE_VERSION_MISMATCH,
            f"the {scope} state is at version {version}, not {patch.expected_version}",
            {"scope": scope, "version": str(version)},
        )


def apply_patch(
    scope: str, version: int, old: Document, patch: StatePatch, limits: Limits
) -> Patched:
    """The scope's state after a patch.

    Args:
        scope: `session`, `user` or `app`.
        version: The scope's version now.
        old: The scope's values now.
        patch: A patch that `check_patch` let pass.
        limits: The ceilings.

    Raises:
        Refusal: `STATE_VERSION_MISMATCH`, `CONTENT_TOO_LARGE`, or `INVALID_FIELD` for
            too many keys.
    """
    check_version(scope, version, patch)
    base = {} if patch.replace else old
    new = merge(base, patch.set, patch.remove).document
    if len(new) > limits.state_keys:
        raise invalid_field(f"state.{scope}", f"must not exceed {limits.state_keys} keys")
    if size(new) > limits.state_bytes:
        raise too_large(f"state.{scope}", limits.state_bytes)
    return Patched(new, differing(old, new))
