"""Makes the gate that the settings ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from sojourn_server.access import certificates, grants, keys
from sojourn_server.access.files import BadFile, WatchedFile
from sojourn_server.access.gate import Gate
from sojourn_server.access.jwt import make_verifier
from sojourn_server.settings import Settings, SettingsError

T = TypeVar("T")

Job = Callable[[], Awaitable[None]]


class Authentication(NamedTuple):
    """What authenticates calls, and what keeps it up to date."""

    gate: Gate | None
    """None: authentication is off, and anybody may call."""
    jobs: Mapping[str, Job]
    """To be run as long as the server runs, by name."""


async def make_authentication(settings: Settings) -> Authentication:
    """What the settings ask for.

    Raises:
        SettingsError: A file that a setting names cannot be used.
    """
    if not settings.authenticates:
        return Authentication(None, {})
    tokens = await make_verifier(settings)
    by_certificate = settings.tls_client_ca is not None
    try:
        gate = Gate(
            keys=_watched(settings.keys_file, "keys_file", keys.parse),
            grants=_watched(settings.grants_file, "grants_file", grants.parse),
            tokens=tokens,
            certificates=certificates.identify if by_certificate else None,
        )
    except BadFile as error:
        raise SettingsError(str(error)) from None
    jobs: dict[str, Job] = {"access": gate.run}
    if tokens is not None:
        jobs["jwks"] = tokens.keys.run
    return Authentication(gate, jobs)


def _watched(path: Path | None, name: str, parse: Callable[[bytes], T]) -> WatchedFile[T] | None:
    return None if path is None else WatchedFile(path, name, parse)
