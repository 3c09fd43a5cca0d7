"""What a type checker sees of the public surface; `mypy` checks this file with all others."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

import sojourn
from sojourn import (
    App,
    AppendResult,
    AsyncAttempt,
    AsyncClient,
    AsyncPager,
    AsyncSessionCache,
    AsyncSessionHandle,
    AsyncTurnHandle,
    AsyncWatch,
    Attempt,
    AuditEntry,
    Change,
    Client,
    DeleteAppResult,
    DeletedWhy,
    DeleteManyResult,
    DeleteMode,
    EraseResult,
    Exported,
    JsonMap,
    Message,
    NewMessage,
    Page,
    Pager,
    Policy,
    ReplaceResult,
    ServerInfo,
    Session,
    SessionAggregate,
    SessionCache,
    SessionChange,
    SessionHandle,
    SessionRef,
    State,
    Status,
    TurnHandle,
    Watch,
    WatchEvent,
    WatchPosition,
    testing,
)


async def the_async_client() -> None:
    async with sojourn.connect("localhost:7070", app="a") as client:
        assert_type(client, AsyncClient)
        assert_type(client.with_options(deadline=1), AsyncClient)
        assert_type(await client.sessions.create("s", labels={"k": "v"}), Session)
        assert_type(await client.sessions.get_or_create("s"), tuple[Session, bool])
        assert_type(client.sessions.list(status=None, user="u"), AsyncPager[Session])
        assert_type(client.sessions.list_ids(), AsyncPager[SessionRef])
        assert_type(client.messages.list("s"), AsyncPager[Message])
        assert_type(await client.sessions.list().to_list(), list[Session])
        assert_type(await client.sessions.list().page(2, limit=10), Page[Session])
        assert_type(await client.sessions.list().count(), int)
        assert_type(await client.messages.append("s", NewMessage("user", "hi")), AppendResult)
        assert_type(await client.users.get_state("u"), State)
        assert_type(await client.attach("s"), AsyncSessionHandle)
        async for listed in client.sessions.list():
            assert_type(listed, Session)
        async for page in client.sessions.list().pages():
            assert_type(page.items, tuple[Session, ...])
        async with client.session("s") as session:
            assert_type(session, AsyncSessionHandle)
            assert_type(await session.messages(last=5), list[Message])
            async with session.turn() as turn:
                assert_type(turn, AsyncTurnHandle)
                assert_type(turn.lost, bool)
            async with session.child() as child:
                assert_type(child, AsyncSessionHandle)
            assert_type(sojourn.retrying(session), AsyncIterator[AsyncAttempt])
            async for attempt in sojourn.retrying(session):
                async with attempt as turn:
                    assert_type(turn, AsyncTurnHandle)
    async with testing.serve() as server:
        assert_type(server.client(app="a"), AsyncClient)


async def what_the_async_client_watches(client: AsyncClient) -> None:
    async with client.sessions.watch(labels={"k": "v"}, resync=print) as watch:
        assert_type(watch, AsyncWatch)
        assert_type(watch.token, str)
        assert_type(watch.position, WatchPosition)
        async for event in watch:
            assert_type(event, WatchEvent)
        async for change in watch.changes():
            assert_type(change, Change)
    async with client.sessions.cache(user="u") as cache:
        assert_type(cache, AsyncSessionCache)
        assert_type(cache.get("s"), Session | None)
        assert_type(cache.list(labels={"k": ["v", "w"]}), list[Session])
        await cache.wait_until(5)
        async for update in cache.updates():
            assert_type(update.session, Session | None)


async def what_operators_do(client: AsyncClient) -> None:
    assert_type(await client.apps.get(), App)
    assert_type(client.apps.list(labels={"agent": "x"}), AsyncPager[App])
    assert_type((await client.apps.update(policy=Policy(retention=60))).app, App)
    assert_type(await client.apps.delete("a", mode=DeleteMode.DRAIN, wait=True), DeleteAppResult)
    assert_type((await client.apps.delete_many({"agent": "x"})).apps, tuple[str, ...])
    assert_type(await client.users.erase("u"), EraseResult)
    assert_type((await client.sessions.end_many(user="u")).count, int)
    assert_type(await client.sessions.delete_many(all=True), DeleteManyResult)
    assert_type(await client.sessions.cleanup_inactive(1800), int)
    assert_type(await client.sessions.count(labels={"k": "v"}), int)
    assert_type(client.sessions.aggregate(group_by="user"), AsyncPager[SessionAggregate])
    assert_type(await client.sessions.fork("s", "copy"), Session)
    assert_type(await client.sessions.get_or_replace("s", max_idle=60), tuple[Session, bool])
    assert_type(await client.messages.replace("s", [NewMessage("user")]), ReplaceResult)
    assert_type(client.admin.audit(), AsyncPager[AuditEntry])
    assert_type((await client.admin.export_jsonl("f")).sessions, int)
    assert_type((await client.admin.import_jsonl("f")).renamed, int)
    assert_type(await client.admin.info(), ServerInfo)
    async for part in client.admin.export(user="u"):
        assert_type(part, Exported)

    async def work(session: AsyncSessionHandle) -> int:
        assert_type(session.children(), AsyncPager[Session])
        assert_type(session.watch_children(content=True), AsyncWatch)
        assert_type(await session.fork(), AsyncSessionHandle)
        return 1

    assert_type(await client.run(work), int)


def the_sync_client() -> None:
    with sojourn.connect_sync("localhost:7070", app="a") as client:
        assert_type(client, Client)
        assert_type(client.sessions.create("s"), Session)
        assert_type(client.sessions.get_or_create("s"), tuple[Session, bool])
        assert_type(client.sessions.list(), Pager[Session])
        assert_type(client.sessions.list().to_list(), list[Session])
        for listed in client.sessions.list():
            assert_type(listed, Session)
        with client.session("s") as session:
            assert_type(session, SessionHandle)
            with session.turn() as turn:
                assert_type(turn, TurnHandle)
            assert_type(sojourn.retrying(session), Iterator[Attempt])
        assert_type(client.apps.list(), Pager[App])
        assert_type(client.sessions.count(), int)
        assert_type(client.run(lambda session: session.user), str)
        for part in client.admin.export():
            assert_type(part, Exported)
    with testing.serve_sync() as server:
        assert_type(server.client(app="a"), Client)


def what_the_sync_client_watches(client: Client) -> None:
    with client.sessions.watch(after=WatchPosition("t", 5, 0)) as watch:
        assert_type(watch, Watch)
        for change in watch.changes():
            assert_type(change, Change)
            if isinstance(change, SessionChange):
                assert_type(change.session, Session)
                assert_type(change.previous, Session | None)
                assert_type(change.messages, tuple[Message, ...])
                assert_type(change.deleted_why, DeletedWhy | None)
    with client.sessions.cache() as cache:
        assert_type(cache, SessionCache)
        assert_type(cache.get(uid="u"), Session | None)
        assert_type(next(cache.updates()).uid, str)


def what_is_read(session: Session, message: Message) -> None:
    assert_type(session.status, Status)
    assert_type(session.create_time, datetime)
    assert_type(session.end_time, datetime | None)
    assert_type(session.state, JsonMap)
    assert_type(session.state["x"], Any)
    assert_type(session.messages, tuple[Message, ...])
    assert_type(session.average_processing_time, timedelta)
    assert_type(session.is_expired(1800), bool)
    assert_type(message.content, str | None)
    assert_type(message.event_time_ns, int | None)


@sojourn.tracked
async def answer(session: AsyncSessionHandle, question: str) -> int:
    return len(question)


@sojourn.tracked(holder="pod-1")
def answer_sync(session: SessionHandle, question: str) -> int:
    return len(question)


async def tracked_functions_keep_their_types(
    session: AsyncSessionHandle, sync_session: SessionHandle
) -> None:
    assert_type(await answer(session, "why?"), int)
    assert_type(answer_sync(sync_session, question="why?"), int)
