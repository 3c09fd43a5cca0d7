"""Rows S2-05 to S2-10, S2-14, S2-29 and S2-30: messages, and reading the recent ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sojourn import AsyncClient, MessageOrder, NewMessage, errors

PERFORMANCE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


async def test_s2_05_inserting_a_message(client: AsyncClient) -> None:
    """A message that was taken in is in the history, with an id of its own."""
    session = await client.attach("s")
    done = await session.append("user", "Hello")
    assert done.changed
    assert done.sequences == (1,)
    [message] = await session.messages()
    assert (message.role, message.content) == ("user", "Hello")
    assert (message.message_id,) == done.message_ids


async def test_s2_06_all_messages(client: AsyncClient) -> None:
    """All messages come back in the order of their insertion, however many pages that takes."""
    session = await client.attach("s")
    for first in range(0, 1200, 400):
        await session.append_many(
            [NewMessage("user", f"text {n}") for n in range(first, first + 400)]
        )
    messages = await session.messages()
    assert [one.content for one in messages] == [f"text {n}" for n in range(1200)]
    assert [one.sequence for one in messages] == list(range(1, 1201))


async def test_s2_07_the_newest_n(client: AsyncClient) -> None:
    """The newest n messages come oldest first; fewer when there are fewer; none of an empty one."""
    session = await client.attach("s")
    assert await session.messages(last=3) == []
    await session.append_many([NewMessage("user", str(n)) for n in range(5)])
    assert [one.content for one in await session.messages(last=3)] == ["2", "3", "4"]
    assert len(await session.messages(last=50)) == 5


async def test_s2_08_one_message_by_its_id(client: AsyncClient) -> None:
    """A message is found by its id; an id that is not there, or no longer, is told as such."""
    session = await client.attach("s")
    await session.append("user", "Hello", message_id="m-1")
    await session.append("assistant", "Hi", message_id="m-2")
    assert (await client.messages.get("s", "m-2")).content == "Hi"
    assert (await client.messages.get("s", sequence=1)).message_id == "m-1"
    for name in ("m-3", "m-2"):
        if name == "m-2":
            await session.pop()
        with pytest.raises(errors.MessageNotFoundError):
            await client.messages.get("s", name)


async def test_s2_09_what_a_message_is(client: AsyncClient) -> None:
    """Id, role, content and time are kept exactly; an id names one message of its session only."""
    now = datetime(2026, 11, 20, 12, 30, 15, 123456, tzinfo=UTC)
    session = await client.attach("s")
    await session.append("critic", "ünï ✓", message_id="m-1", event_time=now)
    message = await client.messages.get("s", "m-1")
    assert (message.role, message.content, message.event_time) == ("critic", "ünï ✓", now)
    assert message.create_time.tzinfo is not None
    same = await session.append("critic", "ünï ✓", message_id="m-1", event_time=now)
    assert not same.changed
    with pytest.raises(errors.MessageExistsError):
        await session.append("critic", "another text", message_id="m-1", event_time=now)
    assert len(await session.messages()) == 1
    elsewhere = await client.attach("another")
    assert (await elsewhere.append("critic", "another text", message_id="m-1")).changed


async def test_s2_10_a_pair_is_stored_together(client: AsyncClient) -> None:
    """Question and answer go in both or not at all, and an image comes back byte for byte."""
    session = await client.attach("s")
    question = NewMessage(
        "user", "What is this?", payload=PNG, content_type="image/png", message_id="q-1"
    )
    await session.append_many([question, NewMessage("assistant", "A picture.", message_id="a-1")])
    asked, answered = await session.messages()
    assert (asked.payload, asked.content_type) == (PNG, "image/png")
    assert answered.content == "A picture."
    with pytest.raises(errors.MessageExistsError):
        await session.append_many(
            [
                NewMessage("user", "And this?", message_id="q-2"),
                NewMessage("assistant", "Something else.", message_id="a-1"),
            ]
        )
    assert [one.message_id for one in await session.messages()] == ["q-1", "a-1"]


async def test_s2_14_a_window_for_the_model(client: AsyncClient) -> None:
    """The newest 20 come along with the session in one read; the store keeps all the others."""
    session = await client.attach("s")
    await session.append_many([NewMessage("user", str(n)) for n in range(30)])
    read = await client.sessions.get("s", last_messages=20)
    assert [one.content for one in read.messages] == [str(n) for n in range(10, 30)]
    assert read.message_count == 30
    older = client.messages.list("s", before_sequence=read.messages[0].sequence)
    assert [one.content async for one in older] == [str(n) for n in range(10)]


async def test_s2_29_recent_messages_are_cheap(client: AsyncClient) -> None:
    """The newest messages of a long history come from its end, page by page, without the rest."""
    session = await client.attach("s")
    for _ in range(3):
        await session.append_many([NewMessage("user", "x" * 20) for _ in range(1000)])
    newest_first = client.messages.list("s", order=MessageOrder.NEWEST_FIRST, page_size=20)
    async for page in newest_first.pages():
        assert [one.sequence for one in page.items] == list(range(3000, 2980, -1))
        assert page.next_page_token
        break
    read = await client.sessions.get("s", last_messages=20)
    assert [one.sequence for one in read.messages] == list(range(2981, 3001))
    # What it costs in a long history over a short one is measured, and said.
    assert "the newest 20 messages of a session with 100,000" in PERFORMANCE.read_text("utf-8")


async def test_s2_30_concurrent_writers_lose_nothing(client: AsyncClient) -> None:
    """Eight agents that write at once to one memory lose no pair and tear none apart."""
    session = await client.attach("s")

    async def write(agent: int) -> None:
        mine = await client.attach("s")
        for number in range(15):
            name = f"{agent}-{number}"
            await mine.append_many([NewMessage("user", name), NewMessage("assistant", name)])

    await asyncio.gather(*(write(agent) for agent in range(8)))
    messages = await session.messages()
    assert [one.sequence for one in messages] == list(range(1, 241))
    assert sorted(one.content or "" for one in messages) == sorted(
        f"{agent}-{number}" for agent in range(8) for number in range(15) for _ in range(2)
    )
    pairs = list(zip(messages[::2], messages[1::2], strict=True))
    assert all(asked.content == answered.content for asked, answered in pairs)
    assert {(asked.role, answered.role) for asked, answered in pairs} == {("user", "assistant")}
