"""What every call of a client has in common. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from sojourn import _checks as check
from sojourn.errors import ConfigurationError
from sojourn.options import TLS, Credentials, RetryOptions

ACTOR_KEY = "x-sojourn-actor-bin"
AUTHORIZATION_KEY = "authorization"

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

_SCHEME = re.compile(r"(?:dns|passthrough):(?:///|//[^/]*/)?|ipv[46]:")


@dataclass(frozen=True, slots=True)
class Config:
    """The defaults of a client's calls."""

    app: str = ""
    """For calls that name no app; empty: each must name one."""
    deadline: timedelta = timedelta(seconds=30)
    """How long a call may take, repeats and pauses counted."""
    default_labels: Mapping[str, str] = field(default_factory=dict)
    """For every session that is created."""
    actor: str = ""
    """Who acts, in the audit log, while the server does not authenticate."""
    retry: RetryOptions = field(default_factory=RetryOptions)

    def __post_init__(self) -> None:
        if self.app:
            object.__setattr__(self, "app", check.app_name(self.app))
        if self.deadline <= timedelta(0):
            raise ConfigurationError("the deadline must be positive")
        object.__setattr__(self, "default_labels", check.labels(self.default_labels))
        object.__setattr__(self, "actor", check.name("actor", self.actor))

    def metadata(self) -> Metadata:
        """Return what is sent beside every request, but for the credential."""
        return ((ACTOR_KEY, self.actor.encode()),) if self.actor else ()


def authorization(secret: str) -> Metadata:
    """Return what says who calls."""
    return ((AUTHORIZATION_KEY, f"Bearer {secret}"),)


def refuse_open_secrets(target: str, tls: TLS | None, credentials: Credentials | None) -> None:
    """Raise `ConfigurationError` if credentials would cross a network unencrypted."""
    if credentials is not None and tls is None and not is_this_machine(target):
        raise ConfigurationError(
            f"credentials are not sent unencrypted to {target}: pass tls=TLS(…)"
        )


def is_this_machine(target: str) -> bool:
    """Say whether a gRPC target can only mean this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    addresses = _SCHEME.sub("", target, count=1).split(",")
    return all(_is_loopback(address) for address in addresses)


def _is_loopback(address: str) -> bool:
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        host = address.partition(":")[0]
    else:
        host = address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
