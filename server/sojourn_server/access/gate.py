"""Tells who calls: by API key, by JWT or by the certificate of the connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from sojourn_server.access.files import WatchedFile
from sojourn_server.access.grants import Rules
from sojourn_server.access.identity import BadCredential, Identity
from sojourn_server.access.keys import PREFIX, Keys
from sojourn_server.domain.access import Principal

REFRESH: Final = 1.0
"""How often files are looked at, in seconds: so long may a revoked key still be good."""
_BEARER: Final = "bearer "
_REMEMBERED: Final = 10_000


class NoCredential(Exception):
    """The call came without a credential."""


class Tokens(Protocol):
    """Verifies JWTs."""

    def known(self, token: str) -> Identity | None:
        """Who it is, for a token that was verified before and is still good."""
        ...

    async def verify(self, token: str) -> Identity:
        """Who it is.

        Raises:
            BadCredential: The token proves nothing.
        """
        ...


class Peer(Protocol):
    """The connection that a call came on."""

    def certificate(self) -> bytes | None:
        """The certificate that its other end proved to be its own, PEM; None: without."""
        ...


class Gate:
    """Authenticates calls. Without any of its parts, nobody gets in.

    A call that brings an `authorization` header is judged by that alone; else by the
    certificate of its connection.

    Args:
        keys: The file of API keys.
        grants: The file of grants, for all kinds of credentials.
        tokens: Verifies JWTs.
        certificates: Who a client's certificate is, as a name and the end of its time in
            seconds since 1970; None: certificates identify nobody.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        keys: WatchedFile[Keys] | None = None,
        grants: WatchedFile[Rules] | None = None,
        tokens: Tokens | None = None,
        certificates: Callable[[bytes], tuple[str, float]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._grants = grants
        self._tokens = tokens
        self._certificates = certificates
        self._clock = clock
        self._principals: dict[tuple[str, frozenset[str]], Principal] = {}

    def known(self, authorization: str | None, peer: Peer) -> Principal | None:
        """Who calls, if that can be said at once; None: `authenticate` must be asked.

        Args:
            authorization: The header's value; None: there is none.
            peer: The connection.

        Raises:
            NoCredential: There is nothing to go by.
            BadCredential: What there is proves nothing.
        """
        if authorization is None:
            return self._of_certificate(peer)
        token = _bearer(authorization)
        if token.startswith(PREFIX):
            return self._of_key(token)
        if self._tokens is None:
            raise BadCredential("not a key")
        identity = self._tokens.known(token)
        return None if identity is None else self._principal(identity)

    async def authenticate(self, authorization: str) -> Principal:
        """Who calls, for the header of a call that `known` could say nothing of.

        Raises:
            BadCredential: The token proves nothing.
        """
        assert self._tokens is not None
        return self._principal(await self._tokens.verify(_bearer(authorization)))

    def refresh(self) -> None:
        """Read again what has changed on disk. Blocks: not for the event loop."""
        changed = [file.refresh() for file in (self._keys, self._grants) if file is not None]
        if any(changed):
            self._principals = {}

    async def run(self) -> None:
        """Keep up with the files, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH)
            await asyncio.to_thread(self.refresh)

    def _of_key(self, token: str) -> Principal:
        if self._keys is None:
            raise BadCredential("keys are not accepted")
        identity, own = self._keys.value.check(token, self._clock())
        if self._grants is None:
            return own
        # Keys of one name may differ in what they were granted. Of the key no more is kept
        # than its id: memory holds no credentials.
        return self._principal(identity, own, token[: token.index("_", len(PREFIX))])

    def _of_certificate(self, peer: Peer) -> Principal:
        pem = None if self._certificates is None else peer.certificate()
        if pem is None or self._certificates is None:
            raise NoCredential
        name, expires = self._certificates(pem)
        if expires <= self._clock():
            raise BadCredential("expired certificate", expired=True)
        subject = name.partition(":")[2]
        return self._principal(Identity(name=name, subject=subject, expires=expires))

    def _principal(
        self, identity: Identity, own: Principal | None = None, key: str = ""
    ) -> Principal:
        """Somebody with all they were granted."""
        place = (key or identity.name, identity.groups)
        # The files are read in another thread. What is made of what they said before must not
        # land among what is made of what they say now: it would stay there.
        principals = self._principals
        found = principals.get(place)
        if found is None:
            grants = [] if self._grants is None else self._grants.value.grants(identity)
            if own is not None:
                grants += own.grants
            found = Principal(identity.name, grants, identity.subject)
            if len(principals) >= _REMEMBERED:
                principals.clear()
            principals[place] = found
        return found


def _bearer(authorization: str) -> str:
    """The token of a header.

    Raises:
        BadCredential: It is of another kind.
    """
    if authorization[: len(_BEARER)].lower() != _BEARER:
        raise BadCredential("not a bearer")
    token = authorization[len(_BEARER) :]
    return token.strip(" ") if " " in token else token
