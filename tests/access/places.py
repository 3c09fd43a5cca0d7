"""A server that knows a few callers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from sojourn_server.domain.access import Grant, Role
from tests.access.tenants import Line

GRANTED = {
    "first": ((Grant(Role.ADMIN, "*"),), None),
    "second": ((Grant(Role.ADMIN, "*"),), None),
    "ann": ((Grant(Role.WRITE, "acme", "ann"), Grant(Role.RESET, "acme", "ann")), None),
    "first, less": ((Grant(Role.WRITE, "acme", "ann"),), None),
    "late": ((Grant(Role.ADMIN, "*"),), timedelta(seconds=-1)),
}
"""What is granted to whom, and for how long. Behind a comma: another key of the same name."""


class Place(NamedTuple):
    """A server, and lines to it."""

    channel: Any
    keys: dict[str, str]

    def line(self, name: str) -> Line:
        return self.bearing(f"Bearer {self.keys[name]}")

    def bearing(self, *values: str) -> Line:
        return Line(self.channel, tuple(("authorization", value) for value in values))
