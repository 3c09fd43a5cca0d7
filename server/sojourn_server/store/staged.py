"""The part of the storage contract that copies, exports and imports need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import ScopeState
from sojourn_server.store.records import Staging

if TYPE_CHECKING:
    from sojourn_server.store.base import SessionRow


class StagedReads(Protocol):
    """Reads of stagings, and of the states of all users."""

    async def user_states(
        self, app: str, after: str | None, limit: int
    ) -> Sequence[tuple[str, ScopeState]]:
        """The states of an app's users, by the bytes of their names, those after one."""
        ...

    async def staging(self, app: str, name: str) -> Staging | None:
        """The staging of this name, or None (S36)."""
        ...

    async def stagings_of(self, row: SessionRow) -> Sequence[Staging]:
        """The stagings that a session owns (S36)."""
        ...

    async def stagings_due(self, until: Nanos, limit: int) -> Sequence[Staging]:
        """Stagings of all apps that have expired, the longest expired first (S36)."""
        ...


class StagedWrites(Protocol):
    """Writes of stagings."""

    async def new_history(self) -> int:
        """A number to keep messages under (S35)."""
        ...

    async def put_staging(self, staging: Staging) -> None:
        """Create or replace a staging."""
        ...

    async def drop_staging(self, app: str, name: str) -> None:
        """Forget a staging. Its messages must be a session's now, or purged."""
        ...


class BackupTaken(Exception):
    """A backup has this name."""


class NoBackupPlace(Exception):
    """Backups cannot be written where they should be."""


class Backing(Protocol):
    """What a store can do about copies of itself."""

    @property
    def backs_up(self) -> bool:
        """Whether it can be copied by `back_up`."""
        ...

    async def back_up(self, folder: Path, name: str) -> int:
        """Copy the whole store, as it is at one instant, to a new file; its bytes.

        Writes go on meanwhile. The file is on the disk, and for its owner's eyes only, when
        this returns; there is nothing of it when this fails.

        Raises:
            BackupTaken: There is a file of this name.
            NoBackupPlace: The folder cannot be written.
            StoreFull, StoreDown: That failed.
        """
        ...
