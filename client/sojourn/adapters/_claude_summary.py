"""The SDK's summary of a transcript, kept in its session's state.

It says up to where it reaches. An append that finds it there folds its own entries into it and
writes both in one unit; one that finds it elsewhere folds the whole transcript anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from claude_agent_sdk import SessionKey, SessionStoreEntry, fold_session_summary

from sojourn.adapters import _items as items
from sojourn.adapters._claude_entries import keepable, kept
from sojourn.inputs import StatePatch
from sojourn.models import Session

STATE_KEY: Final = "claude.summary"
BYTES: Final = 200_000
"""What a summary may have: below the limit of a session's state, 256 KiB."""

Data: TypeAlias = dict[str, Any]
"""The SDK's own: kept, and not looked into."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is stored."""

    data: Data | None
    """None: it became too large to be kept."""


def of(session: Session) -> Summary | None:
    """Return the summary of a session in the view FULL, if it covers the newest entry."""
    stored = session.state.get(STATE_KEY)
    if not isinstance(stored, dict):
        return None
    reached = (stored["generation"], stored["through"])
    if reached != (session.generation, session.last_sequence):
        return None
    return Summary(kept(stored["data"]))


def fold(key: SessionKey, before: Data | None, entries: Iterable[SessionStoreEntry]) -> Data | None:
    """Return the summary with entries added, by the SDK's own rules.

    Args:
        key: Of the main transcript.
        before: The summary of all entries before; None: it is not kept.
        entries: In their order.
    """
    if before is None:
        return None
    name = key["session_id"]
    folded = fold_session_summary(
        {"session_id": name, "mtime": 0, "data": before}, key, list(entries)
    )
    return folded["data"]


def patch(data: Data | None, generation: int, through: int) -> StatePatch:
    """Return the change of state that stores a summary.

    Args:
        data: The summary.
        generation: Of the history that it tells of.
        through: The sequence of the last message that it covers.
    """
    told = keepable(data)
    if len(items.dump(told)) > BYTES:
        told = None
    summary = {"generation": generation, "through": through, "data": told}
    return StatePatch(set={STATE_KEY: summary})
