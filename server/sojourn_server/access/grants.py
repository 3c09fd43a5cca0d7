"""Grants for principals whose credentials are made elsewhere: JWTs and certificates.

A TOML file of `[[grant]]` tables, each for a principal's name, by pattern, or for a group
that a JWT names. Keys bring grants of their own; what stands here comes on top.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from sojourn_server.access.files import BadFile
from sojourn_server.access.identity import Identity
from sojourn_server.domain.access import Grant, Role

_REMEMBERED: Final = 10_000

_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""

    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]
    app: _Pattern
    """Which apps, by pattern."""
    user: str
    """Which of their users, by pattern; `{subject}` is whoever is granted."""
    principal: _Pattern | None = None
    """Whom, by pattern: `jwt:*`."""
    group: _Pattern | None = None
    """The group of a JWT whose members it is for."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    grant: tuple[Rule, ...] = ()


class Rules:
    """Finds the grants of an identity.

    Args:
        rules: The tables of the file.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._named = [
            (re.compile(".*".join(map(re.escape, rule.principal.split("*"))), re.DOTALL), rule)
            for rule in rules
            if rule.principal is not None
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and other._rules == self._rules

    __hash__ = None  # type: ignore[assignment]

    def grants(self, identity: Identity) -> list[Grant]:
        """What somebody was granted."""
        matching = [rule for name, rule in self._named if name.fullmatch(identity.name)]
        matching += [rule for rule in self._rules if rule.group in identity.groups]
        return [Grant(role, rule.app, rule.user) for rule in matching for role in rule.roles]


def parse(data: bytes) -> Rules:
    """The rules of a file's bytes.

    Raises:
        BadFile: It is no such file; the text says where.
    """
    try:
        found = msgspec.convert(tomllib.loads(data.decode()), _File)
    except msgspec.ValidationError as error:
        # Its texts name types and places, not values.
        raise BadFile(f"grants_file: {error}.") from None
    except ValueError:
        raise BadFile("grants_file: it is no TOML.") from None
    for number, rule in enumerate(found.grant, 1):
        if (rule.principal is None) == (rule.group is None):
            raise BadFile(f"grants_file: grant {number} needs a principal or a group, not both.")
    return Rules(found.grant)
