"""New feeds after a restore: every app has one, its log says so, and nothing else changes."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.domain.model import App, AppStatus, Change, ChangeCause
from sojourn_server.service import feeds
from sojourn_server.store.base import Store, Tx
from tests.service.kit import START, World

APPS = ["Billing", "a", "b", "support"]


async def put(store: Store, name: str, status: AppStatus = AppStatus.ACTIVE) -> None:
    async def unit(tx: Tx) -> None:
        app = App(app=name, status=status, create_time=START, feed_id=f"old-{name}")
        await tx.put_app(app)
        await tx.log(Change(cause=ChangeCause.APP_CREATED))

    await store.apply(name, "the test", unit)


async def app_of(store: Store, name: str) -> App:
    app = await store.read(lambda tx: tx.app(name))
    assert app is not None
    return app


async def test_every_app_has_a_new_feed_and_is_otherwise_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.store
    monkeypatch.setattr(feeds, "PAGE", 2)
    for name in APPS:
        await put(store, name)
    before = [await app_of(store, name) for name in APPS]
    assert await feeds.renew(store) == len(APPS)
    after = [await app_of(store, name) for name in APPS]
    ids = {app.feed_id for app in (*before, *after)}
    assert len(ids) == 2 * len(APPS)
    assert [app.app for app in after] == APPS
    assert [app.create_time for app in after] == [app.create_time for app in before]


async def test_the_log_says_who_has_changed_the_app(world: World) -> None:
    store = world.store
    await put(store, "a")
    await feeds.renew(store)
    created, renewed = await store.read(lambda tx: tx.changes("a", 0, 10))
    assert created.cause is ChangeCause.APP_CREATED
    assert (renewed.revision, renewed.cause) == (2, ChangeCause.APP_UPDATED)
    assert (renewed.actor, renewed.uid) == ("new-feeds", "")


async def test_a_deleted_app_keeps_its_last_change(world: World) -> None:
    store = world.store
    await put(store, "a", AppStatus.DELETED)
    await feeds.renew(store)
    assert (await app_of(store, "a")).feed_id != "old-a"
    assert await store.read(lambda tx: tx.head("a")) == 1


async def test_a_store_without_apps_has_nothing_to_renew(world: World) -> None:
    store = world.store
    assert await feeds.renew(store) == 0


async def test_others_may_write_meanwhile(world: World) -> None:
    store = world.store
    for name in APPS:
        await put(store, name)
    logged = [
        store.apply("a", "the test", lambda tx: tx.log(Change(cause=ChangeCause.APP_UPDATED)))
        for _ in range(20)
    ]
    await asyncio.gather(feeds.renew(store), *logged)
    assert await store.read(lambda tx: tx.head("a")) == 1 + 1 + 20
