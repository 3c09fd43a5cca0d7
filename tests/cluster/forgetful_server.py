"""`sojourn-server` with a fault of its own, to see that the tests find it.

It believes what it remembers of a session, though another server may have written since.
"""

from __future__ import annotations

from sojourn_server import command
from sojourn_server.store.base import SessionRow
from sojourn_server.store.postgres.memory import Memory, Name


def believe(memory: Memory, app: str, epoch: int, name: Name) -> SessionRow | None:
    known = memory._apps.get(app)
    pk = None if known is None else known.names.get(name)
    return None if known is None or pk is None else known.rows[pk].row


def keep(memory: Memory, app: str, app_pk: int, epoch: int, rows: object) -> None:
    known = memory._app(app, app_pk)
    known.epoch = max(epoch, known.epoch)
    memory._put(known, epoch, rows)  # type: ignore[arg-type]


if __name__ == "__main__":
    Memory.row = believe  # type: ignore[assignment, method-assign]
    Memory.learn = keep  # type: ignore[assignment, method-assign]
    Memory.publish = keep  # type: ignore[assignment, method-assign]
    command.main()
