"""Staged messages: nobody's until one unit makes them a session's."""

from __future__ import annotations

import pytest

from sojourn_server.domain.model import ScopeState
from sojourn_server.store.base import MessageRange, ReadTx, SessionRow, Staging, Store, Tx
from tests.store.kit import APP, START, a_message, a_session, an_app, apply, changed, create, insert

LAST = (1 << 63) - 1


def pseudo(history: int) -> SessionRow:
    """A row by which staged messages are reached."""
    return SessionRow(history, 0, a_session())


async def history_of(store: Store, row: SessionRow) -> list[int]:
    async def query(tx: ReadTx) -> list[int]:
        found = await tx.session_by_key(APP, row.session.user, row.session.session_id)
        assert found is not None
        return [each.sequence for each in await tx.messages(found, MessageRange(limit=9_999))]

    return await store.read(query)


async def stage(store: Store, name: str, count: int, owner: int = 0) -> Staging:
    async def unit(tx: Tx) -> Staging:
        staging = Staging(
            app=APP, name=name, history=await tx.new_history(), owner=owner, expire_time=START
        )
        bodies = [await tx.put_content(f"body {number}".encode()) for number in range(count)]
        messages = [a_message(at + 1, body=body) for at, body in enumerate(bodies)]
        await tx.insert_messages(pseudo(staging.history), messages)
        await tx.put_staging(staging)
        return staging

    return (await apply(store, unit)).value


@pytest.mark.rule("S35")
async def test_staged_messages_become_a_session_s_in_one_unit(store: Store) -> None:
    """S35: no number comes twice, and messages under one are nobody's until it is named."""
    row = await create(store, a_session(message_count=0))
    staging = await stage(store, "one", 3, row.pk)
    assert staging.history != row.pk
    assert await history_of(store, row) == []

    async def switch(tx: Tx) -> SessionRow:
        found = await tx.session_by_key(APP, "ann", "s-1")
        assert found is not None
        after = changed(found.session, history=staging.history, last_sequence=3)
        new = await tx.update_session(found, after, None)
        await tx.drop_staging(APP, "one")
        assert await tx.staging(APP, "one") is None
        return new

    await apply(store, switch)
    assert await history_of(store, row) == [1, 2, 3]

    async def append(tx: Tx) -> tuple[int, int]:
        found = await tx.session_by_key(APP, "ann", "s-1")
        assert found is not None
        await tx.insert_messages(found, [a_message(4)])
        by_id = await tx.message_by_id(found, "m-2")
        by_sequence = await tx.message_by_sequence(found, 4)
        assert by_id is not None
        assert by_sequence is not None
        assert await tx.content(by_id.body) == b"body 1"
        assert await tx.message_totals(found, 1, 9) == (4, 40)
        later = await insert(tx, a_session("s-2"))
        return later.pk, await tx.new_history()

    made, number = (await apply(store, append)).value
    assert len({row.pk, staging.history, made, number}) == 4


@pytest.mark.rule("S36")
async def test_a_staging_is_found_by_name_by_owner_and_when_it_has_expired(store: Store) -> None:
    """S36."""
    row = await create(store, a_session())
    other = await create(store, a_session("s-2"))
    first = await stage(store, "a", 1, row.pk)
    await stage(store, "b", 1)

    async def query(tx: ReadTx) -> None:
        assert await tx.staging(APP, "a") == first
        assert await tx.staging(APP, "c") is None
        assert await tx.staging("elsewhere", "a") is None
        assert await tx.stagings_of(row) == [first]
        assert await tx.stagings_of(other) == []
        assert [each.name for each in await tx.stagings_due(START, 9)] == ["a", "b"]
        assert len(await tx.stagings_due(START, 1)) == 1
        assert await tx.stagings_due(START - 1, 9) == []

    await store.read(query)

    async def move(tx: Tx) -> None:
        await tx.put_staging(changed_staging(first, START + 5))
        assert await tx.staging(APP, "a") == changed_staging(first, START + 5)

    await apply(store, move)

    async def after(tx: ReadTx) -> list[str]:
        return [each.name for each in await tx.stagings_due(START + 5, 9)]

    assert await store.read(after) == ["b", "a"]


def changed_staging(staging: Staging, expire_time: int) -> Staging:
    return Staging(
        app=staging.app,
        name=staging.name,
        history=staging.history,
        owner=staging.owner,
        expire_time=expire_time,
        record=b"kept",
    )


@pytest.mark.parametrize("count", [3, 30])
async def test_what_is_left_of_an_old_history_is_purged_without_touching_the_new_one(
    store: Store, count: int
) -> None:
    """S31, S35: the note of an old history neither erases nor shows anything of the new."""
    row = await create(store, a_session())
    old = [a_message(number + 1) for number in range(count)]
    await apply(store, lambda tx: tx.insert_messages(row, old))
    staging = await stage(store, "new", 3, row.pk)

    async def switch(tx: Tx) -> bool:
        done = await tx.purge_messages(row, 1, LAST, 5)
        after = changed(row.session, history=staging.history, removed_ranges=((2, 2),))
        await tx.update_session(row, after, None)
        await tx.drop_staging(APP, "new")
        return done

    done = (await apply(store, switch)).value
    assert done is (count <= 5)
    for _ in range(20):
        if await store.purge(5):
            break
    assert await history_of(store, row) == [1, 3], "a range of the new history stays"
    totals = await store.read(
        lambda tx: tx.message_totals(SessionRow(row.pk, 1, a_session()), 1, 99)
    )
    assert totals == (0, 0), "the old one is gone"


async def test_a_range_of_a_switched_history_is_forgotten_once_it_is_purged(store: Store) -> None:
    """S20: what was removed and purged leaves the session's ranges, whatever its number."""
    row = await create(store, a_session())
    staging = await stage(store, "new", 9, row.pk)

    async def remove(tx: Tx) -> None:
        after = changed(row.session, history=staging.history, removed_ranges=((3, 9),))
        new = await tx.update_session(row, after, None)
        assert not await tx.purge_messages(new, 3, 9, 2)

    await apply(store, remove)
    for _ in range(20):
        if await store.purge(2):
            break

    async def query(tx: ReadTx) -> SessionRow | None:
        return await tx.session_by_key(APP, "ann", "s-1")

    found = await store.read(query)
    assert found is not None
    assert found.session.removed_ranges == ()
    assert await history_of(store, row) == [1, 2]


async def test_the_states_of_users_come_by_name(store: Store) -> None:
    """S12 for states: in the order of bytes, none left out, none of the app's own."""

    async def unit(tx: Tx) -> None:
        await tx.put_app(an_app())
        for user in ("zoe", "ann", "", "äda"):
            await tx.put_scope_state(APP, user, ScopeState(version=len(user) + 1))
        await tx.put_scope_state(APP, None, ScopeState(version=9))
        assert len(await tx.user_states(APP, None, 9)) == 4

    await apply(store, unit)

    async def query(tx: ReadTx) -> list[list[str]]:
        pages = [await tx.user_states(APP, None, 2), await tx.user_states(APP, "ann", 9)]
        assert await tx.user_states("nowhere", None, 9) == []
        return [[user for user, _ in page] for page in pages]

    assert await store.read(query) == [["", "ann"], ["zoe", "äda"]]
