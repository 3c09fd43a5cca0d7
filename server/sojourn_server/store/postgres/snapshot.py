"""A snapshot of the database, and the names of what its queries depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import App
from sojourn_server.store.postgres.facts import (
    APP,
    MISSING,
    ROWS,
    SCOPE,
    AppEntry,
    Ask,
    Domain,
    Facts,
    Need,
    ask,
)
from sojourn_server.store.postgres.memory import Memory
from sojourn_server.store.rows import Row

Parameters = Sequence[Any] | Mapping[str, Any]


class Snapshot:
    """A snapshot of the database, as far as it is known.

    Args:
        facts: What is known of it.
        now: When it began.
        memory: Sessions that are remembered beyond it.
    """

    def __init__(self, facts: Facts, now: Nanos, memory: Memory) -> None:
        self._facts = facts
        self._now = now
        self._memory = memory

    # --- how it knows ---

    def _look(self, need: Need) -> Any:
        """What is known; `MISSING` for what is not."""
        return self._facts.get(need, MISSING)

    async def _know(self, need: Need) -> Any:
        value = self._look(need)
        if value is MISSING:
            await ask(Ask((need,)))
            value = self._look(need)
        return value

    async def _know_all(self, needs: Sequence[Need]) -> list[Any]:
        missing = tuple(need for need in needs if self._look(need) is MISSING)
        if missing:
            await ask(Ask(missing))
        return [self._look(need) for need in needs]

    async def _query(
        self, app_pk: int, domain: Domain, sql: str, parameters: Parameters
    ) -> Sequence[Row]:
        """The rows of a query."""
        given = parameters.items() if isinstance(parameters, Mapping) else parameters
        rows: Sequence[Row] = await self._know((ROWS, app_pk, domain, sql, tuple(given)))
        return rows

    async def _entry(self, name: str, beside: Need | None = None) -> AppEntry | None:
        """An app's row.

        Args:
            name: The app's name.
            beside: What will be asked for next, to be found out on the same way.
        """
        need = (APP, 0, name)
        entry: AppEntry | None
        value = self._look(need)
        if value is MISSING:
            if beside is None or self._look(beside) is not MISSING:
                await ask(Ask((need,)))
            else:
                await ask(Ask((need, beside)))
            value = self._look(need)
        entry = value
        return entry

    # --- what it answers ---

    @property
    def now(self) -> Nanos:
        """See `ReadTx`."""
        return self._now

    async def head(self, app: str) -> int:
        """See `ReadTx`."""
        entry = await self._entry(app)
        return 0 if entry is None else entry.head

    async def app(self, app: str) -> App | None:
        """See `ReadTx`."""
        entry = await self._entry(app)
        return None if entry is None else entry.app


def cannot_be(*names: str) -> bool:
    """Whether no row can have one of these: a text here holds no NUL, so none is asked for."""
    return any("\0" in name for name in names)


def of_parent(uid: str) -> Domain:
    """The domain of queries over the children of one session."""
    return ("parent", uid)


def of_messages(session_pk: int) -> Domain:
    """The domain of queries over the messages of one session."""
    return ("messages", session_pk)


def of_requests(session_pk: int) -> Domain:
    """The domain of queries over the requests that hold content of one session."""
    return ("requests", session_pk)


def scope_need(app_pk: int, user: str | None) -> Need:
    """The need of the state of a user, or of the app (None)."""
    return (SCOPE, app_pk, int(user is not None), user or "")
