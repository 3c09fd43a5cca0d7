"""The rules written in the protos, held on every request.

protovalidate reads them from the options of the generated descriptors. Its first
message of a type costs milliseconds, every later one microseconds: `Rules` warms all
of them at start. In a busy server, whose caches hold other things, those microseconds
are 28, most of them for the patterns of ids. So the one request that nearly all
traffic is made of, GetSession, has a short cut for ids of plain ASCII; a property
test holds it to never let pass what protovalidate refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import protovalidate
from google.protobuf.message import Message

from sojourn.v1.session_service_pb2 import GetSessionRequest
from sojourn_server.domain.errors import Reason, Refusal, Violation, too_large

_SIZE_RULES: Final = frozenset({"string.max_bytes", "bytes.max_len"})
_PATH_CHARACTERS: Final = 200
_KEY_CHARACTERS: Final = 64

# What the short cut knows of the rules; the rules themselves may allow more.
_APP_MOST: Final = 128
_ID_MOST: Final = 256
_VIEW_MOST: Final = 3
_LAST_MOST: Final = 1_000


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
        if type(request) is GetSessionRequest and is_plain_get(request):
            return
        found = self._violations(request)
        if found:
            raise _refusal(found)


def is_plain_get(request: GetSessionRequest) -> bool:
    """Whether a GetSession surely keeps its rules: by key, with ids of plain ASCII.

    False says nothing: protovalidate decides.
    """
    ref = request.session
    app, user, session_id = ref.app, ref.user, ref.session_id
    return (
        bool(app and session_id)
        and not ref.uid
        and len(app) <= _APP_MOST
        and len(user) <= _ID_MOST
        and len(session_id) <= _ID_MOST
        and _is_plain(app)
        and _is_plain(user)
        and _is_plain(session_id)
        and 0 <= request.view <= _VIEW_MOST
        and 0 <= request.last_messages <= _LAST_MOST
    )


def _is_plain(text: str) -> bool:
    """Whether a text is printable ASCII without blanks at its ends."""
    return text.isascii() and text.isprintable() and text == text.strip(" ")


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
