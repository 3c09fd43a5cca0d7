"""The commands of the model test: each does the same to a store and to the model.

A command takes its choices from a seeded dice, so that a unit that a store runs twice
makes the same ones twice.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from sojourn_server.domain.model import Change, ChangeCause, Metrics, Session, Status
from sojourn_server.store.base import (
    Candidates,
    KeyTaken,
    MessageRange,
    Position,
    ReadTx,
    SessionRow,
    SortBy,
    Tx,
)
from tests.store.conformance.model import Model
from tests.store.kit import APP, a_message, a_request, a_session, changed, sort_value

Command = Callable[[Tx, Model, random.Random], Awaitable[None]]

PARENTS = [str(uuid.UUID(int=number)) for number in (1, 2)]


def some_fields(dice: random.Random) -> dict[str, Any]:
    return {
        "user": dice.choice(["ann", "", "zoë"]),
        "session_id": dice.choice("abc"),
        "status": dice.choice([Status.ACTIVE, Status.ACTIVE, Status.COMPLETED, Status.EXPIRED]),
        "labels": {key: dice.choice("xy") for key in "kl" if dice.random() < 0.5},
        "parent_uid": dice.choice([*PARENTS, ""]),
        "update_time": dice.randrange(5),
        "activity_time": dice.randrange(5),
        "metrics": some_metrics(dice),
        "message_count": dice.randrange(4),
    }


def some_metrics(dice: random.Random) -> Metrics:
    return Metrics(
        requests=dice.randrange(3),
        errors=dice.randrange(2),
        processing_time=dice.choice([0, 5, (1 << 63) - 1]),
        counters={name: dice.choice([0, 1, -1, (1 << 63) - 1]) for name in dice.sample("tc", 1)},
    )


def some_due(dice: random.Random) -> int | None:
    return dice.choice([None, 1, 2, 3])


def some_bytes(dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice([0, 1, 40, 60, 61, 100, 3_000, 9_000]))


def some_row(model: Model, dice: random.Random) -> SessionRow | None:
    return model.rows[dice.choice(sorted(model.rows))] if model.rows else None


async def log(tx: Tx, model: Model, before: Session | None, after: Session | None) -> None:
    await tx.log(Change(cause=ChangeCause.UPDATED, before=before, after=after))
    model.record(before, after)


async def store_row(
    tx: Tx, model: Model, row: SessionRow, due: int | None = None, **fields: Any
) -> SessionRow:
    after = changed(row.session, **fields)
    new = await tx.update_session(row, after, due)
    assert new == SessionRow(row.pk, row.create_order, after)
    model.put(new, due)
    return new


async def insert(tx: Tx, model: Model, dice: random.Random) -> None:
    fields = some_fields(dice)
    session = a_session(uid=str(uuid.UUID(int=dice.getrandbits(128))), **fields)
    due = some_due(dice)
    if model.is_taken(session) or model.has_uid(session.uid):
        try:
            await tx.insert_session(session, due)
        except KeyTaken:
            return
        raise AssertionError("a taken key was given again")
    row = await tx.insert_session(session, due)
    model.insert(row, due)
    if dice.random() < 0.8:
        await log(tx, model, None, session)


async def update(tx: Tx, model: Model, dice: random.Random) -> None:
    row = some_row(model, dice)
    if row is None:
        return
    fields = some_fields(dice)
    names = dice.sample(sorted(fields), dice.randrange(1, 4))
    fields = {name: fields[name] for name in names}
    after = changed(row.session, **fields)
    own_key = (row.session.user, row.session.session_id)
    if (after.user, after.session_id) != own_key and model.is_taken(after):
        return
    new = await store_row(tx, model, row, some_due(dice), **fields)
    if dice.random() < 0.7:
        await log(tx, model, row.session, new.session)


async def delete(tx: Tx, model: Model, dice: random.Random) -> None:
    row = some_row(model, dice)
    if row is None:
        return
    limit = dice.choice([1, 3, 100])
    done = await tx.purge_messages(row, 1, 1 << 40, limit)
    assert done == model.purge(row.pk, 1, 1 << 40, limit)
    if not done:
        model.leftovers.append((row.pk, 1, 1 << 40))
    if row.session.state:
        await tx.erase_content(row.session.state)
        del model.content[row.session.state]
    await tx.erase_held(row)
    for key, record in model.requests.items():
        if record.session_pk == row.pk and record.held:
            for content_id in record.held:
                del model.content[content_id]
            model.requests[key] = a_request(
                key.request_id, session_pk=row.pk, revision=record.revision
            )
    await tx.delete_session(row)
    model.delete(row.pk)
    await log(tx, model, row.session, None)


async def append(tx: Tx, model: Model, dice: random.Random) -> None:
    row = some_row(model, dice)
    if row is None:
        return
    last = row.session.last_sequence
    seen = {message.message_id for message in model.visible(row.pk)}
    messages = []
    for sequence in range(last + 1, last + dice.randrange(2, 6)):
        name = dice.choice([f"m-{dice.randrange(6)}", f"n-{sequence}"])
        if name in seen:
            continue
        seen.add(name)
        data = some_bytes(dice)
        body = model.new_content(await tx.put_content(data), data)
        event_time = dice.choice([None, 1, 2])
        messages.append(
            a_message(sequence, message_id=name, body=body, size=len(data), event_time=event_time)
        )
    await tx.insert_messages(row, messages)
    for message in messages:
        # A removed message whose row is still there makes way for one of the same id.
        for sequence, old in list(model.messages[row.pk].items()):
            if old.message_id == message.message_id:
                model.content.pop(model.messages[row.pk].pop(sequence).body, None)
        model.messages[row.pk][message.sequence] = message
    await store_row(tx, model, row, last_sequence=last + 5)


async def remove(tx: Tx, model: Model, dice: random.Random) -> None:
    row = some_row(model, dice)
    messages = [] if row is None else model.visible(row.pk)[-2:]
    if row is None or not messages:
        return
    await tx.remove_messages(row, messages)
    for message in messages:
        del model.messages[row.pk][message.sequence]
    if dice.random() < 0.5:
        for message in messages:
            await tx.erase_content(message.body)
            model.content.pop(message.body, None)
        return
    held = tuple(message.body for message in messages if message.body)
    record = a_request(f"r-{dice.getrandbits(60)}", session_pk=row.pk, held=held, revision=-1)
    await tx.put_request(record)
    model.requests[record.key] = record


async def purge(tx: Tx, model: Model, dice: random.Random) -> None:
    row = some_row(model, dice)
    messages = [] if row is None else model.visible(row.pk)
    if row is None or not messages:
        return
    low, high = messages[0].sequence, dice.choice(messages).sequence
    limit = dice.choice([1, 1, 100])
    done = await tx.purge_messages(row, low, high, limit)
    assert done == model.purge(row.pk, low, high, limit)
    if not done:
        model.leftovers.append((row.pk, low, high))
        ranges = (*row.session.removed_ranges, (low, high))
        await store_row(tx, model, row, removed_ranges=ranges)


async def write_state(tx: Tx, model: Model, dice: random.Random) -> None:
    row = some_row(model, dice)
    if row is None:
        return
    data = some_bytes(dice)
    new = await tx.replace_content(row.session.state, data)
    model.content.pop(row.session.state, None)
    state = model.new_content(new, data)
    after = await store_row(tx, model, row, state=state)
    await log(tx, model, row.session, after.session)


async def look(tx: ReadTx, model: Model, dice: random.Random) -> None:
    """Compare answers; as a read, or in the middle of a unit."""
    for _ in range(3):
        query = some_query(model, dice)
        assert list(await tx.candidates(query)) == model.candidates(query), query
    until = dice.randrange(4)
    due = await tx.due_sessions(until, 100)
    assert sorted(due, key=lambda row: row.pk) == sorted(
        model.due_rows(until), key=lambda row: row.pk
    )
    row = some_row(model, dice)
    if row is not None:
        session = row.session
        assert await tx.session_by_uid(APP, session.uid) == row
        assert await tx.session_by_key(APP, session.user, session.session_id) == row
        which = MessageRange(
            after_sequence=dice.choice([0, 0, 3]),
            before_sequence=dice.choice([None, None, 9]),
            event_time_not_before=dice.choice([None, None, 2]),
            descending=dice.random() < 0.5,
            limit=dice.choice([2, 50]),
        )
        assert list(await tx.messages(row, which)) == model.read(row.pk, which), which
    ids = sorted(model.content)
    assert list(await tx.contents(ids)) == [model.content[each] for each in ids]


async def count(tx: ReadTx, model: Model, dice: random.Random) -> None:
    """Compare counts, which needs nothing that was written to be in the database."""
    user = dice.choice(["ann", "", "zoë", "nobody"])
    assert await tx.app_counts(APP) == model.counts()
    assert await tx.user_active(APP, user) == model.user_active(user)
    assert await tx.user_active(APP, "ann") == model.user_active("ann")


async def sum_up(tx: ReadTx, model: Model, dice: random.Random) -> None:
    """Compare sums with what counting all sessions again gives."""
    user = dice.choice([None, "ann", "", "nobody"])
    assert await tx.status_sums(APP, user) == model.status_sums(user)
    statuses = dice.sample(list(Status), dice.randrange(1, 5))
    after, limit = dice.choice([None, "", "ann"]), dice.choice([1, 2, 100])
    found = await tx.user_sums(APP, statuses, after, limit)
    assert list(found) == model.user_sums(statuses, after, limit), (statuses, after, limit)


def some_query(model: Model, dice: random.Random) -> Candidates:
    sort_by = dice.choice(list(SortBy))
    after: Position | None = None
    row = some_row(model, dice)
    if row is not None and dice.random() < 0.5:
        after = Position(sort_value(row, sort_by), row.create_order)
    return Candidates(
        app=APP,
        user=dice.choice([None, None, "ann", ""]),
        status=dice.choice([None, None, Status.ACTIVE, Status.EXPIRED]),
        label=dice.choice([None, None, ("k", "x")]),
        parent_uid=dice.choice([None, None, PARENTS[0]]),
        sort_by=sort_by,
        descending=dice.random() < 0.5,
        after=after,
        limit=dice.choice([1, 3, 100]),
    )


COMMANDS: dict[str, Command] = {
    "insert": insert,
    "update": update,
    "delete": delete,
    "append": append,
    "remove": remove,
    "purge": purge,
    "write_state": write_state,
    "look": look,
    "count": count,
    "sum_up": sum_up,
}
