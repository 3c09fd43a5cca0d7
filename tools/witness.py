"""Watches an app while others write to it, and says whether it saw all that was written.

Knows nothing of what is played: it compares the changes that came with what the server holds.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import sojourn

PATIENCE = 60.0
"""Seconds until everything that was written must have come."""


@dataclass
class Account:
    """What the changes of one session add up to."""

    causes: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    last: sojourn.Session | None = None
    """As the newest change shows it."""

    def differs(self, stored: sojourn.Session) -> list[str]:
        """Name what is not as the server has it."""
        turns = self.causes["TURN_ENDED"]
        pairs: dict[str, tuple[object, object]] = {
            "creations": (self.causes["CREATED"], 1),
            "messages": (self.messages, stored.message_count),
            "turns": (turns, stored.metrics.request_count),
            "etag": (self.last and self.last.etag, stored.etag),
            "status": (self.last and self.last.status, stored.status),
            "labels": (self.last and self.last.labels, stored.labels),
        }
        name = stored.session_id
        return [
            f"{name}: {what} seen {seen}, stored {held}"
            for what, (seen, held) in pairs.items()
            if seen != held
        ]


class Witness:
    """Watches from when the block begins; `verdict` compares.

    Args:
        target: The server.
        app: The app that is watched.
    """

    def __init__(self, target: str, app: str) -> None:
        self._client = sojourn.connect_sync(target, app=app)
        self._watch = self._client.sessions.watch(bookmark_interval=0.2)
        self._thread = threading.Thread(target=self._follow, name="witness")
        self._moved = threading.Condition()
        self._up_to = 0
        self._places: list[tuple[int, int]] = []
        self._accounts: dict[str, Account] = {}
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        self._watch.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.close()
        self._thread.join()
        self._client.close()

    def verdict(self) -> tuple[str, list[str]]:
        """Wait for all that was written; return what was seen, and each difference."""
        stored = self._client.sessions.list(status=None).to_list()
        head = self._client.sessions.list(status=None).page(1, limit=1).revision
        with self._moved:
            came = self._moved.wait_for(lambda: self._up_to >= head or self._failure, PATIENCE)
        if self._failure is not None:
            raise self._failure
        revisions = sorted({revision for revision, _ in self._places})
        problems = [] if came else [f"the watch came to revision {self._up_to} of {head}"]
        if self._places != sorted(set(self._places)):
            problems.append("changes came twice, or not in their order")
        if revisions != list(range(head - len(revisions) + 1, head + 1)):
            problems.append("revisions are missing")
        for session in stored:
            problems += self._accounts.get(session.uid, Account()).differs(session)
        if self._accounts.keys() != {session.uid for session in stored}:
            problems.append("sessions came that are not stored, or the other way round")
        messages = sum(account.messages for account in self._accounts.values())
        seen = (
            f"{len(self._places)} changes under {len(revisions)} revisions: "
            f"{len(self._accounts)} sessions, {messages} messages"
        )
        return seen, problems

    def _follow(self) -> None:
        try:
            for event in self._watch:
                if isinstance(event, sojourn.SessionChange):
                    self._note(event)
                if isinstance(event, sojourn.SessionChange | sojourn.Bookmark):
                    with self._moved:
                        self._up_to = event.revision
                        self._moved.notify_all()
        except sojourn.SojournError as error:
            with self._moved:
                self._failure = error
                self._moved.notify_all()

    def _note(self, change: sojourn.SessionChange) -> None:
        self._places.append((change.revision, change.index))
        account = self._accounts.setdefault(change.uid, Account())
        account.causes[change.cause.value] += 1
        account.last = change.session
        if change.cause is sojourn.ChangeCause.MESSAGES_APPENDED:
            account.messages += change.last_sequence - change.first_sequence + 1
