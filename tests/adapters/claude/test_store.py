"""What the store promises besides the SDK's contracts: see `SojournSessionStore` and the how-to."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

import sojourn
from sojourn.adapters._claude_entries import Names
from sojourn.adapters.claude import SojournSessionStore
from sojourn.errors import QuotaExceededError
from tests.acceptance.kit import Place
from tests.adapters.claude.kit import PROJECT, entry, folded, key, numbered, summary

ENTRIES: list[Any] = [
    entry("a", z=1, y=1.0, x=2**70, w=-0.0, v=None, u=True, t=[], s={}),
    entry("b", text="Grüße, 世界 🎉 \u2028", nul="\0", half="\ud800", empty=""),
    entry("c", deep={"b": [[{"a": 1}]], "a": {"": ""}}),
    entry(type="a type that is far too long to be anybody's role, whoever might think of one"),
    entry(type="tag\n", tag=""),
    entry("e" * 300, timestamp="2024-01-01T00:00:00.123Z"),
    entry("  padded  ", timestamp="yesterday"),
    entry("f", timestamp="0001-01-01T00:00:00Z"),
    entry("g", timestamp="2024-01-01T00:00:00"),
    {**entry(), "uuid": ""},
    {**entry(), "uuid": 7},
    {"n": "of no type"},
]


async def test_entries_come_back_as_they_went(store: SojournSessionStore) -> None:
    """Equal, and with their keys in their order: numbers, letters and texts are untouched."""
    await store.append(key(), ENTRIES)
    assert repr(await store.load(key())) == repr(ENTRIES)
    await store.append(key(subpath="subagents/a"), ENTRIES)
    assert repr(await store.load(key(subpath="subagents/a"))) == repr(ENTRIES)


async def test_others_see_roles_times_and_ids(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """A transcript reads like any other session."""
    await store.append(key(), [entry("m1", type="assistant", timestamp="2024-01-01T00:00:00.5Z")])
    [message] = await client.messages.list("s1", user=PROJECT).to_list()
    assert (message.message_id, message.role) == ("m1", "assistant")
    assert message.content_type == "application/json"
    assert message.event_time == datetime(2024, 1, 1, 0, 0, 0, 500_000, UTC)


NAMES = [
    "s1",
    "s1/subagents/a",
    "subagents/a",
    Names.of(key("x" * 129)).main,  # What that one is called here.
    " s1",
    "s1 ",
    "S1",
    "s1\n",
    "s1\0",
    "\ud800",
    "x" * 128,
    "x" * 129,
    "x" * 130,
    "ä" * 300,
    "~" + "0" * 32,
    "/",
    "..",
]


async def test_names_of_any_kind_are_kept_apart(store: SojournSessionStore) -> None:
    """Projects, sessions and subpaths: too long, padded, not printable, or much alike."""
    every = [
        *(key(name) for name in NAMES),
        *(key(subpath=name) for name in NAMES),
        *(key("x" * 129, subpath=name) for name in NAMES),
        *(key(project=name) for name in NAMES),
        *(key(project=name * 3) for name in NAMES),
        key(project=""),
    ]
    await asyncio.gather(*(store.append(one, [entry(at=at)]) for at, one in enumerate(every)))
    loaded = await asyncio.gather(*(store.load(one) for one in every))
    assert loaded == [[entry(at=at)] for at in range(len(every))]
    assert {one["session_id"] for one in await store.list_sessions(PROJECT)} == set(NAMES)
    told = await store.list_session_summaries(PROJECT)
    assert {one["session_id"] for one in told} == set(NAMES)
    assert set(await store.list_subkeys({"project_key": PROJECT, "session_id": "s1"})) == set(NAMES)
    for project in (*NAMES, ""):
        assert [one["session_id"] for one in await store.list_sessions(project)] == ["s1"]
    for name in NAMES:
        await store.delete(key("x" * 129, subpath=name))
    assert await store.list_subkeys(key("x" * 129)) == []
    assert await store.load(key("x" * 129)) is not None
    assert await store.load(key(subpath="s1")) is not None


async def test_a_uuid_counts_once(store: SojournSessionStore) -> None:
    """Again, in the same batch, or with other content: the first one stays."""
    for named in (key(), key(subpath="subagents/a")):
        await store.append(named, numbered([1, 1, 2]))
        await store.append(named, numbered([2, 3]))
        await store.append(named, [*numbered([1, 4, 3], other=True), *numbered([5])])
        await store.append(named, numbered([1, 2, 3]))
        expected = [*numbered([1, 2, 3]), *numbered([4], other=True), *numbered([5])]
        assert await store.load(named) == expected
        await store.append(named, [entry(title="t")] * 2)
        await store.append(named, [entry(title="t")])
        assert await store.load(named) == [*expected, *[entry(title="t")] * 3]


LARGE = "p" * 1_500_000


async def test_a_batch_of_any_size_is_seen_whole_or_not_at_all(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """Above 1,000 entries, above 4 MiB, and with entries above 1 MiB."""
    many = numbered(range(1_001))
    large = [*numbered([1]), entry("big1", p=LARGE), entry("big2", p=LARGE), entry(p=LARGE)]
    for named, batch in ((key(), large), (key(subpath="subagents/a"), many)):
        await store.append(named, numbered([-1]))
        seen = set()
        writing = asyncio.create_task(store.append(named, batch))
        while not writing.done():
            seen.add((await client.sessions.get(store.names(named))).message_count)
        await writing
        after = (await client.sessions.get(store.names(named))).message_count
        assert seen <= {1, after}
        await store.append(named, [*batch[:3], *numbered([-2])])
        assert await store.load(named) == [*numbered([-1]), *batch, *numbered([-2])]
    assert await summary(store) == await folded(store, key())


async def test_a_refused_batch_leaves_nothing(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """What JSON does not know, or a quota: neither entries nor a summary."""
    await store.append(key(), [entry("a", customTitle="before")])
    with pytest.raises(TypeError):
        await store.append(key(), [entry("b", customTitle="never"), entry("c", x=object())])
    await client.apps.update(policy=sojourn.Policy(max_messages_per_session=3))
    with pytest.raises(QuotaExceededError):
        await store.append(key(), numbered(range(3), customTitle="never"))
    assert await store.load(key()) == [entry("a", customTitle="before")]
    assert (await summary(store))["custom_title"] == "before"


async def test_an_empty_append_makes_nothing(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    await store.append(key(), [])
    await store.append(key(subpath="subagents/a"), [])
    assert await client.sessions.list(status="any").to_list() == []
    assert await store.load(key()) is None


# --- summaries --------------------------------------------------------------------------------


async def test_two_writers_lose_neither_entries_nor_the_summary(
    stores: list[SojournSessionStore],
) -> None:
    """Each append folds what was there before it: the summary is that of the order stored."""
    dice = random.Random(7)
    fields = ("customTitle", "aiTitle", "summary", "gitBranch", "lastPrompt", "cwd")
    batches = [
        [entry(f"u{n}-{m}", n=n, **{dice.choice(fields): f"{n}-{m}"}) for m in range(3)]
        for n in range(24)
    ]
    await asyncio.gather(*(stores[n % 2].append(key(), batch) for n, batch in enumerate(batches)))
    loaded = await stores[0].load(key())
    assert loaded is not None
    found: Any = [loaded[at : at + 3] for at in range(0, len(loaded), 3)]
    assert sorted(found, key=lambda batch: batch[0]["n"]) == batches
    for store in stores:
        assert await summary(store) == await folded(store, key())


async def test_what_comes_again_turns_no_summary_back(store: SojournSessionStore) -> None:
    """An older batch that is delivered again does not bring its title back."""
    old, new = entry("a", customTitle="old"), entry("b", customTitle="new")
    await store.append(key(), [old])
    await store.append(key(), [new])
    await store.append(key(), [old, entry("c", aiTitle="of the machine")])
    await store.append(key(), [old])
    assert await store.load(key()) == [old, new, entry("c", aiTitle="of the machine")]
    found = await summary(store)
    assert (found["custom_title"], found["ai_title"]) == ("new", "of the machine")
    assert found == await folded(store, key())


@pytest.mark.parametrize(
    "batch", [numbered(range(1, 6), p="p" * 900_000), numbered([0, 1])], ids=["large", "known"]
)
async def test_a_summary_that_was_not_finished_is_not_shown_and_mended(
    store: SojournSessionStore, monkeypatch: pytest.MonkeyPatch, batch: list[Any]
) -> None:
    """A process dies between the entries of a large or a repeated batch and their summary."""
    await store.append(key(), [*numbered([0]), entry("f", customTitle="first")])

    async def dies(*_: object) -> None:
        raise ConnectionError

    batch = [*batch, entry("t", customTitle="last")]
    with monkeypatch.context() as patch:
        patch.setattr(store, "_summarize", dies)
        with pytest.raises(ConnectionError):
            await store.append(key(), batch)
    named = {"u0", "f"} | {one["uuid"] for one in batch}
    assert len(await store.load(key()) or []) == len(named)
    assert await store.list_session_summaries(PROJECT) == []
    assert [one["session_id"] for one in await store.list_sessions(PROJECT)] == ["s1"]
    await store.append(key(), [entry("z", aiTitle="more")])
    assert await summary(store) == await folded(store, key())
    assert (await summary(store))["custom_title"] == "last"


async def test_a_summary_that_is_too_large_costs_no_entry(store: SojournSessionStore) -> None:
    """The SDK then loads the transcript when it lists."""
    await store.append(key(), [entry("a", lastPrompt="x" * 300_000)])
    await store.append(key(), [entry("b", lastPrompt="short")])
    assert len(await store.load(key()) or []) == 2
    assert await store.list_session_summaries(PROJECT) == []
    assert [one["session_id"] for one in await store.list_sessions(PROJECT)] == ["s1"]


async def test_times_are_the_servers_and_the_same_in_both_lists(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """They move with each append, and with a label or an edit by others; not with a touch."""
    made = []

    async def times() -> dict[str, int]:
        listed = {one["session_id"]: one["mtime"] for one in await store.list_sessions(PROJECT)}
        told = await store.list_session_summaries(PROJECT)
        assert {one["session_id"]: one["mtime"] for one in told} == listed
        made.append(listed)
        return listed

    for name in ("a", "b"):
        await store.append(key(name), [entry(timestamp="2001-01-01T00:00:00Z")])
    first = await times()
    server = (await client.sessions.get(store.names(key("a")))).update_time
    assert first["a"] == int(server.timestamp() * 1_000)
    await asyncio.sleep(0.002)
    await store.append(key("a"), [entry()])
    second = await times()
    assert second["a"] > first["a"]
    assert second["a"] > second["b"] == first["b"]
    await client.sessions.touch(store.names(key("b")))
    await store.append(key("b", "subagents/x"), [entry()])
    assert (await times())["b"] == first["b"]
    await asyncio.sleep(0.002)
    await client.sessions.update(store.names(key("b")), labels={"seen": "yes"})
    assert (await times())["b"] > second["a"]


# --- cancellation, addresses ----------------------------------------------------------------------


async def test_a_cancelled_append_waits_for_its_outcome(
    store: SojournSessionStore, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK gives up after a time: what was sent is stored or not, but not still on its way."""
    append, sent, go_on = client.messages.append, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **fields: Any) -> Any:
        sent.set()
        await go_on.wait()
        return await append(*args, **fields)

    monkeypatch.setattr(client.messages, "append", slow)

    async def write(scope: anyio.CancelScope) -> None:
        with scope:
            await store.append(key(), numbered([1]))

    scope = anyio.CancelScope()
    task = asyncio.create_task(write(scope))
    await sent.wait()
    scope.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await task
    assert await store.load(key()) == numbered([1])
    sent.clear()
    go_on.clear()
    task = asyncio.create_task(store.append(key(), numbered([2])))
    await sent.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.load(key()) == numbered([1, 2])


def test_a_store_is_made_of_an_address_and_used_in_many_loops(place: Place, app: str) -> None:
    """One line, as in the how-to; a program that runs each call in a loop of its own."""
    store = SojournSessionStore(f"sojourn://{place.target}", app=app)

    async def write(number: int) -> None:
        async with store:
            await store.append(key(), numbered([number]))

    for number in range(3):
        asyncio.run(write(number))

    async def read() -> Any:
        async with store:
            assert store.names(key()) == sojourn.SessionKey(app, PROJECT, "s1")
            return await store.load(key())

    assert asyncio.run(read()) == numbered(range(3))


async def test_halves_of_letters_in_a_summary(store: SojournSessionStore) -> None:
    """A text that was cut in the midst of an emoji, as JavaScript does it."""
    await store.append(key(), [entry("a", lastPrompt="cut \ud83d", cwd="/here")])
    await store.append(key(), [entry("b", aiTitle="whole")])
    expected = {"last_prompt": "cut \ud83d", "cwd": "/here", "ai_title": "whole"}
    assert expected.items() <= (await summary(store)).items()
    assert await summary(store) == await folded(store, key())
