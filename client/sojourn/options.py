"""What a client can be told when it connects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sojourn.errors import ConfigurationError

__all__ = ["TLS", "ApiKey", "KeepaliveOptions", "RetryOptions"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TLS:
    """Encrypts the connection. All parts are PEM; `from_files` reads them from disk."""

    root_certificates: bytes | None = None
    """Whom to trust; None: the roots that gRPC ships."""
    certificate_chain: bytes | None = None
    """The client's own certificate, for servers that ask for one."""
    private_key: bytes | None = None
    """The key that belongs to it."""
    server_name: str = ""
    """The name in the server's certificate, where it is not that of the target."""

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ConfigurationError("a client certificate and its private key go together")

    @classmethod
    def from_files(
        cls,
        root_certificates: PathLike | None = None,
        certificate_chain: PathLike | None = None,
        private_key: PathLike | None = None,
        *,
        server_name: str = "",
    ) -> TLS:
        """Read the parts from PEM files; raise `ConfigurationError` for one that cannot be read."""
        return cls(
            _read(root_certificates), _read(certificate_chain), _read(private_key), server_name
        )

    def __repr__(self) -> str:
        # Never the key.
        return f"TLS(server_name={self.server_name!r}, own={self.certificate_chain is not None})"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Says who calls: sent as `authorization: Bearer …`, over TLS or to this machine only."""

    key: str
    """Printable ASCII without blanks."""

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable() and self.key and " " not in self.key):
            raise ConfigurationError("an API key is printable ASCII without blanks, not empty")

    def __repr__(self) -> str:
        # Never the key.
        return "ApiKey(…)"


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How calls are repeated that no server decided about, where that is safe.

    The n-th pause is a random part of `initial_backoff * multiplier ** (n - 1)`, at most of
    `max_backoff`; where the server names a pause, at least that. No pause goes past the deadline.
    """

    max_attempts: int = 12
    """How often a call is sent at most, 1: never again. A dozen bridge a restart: about 7 s."""
    initial_backoff: timedelta = timedelta(milliseconds=100)
    max_backoff: timedelta = timedelta(seconds=2)
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.multiplier < 1 or self.initial_backoff < timedelta(0):
            raise ConfigurationError(
                "max_attempts and multiplier are at least 1, and backoffs are not negative"
            )


@dataclass(frozen=True, slots=True)
class KeepaliveOptions:
    """How a dead connection is noticed. The server answers pings down to one every 10 s."""

    interval: timedelta = timedelta(seconds=30)
    """How long between two pings."""
    timeout: timedelta = timedelta(seconds=10)
    """How long to wait for the answer."""

    def __post_init__(self) -> None:
        if self.interval < timedelta(seconds=10) or self.timeout <= timedelta(0):
            raise ConfigurationError("pings come every 10 s at most, and their timeout is positive")


def _read(path: PathLike | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
