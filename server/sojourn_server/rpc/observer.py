"""Who is told of calls: the metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Is told of the calls of one method."""

    def begun(self) -> None:
        """A call has come."""
        ...

    def ended(self, outcome: str, seconds: float) -> None:
        """It is over.

        Args:
            outcome: `OK`, `CANCELLED` or the reason of its refusal.
            seconds: How long it took.
        """
        ...
