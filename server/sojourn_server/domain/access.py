"""Who may do what: permissions, roles, grants and principals.

A principal has grants; each gives a role on the sessions of some users of some apps.
What no grant covers is, for that principal, not there.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

SUBJECT: Final = "{subject}"
"""Stands, in a grant's user, for whoever is granted: each principal its own sessions."""
THE_APP: Final = ""
"""The name under which the app's own sessions and state are granted."""
_MANY: Final = "*"
_REMEMBERED: Final = 1_000
"""How many answers a principal remembers before it forgets them all."""


class Permission(enum.StrEnum):
    """What a method may need."""

    READ = "read"
    """Get, list, watch, aggregate and export."""
    WRITE = "write"
    """Create, update, append, remove messages, turns, end and delete."""
    RESET = "reset"
    """Clear a session and keep its id."""
    ERASE = "erase"
    """Remove everything of a user."""
    ADMIN = "admin"
    """Change, drain and delete apps; audit, import and backup; reflection and channelz."""


class Role(enum.StrEnum):
    """A set of permissions that is granted. Every role includes `read`."""

    READ = "read"
    WRITE = "write"
    RESET = "reset"
    ADMIN = "admin"


PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.READ: frozenset({Permission.READ}),
    Role.WRITE: frozenset({Permission.READ, Permission.WRITE}),
    Role.RESET: frozenset({Permission.READ, Permission.RESET}),
    Role.ADMIN: frozenset(Permission),
}
"""What each role permits."""


class Grant(msgspec.Struct, frozen=True):
    """A role on the sessions of some users of some apps.

    In both patterns `*` stands for any characters, also none, and everything else for
    itself. The app's own sessions and state are those of the user with the empty name.
    """

    role: Role
    app: str
    user: str = _MANY
    """May hold `{subject}`."""


def _compile(pattern: str, subject: str) -> re.Pattern[str]:
    """The expression of a pattern. A subject is taken literally, whatever stands in it."""
    parts = pattern.split(SUBJECT) if subject else [pattern]
    literal = re.escape(subject)
    return re.compile(
        literal.join(".*".join(map(re.escape, part.split(_MANY))) for part in parts), re.DOTALL
    )


class Users:
    """Some of an app's users: those that one of a few patterns names.

    Args:
        patterns: Patterns, as in a grant.
        subject: What `{subject}` in them stands for, literally.
    """

    def __init__(self, patterns: Iterable[str] = (), subject: str = "") -> None:
        named = set(patterns)
        self.patterns = tuple(sorted(named))
        """Those patterns; with `subject` they say it again, in another process too."""
        self.subject = subject
        self.everyone = _MANY in named
        """Whether it is all users there are or may ever be."""
        self.nobody = not named
        self._covers = [] if self.everyone else [_compile(each, subject) for each in named]

    def covers(self, user: str) -> bool:
        """Whether a user is among them; the empty name is the app itself."""
        return self.everyone or any(each.fullmatch(user) is not None for each in self._covers)


EVERY_USER: Final = Users((_MANY,))
NO_USER: Final = Users()


class Principal:
    """Somebody who calls, and what they were granted.

    Args:
        name: Who: `key:ci`, `jwt:alice`, `cert:agent.internal`; empty: anybody, while
            authentication is off.
        grants: What they may do.
        subject: What `{subject}` in a grant's user stands for.
    """

    def __init__(self, name: str, grants: Iterable[Grant], subject: str = "") -> None:
        self.name = name
        self.grants = tuple(grants)
        self._subject = subject
        self._apps = [
            (_compile(grant.app, ""), grant.user, PERMISSIONS[grant.role]) for grant in self.grants
        ]
        self._known: dict[tuple[str, Permission], Users] = {}

    def users(self, app: str, permission: Permission) -> Users:
        """The users of an app to whose sessions it may do something."""
        known = self._known.get((app, permission))
        if known is None:
            known = Users(
                (
                    user
                    for pattern, user, permitted in self._apps
                    if permission in permitted and pattern.fullmatch(app) is not None
                ),
                self._subject,
            )
            if known.nobody:
                # Callers can make up names of apps without end.
                return NO_USER
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[app, permission] = known
        return known

    def reads(self, app: str) -> bool:
        """Whether it may read all sessions of an app."""
        return self.users(app, Permission.READ).everyone

    def may_everywhere(self, permission: Permission) -> bool:
        """Whether it may do something to all users of all apps, now and later."""
        return any(
            grant.app == _MANY and grant.user == _MANY and permission in PERMISSIONS[grant.role]
            for grant in self.grants
        )


ANYBODY: Final = Principal("", (Grant(Role.ADMIN, _MANY),))
"""Who calls while authentication is off."""
