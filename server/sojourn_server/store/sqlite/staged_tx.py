"""Stagings in a unit's transaction. What each method must do stands in `store.base`."""

from __future__ import annotations

from sojourn_server.store.base import Staging
from sojourn_server.store.rows import ORDER_BITS, staging_values
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.unit_tx import UnitTx


class StagedTx(UnitTx):
    """What a unit does to stagings."""

    async def new_history(self) -> int:
        """See `Tx`. From the numbers of sessions: it can be none of theirs."""
        own = self._own_row()
        own.created += 1
        return own.pk << ORDER_BITS | own.created

    async def put_staging(self, staging: Staging) -> None:
        """See `Tx`."""
        self._write(QUERIES.staging_put, (self._own_row().pk, *staging_values(staging)))

    async def drop_staging(self, app: str, name: str) -> None:  # noqa: ARG002 - it is the unit's
        """See `Tx`."""
        self._write(QUERIES.staging_delete, (self._own_row().pk, name))
