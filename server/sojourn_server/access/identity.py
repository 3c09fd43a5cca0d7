"""Who a credential says somebody is, before anything is granted."""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a credential proves somebody to be."""

    name: str
    """With the kind of the credential in front: `jwt:alice`."""
    subject: str = ""
    """What comes after the prefix."""
    groups: frozenset[str] = frozenset()
    """What the credential says they belong to."""
    expires: float | None = None
    """When the credential ends, in seconds since 1970; None: never."""


class BadCredential(Exception):
    """A credential that proves nothing; never with the credential itself.

    Args:
        why: A few words for the server's log.
        expired: Whether it was good once, and its time is over.
    """

    def __init__(self, why: str, *, expired: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.expired = expired
