"""What a client can be told when it connects."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn, Self, SupportsIndex, TypeAlias

from sojourn.errors import ConfigurationError

__all__ = ["TLS", "ApiKey", "BearerToken", "KeepaliveOptions", "RetryOptions"]

PathLike = str | os.PathLike[str]

FreshToken: TypeAlias = str | tuple[str, datetime | timedelta]
"""A token; with the moment when it expires (with a time zone), or how long it lasts from now."""
TokenFunction: TypeAlias = Callable[[], FreshToken | Awaitable[FreshToken]]
"""Gets a token, from wherever they come."""


class _Secret:
    """What holds a secret: not pickled, and not doubled by a copy."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and is not pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class TLS(_Secret):
    """Encrypts the connection. All parts are PEM; `from_files` reads them from disk.

    A client certificate says who calls: where the server takes it, no credentials are needed.
    """

    root_certificates: bytes | None = None
    """Whom to trust; None: the roots that gRPC ships."""
    certificate_chain: bytes | None = None
    """The client's own certificate, for servers that ask for one."""
    private_key: bytes | None = None
    """The key that belongs to it."""
    server_name: str = ""
    """The name in the server's certificate, where it is not that of the target."""
    files: tuple[Path | None, Path | None, Path | None] | None = None
    """Where the first three parts are read from again; None: nowhere. `from_files` sets it."""

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
        """Use the parts in PEM files, and those that take their place there.

        While calls are made, a client reads the files every ten seconds. When they have changed, it
        connects anew; calls that are under way end where they are. Files that cannot be read later,
        or a key that does not belong to its certificate, leave the last ones in use. Raises
        `ConfigurationError` for a file that cannot be read from the beginning.
        """
        paths = (root_certificates, certificate_chain, private_key)
        root, chain, key = (None if path is None else Path(path).absolute() for path in paths)
        return cls(_read(root), _read(chain), _read(key), server_name, (root, chain, key))

    def __repr__(self) -> str:
        # Never the key.
        return f"TLS(server_name={self.server_name!r}, own={self.certificate_chain is not None})"


@dataclass(frozen=True, slots=True)
class ApiKey(_Secret):
    """Says who calls: sent as `authorization: Bearer …`, over TLS or to this machine only."""

    key: str
    """Printable ASCII without blanks."""
    file: Path | None = None
    """Where it is read from again; None: nowhere. `from_file` sets it."""

    def __post_init__(self) -> None:
        check_secret(self.key, "an API key")

    @classmethod
    def from_file(cls, path: PathLike) -> Self:
        """Use the key in a file, and the one that takes its place there.

        While calls are made, the file is read once a second, and at once when the server refuses
        the key; then the call is sent again with the new one. So a key can be exchanged under
        traffic: add the new one to the server, write it to the file, revoke the old one. A file
        that cannot be read later, or holds no key, leaves the last one in use. Raises
        `ConfigurationError` if it is so from the beginning.
        """
        return cls(read_secret(path, "an API key"), Path(path).absolute())

    def __repr__(self) -> str:
        # Never the key.
        return "ApiKey(…)" if self.file is None else f"ApiKey(file={str(self.file)!r})"


@dataclass(frozen=True, slots=True)
class BearerToken(_Secret):
    """Says who calls by a token, such as a JWT, or by a function that gets one.

    It is sent as an API key is. A function is called before the first request, and its token is
    kept. If it names an expiry, it is called again when a tenth of the time is left, at most a
    minute; and whatever it named, once when the server refuses the token, after which the call is
    sent again once. One call of a client asks at a time, the others wait or use what there is.

        BearerToken(lambda: (fetch_token(), timedelta(minutes=10)))

    An async client also takes an async function, and runs any other in a thread. What the
    function raises becomes the cause of a `CredentialUnavailableError`; while an older token
    lasts, that one is used.
    """

    token: str | TokenFunction
    """The token, printable ASCII without blanks; or the function."""
    file: Path | None = None
    """Where it is read from again; None: nowhere. `from_file` sets it."""

    def __post_init__(self) -> None:
        if not callable(self.token):
            check_secret(self.token, "a token")
        elif self.file is not None:
            raise ConfigurationError("a token comes from a file or from a function, not from both")

    @classmethod
    def from_file(cls, path: PathLike) -> Self:
        """Use the token in a file that something else keeps fresh; see `ApiKey.from_file`."""
        return cls(read_secret(path, "a token"), Path(path).absolute())

    def __repr__(self) -> str:
        # Never the token; a function says its name.
        if callable(self.token):
            name = getattr(self.token, "__qualname__", type(self.token).__qualname__)
            return f"BearerToken({name})"
        return "BearerToken(…)" if self.file is None else f"BearerToken(file={str(self.file)!r})"


Credentials: TypeAlias = ApiKey | BearerToken
"""What says who calls, beside a client certificate in `TLS`."""


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


def check_secret(text: object, kind: str) -> str:
    """Return what may stand in a header; `kind` is what messages call it, which never quote it."""
    if (
        not isinstance(text, str)
        or not text
        or not (text.isascii() and text.isprintable())
        or " " in text
    ):
        raise ConfigurationError(f"{kind} is printable ASCII without blanks, not empty")
    return text


def read_secret(path: PathLike, kind: str) -> str:
    """Return the one word that a file holds; raise `ConfigurationError` if it does not."""
    try:
        return check_secret((_read(path) or b"").decode().strip(), kind)
    except ValueError:
        raise ConfigurationError(f"{path} is no text") from None
    except ConfigurationError as error:
        if error.__cause__ is not None:
            raise
        raise ConfigurationError(f"{path} holds none: {error.message}") from None


def _read(path: PathLike | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
