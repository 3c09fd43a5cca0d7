"""What long work needs of a store: operations, states and records that go, children."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.model import ScopeState
from sojourn_server.store.base import Operation, RequestKey, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    APP,
    START,
    Boom,
    a_request,
    a_session,
    an_app,
    apply,
    changed,
    content_of,
    create,
    create_many,
    delete,
    finish_purges,
    put,
    record_of,
)
from tests.store.kit import found as session_of


def an_operation(operation_id: str = "o-1", **fields: Any) -> Operation:
    values: dict[str, Any] = {
        "app": APP,
        "operation_id": operation_id,
        "kind": "EndSessions",
        "record": b"record",
        "update_time": START,
    }
    return Operation(**{**values, **fields})


async def keep(store: Store, *operations: Operation) -> None:
    for each in operations:
        await apply(store, lambda tx, each=each: tx.put_operation(each), each.app)  # type: ignore[misc]


async def operation_of(store: Store, operation_id: str = "o-1", app: str = APP) -> Operation | None:
    return await store.read(lambda tx: tx.operation(app, operation_id))


async def names(store: Store, before: int = START + 1_000, limit: int = 100) -> list[str]:
    found = await store.read(lambda tx: tx.operations(before, limit))
    return [f"{each.app}/{each.operation_id}" for each in found]


@pytest.mark.rule("S80")
async def test_an_operation_is_found_as_it_was_last_put(store: Store) -> None:
    assert await operation_of(store) is None
    await keep(store, an_operation())
    assert await operation_of(store) == an_operation()
    later = an_operation(kind="other", record=b"", update_time=START + 1, content=(1, 2))
    await keep(store, later)
    assert await operation_of(store) == later
    assert await operation_of(store, "o-2") is None
    assert await operation_of(store, app="other") is None


@pytest.mark.rule("S80", "S1")
async def test_an_operation_comes_and_goes_with_its_unit(store: Store) -> None:
    await keep(store, an_operation())

    async def fails(tx: Tx) -> None:
        await tx.drop_operation(APP, "o-1")
        assert await tx.operation(APP, "o-1") is None
        await tx.put_operation(an_operation("o-2"))
        assert await tx.operation(APP, "o-2") == an_operation("o-2")
        raise Boom

    with pytest.raises(Boom):
        await apply(store, fails)
    assert await names(store) == [f"{APP}/o-1"]
    await apply(store, lambda tx: tx.drop_operation(APP, "o-1"))
    assert await names(store) == []
    assert await operation_of(store) is None


@pytest.mark.rule("S80")
async def test_operations_of_all_apps_come_the_longest_ago_first(store: Store) -> None:
    await keep(
        store,
        an_operation("late", update_time=START + 9),
        an_operation("early", update_time=START + 1),
        an_operation("middle", app="other", update_time=START + 5),
    )
    expected = [f"{APP}/early", "other/middle", f"{APP}/late"]
    assert await names(store) == expected
    assert await names(store, limit=2) == expected[:2]
    assert await names(store, before=START + 9) == expected[:2]
    assert await names(store, before=START + 1) == []


@pytest.mark.rule("S80", "S3")
async def test_operations_outlive_a_crash(backend: Backend) -> None:
    store = await backend.open()
    await keep(store, an_operation(content=(7,)))
    again = await backend.after_crash(store)
    assert await operation_of(again) == an_operation(content=(7,))


async def test_a_unit_writes_operations_of_its_own_app_only(store: Store) -> None:
    for unit in (
        lambda tx: tx.put_operation(an_operation(app="other")),
        lambda tx: tx.drop_operation("other", "o-1"),
        lambda tx: tx.drop_scope_state("other", None),
        lambda tx: tx.empty_requests("other", None, 10, ""),
    ):
        with pytest.raises(ValueError, match="own app"):
            await apply(store, unit)


@pytest.mark.rule("S81")
async def test_whose_state_there_is_is_known_until_it_is_dropped(store: Store) -> None:
    async def scopes() -> list[str | None]:
        return list(await store.read(lambda tx: tx.scopes(APP, 10)))

    assert await scopes() == []

    async def unit(tx: Tx) -> None:
        for user in (None, "", "ann", "bob"):
            await tx.put_scope_state(APP, user, ScopeState(version=1))
        assert set(await tx.scopes(APP, 10)) == {None, "", "ann", "bob"}

    await apply(store, unit)
    assert set(await scopes()) == {None, "", "ann", "bob"}
    assert len(await store.read(lambda tx: tx.scopes(APP, 2))) == 2

    async def drop(tx: Tx) -> None:
        await tx.drop_scope_state(APP, "ann")
        await tx.drop_scope_state(APP, None)
        assert (await tx.scope_state(APP, "ann")).version == 0
        assert set(await tx.scopes(APP, 10)) == {"", "bob"}

    await apply(store, drop)
    assert set(await scopes()) == {"", "bob"}
    assert (await store.read(lambda tx: tx.scope_state(APP, "ann"))).version == 0
    await apply(store, lambda tx: tx.put_scope_state(APP, "ann", ScopeState(version=3)))
    assert (await store.read(lambda tx: tx.scope_state(APP, "ann"))).version == 3


@pytest.mark.rule("S82")
async def test_parents_are_told_from_others(store: Store) -> None:
    parents = await create_many(store, [a_session(f"p-{n}") for n in range(4)])
    uids = [row.session.uid for row in parents]

    async def found() -> set[str]:
        return set(await store.read(lambda tx: tx.with_children(APP, uids)))

    assert await found() == set()
    child = await create(store, a_session("c-1", parent_uid=uids[1]))
    await create(store, a_session("c-2", parent_uid=uids[1]))
    await create(store, a_session("c-3", parent_uid=uids[3]))
    assert await found() == {uids[1], uids[3]}
    assert await store.read(lambda tx: tx.with_children(APP, [])) == frozenset()
    assert await store.read(lambda tx: tx.with_children("other", uids[:1])) == frozenset()

    async def unit(tx: Tx) -> None:
        await tx.insert_session(a_session("c-4", parent_uid=uids[0]), None)
        await tx.delete_session(child)
        assert set(await tx.with_children(APP, uids)) == {uids[0], uids[1], uids[3]}

    await apply(store, unit)
    await delete(store, await session_of(store, "c-2"))
    assert await found() == {uids[0], uids[3]}


@pytest.mark.rule("S83")
async def test_an_emptied_record_is_found_without_its_outcome(store: Store) -> None:
    held = await put(store, b"popped text")
    row = await create(store, a_session())
    records = [a_request(f"r-{n}") for n in range(5)]
    spared = a_request("r-9", key=RequestKey(APP, "principal", "DeleteApp", "r-9"))

    async def unit(tx: Tx) -> None:
        for each in [*records, spared]:
            await tx.put_request(each)
        await tx.put_request(a_request("r-8", session_pk=row.pk, held=(held,)))

    await apply(store, unit)
    after: RequestKey | None = None
    for _ in range(20):
        after = (
            await apply(store, lambda tx, at=after: tx.empty_requests(APP, at, 2, "DeleteApp"))  # type: ignore[misc]
        ).value
        if after is None:
            break
    else:
        raise AssertionError("the records have no end")
    for each in records:
        found = await record_of(store, each.key)
        assert found is not None
        assert found.outcome == b""
        assert found.payload_hash == b"hash"
    left = await record_of(store, spared.key)
    assert left is not None
    assert left.outcome == b"outcome"
    emptied = await record_of(store, a_request("r-8").key)
    assert emptied is not None
    assert emptied.held == ()
    assert await content_of(store, held) == b""


@pytest.mark.rule("S83")
async def test_records_of_the_same_unit_are_emptied_with_the_others(store: Store) -> None:
    await apply(store, lambda tx: tx.put_app(an_app()))

    async def unit(tx: Tx) -> None:
        assert await tx.empty_requests(APP, None, 10, "") is None

    await apply(store, lambda tx: tx.put_request(a_request()))
    await apply(store, unit)
    found = await record_of(store, a_request().key)
    assert found is not None
    assert found.outcome == b""


@pytest.mark.rule("S84", "S31")
async def test_a_unit_may_leave_its_scrub_to_the_purge(store: Store) -> None:
    first, second = await put(store, b"first text"), await put(store, b"second text")

    async def unit(tx: Tx) -> None:
        tx.scrub_later()
        await tx.erase_content(first)

    applied = await apply(store, unit)
    assert not applied.scrubbed
    assert await content_of(store, first) == b""
    await finish_purges(store)
    assert (await apply(store, lambda tx: tx.erase_content(second))).scrubbed is store.scrubs


@pytest.mark.rule("S80")
async def test_an_operation_changes_with_what_its_step_did(store: Store) -> None:
    """The step's work and the place it has come to are kept together, or neither is."""
    row = await create(store, a_session())
    await keep(store, an_operation())

    async def step(tx: Tx, *, fails: bool) -> None:
        await tx.update_session(row, changed(row.session, user="bob"), None)
        await tx.put_operation(an_operation(record=b"one step on"))
        if fails:
            raise Boom

    with pytest.raises(Boom):
        await apply(store, lambda tx: step(tx, fails=True))
    assert await operation_of(store) == an_operation()
    await apply(store, lambda tx: step(tx, fails=False))
    assert await operation_of(store) == an_operation(record=b"one step on")
