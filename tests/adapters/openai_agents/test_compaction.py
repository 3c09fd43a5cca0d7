"""The SDK's sessions that compact and encrypt, around sessions in Sojourn, on both stores.

After the behaviour that tests/memory/test_compaction_suffix.py, test_sqlalchemy_compaction.py and
tests/extensions/memory/test_encrypt_session.py of openai-agents 0.24 ask of what is underneath.
Left out is what is about the wrappers alone: keys, budgets, thresholds, which items a compaction
may split; and one thing that Sojourn does not do, see `test_what_expired_before_what_is_kept`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agents import Agent, TResponseInputItem
from agents.extensions.memory import EncryptedSession, encrypt_session
from agents.memory import OpenAIResponsesCompactionSession, SessionSettings
from agents.memory import session as sdk
from cryptography import fernet

import sojourn
from sojourn.adapters import _items as things
from sojourn.adapters.openai_agents import SojournSession
from sojourn.errors import StoreUnavailableError
from tests.adapters.openai_agents.kit import assistant, run, said, talker, user, users

SUMMARY = cast("TResponseInputItem", {"type": "compaction", "id": "c", "encrypted_content": "sum"})
KEY = "a key for tests"


class OpenAI:
    """Stands for OpenAI's client: answers every compaction with a summary."""

    def __init__(self, meanwhile: Callable[[], Any] | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.output: list[TResponseInputItem] = [SUMMARY]
        self._meanwhile = meanwhile
        self.responses = SimpleNamespace(compact=self._compact)

    async def _compact(self, **fields: Any) -> Any:
        self.asked.append(fields)
        if self._meanwhile is not None:
            await self._meanwhile()
        return SimpleNamespace(output=self.output)


def compacting(inner: Any, openai: OpenAI, **fields: Any) -> OpenAIResponsesCompactionSession:
    """A session that compacts after each run."""
    given: dict[str, Any] = {"compaction_mode": "input", "client": openai}
    given["should_trigger_compaction"] = lambda _: True
    return OpenAIResponsesCompactionSession("s", inner, **(given | fields))


def encrypted(inner: Any, **fields: Any) -> EncryptedSession:
    """A session that encrypts what it stores."""
    return EncryptedSession("s", inner, **({"encryption_key": KEY} | fields))


async def turn(session: Any, agent: Agent[Any] | None = None, limit: int | None = 1) -> None:
    """One run that reads the newest item only, so that it may compact no more than its own."""
    settings = SessionSettings(limit=limit)
    await run("run", agent or talker("done")[0], "continue", session, session_settings=settings)


@pytest.fixture
def session(client: sojourn.AsyncClient) -> SojournSession:
    """A session that nobody has used yet."""
    return SojournSession("s", client)


async def test_what_a_run_saw_is_compacted_and_what_is_older_stays(session: SojournSession) -> None:
    await session.add_items(users(range(4)))
    openai = OpenAI()
    await turn(compacting(session, openai))
    assert said(openai.asked[0]["input"]) == ["3", "continue", "done"]
    assert said(await session.get_items()) == ["0", "1", "2", "compaction"]
    await turn(compacting(session, openai), limit=None)
    assert await session.get_items() == [SUMMARY]


async def test_nothing_is_compacted_when_somebody_wrote_meanwhile(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    await session.add_items(users(range(4)))

    async def append() -> None:
        await SojournSession("s", client).add_items([user("newer")])

    await turn(compacting(session, OpenAI(append)))
    assert said(await session.get_items()) == ["0", "1", "2", "3", "continue", "done", "newer"]


async def test_nothing_is_compacted_when_somebody_popped_meanwhile(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    """Also when as many items are there again: sequences are not given twice."""
    await session.add_items(users(range(4)))

    async def undo() -> None:
        other = SojournSession("s", client)
        item = await other.pop_item()
        assert item is not None
        await other.add_items([item])

    await turn(compacting(session, OpenAI(undo)))
    assert said(await session.get_items()) == ["0", "1", "2", "3", "continue", "done"]


@pytest.mark.parametrize("gone", ["reset", "end", "delete"])
async def test_nothing_is_compacted_of_what_is_gone(
    session: SojournSession, client: sojourn.AsyncClient, gone: str
) -> None:
    await session.add_items(users(range(4)))

    async def away() -> None:
        await getattr(client.sessions, gone)("s")

    await turn(compacting(session, OpenAI(away)))
    assert await session.get_items() == []


async def test_labels_and_state_do_not_keep_from_compacting(
    session: SojournSession, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.add_items(users(range(4)))
    real = client.messages.replace
    times = 0

    async def labelled_before(*args: Any, **fields: Any) -> Any:
        nonlocal times
        times += 1
        if times == 1:
            await client.sessions.update("s", labels={"tier": "gold"}, state={"k": 1})
        return await real(*args, **fields)

    monkeypatch.setattr(client.messages, "replace", labelled_before)
    await turn(compacting(session, OpenAI()))
    assert said(await session.get_items()) == ["0", "1", "2", "compaction"]
    assert times == 2


async def test_a_response_chain_is_not_compacted_in_part(session: SojournSession) -> None:
    await session.add_items(users(range(4)))
    openai = OpenAI()
    await turn(compacting(session, openai, compaction_mode="previous_response_id"))
    assert openai.asked == []
    assert len(await session.get_items()) == 6


async def test_a_call_and_its_output_stay_together(session: SojournSession) -> None:
    history = cast(
        "list[TResponseInputItem]",
        [
            {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "found"},
        ],
    )
    await session.add_items(history)
    await turn(compacting(session, OpenAI()))
    assert await session.get_items() == [*history, SUMMARY]


async def test_a_refused_replacement_leaves_all_as_it_was(
    session: SojournSession, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.add_items(users(range(4)))

    async def refuses(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(client.messages, "replace", refuses)
    with pytest.raises(StoreUnavailableError):
        await turn(compacting(session, OpenAI()))
    assert said(await session.get_items()) == ["0", "1", "2", "3", "continue", "done"]


async def test_a_cancelled_replacement_is_over_before_the_next_write(
    session: SojournSession, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.add_items(users(range(4)))
    begun, go_on = asyncio.Event(), asyncio.Event()
    real = client.messages.replace

    async def slow(*args: Any, **fields: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await real(*args, **fields)

    monkeypatch.setattr(client.messages, "replace", slow)
    outer = compacting(session, OpenAI())
    running = asyncio.create_task(turn(outer))
    await begun.wait()
    running.cancel()
    appending = asyncio.create_task(outer.add_items([user("newer")]))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    assert not appending.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await appending
    assert said(await session.get_items()) == ["0", "1", "2", "compaction", "newer"]


# --- the hook itself --------------------------------------------------------------------------


async def test_more_than_a_thousand_items_are_replaced_at_once(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    await session.add_items(users(range(1_300)))
    snapshot = await session._get_compaction_snapshot(1_200)
    assert snapshot is not None
    assert not snapshot.complete
    assert said(snapshot.items) == [*map(str, range(100, 1_300))]
    looker, seen = SojournSession("s", client), set()
    replacing = asyncio.ensure_future(
        snapshot.replace_suffix(50, [user(f"new {n}") for n in range(1_100)])
    )
    while not replacing.done():
        seen.add((len(await looker.get_items()), said(await looker.get_items(1))[0]))
        await asyncio.sleep(0.05)
    assert await replacing
    assert seen <= {(1_300, "1299"), (1_250, "1299"), (1_300, "new 1099"), (1_250, "new 1099")}
    assert said(await session.get_items()) == [
        *map(str, range(150)),
        *(f"new {n}" for n in range(1_100)),
    ]
    # What it found is not there any more.
    assert not await snapshot.replace_suffix(50, [])


async def test_items_of_several_parts_are_replaced_whole(session: SojournSession) -> None:
    large = [user(f"{n}{'x' * (2 * things.PART_BYTES)}") for n in range(3)]
    await session.add_items([*large, user("small")])
    snapshot = await session._get_compaction_snapshot(3)
    assert snapshot is not None
    assert snapshot.items == [*large[1:], user("small")]
    assert await snapshot.replace_suffix(1, [assistant("y" * things.PART_BYTES)])
    assert await session.get_items() == [*large[:2], assistant("y" * things.PART_BYTES)]


async def test_a_snapshot_knows_whether_it_is_all(session: SojournSession) -> None:
    nothing = await session._get_compaction_snapshot(3)
    assert nothing is not None
    assert (nothing.items, nothing.complete) == ([], True)
    assert not await nothing.replace_suffix(0, [user("a")])
    await session.add_items(users(range(3)))
    for limit, complete in ((2, False), (3, True), (4, True)):
        snapshot = await session._get_compaction_snapshot(limit)
        assert snapshot is not None
        assert (len(snapshot.items), snapshot.complete) == (min(limit, 3), complete)
        assert not await snapshot.replace_suffix(3, [user("a")])
    assert said(await session.get_items()) == ["0", "1", "2"]


async def test_there_is_no_snapshot_of_what_is_not_only_items(
    session: SojournSession, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.add_items(users(range(3)))

    class Own(SojournSession):
        """May store something else than it returns."""

    assert await Own("s", client)._get_compaction_snapshot(3) is None
    assert not await Own("s", client)._atomic_replace_items([])
    await client.messages.append("s", sojourn.NewMessage("operator", "a note"))
    assert await session._get_compaction_snapshot(3) is None
    assert await session.pop_item() == user("2")
    assert await session._get_compaction_snapshot(3) is not None
    monkeypatch.delattr(sdk, "_CompactionSnapshot")
    assert await session._get_compaction_snapshot(3) is None


async def test_a_forced_compaction_replaces_all_at_once(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    looker, seen = SojournSession("s", client), set()
    await session.add_items(users(range(1_050)))
    openai = OpenAI()
    openai.output = users(range(1_010))
    forced = asyncio.ensure_future(compacting(session, openai).run_compaction({"force": True}))
    while not forced.done():
        seen.add(len(await looker.get_items()))
        await asyncio.sleep(0.05)
    await forced
    assert seen <= {1_050, 1_010}
    assert await session.get_items() == openai.output
    # Also of what is not there, or has ended.
    await client.sessions.end("s")
    assert await session._atomic_replace_items([])
    assert await session._atomic_replace_items(users("a"))
    assert said(await session.get_items()) == ["a"]


# --- encryption -------------------------------------------------------------------------------


async def test_what_is_encrypted_is_nobodys_to_read(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    outer = encrypted(session)
    agent, model = talker("the answer", "and again")
    await run("run", agent, "a secret", outer)
    stored = cast("list[dict[str, Any]]", await session.get_items())
    assert [item["__enc__"] for item in stored] == [1, 1]
    raw = b"".join([one.payload async for one in client.messages.list("s")])
    assert b"secret" not in raw
    assert b"answer" not in raw
    await run("run", agent, "and?", outer)
    assert said(cast("list[Any]", model.calls[1].input)) == ["a secret", "the answer", "and?"]
    assert await encrypted(session, encryption_key="another").get_items() == []
    assert said(await outer.get_items(limit=1)) == ["and again"]
    popped = await outer.pop_item()
    assert popped is not None
    assert said([popped]) == ["and again"]
    await outer.clear_session()
    assert await session.get_items() == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time by which encrypted items expire."""
    now = [1_000]
    for module in (fernet, encrypt_session):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now[0]))
    return now


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("expired", [1, 40])
async def test_what_expired_goes_with_a_compaction(
    session: SojournSession, clock: list[int], outside: bool, expired: int
) -> None:
    openai = OpenAI()
    outer: Any = (
        encrypted(compacting(session, openai), ttl=10)
        if outside
        else compacting(encrypted(session, ttl=10), openai)
    )
    await outer.add_items(users(["old"] * expired))
    clock[0] += 11
    await outer.add_items(users(range(20)))
    assert len(await session.get_items()) == expired + 20
    await turn(outer, limit=None)
    assert said(openai.asked[0]["input"]) == [*map(str, range(20)), "continue", "done"]
    assert await outer.get_items() == [SUMMARY]
    assert len(await session.get_items()) == 1


async def test_what_expired_before_what_is_kept_stays(
    session: SojournSession, clock: list[int]
) -> None:
    """The SDK's own stores remove it, too. Here a history is cut off at its end only."""
    outer = compacting(encrypted(session, ttl=10), OpenAI())
    await outer.add_items(users(["old"] * 3))
    clock[0] += 11
    await outer.add_items(users(range(3)))
    await turn(outer)
    assert said(await outer.get_items()) == ["0", "1", "compaction"]
    assert len(await session.get_items()) == 6


async def test_a_refused_replacement_leaves_what_was_encrypted(
    session: SojournSession, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = encrypted(compacting(session, OpenAI()))
    await outer.add_items(users(range(4)))

    async def refuses(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("the store is away")

    stored = await session.get_items()
    monkeypatch.setattr(client.messages, "replace", refuses)
    with pytest.raises(StoreUnavailableError):
        await turn(outer)
    assert json.dumps((await session.get_items())[:4]) == json.dumps(stored)
    assert said(await outer.get_items()) == ["0", "1", "2", "3", "continue", "done"]
