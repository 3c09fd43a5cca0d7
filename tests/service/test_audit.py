"""ListAuditEntries: filters, pages, and never any content."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.access import Users
from sojourn_server.domain.auditing import AuditEntry
from sojourn_server.domain.commands import OnConflict
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause, DeletedWhy, EndCause, TurnOutcome
from sojourn_server.service import auditing
from sojourn_server.service.auditing import AuditPage, AuditQuery, last_actor
from sojourn_server.store.base import ReadTx
from tests.service.kit import APP, START, USER, FakeClock, World, message, refused

BOB = "bob"


async def page(world: World, **query: Any) -> AuditPage:
    return await world.services.auditing.page(AuditQuery(app=APP, **query))


async def causes(world: World, **query: Any) -> list[str]:
    return [each.cause.name for each in (await page(world, **query)).entries]


async def some_life(world: World, clock: FakeClock) -> dict[str, str]:
    """Two sessions of ann and one of bob, and what becomes of them; their uids."""
    parent = await world.create("parent", metadata={"m": '"SECRET"'})
    child = await world.create("child", parent_uid=parent.uid)
    his = await world.create("his", user=BOB)
    clock.step(10)
    await world.append(parent, [message("m-1", "SECRET"), message("m-2", "SECRET")])
    await world.pop(parent, 1)
    await world.begin(his)
    await world.begin(his, on_conflict=OnConflict.STEAL)
    await world.end(his, reason="SECRET", result='"SECRET"')
    await world.reset(parent, reason="SECRET")
    await world.delete(parent, force=True)
    return {"parent": parent.uid, "child": child.uid, "his": his.uid}


async def test_what_was_done_newest_first(world: World, clock: FakeClock) -> None:
    uids = await some_life(world, clock)
    found = await page(world)
    assert found.next_page_token == ""
    assert [(each.cause.name, each.session_id) for each in found.entries] == [
        ("DELETED", "parent"),
        ("DELETED", "child"),
        ("ENDED", "child"),
        ("RESET", "parent"),
        ("ENDED", "his"),
        ("TURN_ENDED", "his"),
        ("TURN_ENDED", "his"),
        ("MESSAGES_REMOVED", "parent"),
        ("CREATED", "his"),
        ("CREATED", "child"),
        ("CREATED", "parent"),
        ("APP_CREATED", ""),
    ]
    deleted, below, ended, *_ = found.entries
    assert (deleted.detail.deleted_why, deleted.detail.force) == (DeletedWhy.REQUEST, False)
    assert (below.detail.force, below.uid) == (True, uids["child"])
    assert ended.detail.end_cause is EndCause.PARENT_ENDED
    outcomes = [each.detail.turn_outcome for each in found.entries[5:7]]
    assert outcomes == [TurnOutcome.REVOKED, TurnOutcome.STOLEN]
    assert (found.entries[7].detail.first_sequence, found.entries[7].detail.last_sequence) == (2, 2)


async def test_it_holds_no_content(world: World, clock: FakeClock) -> None:
    await some_life(world, clock)
    assert "SECRET" not in repr((await page(world)).entries)


async def test_filters(world: World, clock: FakeClock) -> None:
    uids = await some_life(world, clock)
    assert await causes(world, uid=uids["child"]) == ["DELETED", "ENDED", "CREATED"]
    assert await causes(world, user=BOB, causes=(ChangeCause.ENDED,)) == ["ENDED"]
    assert await causes(world, user=USER, session_id="child") == ["DELETED", "ENDED", "CREATED"]
    assert await causes(world, user=BOB, uid=uids["child"]) == []
    early = ["CREATED", "CREATED", "CREATED", "APP_CREATED"]
    assert await causes(world, end=START + 1) == early
    assert len(await causes(world, begin=START + 1)) == 8
    assert await causes(world, actor="nobody") == []
    assert len(await causes(world, actor="tester")) == 12
    assert len(await causes(world, users=Users([BOB]))) == 4
    with refused(Reason.INVALID_FIELD, field="session_id"):
        await page(world, session_id="child")


@pytest.mark.parametrize("size", [1, 5, 12])
async def test_pages_hold_every_entry_once(world: World, clock: FakeClock, size: int) -> None:
    await some_life(world, clock)
    whole = (await page(world)).entries
    found: list[AuditEntry] = []
    token = ""
    for _ in range(20):
        part = await page(world, page_size=size, page_token=token)
        found += part.entries
        await world.create()  # what comes meanwhile is newer than every page
        token = part.next_page_token
        if not token:
            break
    assert tuple(found) == whole


async def test_a_page_is_short_rather_than_slow(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_life(world, clock)
    monkeypatch.setattr(auditing, "CHUNK", 2)
    monkeypatch.setattr(auditing, "SCAN_ROWS", 4)
    first = await page(world, causes=(ChangeCause.APP_CREATED,))
    assert first.entries == ()
    assert first.next_page_token
    second = await page(world, causes=(ChangeCause.APP_CREATED,), page_token=first.next_page_token)
    third = await page(world, causes=(ChangeCause.APP_CREATED,), page_token=second.next_page_token)
    assert [each.cause for each in third.entries] == [ChangeCause.APP_CREATED]


async def test_a_token_serves_the_request_it_was_made_for(world: World, clock: FakeClock) -> None:
    await some_life(world, clock)
    token = (await page(world, page_size=1)).next_page_token
    with refused(Reason.PAGE_TOKEN_INVALID):
        await page(world, page_size=1, page_token=token, user=BOB)


async def test_the_last_caller(world: World, clock: FakeClock) -> None:
    async def last(tx: ReadTx) -> str:
        return await last_actor(tx, APP)

    assert await world.units.read(last) == ""
    session = await world.create("s", idle_timeout=1_000_000_000)
    clock.step(2)
    await world.units.settle(APP, session.uid)
    assert (await page(world)).entries[0].actor == ""
    assert await world.units.read(last) == "tester"
