"""How transcripts begin, expire and end, and those of helpers with them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import sojourn
from sojourn.adapters import _items as items
from sojourn.adapters.claude import SojournSessionStore
from sojourn.errors import GenerationChangedError
from tests.acceptance.kit import eventually
from tests.adapters.claude.kit import PROJECT, entry, folded, key, numbered, summary

# --- sub-agents ---------------------------------------------------------------------------------


async def test_a_helper_may_be_heard_before_its_main_transcript(
    store: SojournSessionStore,
) -> None:
    sub = key(subpath="subagents/a")
    await store.append(sub, [entry("a")])
    assert await store.load(key()) is None
    assert await store.list_sessions(PROJECT) == []
    assert await store.list_session_summaries(PROJECT) == []
    assert await store.list_subkeys(key()) == ["subagents/a"]
    await store.append(key(), [entry("m", customTitle="t")])
    assert await summary(store) == await folded(store, key())
    assert await store.load(sub) == [entry("a")]
    await store.delete(key())
    assert await store.load(sub) is None
    assert await store.list_subkeys(key()) == []


async def test_many_begin_at_once(
    stores: list[SojournSessionStore], client: sojourn.AsyncClient
) -> None:
    """Two processes write the first entries of a transcript and of its helpers."""
    keys = [key(), key(subpath="subagents/a"), key(subpath="subagents/b")]
    await asyncio.gather(
        *(
            store.append(named, [entry(f"{number}-{at}")])
            for number in range(4)
            for at, store in enumerate(stores)
            for named in keys
        )
    )
    for named in keys:
        loaded = await stores[0].load(named)
        assert sorted(one["uuid"] for one in loaded or []) == [
            f"{n}-{m}" for n in range(4) for m in "01"
        ]
    assert len(await client.sessions.list(status="any").to_list()) == 3


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ended", "expired"])
async def test_what_has_ended_is_gone_and_begins_anew(
    store: SojournSessionStore, client: sojourn.AsyncClient, how: str
) -> None:
    """An operator or a timeout ended the main transcript: its helpers' are gone with it."""
    sub = key(subpath="subagents/a")
    await store.append(key(), [entry("a", customTitle="old")])
    await store.append(sub, [entry("b")])
    main = store.names(key())
    if how == "ended":
        await client.sessions.end(main)
    else:
        await client.sessions.update(main, idle_timeout=0.05)

        async def is_over() -> bool:
            return not (await client.sessions.get(main)).is_active

        await eventually(is_over, "expired")
    assert await store.load(key()) is None
    assert await store.load(sub) is None
    assert await store.list_sessions(PROJECT) == []
    assert await store.list_session_summaries(PROJECT) == []
    assert await store.list_subkeys(key()) == []
    await store.append(sub, [entry("b", again=True)])
    await store.append(key(), [entry("a", again=True)])
    assert await store.load(sub) == [entry("b", again=True)]
    assert await store.load(key()) == [entry("a", again=True)]
    assert "custom_title" not in await summary(store)
    assert len(await client.sessions.list(status="any").to_list()) == 2


async def test_a_helper_of_a_transcript_that_was_replaced_is_gone(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """Somebody else made the main session anew: what its helpers wrote before is not shown."""
    sub = key(subpath="subagents/a")
    await store.append(key(), [entry("a")])
    await store.append(sub, [entry("b")])
    main = store.names(key())
    await client.sessions.end(main)
    await client.sessions.create(
        main.session_id, user=main.user, if_exists=sojourn.IfExists.REPLACE_ENDED
    )
    assert await store.load(sub) is None
    assert await store.list_subkeys(key()) == []
    await store.append(sub, [entry("c")])
    assert await store.load(sub) == [entry("c")]


async def test_nothing_expires_unless_told(client: sojourn.AsyncClient) -> None:
    """A policy's defaults are not asked; the constructor's are for helpers, too."""
    await client.apps.update(policy=sojourn.Policy(default_idle_timeout=timedelta(minutes=1)))
    for_ever = SojournSessionStore(client)
    for_a_day = SojournSessionStore(
        client, labels={"team": "shop"}, idle_timeout=86_400, max_lifetime=timedelta(days=7)
    )
    sub = "subagents/a"
    for name, store in (("s1", for_ever), ("s2", for_a_day)):
        for named in (key(name), key(name, sub)):
            await store.append(named, [entry()])
            found = await client.sessions.get(store.names(named))
            told = store is for_a_day
            assert found.idle_timeout == timedelta(days=told)
            assert found.max_lifetime == timedelta(days=7 * told)
            assert found.labels == ({"team": "shop"} if told else {})
    before = (await client.sessions.get(for_a_day.names(key("s2")))).activity_time
    await for_a_day.append(key("s2", sub), [entry()])
    assert (await client.sessions.get(for_a_day.names(key("s2")))).activity_time > before


async def test_a_reset_leaves_an_empty_transcript(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """An operator cleared the history: nothing is there, also no summary of what was."""
    await store.append(key(), [entry("a", customTitle="old")])
    await client.sessions.reset(store.names(key()), scope=sojourn.ResetScope.HISTORY)
    assert await store.load(key()) is None
    assert await store.list_sessions(PROJECT) == []
    assert await store.list_session_summaries(PROJECT) == []
    await store.append(key(), [entry("a", aiTitle="new")])
    assert await summary(store) == await folded(store, key())
    assert await store.load(key()) == [entry("a", aiTitle="new")]


async def test_a_reset_while_a_transcript_is_read(
    store: SojournSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load begins again: it returns one history, and not the halves of two."""
    await store.append(key(), numbered([1]))
    read, calls = items.newest, []

    async def reset_once(*args: Any, **fields: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise GenerationChangedError("reset")
        return await read(*args, **fields)

    monkeypatch.setattr(items, "newest", reset_once)
    assert await store.load(key()) == numbered([1])
    assert len(calls) == 2


async def test_what_others_append_is_no_entry(
    store: SojournSessionStore, client: sojourn.AsyncClient
) -> None:
    """A note of an operator stands in the history, and is not handed to the SDK."""
    await store.append(key(), numbered([1], customTitle="t"))
    note = sojourn.NewMessage("operator", "looked at it")
    await client.messages.append(store.names(key()), note)
    assert await store.load(key()) == numbered([1], customTitle="t")
    await store.append(key(), numbered([2]))
    assert await store.load(key()) == [*numbered([1], customTitle="t"), *numbered([2])]
    assert await summary(store) == await folded(store, key())
