"""Keys and entries of the Claude Agent SDK as sessions and messages.

An entry is a message, or several where it is larger than one: the JSON text as it came, the
entry's `type` as the role, its `uuid` as the message id, its `timestamp` as the event time.

Keys are taken as names of users and sessions where they are fit for that. What is too long or not
printable is shortened and told apart by a hash; the exact text is in the session's metadata. Names
of sub-agents hold a `/`, names of main transcripts do not.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self, cast

from claude_agent_sdk import SessionKey, SessionStoreEntry

from sojourn.adapters import _items as items
from sojourn.inputs import NewMessage
from sojourn.models import EPOCH, Session

NAME: Final = 256
"""Characters of a user's and of a sub-agent's session's name."""
MAIN: Final = 128
"""Characters of a main transcript's name, so that a sub-agent's has room behind it."""
MESSAGE_ID: Final = 240
ROLE: Final = 64
OTHER_ROLE: Final = "entry"
"""The role of an entry whose type is not fit for one."""

PROJECT_KEY: Final = "claude.project_key"
SESSION_ID: Final = "claude.session_id"
SUBPATH: Final = "claude.subpath"
ESCAPED: Final = "escaped"

_HASH: Final = 32
_SHORTENED: Final = re.compile(r"~[0-9a-f]{32}\Z")
_YEARS: Final = range(1678, 2262)


@dataclass(frozen=True, slots=True)
class Names:
    """Where a transcript is kept."""

    user: str
    main: str
    """The id of the main transcript's session."""
    child: str
    """The id of the sub-agent's session; empty: the main transcript itself is meant."""

    @classmethod
    def of(cls, key: SessionKey) -> Names:
        """Return where the transcript of a key is kept."""
        main = _named(key["session_id"], MAIN, without="/")
        subpath = key.get("subpath")
        child = f"{main}/{_named(subpath, NAME - len(main) - 1)}" if subpath else ""
        return cls(user_of(key["project_key"]), main, child)


def user_of(project_key: str) -> str:
    """Return whose the sessions of a project are; of an empty key, the app's own."""
    return _named(project_key, NAME) if project_key else ""


def is_shortened(name: str) -> bool:
    """Whether a name is not the text that it was made of."""
    return _SHORTENED.search(name) is not None


def _named(text: str, most: int, without: str = "") -> str:
    """The text itself where it is fit for a name; else its beginning and a hash of it all."""
    fit = 0 < len(text) <= most and text.isprintable() and text == text.strip()
    if fit and not is_shortened(text) and not (without and without in text):
        return text
    head = "".join(letter for letter in text if letter.isprintable() and letter != without)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_HASH]
    return f"{head.strip()[: most - _HASH - 1]}~{digest}"


def described(key: SessionKey) -> dict[str, Any]:
    """Return the metadata that a session keeps of its key: the exact texts."""
    texts = {PROJECT_KEY: key["project_key"], SESSION_ID: key["session_id"]}
    if subpath := key.get("subpath"):
        texts[SUBPATH] = subpath
    return {name: keepable(text) for name, text in texts.items()}


def keepable(value: Any) -> Any:
    """Return a value as metadata and state take it: no halves of surrogates, but told by escapes.

    JavaScript cuts texts in the midst of a letter, and the SDK hands them on.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return {ESCAPED: json.dumps(value)}
    return value


def kept(value: Any) -> Any:
    """Return what `keepable` was given."""
    if isinstance(value, dict) and set(value) == {ESCAPED}:
        return json.loads(value[ESCAPED])
    return value


def exact_session_id(session: Session) -> str:
    """Return the SDK's id of a main transcript, of a session in the view FULL."""
    return cast(str, kept(session.metadata.get(SESSION_ID, session.session_id)))


def exact_subpath(session: Session) -> str:
    """Return the SDK's subpath of a sub-agent's transcript, of a session in the view FULL."""
    return cast(str, kept(session.metadata.get(SUBPATH, session.session_id.partition("/")[2])))


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry to be written."""

    value: SessionStoreEntry
    messages: Sequence[NewMessage]

    @classmethod
    def of(cls, value: SessionStoreEntry) -> Self:
        """Return an entry with the messages that hold it."""
        kind = str(value.get("type"))
        fit = _named(kind, ROLE) == kind
        return cls(
            value,
            items.to_messages(
                items.dump(value),
                role=kind if fit else OTHER_ROLE,
                message_id=identity(value) or f"{OTHER_ROLE}-{uuid.uuid4()}",
                event_time_ns=_time(value.get("timestamp")),
            ),
        )

    @property
    def first_id(self) -> str:
        """The id of its first message."""
        return self.messages[0].message_id


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries to be written together."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, values: Iterable[SessionStoreEntry]) -> Self:
        """Return a batch of entries; of those with the same `uuid` the first."""
        first: dict[str, Entry] = {}
        for value in values:
            entry = Entry.of(value)
            first.setdefault(identity(value) or entry.first_id, entry)
        return cls(tuple(first.values()))

    @property
    def values(self) -> list[SessionStoreEntry]:
        """The entries as the SDK gave them."""
        return [entry.value for entry in self.entries]

    @property
    def messages(self) -> list[NewMessage]:
        """The messages that hold them."""
        return [message for entry in self.entries for message in entry.messages]

    def later_than(self, sequence: int, sequences: Iterable[int]) -> list[SessionStoreEntry]:
        """Return the entries whose messages came after a sequence.

        Args:
            sequence: The last one before.
            sequences: Those that the batch's messages have now.
        """
        given = iter(sequences)
        return [
            entry.value
            for entry in self.entries
            # A list, so that each entry takes all its numbers.
            if all([next(given) > sequence for _ in entry.messages])  # noqa: C419
        ]


def identity(value: SessionStoreEntry) -> str:
    """Return what makes an entry the same as another one; empty: nothing does."""
    given = value.get("uuid")
    return _named(given, MESSAGE_ID) if isinstance(given, str) and given else ""


def entries(found: Iterable[items.Item]) -> list[SessionStoreEntry]:
    """Return the entries of a history in their order.

    What others appended, messages with a text and no payload, is passed over.
    """
    first: dict[str, items.Item] = {}
    for item in found:
        if item.payload:
            # A uuid counts once, also where one writer cut its entry into parts and one did not.
            first.setdefault(item.message_id, item)
    return [json.loads(item.payload) for item in first.values()]


def _time(timestamp: object) -> int | None:
    """The time of an entry in nanoseconds since 1970, where it has one that can be kept."""
    if not isinstance(timestamp, str):
        return None
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    if time.tzinfo is None or time.year not in _YEARS[1:-1]:
        return None
    return (time - EPOCH) // timedelta(microseconds=1) * 1_000
