"""BackupStore: a copy of the store, where its operator wants copies."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.store.base import BackupTaken, NoBackupPlace, Store


class Backups:
    """Makes copies of the store.

    Args:
        store: The store.
        folder: Where to; None: the operator has named no folder.
    """

    def __init__(self, store: Store, folder: Path | None) -> None:
        self._store = store
        self._folder = folder
        self._one = asyncio.Lock()

    async def make(self, name: str) -> int:
        """Make a copy.

        Args:
            name: The file's, without a folder.

        Returns:
            Its bytes.

        Raises:
            Refusal: `NOT_IMPLEMENTED`, `BACKUPS_OFF` or `BACKUP_EXISTS`.
            StoreFull, StoreDown: It could not be written; nothing is left of it.
        """
        if not self._store.backs_up:
            raise Refusal(
                Reason.NOT_IMPLEMENTED,
                "this store is copied with its own tools",
                {"method": "BackupStore"},
            )
        if self._folder is None:
            raise _off("the server has no folder for backups: its operator sets backup_dir")
        try:
            async with self._one:
                return await self._store.back_up(self._folder, name)
        except BackupTaken:
            raise Refusal(Reason.BACKUP_EXISTS, "a backup has this name", {"name": name}) from None
        except NoBackupPlace:
            raise _off("the folder that backup_dir names cannot be written") from None


def _off(message: str) -> Refusal:
    return Refusal(Reason.BACKUPS_OFF, message, {"setting": "backup_dir"})
