"""The rules written in the protos, held on every request.

protovalidate reads them from the options of the generated descriptors. Its first
message of a type costs milliseconds, every later one microseconds: `Rules` warms all
of them at start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import protovalidate
from google.protobuf.message import Message

from sojourn_server.domain.errors import Reason, Refusal, Violation, too_large

_SIZE_RULES: Final = frozenset({"string.max_bytes", "bytes.max_len"})
_PATH_CHARACTERS: Final = 200
_KEY_CHARACTERS: Final = 64


class Rules:
    """Holds requests to the rules of their type.

    Args:
        types: The request types to warm.
    """

    def __init__(self, types: Iterable[type[Message]]) -> None:
        self._violations = protovalidate.Validator().collect_violations
        for kind in types:
            self._violations(kind())

    def check(self, request: Message) -> None:
        """Refuse a request that breaks a rule, naming all it breaks.

        Raises:
            Refusal: `CONTENT_TOO_LARGE` where only sizes are wrong, else `INVALID_FIELD`.
        """
        found = self._violations(request)
        if found:
            raise _refusal(found)


def _refusal(found: list[protovalidate.Violation]) -> Refusal:
    sizes_only = all(violation.proto.rule_id in _SIZE_RULES for violation in found)
    if sizes_only:
        return too_large(_path(found[0]), int(found[0].rule_value))
    violations = [Violation(_path(each), each.proto.message) for each in found]
    first = violations[0]
    return Refusal(
        Reason.INVALID_FIELD,
        f"{first.field}: {first.description}",
        {"field": first.field},
        violations=violations,
    )


def _path(violation: protovalidate.Violation) -> str:
    """Where a rule is broken, as callers write it: `messages[0].metadata["a"]`."""
    path = violation.proto.field
    if path is None:
        return ""
    parts: list[str] = []
    for element in path.elements:
        subscript = element.subscript
        parts.append("." + element.field_name)
        if subscript is None:
            continue
        value = subscript.value
        if isinstance(value, str):
            value = f'"{value[:_KEY_CHARACTERS]}"'
        parts.append(f"[{value}]")
    return "".join(parts)[1 : _PATH_CHARACTERS + 1]


def refuse_nul(field: str, text: str) -> None:
    """Refuse a text with a NUL character, which not every store can keep.

    Args:
        field: Its path in the request.
        text: The text.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    if "\0" in text:
        raise Refusal(
            Reason.INVALID_FIELD,
            f"{field}: must not hold a NUL character",
            {"field": field},
            violations=[Violation(field, "must not hold a NUL character")],
        )


Check = Callable[[Message], None]
