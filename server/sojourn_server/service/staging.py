"""Messages that belong to no session yet: put by many units, and switched to by one.

A staging is a number that messages are kept under, with a name to find it by and an
instant from which on anybody may remove it. So a crash leaves nothing that stays, and
nobody ever sees half a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from sojourn_server.domain.clock import MINUTE, Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import SEQUENCE_MOST
from sojourn_server.domain.model import Message, Session, Status
from sojourn_server.service.work import Work
from sojourn_server.store.base import Priority, ReadTx, SessionRow, Staging, Tx

if TYPE_CHECKING:
    from sojourn_server.service.units import Units

PATIENCE: Final[Nanos] = MINUTE
"""How long what a server stages for a call outlives the last batch."""

DUE_MOST: Final = 100
"""How many expired stagings one look removes at most."""


def place(staging: Staging, user: str = "") -> SessionRow:
    """A row by which staged messages are read and written."""
    nobody = Session(
        uid="",
        app=staging.app,
        user=user,
        session_id="",
        status=Status.ACTIVE,
        labels={},
        create_time=0,
        update_time=0,
        activity_time=0,
    )
    return SessionRow(staging.history, 0, nobody)


async def begin(
    tx: Tx, app: str, name: str, *, owner: int, expire_time: Nanos, record: bytes = b""
) -> Staging:
    """Begin a staging; what is staged under its name is dropped."""
    old = await tx.staging(app, name)
    if old is not None:
        await discard(tx, old)
    staging = Staging(
        app=app,
        name=name,
        history=await tx.new_history(),
        owner=owner,
        expire_time=expire_time,
        record=record,
    )
    await tx.put_staging(staging)
    return staging


async def discard(tx: Tx, staging: Staging) -> None:
    """Forget a staging; its messages are erased by the purge."""
    await tx.purge_messages(place(staging), 1, SEQUENCE_MOST, 0)
    await tx.drop_staging(staging.app, staging.name)


async def discard_of(work: Work, row: SessionRow) -> None:
    """Discard what is staged of a session that is reset or deleted."""
    for staging in await work.tx.stagings_of(row):
        await discard(work.tx, staging)
        work.left_over = True


async def put(
    tx: Tx, staging: Staging, messages: Sequence[Message], bodies: Sequence[bytes]
) -> None:
    """Stage messages, with copies of these bodies in the place of their own."""
    await tx.insert_messages(place(staging), await own(tx, messages, bodies))


async def own(tx: Tx, messages: Sequence[Message], bodies: Sequence[bytes]) -> list[Message]:
    """The messages with bodies of their own."""
    return [
        Message(
            message_id=message.message_id,
            sequence=message.sequence,
            role=message.role,
            content_type=message.content_type,
            event_time=message.event_time,
            create_time=message.create_time,
            size=message.size,
            body=await tx.put_content(body),
        )
        for message, body in zip(messages, bodies, strict=True)
    ]


def lost(**metadata: str) -> Refusal:
    """The refusal of what builds on a staging that is gone."""
    return Refusal(Reason.STAGING_LOST, "what was staged before is there no more", metadata)


async def remove_expired(units: Units) -> int:
    """Remove stagings that nobody came back for, each in a unit of its own; how many."""

    async def look(tx: ReadTx) -> Sequence[Staging]:
        return await tx.stagings_due(tx.now, DUE_MOST)

    due = await units.read(look)
    for staging in due:
        await units.apply(staging.app, "", partial(_remove, staging=staging), Priority.JOB)
    return len(due)


async def _remove(tx: Tx, staging: Staging) -> None:
    found = await tx.staging(staging.app, staging.name)
    if found is not None and found.history == staging.history and found.expire_time <= tx.now:
        await discard(tx, found)
