"""What a watch needs of the transport: bytes for everything it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.watching import Sight
from sojourn_server.feed.parts import Encoder
from sojourn_server.service.answers import MessageSnapshot, SessionContent, SessionSnapshot
from sojourn_server.store.base import LoggedChange


class Forms(Encoder, Protocol):
    """Gives messages their form. What the methods answer, joined, is one message."""

    def content(
        self,
        app: str,
        change: LoggedChange,
        sight: Sight,
        previous: bool,
        content: SessionContent | None,
        messages: Sequence[MessageSnapshot],
        revision: int,
    ) -> bytes:
        """One change with content.

        Args:
            app: Whose log it is in.
            change: As the log has it.
            sight: How it shows.
            previous: Whether to tell of the session before.
            content: Of the session; None: it is gone.
            messages: Those it appended, as far as they are there.
            revision: What the content is true at.
        """
        ...

    def initial(self, shot: SessionSnapshot, now: Nanos) -> bytes:
        """One session of the initial state, as it is at an instant."""
        ...

    def initial_end(self, revision: int, token: str) -> bytes:
        """The end of the initial state."""
        ...

    def end(self, token: str, revision: int) -> bytes:
        """Where to resume; by itself a bookmark."""
        ...

    @property
    def continued(self) -> bytes:
        """More of the last revision follows."""
        ...
