"""Things of any size as messages: what went in comes out, whole, and in its order."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

import sojourn
from sojourn._json import JsonMap
from sojourn.adapters import _items as items
from sojourn.errors import (
    AbortedError,
    GenerationChangedError,
    MessageExistsError,
    MessageNotFoundError,
    QuotaExceededError,
    SessionNotFoundError,
)

# What is done here by the client alone, or proved of each store elsewhere: it takes long.
ONE_STORE = pytest.mark.parametrize("place", ["sqlite"], indirect=True)

VALUES: list[Any] = [
    {},
    {"n": 1, "x": 1.0, "big": 2**70, "none": None, "yes": True},
    {"text": "Grüße, 世界 🎉 \u0000 \u2028", "lone": "\ud800"},
    {"nested": [[], [{}], {"": ""}]},
    "just a text",
    float("inf"),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_come_back_as_they_went(value: Any) -> None:
    back = json.loads(items.dump(value))
    assert back == value
    assert repr(back) == repr(value)


def test_a_value_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError):
        items.dump({"a": object()})


def thing(name: str, size: int = 10) -> list[sojourn.NewMessage]:
    """A thing of a size, with a payload that tells where it was torn."""
    text = (f"{name}:" + "".join(random.Random(name).choices("abc", k=size)))[:size]
    return items.to_messages(
        items.dump(text), role="user", message_id=name, metadata={"kind": "test"}, event_time_ns=7
    )


LARGE = 2 * items.PART_BYTES + 5


async def test_things_of_any_size_are_read_whole(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    sizes = {"a": 10, "b": LARGE, "c": 3, "d": items.PART_BYTES - 2, "e": items.PART_BYTES - 1}
    for name, size in sizes.items():
        await items.append_many(client, "s", thing(name, size))
    found = await items.newest(client, "s")
    assert [one.message_id for one in found] == list(sizes)
    assert [one.messages for one in found] == [1, 3, 1, 1, 2]
    for one in found:
        expected = b"".join(
            message.payload for message in thing(one.message_id, sizes[one.message_id])
        )
        assert one.payload == expected
        assert one.metadata == {"kind": "test"}
        assert (one.role, one.event_time_ns) == ("user", 7)
    assert [one.message_id for one in await items.newest(client, "s", 2)] == ["d", "e"]
    assert [one.message_id for one in await items.newest(client, "s", 4)] == ["b", "c", "d", "e"]
    assert await items.newest(client, "s", 0) == []
    older = await items.newest(client, "s", before_sequence=found[2].first_sequence)
    assert [one.message_id for one in older] == ["a", "b"]


@ONE_STORE
async def test_what_lost_a_part_is_passed_over(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    for name in ("a", "b"):
        await items.append_many(client, "s", thing(name, LARGE))
    whole = await items.newest(client, "s")
    await client.messages.pop("s", 1)
    await items.append_many(client, "s", thing("c"))
    assert [one.message_id for one in await items.newest(client, "s")] == ["a", "c"]
    policy = sojourn.Policy(
        max_messages_per_session=6, overflow_action=sojourn.OverflowAction.DROP_OLDEST
    )
    await client.apps.update(policy=policy)
    await items.append_many(client, "s", thing("d"))
    assert [one.message_id for one in await items.newest(client, "s")] == ["c", "d"]
    assert whole[0].messages == 3


async def test_a_batch_of_any_size_is_appended_whole(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    await items.append_many(client, "s", thing("first"))
    many = [message for number in range(1_200) for message in thing(f"m{number}")]
    large = [message for number in range(2) for message in thing(f"l{number}", LARGE)]
    assert not items.fits(many)
    assert not items.fits(large)
    await items.append_many(client, "s", many)
    await items.append_many(client, "s", large)
    names = [one.message_id for one in await items.newest(client, "s")]
    assert names == ["first", *(f"m{number}" for number in range(1_200)), "l0", "l1"]


async def test_two_large_batches_at_once_do_not_mix(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    batches = [
        [message for number in range(1_001) for message in thing(f"{who}{number}")] for who in "xy"
    ]
    await asyncio.gather(*(items.append_many(client, "s", batch) for batch in batches))
    names = "".join(one.message_id[0] for one in await items.newest(client, "s"))
    assert names in ("x" * 1_001 + "y" * 1_001, "y" * 1_001 + "x" * 1_001)


@ONE_STORE
async def test_a_batch_of_an_older_generation_is_refused(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    await client.sessions.reset("s")
    for batch in (thing("a"), thing("a", 2 * LARGE)):
        with pytest.raises(GenerationChangedError):
            await items.append_many(client, "s", batch, generation=1)
    assert await items.newest(client, "s") == []


@ONE_STORE
async def test_a_session_that_is_not_there(client: sojourn.AsyncClient) -> None:
    with pytest.raises(SessionNotFoundError):
        await items.newest(client, "nobody")
    for batch in (thing("a"), thing("a", 2 * LARGE)):
        with pytest.raises(SessionNotFoundError):
            await items.append_many(client, "nobody", batch)


@ONE_STORE
async def test_a_known_message_is_passed_over_in_a_batch_of_any_size(
    client: sojourn.AsyncClient,
) -> None:
    await client.sessions.create("s")
    many = [message for number in range(1_010) for message in thing(f"m{number}")]
    large = thing("large", LARGE)
    before = [*many[500:520], *large]
    await items.append_many(client, "s", before)
    await items.append_many(client, "s", [*many, *large, *many[:10]])
    known = [*(f"m{number}" for number in range(500, 520)), "large"]
    new = [f"m{number}" for number in range(1_010) if not 500 <= number < 520]
    assert [one.message_id for one in await items.newest(client, "s")] == known + new
    revision = (await client.sessions.get("s")).revision
    await items.append_many(client, "s", [*many, *large])
    assert (await client.sessions.get("s")).revision == revision


@pytest.mark.parametrize(
    "other",
    [
        {"payload": b"other"},
        {"role": "other"},
        {"content": ""},
        {"content_type": "text/plain"},
        {"metadata": {"kind": "other"}},
        {"event_time": 8},
    ],
    ids=lambda other: next(iter(other)),
)
@ONE_STORE
async def test_another_message_under_a_known_id_refuses_a_batch_of_any_size(
    client: sojourn.AsyncClient, other: dict[str, Any]
) -> None:
    await client.sessions.create("s")
    [known] = thing("known")
    await items.append_many(client, "s", [known])
    batch = [message for number in range(3) for message in thing(f"m{number}", LARGE)]
    with pytest.raises(MessageExistsError):
        await items.append_many(client, "s", [*batch, dataclasses.replace(known, **other)])
    assert len(await items.newest(client, "s")) == 1


@ONE_STORE
async def test_a_large_batch_is_refused_where_old_messages_would_have_to_go(
    client: sojourn.AsyncClient,
) -> None:
    """Small ones push them out; a replacement, by the contract, does not."""
    await client.sessions.create("s")
    await items.append_many(client, "s", thing("first"))
    policy = sojourn.Policy(
        max_messages_per_session=6, overflow_action=sojourn.OverflowAction.DROP_OLDEST
    )
    await client.apps.update(policy=policy)
    batches = [thing(name, LARGE) for name in "ab"]
    with pytest.raises(QuotaExceededError):
        await items.append_many(client, "s", [message for batch in batches for message in batch])
    for batch in batches:
        await items.append_many(client, "s", batch)
    assert [one.message_id for one in await items.newest(client, "s")] == ["a", "b"]


async def test_a_thing_without_an_id_is_given_one(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    for size in (10, LARGE, LARGE):
        await items.append_many(client, "s", items.to_messages(b"x" * size, role="user"))
    found = await items.newest(client, "s")
    assert [one.messages for one in found] == [1, 3, 3]
    assert len({one.message_id for one in found}) == 3
    assert all(one.message_id for one in found)


async def test_marks_that_are_not_ours_are_plain_metadata(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    marks: list[dict[str, Any]] = [
        {items.PART: 1},
        {items.PART: "1", items.PARTS: 1},
        {items.PART: 3, items.PARTS: 2},
        {items.PART: 1, items.PARTS: 2},
    ]
    for number, metadata in enumerate(marks):
        message = sojourn.NewMessage("user", message_id=f"m{number}", metadata=metadata)
        await client.messages.append("s", message)
    assert [dict(one.metadata) for one in await items.newest(client, "s")] == marks


def test_parts_of_different_things_are_never_put_together() -> None:
    a, b = (
        [stored(one, number) for number, one in enumerate(thing(name, LARGE), 1)] for name in "ab"
    )
    assembler = items.Assembler()
    assert [assembler.feed(one) for one in (b[2], a[1], a[0])] == [None] * 3
    [*torn, whole] = [assembler.feed(one) for one in (b[2], b[1], a[2], a[1], a[0])]
    assert torn == [None] * 4
    assert whole is not None
    assert whole.message_id == "a"


def stored(new: sojourn.NewMessage, sequence: int) -> sojourn.Message:
    """The message that a server would make of it."""
    return sojourn.Message(
        message_id=new.message_id,
        sequence=sequence,
        role=new.role,
        content=new.content,
        payload=new.payload,
        content_type=new.content_type,
        metadata=JsonMap({key: json.dumps(value) for key, value in new.metadata.items()}),
        event_time_ns=7,
        create_time=datetime.now(UTC),
    )


@pytest.mark.parametrize("how", ["pop", "reset", "replace"])
@pytest.mark.parametrize("reading", ["newest", "snapshot"])
@ONE_STORE
async def test_what_is_read_in_several_requests_stood_there_at_one_time(
    client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch, reading: str, how: str
) -> None:
    """The ground of the first page is taken away before the second is read."""
    await client.sessions.create("s")
    await items.append_many(client, "s", [thing(f"m{number}")[0] for number in range(12)])
    monkeypatch.setattr(items, "REQUEST_MESSAGES", 5)
    writes = {
        "pop": lambda: client.messages.truncate("s", 3),
        "reset": lambda: client.sessions.reset("s"),
        "replace": lambda: client.messages.replace("s", thing("new")),
    }
    real = client._services.messages._caller.call
    reads = 0

    async def call(method: Any, request: Any, **fields: Any) -> Any:
        nonlocal reads
        a_read = type(request).__name__ in ("ListMessagesRequest", "GetSessionRequest")
        reads += a_read
        first = reads == 1
        answer = await real(method, request, **fields)
        if a_read and first:
            await writes[how]()
        return answer

    monkeypatch.setattr(client._services.messages._caller, "call", call)
    if reading == "newest":
        found = await items.newest(client, "s")
    else:
        _, found = await items.snapshot(client, "s")
    left = {"pop": ["m0", "m1", "m2"], "reset": [], "replace": ["new"]}
    assert [one.message_id for one in found] == left[how]
    assert reads >= 3


@ONE_STORE
async def test_a_history_that_never_stands_still_is_not_read(
    client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.sessions.create("s")
    await items.append_many(client, "s", [thing(f"m{number}")[0] for number in range(60)])
    monkeypatch.setattr(items, "REQUEST_MESSAGES", 2)

    async def gone(*_: Any, **__: Any) -> None:
        raise MessageNotFoundError("not there")

    monkeypatch.setattr(client.messages, "get", gone)
    for read in (items.newest, items.snapshot):
        with pytest.raises(AbortedError, match="long history"):
            await read(client, "s")
        assert await read(client, "s", 2)


async def test_only_what_is_wanted_counts(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    for number in range(6):
        await items.append_many(client, "s", thing(f"m{number}", LARGE if number == 2 else 10))

    def even(item: items.Item) -> bool:
        return int(item.message_id[1:]) % 2 == 0

    found = await items.newest(client, "s", 2, wanted=even)
    assert [one.message_id for one in found] == ["m2", "m4"]
    session, found = await items.snapshot(client, "s", 2, wanted=even)
    assert [one.message_id for one in found] == ["m2", "m4"]
    assert (session.message_count, session.is_active) == (8, True)
    assert [one.message_id for one in (await items.snapshot(client, "s", 3))[1]] == [
        "m3",
        "m4",
        "m5",
    ]
    assert (await items.snapshot(client, "s", 0))[1] == []
    assert len((await items.snapshot(client, "s"))[1]) == 6
