"""Two servers on one database behave as one."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import sojourn
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.model import ChangeCause
from sojourn_server.store.base import LoggedChange
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import USER, Clients, log_of, revisions_of, until

Send = Callable[[sojourn.AsyncClient, str], Awaitable[object]]


def text(content: str) -> sojourn.NewMessage:
    return sojourn.NewMessage("user", content)


async def test_a_read_through_either_sees_what_was_answered_through_the_other(
    clients: Clients,
) -> None:
    session = await clients.a.sessions.create("s", user=USER)
    for number in range(40):
        writer, reader = clients[number % 2], clients[(number // 2) % 2]
        await writer.messages.append(
            "s", text(f"m-{number}"), user=USER, state={"n": number}, user_state={"u": number}
        )
        found = await reader.sessions.get("s", user=USER, last_messages=1)
        assert found.uid == session.uid
        assert found.message_count == number + 1
        assert found.state_version == number + 1
        assert found.content is not None
        assert found.content.state.values["n"] == number
        assert found.content.user_state.values["u"] == number
        assert found.last_messages is not None
        assert found.last_messages[0].content == f"m-{number}"
        listed = [each async for each in reader.sessions.list()]
        assert [each.etag for each in listed] == [found.etag]
        assert (await reader.sessions.get(uid=session.uid)).revision >= found.revision


async def test_what_is_ended_and_deleted_through_one_is_so_through_the_other(
    clients: Clients,
) -> None:
    for number in range(10):
        one, other = clients[number % 2], clients[1 - number % 2]
        first = await one.sessions.create("s", user=USER)
        await other.sessions.end("s", user=USER)
        with pytest.raises(sojourn.errors.SessionEndedError):
            await one.messages.append("s", text("late"), user=USER)
        await one.sessions.delete("s", user=USER)
        with pytest.raises(sojourn.errors.SessionNotFoundError):
            await other.sessions.get("s", user=USER)
        again = await other.sessions.create("s", user=USER)
        assert (await one.sessions.get("s", user=USER)).uid == again.uid != first.uid
        await one.sessions.delete("s", user=USER)


async def test_writes_through_both_are_in_one_order_without_gaps(
    clients: Clients, store: PostgresStore
) -> None:
    chance = random.Random(5)

    async def write(number: int) -> list[int]:
        session_id = f"s-{number % 3}"
        revisions = []
        for turn in range(15):
            client = chance.choice(clients)
            answer = await client.messages.append(
                session_id, text(f"{number}/{turn}"), user=USER, create_if_missing=True
            )
            revisions.append(answer.revision)
        return revisions

    given = await asyncio.gather(*(write(number) for number in range(8)))
    for revisions in given:
        assert all(low < high for low, high in itertools.pairwise(revisions))
    assert sorted(itertools.chain(*given)) == list(range(1, 121))
    log = await log_of(store, clients.app)
    assert [change.revision for change in log] == sorted(change.revision for change in log)
    assert await revisions_of(store, clients.app) == list(range(1, 121))
    for session_id in ("s-0", "s-1", "s-2"):
        one, other = [
            [
                (each.sequence, each.content)
                async for each in client.messages.list(session_id, user=USER)
            ]
            for client in clients
        ]
        assert one == other
        assert [sequence for sequence, _ in one] == list(range(1, len(one) + 1))


async def test_a_list_begun_through_one_is_read_on_through_the_other(clients: Clients) -> None:
    names = [f"s-{number:02}" for number in range(25)]
    for name in names:
        await clients.a.sessions.create(name, user=USER)
    found: list[str] = []
    token = ""
    for number in range(5):
        pages = clients[number % 2].sessions.list(page_size=5, page_token=token).pages()
        page = await anext(aiter(pages))
        found += [session.session_id for session in page.items]
        token = page.next_page_token
    assert (found, token) == (names, "")


async def test_counters_moved_through_both_add_up(clients: Clients) -> None:
    await clients.a.sessions.create("s", user=USER)
    delta = sojourn.MetricsDelta(requests=1, counters={"tokens": 3})
    await asyncio.gather(
        *(clients[n % 2].sessions.update("s", user=USER, metrics=delta) for n in range(200))
    )
    for client in clients:
        found = await client.sessions.get("s", user=USER)
        assert (found.metrics.request_count, found.metrics.counters) == (200, {"tokens": 600})


async def test_of_creations_of_one_key_through_both_one_succeeds(clients: Clients) -> None:
    for number in range(5):
        answers = await asyncio.gather(
            *(clients[n % 2].sessions.create(f"s-{number}", user=USER) for n in range(6)),
            return_exceptions=True,
        )
        refused = [each for each in answers if isinstance(each, BaseException)]
        assert len(refused) == 5
        assert all(isinstance(each, sojourn.errors.SessionExistsError) for each in refused)
        pairs = await asyncio.gather(
            *(clients[n % 2].sessions.get_or_create(f"o-{number}", user=USER) for n in range(6))
        )
        assert sum(created for _, created in pairs) == 1
        assert len({session.uid for session, _ in pairs}) == 1


async def answered(send: Awaitable[object]) -> object:
    """An answer without what tells only of the clock when it was given."""
    answer: Any = await send
    if isinstance(answer, sojourn.Session):
        return dataclasses.replace(answer, time_left=None)
    session = getattr(answer, "session", None)
    if session is None:
        return answer
    return dataclasses.replace(answer, session=dataclasses.replace(session, time_left=None))


ONCE: dict[str, Send] = {
    "create": lambda client, name: client.sessions.create("new", user=USER, request_id=name),
    "append": lambda client, name: client.messages.append(
        "s", text("m"), user=USER, request_id=name
    ),
    "update": lambda client, name: client.sessions.update(
        "s", user=USER, metrics=sojourn.MetricsDelta(1), request_id=name
    ),
    "begin": lambda client, name: client.turns.begin("s", user=USER, request_id=name),
    "pop": lambda client, name: client.messages.pop("s", user=USER, request_id=name),
    "reset": lambda client, name: client.sessions.reset("s", user=USER, request_id=name),
    "end": lambda client, name: client.sessions.end("s", user=USER, request_id=name),
    "delete": lambda client, name: client.sessions.delete("s", user=USER, request_id=name),
}


async def test_a_request_sent_to_both_at_once_happens_once_and_is_answered_the_same(
    clients: Clients, store: PostgresStore
) -> None:
    await clients.a.sessions.create("s", user=USER)
    await clients.a.messages.append("s", [text("one"), text("two")], user=USER)
    head = 2
    for name, send in ONCE.items():
        answers = await asyncio.gather(
            *(answered(send(clients[n % 2], f"id-{name}")) for n in range(6))
        )
        assert all(answer == answers[0] for answer in answers), name
        head += 1
        assert await revisions_of(store, clients.app) == list(range(1, head + 1)), name
    for client in clients:
        with pytest.raises(sojourn.errors.RequestIdReusedError):
            await client.messages.append("new", text("m"), user=USER, request_id="id-append")


async def test_of_appends_that_expect_one_sequence_through_both_one_succeeds(
    clients: Clients,
) -> None:
    await clients.a.sessions.create("s", user=USER)

    async def write(client: sojourn.AsyncClient, name: str) -> list[int]:
        won: list[int] = []
        while True:
            last = (await client.sessions.get("s", user=USER)).last_sequence
            if last >= 60:
                return won
            expected = sojourn.Precondition(last_sequence=last)
            try:
                answer = await client.messages.append(
                    "s", text(f"{name} after {last}"), user=USER, precondition=expected
                )
            except sojourn.errors.SequenceMismatchError:
                continue
            won += answer.sequences

    won = await asyncio.gather(*(write(clients[n % 2], f"w-{n}") for n in range(4)))
    stored = [each async for each in clients.b.messages.list("s", user=USER)]
    assert sorted(itertools.chain(*won)) == [each.sequence for each in stored]
    # Each was written right after the one that its writer had seen.
    for each in stored:
        assert each.content is not None
        assert each.content.endswith(f"after {each.sequence - 1}")
    assert all(won), "each of the writers got on"


async def test_what_expires_is_logged_once_though_both_look(
    clients: Clients, store: PostgresStore
) -> None:
    many = 40
    sessions = await asyncio.gather(
        *(
            clients[n % 2].sessions.create(f"s-{n}", user=USER, idle_timeout=0.5 + n * 0.01)
            for n in range(many)
        )
    )
    due = {session.uid: session.expire_time for session in sessions}

    async def expired() -> list[LoggedChange]:
        log = await log_of(store, clients.app)
        return [change for change in log if change.cause is ChangeCause.EXPIRED]

    async def all_logged() -> bool:
        return len(await expired()) >= many

    await until(all_logged, "all have expired", 20, 0.1)
    await asyncio.sleep(0.6)  # longer than either job rests
    found = await expired()
    assert sorted(change.uid for change in found) == sorted(due)
    for change in found:
        expire_time = due[change.uid]
        assert expire_time is not None
        # The promise is 1 s; a busy machine gets a few more.
        assert 0 <= change.time / SECOND - expire_time.timestamp() < 5
