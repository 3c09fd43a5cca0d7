"""Things of any size as messages: what went in comes out, whole, and in its order."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

import sojourn
from sojourn.adapters import _items as items
from sojourn.errors import GenerationChangedError, SessionNotFoundError

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


async def test_a_batch_of_an_older_generation_is_refused(client: sojourn.AsyncClient) -> None:
    await client.sessions.create("s")
    await client.sessions.reset("s")
    for batch in (thing("a"), thing("a", 2 * LARGE)):
        with pytest.raises(GenerationChangedError):
            await items.append_many(client, "s", batch, generation=1)
    assert await items.newest(client, "s") == []


async def test_a_session_that_is_not_there(client: sojourn.AsyncClient) -> None:
    with pytest.raises(SessionNotFoundError):
        await items.newest(client, "nobody")
    for batch in (thing("a"), thing("a", 2 * LARGE)):
        with pytest.raises(SessionNotFoundError):
            await items.append_many(client, "nobody", batch)
