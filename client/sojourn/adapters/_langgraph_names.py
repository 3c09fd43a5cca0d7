"""Which thread of a saver belongs to which session, and when it is over. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sojourn.changes import SessionChange
from sojourn.enums import ChangeCause, DeletedWhy, Status
from sojourn.models import Session

_OURS = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?::([1-9][0-9]*))?")

ALL = 0
"""In the place of a generation: every one there was."""


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """What one session has stored between two resets: one thread of the saver."""

    uid: str
    """The session's uid."""
    generation: int
    """The session's generation, from 1; `ALL`: every one."""

    def __str__(self) -> str:
        return f"{self.uid}:{self.generation}"

    @classmethod
    def parse(cls, text: str) -> Stretch:
        """Return what `str` made a text of."""
        uid, _, generation = text.partition(":")
        return cls(uid, int(generation))


@dataclass(frozen=True, slots=True)
class Rules:
    """How the threads of an app are named, and which of them are to be cleared."""

    app: str
    """The app."""
    prefix: str
    """How the saver's thread ids of this app begin, and no others do."""
    clear_on: Collection[Status]
    """Sessions of these statuses keep no checkpoints."""
    clear_on_reset: bool
    """Whether a reset is a new beginning for the checkpoints, too."""

    def describe(self) -> str:
        """Return what says when a thread is over: a text that changes with it."""
        return " ".join([*sorted(self.clear_on), *(["RESET"] if self.clear_on_reset else [])])

    def stretch(self, session: Session) -> Stretch:
        """Return what the session stores now."""
        return Stretch(session.uid, session.generation if self.clear_on_reset else 1)

    def thread_id(self, stretch: Stretch) -> str:
        """Return the saver's thread id of one stretch."""
        suffix = "" if stretch.generation == 1 else f":{stretch.generation}"
        return f"{self.prefix}{stretch.uid}{suffix}"

    def parse(self, thread_id: str) -> Stretch | None:
        """Return whose thread of the saver it is; None: it is not of this app."""
        if not thread_id.startswith(self.prefix):
            return None
        found = _OURS.fullmatch(thread_id, len(self.prefix))
        return None if found is None else Stretch(found[1], int(found[2] or 1))

    def is_over(self, stretch: Stretch, session: Session | None) -> bool:
        """Say whether a thread is to be cleared, by the session as it is now; None: it is gone."""
        if session is None or session.status in self.clear_on:
            return True
        return self.clear_on_reset and stretch.generation < session.generation

    def over_with(self, change: SessionChange) -> Iterator[Stretch]:
        """Tell what is to be cleared after a change."""
        session = change.session
        if change.deleted_why is DeletedWhy.ERASED:
            # All that is said of an erased session is its uid.
            yield Stretch(change.uid, ALL)
        elif change.deleted_why is not None or session.status in self.clear_on:
            yield self.stretch(session)
        elif change.cause is ChangeCause.RESET and self.clear_on_reset:
            yield Stretch(change.uid, session.generation - 1)
