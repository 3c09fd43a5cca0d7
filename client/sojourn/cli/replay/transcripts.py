"""Recorded sessions, one JSON object a line, and how they become messages and turns.

A record has a `session_id`, a list of `messages` in the chat-completions form, and may have a
`user` and an `outcome`, completed or failed. Anything else in it becomes metadata of the session.
Each message is stored whole, as the bytes that stand in the file, in the payload; role and content
are stored beside it, so that other readers need not know the form.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sojourn
from sojourn.cli import rawjson
from sojourn.cli.message_lines import batches

JSON_TYPE = "application/json"
MOST_CONTENT = 1024 * 1024
"""What a message may hold in all, in bytes."""

OWN_FIELDS = {"session_id", "user", "outcome", "messages"}
STATUS = {"completed": sojourn.Status.COMPLETED, "failed": sojourn.Status.FAILED}


class TranscriptError(ValueError):
    """The file is not what it should be; the message says where."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded message."""

    role: str
    content: str | None
    """What is stored as the text; None also where a text cannot hold it, as a list of parts."""
    raw: bytes
    """The whole JSON object, as it stands in the file."""

    def to_store(self) -> sojourn.NewMessage:
        """Return the message to append."""
        return sojourn.NewMessage(
            role=self.role, content=self.content, payload=self.raw, content_type=JSON_TYPE
        )


@dataclass(frozen=True, slots=True)
class Transcript:
    """One recorded session."""

    session_id: str
    user: str
    status: sojourn.Status
    messages: tuple[Recorded, ...]
    extra: dict[str, str]
    """The record's other fields, each as its JSON text."""

    def turns(self) -> list[tuple[Recorded, ...]]:
        """Return the messages turn by turn: each begins with what the user says.

        What stands before the first of the user's messages belongs to the first turn.
        """
        starts = [at for at, one in enumerate(self.messages) if one.role == "user"]
        bounds = [0, *starts[1:], len(self.messages)]
        pieces = [self.messages[low:high] for low, high in itertools.pairwise(bounds)]
        return [piece for piece in pieces if piece]

    def requests(self) -> Iterator[tuple[list[sojourn.NewMessage], ...]]:
        """Return, turn by turn, the batches to append; nearly always one."""
        for turn in self.turns():
            yield tuple(batches(one.to_store() for one in turn))


def read(path: Path, limit: int | None = None) -> list[Transcript]:
    """Return the first `limit` sessions of a file; raise `TranscriptError` or OSError."""
    found: list[Transcript] = []
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if limit is not None and len(found) == limit:
            break
        if not line.strip():
            continue
        try:
            one = parse(line.decode())
            if (one.user, one.session_id) in seen:
                raise TranscriptError(f"the session {one.session_id!r} is there twice")
        except UnicodeDecodeError:
            raise TranscriptError(f"line {number} is not UTF-8") from None
        except ValueError as error:
            raise TranscriptError(f"line {number}: {error}") from error
        seen.add((one.user, one.session_id))
        found.append(one)
    if not found:
        raise TranscriptError("there is no recorded session in it")
    return found


def parse(line: str) -> Transcript:
    """Return the session of one line; raise ValueError when it is none."""
    texts = rawjson.members(line)
    missing = sorted({"session_id", "messages"} - texts.keys())
    if missing:
        raise TranscriptError(f"{missing[0]} is missing")
    outcome = _string(texts, "outcome", "completed").lower()
    if outcome not in STATUS:
        raise TranscriptError(f"the outcome is completed or failed, not {outcome!r}")
    try:
        raws = rawjson.items(texts["messages"])
    except ValueError as error:
        raise TranscriptError(f"messages: {error}") from error
    return Transcript(
        session_id=_string(texts, "session_id"),
        user=_string(texts, "user", ""),
        status=STATUS[outcome],
        messages=tuple(_message(at, raw) for at, raw in enumerate(raws)),
        extra={key: text for key, text in texts.items() if key not in OWN_FIELDS},
    )


def _string(texts: dict[str, str], key: str, default: str | None = None) -> str:
    value = json.loads(texts[key]) if key in texts else default
    if not isinstance(value, str):
        raise TranscriptError(f"{key} must be a text")
    return value


def _message(at: int, raw: str) -> Recorded:
    value = json.loads(raw)
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise TranscriptError(f"messages[{at}] must be an object with a role")
    return Recorded(
        role=value["role"], content=_content(value.get("content"), raw), raw=raw.encode()
    )


def _content(value: object, raw: str) -> str | None:
    """Return a recorded content as far as a message's text can hold it beside the payload."""
    if not isinstance(value, str) or "\x00" in value:
        return None
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        # Half of a surrogate pair: JSON can spell it, a text cannot hold it.
        return None
    return value if size + len(raw.encode()) <= MOST_CONTENT else None
