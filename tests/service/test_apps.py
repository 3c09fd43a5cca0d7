"""GetApp, ListApps, UpdateApp."""

from __future__ import annotations

import msgspec
import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.filter import LabelOperator, LabelSelector
from sojourn_server.domain.limits import SCAN_ROWS
from sojourn_server.domain.model import App, AppStatus, Change, ChangeCause
from sojourn_server.domain.policy import NO_POLICY, Policy
from sojourn_server.service import apps as apps_module
from sojourn_server.service.answers import AppPage, AppRead
from sojourn_server.service.apps import AppQuery
from sojourn_server.store.base import Tx
from tests.service.kit import APP, World, refused

RULES = Policy(max_active_sessions=3, default_idle_timeout=2 * HOUR)


async def get(world: World, app: str = APP) -> AppRead:
    return await world.services.apps.get(world.call("GetApp"), app)


async def page(world: World, reads: object = None, **query: object) -> AppPage:
    call = world.call("ListApps")
    if reads is not None:
        call = msgspec.structs.replace(call, reads=reads)
    return await world.services.apps.list(call, AppQuery(**query))  # type: ignore[arg-type]


async def names(world: World, **query: object) -> list[str]:
    return [each.app.app for each in (await page(world, **query)).apps]


async def causes(world: World, app: str = APP) -> list[ChangeCause]:
    return [change.cause for change in await world.log(app=app)]


async def put_status(world: World, status: AppStatus, app: str = APP) -> App:
    """An app that was drained or deleted, as DeleteApp leaves it."""

    async def unit(tx: Tx) -> App:
        found = await tx.app(app)
        assert found is not None
        changed = msgspec.structs.replace(found, status=status)
        await tx.put_app(changed)
        await tx.log(Change(cause=ChangeCause.APP_DELETED))
        return changed

    return (await world.store.apply(app, "tester", unit)).value


async def test_an_app_is_read_with_its_live_counts(world: World) -> None:
    for session_id in "abc":
        await world.create(session_id)
    await world.end("a")
    read = await get(world)
    assert read.listed.app.status is AppStatus.ACTIVE
    assert read.listed.counts.active == 2
    assert read.listed.counts.sessions == 3
    assert read.listed.head == await world.head()
    await world.delete("a")
    assert (await get(world)).listed.counts.sessions == 2


async def test_an_app_that_nobody_made_is_not_found(world: World) -> None:
    with refused(Reason.APP_NOT_FOUND, app="nobody's"):
        await get(world, "nobody's")


async def test_an_update_makes_an_app_with_labels_and_policy(world: World) -> None:
    world.services.units.defaults.unknown_apps = False
    with refused(Reason.APP_UNKNOWN):
        await world.create("s-1")
    answer = await world.set(labels={"tier": "gold"}, policy=RULES)
    assert answer.outcome.changed
    assert answer.outcome.app.labels == {"tier": "gold"}
    assert answer.outcome.app.policy == RULES
    assert await causes(world) == [ChangeCause.APP_CREATED]
    assert (await world.create("s-1")).idle_timeout == 2 * HOUR


async def test_labels_merge_and_a_policy_is_replaced_as_a_whole(world: World) -> None:
    await world.set(labels={"a": "1", "b": "2"}, policy=RULES)
    after = await world.set(
        labels={"b": "3", "c": "4"}, remove_labels=("a",), policy=Policy(auto_create=False)
    )
    assert after.outcome.app.labels == {"b": "3", "c": "4"}
    assert after.outcome.app.policy == Policy(auto_create=False)
    kept = await world.set(labels={"d": "5"})
    assert kept.outcome.app.policy == Policy(auto_create=False)
    assert (await world.set(policy=Policy())).outcome.app.policy == NO_POLICY
    assert await causes(world) == [ChangeCause.APP_CREATED] + 3 * [ChangeCause.APP_UPDATED]
    assert (await get(world)).listed.app == (await world.set()).outcome.app


async def test_an_update_without_effect_takes_no_revision(world: World) -> None:
    await world.set(labels={"a": "1"}, policy=RULES)
    head = await world.head()
    for changes in ({}, {"labels": {"a": "1"}}, {"remove_labels": ("x",)}, {"policy": RULES}):
        answer = await world.set(**changes)
        assert not answer.outcome.changed
        assert answer.revision == head == await world.head()


async def test_a_repeat_is_answered_as_the_first_call_was(world: World) -> None:
    first = await world.set(labels={"a": "1"}, request_id="r")
    await world.set(labels={"a": "2"})
    again = await world.set(labels={"a": "1"}, request_id="r")
    assert (again.outcome, again.revision) == (first.outcome, first.revision)
    assert (await get(world)).listed.app.labels == {"a": "2"}
    with refused(Reason.REQUEST_ID_REUSED):
        await world.set(labels={"a": "1"}, request_id="r", payload=b"other")


async def test_a_deleted_app_comes_back_only_when_allowed_and_with_nothing_of_its_own(
    world: World,
) -> None:
    await world.set(labels={"a": "1"}, policy=RULES)
    deleted = await put_status(world, AppStatus.DELETED)
    with refused(Reason.APP_DELETED, app=APP):
        await world.set(labels={"b": "2"})
    with refused(Reason.APP_DELETED):
        await world.create("s-1")
    world.clock.step(1)
    again = (await world.set(labels={"b": "2"}, allow_again=True)).outcome.app
    assert again.status is AppStatus.ACTIVE
    assert again.labels == {"b": "2"}
    assert again.policy == NO_POLICY
    assert again.feed_id != deleted.feed_id
    assert again.create_time == world.clock.now()
    assert (await causes(world))[-1] is ChangeCause.APP_CREATED
    await world.create("s-1")
    assert not (await world.set(allow_again=True)).outcome.changed


async def test_an_update_changes_a_draining_app_and_does_not_end_the_drain(world: World) -> None:
    await world.set()
    await put_status(world, AppStatus.DRAINING)
    answer = await world.set(labels={"a": "1"}, allow_again=True)
    assert answer.outcome.app.status is AppStatus.DRAINING
    assert answer.outcome.app.labels == {"a": "1"}
    with refused(Reason.APP_DRAINING):
        await world.create("s-1")


async def test_more_labels_than_an_app_may_have_are_refused(world: World) -> None:
    await world.set(labels={f"l-{n}": "x" for n in range(64)})
    with refused(Reason.INVALID_FIELD, field="labels"):
        await world.set(labels={"one": "more"})
    with refused(Reason.INVALID_FIELD, field="remove_labels"):
        await world.set(labels={"a": "1"}, remove_labels=("a",))


async def test_apps_are_listed_by_name_page_by_page(world: World) -> None:
    for name in ("b", "d", "a", "c", "e"):
        await world.set(name)
    await world.create("s-1", app="c")
    first = await page(world, page_size=2)
    assert [each.app.app for each in first.apps] == ["a", "b"]
    second = await page(world, page_size=2, page_token=first.next_page_token)
    assert [(each.app.app, each.counts.active) for each in second.apps] == [("c", 1), ("d", 0)]
    third = await page(world, page_size=2, page_token=second.next_page_token)
    assert [each.app.app for each in third.apps] == ["e"]
    assert third.next_page_token == ""
    with refused(Reason.PAGE_TOKEN_INVALID):
        await page(world, statuses=(AppStatus.DELETED,), page_token=first.next_page_token)


async def test_a_list_is_of_the_statuses_and_labels_that_were_asked_for(world: World) -> None:
    for name, tier in (("a", "gold"), ("b", "tin"), ("c", "gold"), ("d", "gold")):
        await world.set(name, labels={"tier": tier})
    await put_status(world, AppStatus.DRAINING, "c")
    await put_status(world, AppStatus.DELETED, "d")
    gold = (LabelSelector("tier", LabelOperator.IN, ("gold",)),)
    assert await names(world) == ["a", "b", "c"]
    assert await names(world, labels=gold) == ["a", "c"]
    assert await names(world, statuses=(AppStatus.DELETED,)) == ["d"]
    assert await names(world, statuses=(AppStatus.ACTIVE,), labels=gold) == ["a"]


async def test_a_list_names_only_apps_that_the_caller_may_read(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.set(name)
    assert await names(world, reads=lambda app: app == "b") == ["b"]


async def test_a_page_ends_after_looking_at_many_that_it_does_not_show(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SCAN_ROWS >= apps_module.CHUNK
    monkeypatch.setattr(apps_module, "SCAN_ROWS", 4)
    monkeypatch.setattr(apps_module, "CHUNK", 2)
    for number in range(6):
        await world.set(f"app-{number}")
    first = await page(world, reads=lambda app: app == "app-5")
    assert (first.apps, bool(first.next_page_token)) == ((), True)
    call = {"page_token": first.next_page_token, "reads": lambda app: app == "app-5"}
    assert await names(world, **call) == ["app-5"]


async def test_a_page_is_cut_by_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {f"label-{n}": "x" * 200 for n in range(60)}
    for number in range(4):
        await world.set(f"app-{number}", labels=labels)
    monkeypatch.setattr(apps_module, "ANSWER_BYTES", 30_000)
    first = await page(world)
    assert len(first.apps) == 2
    second = await page(world, page_token=first.next_page_token)
    assert [each.app.app for each in second.apps] == ["app-2", "app-3"]
