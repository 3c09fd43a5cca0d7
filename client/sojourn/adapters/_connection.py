"""How an adapter comes to its client: it is given one, or makes one in each event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from typing import Self, Unpack
from urllib.parse import urlsplit

from sojourn._async.client import AsyncClient
from sojourn.errors import ConfigurationError
from sojourn.inputs import ClientFields
from sojourn.options import TLS, ApiKey, BearerToken

SCHEME = "sojourn"
ENCRYPTED_SCHEME = "sojourn+tls"
PORT = 7070

_WHO = ("SOJOURN_API_KEY", "SOJOURN_API_KEY_FILE", "SOJOURN_TOKEN_FILE")


class Connection:
    """Hands out the client for the event loop that runs.

    Frameworks with a synchronous face run each call in an event loop of its own, and an
    `AsyncClient` belongs to one loop. So a connection that was given an address makes a client in
    each loop, and forgets those of loops that were closed. A client that was given is used as it
    is, in its own loop, and stays open.

    Args:
        server: A client; or an address, `host:port` or `sojourn://host:port`, with which clients
            are made from the environment (see `environment`).
        fields: What else the clients are made with; wins over the environment.

    Raises:
        ConfigurationError: an address that is none, fields beside a client, or an environment
            that contradicts itself.
    """

    def __init__(self, server: AsyncClient | str, **fields: Unpack[ClientFields]) -> None:
        self._given = None if isinstance(server, str) else server
        self._own: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self._making = threading.Lock()  # Loops run in threads.
        self._target = ""
        self._fields = fields
        if isinstance(server, str):
            self._target, encrypted = parse(server)
            self._fields = environment(os.environ, encrypted=encrypted) | fields
        elif fields:
            raise ConfigurationError("a client that is given has its options already")

    @property
    def client(self) -> AsyncClient:
        """The client for the event loop that runs; the caller is in one."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        client = self._own.get(loop)
        if client is None:
            client = AsyncClient(self._target, **self._fields)
            with self._making:
                for other in [other for other in self._own if other.is_closed()]:
                    del self._own[other]
                self._own[loop] = client
        return client

    async def close(self) -> None:
        """Close the client that was made in this event loop; one that was given stays open."""
        with self._making:
            client = self._own.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def parse(address: str) -> tuple[str, bool]:
    """Return what to connect to, and whether the address asks for encryption.

    `sojourn://host:port` and `sojourn+tls://host:port` are taken, and any other target of gRPC as
    it is. The port may be left out of the first two: 7070.

    Raises:
        ConfigurationError: an address of ours with no host, or with anything but host and port in
            it. Secrets belong into the environment, where no log shows them.
    """
    parts = urlsplit(address)
    if parts.scheme not in (SCHEME, ENCRYPTED_SCHEME):
        return address, False
    if not parts.hostname or parts.username or parts.query or parts.path.strip("/"):
        raise ConfigurationError(f"an address is {parts.scheme}://host:port and nothing else")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    try:
        port = parts.port or PORT
    except ValueError as error:
        raise ConfigurationError("the port of an address is a number up to 65535") from error
    return f"{host}:{port}", parts.scheme == ENCRYPTED_SCHEME


def environment(variables: Mapping[str, str], *, encrypted: bool = False) -> ClientFields:
    """Return what variables say of a client: those that the command `sojourn` knows, too.

    `SOJOURN_API_KEY`, `SOJOURN_API_KEY_FILE` or `SOJOURN_TOKEN_FILE` say who calls,
    `SOJOURN_TLS_CA` whom to trust (and to encrypt), `SOJOURN_ACTOR` who acts where the server
    does not ask who calls.

    Args:
        variables: By their names.
        encrypted: Whether to encrypt in any case.

    Raises:
        ConfigurationError: more than one variable says who calls, or a file cannot be read.
    """
    fields = ClientFields()
    who = [name for name in _WHO if variables.get(name)]
    if len(who) > 1:
        raise ConfigurationError(f"{who[0]} and {who[1]} exclude each other")
    for name in who:
        value = variables[name]
        if name == "SOJOURN_API_KEY":
            fields["credentials"] = ApiKey(value)
        else:
            kind = ApiKey if name == "SOJOURN_API_KEY_FILE" else BearerToken
            fields["credentials"] = kind.from_file(value)
    roots = variables.get("SOJOURN_TLS_CA")
    if roots or encrypted:
        fields["tls"] = TLS.from_files(roots or None)
    if actor := variables.get("SOJOURN_ACTOR"):
        fields["actor"] = actor
    return fields
