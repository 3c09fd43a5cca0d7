"""What a type checker sees of the public surface; `mypy` checks this file with all others."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

import sojourn
from sojourn import (
    AppendResult,
    AsyncAttempt,
    AsyncClient,
    AsyncPager,
    AsyncSessionHandle,
    AsyncTurnHandle,
    Attempt,
    Client,
    JsonMap,
    Message,
    NewMessage,
    Page,
    Pager,
    Session,
    SessionHandle,
    SessionRef,
    State,
    Status,
    TurnHandle,
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
    with testing.serve_sync() as server:
        assert_type(server.client(app="a"), Client)


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
