"""What long work writes within a unit's transaction. What each method must do stands in
`store.operations`.
"""

from __future__ import annotations

from abc import abstractmethod

from sojourn_server.domain.model import ContentId
from sojourn_server.store.base import Operation, RequestKey
from sojourn_server.store.rows import held_of, operation_values
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.unit_tx import UnitTx


class OperationTx(UnitTx):
    """The half of a unit's transaction that is about operations."""

    @abstractmethod
    def _erase(self, content_id: ContentId) -> int:
        """Write zeros over one piece; how many."""

    async def put_operation(self, operation: Operation) -> None:
        """See `Tx`."""
        if operation.app != self._name:
            raise ValueError("a unit writes its own app only")
        operation_id, *rest = operation_values(operation)
        self._write(QUERIES.operation_put, (self._own_row().pk, operation_id, *rest))

    async def drop_operation(self, app: str, operation_id: str) -> None:
        """See `Tx`."""
        if app != self._name:
            raise ValueError("a unit writes its own app only")
        self._write(QUERIES.operation_delete, (self._own_row().pk, operation_id))

    async def drop_scope_state(self, app: str, user: str | None) -> None:
        """See `Tx`."""
        if app != self._name:
            raise ValueError("a unit writes its own app only")
        key = (self._own_row().pk, int(user is not None), user or "")
        self._write(QUERIES.scope_state_delete, key)

    async def empty_requests(
        self, app: str, after: RequestKey | None, limit: int, spare: str
    ) -> RequestKey | None:
        """See `Tx`."""
        if app != self._name:
            raise ValueError("a unit writes its own app only")
        pk = self._own_row().pk
        at = ("", "", "") if after is None else (after.principal, after.method, after.request_id)
        rows = self._all(QUERIES.requests_after, (pk, *at, limit))
        for principal, method, request_id, held in rows:
            if spare and method.startswith(spare):
                continue
            for content_id in held_of(held):
                self._erase(content_id)
            self._write(QUERIES.request_empty, (pk, principal, method, request_id))
        return RequestKey(app, *rows[-1][:3]) if len(rows) == limit else None

    def scrub_later(self) -> None:
        """See `Tx`."""
        self.left_over = True
