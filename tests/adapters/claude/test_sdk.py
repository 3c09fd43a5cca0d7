"""The SDK itself with a store in Sojourn: its agent loop, its helpers, its conformance tests.

Agents are real but for the model: `stub_cli.py` stands in for the `claude` command.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    MirrorErrorMessage,
    ResultMessage,
    SessionKey,
    SessionStore,
    SessionStoreEntry,
    import_session_to_store,
    list_sessions_from_store,
    query,
)
from claude_agent_sdk.testing import run_session_store_conformance

import sojourn
from sojourn.adapters.claude import SojournSessionStore
from tests.acceptance.kit import Place
from tests.adapters.claude.kit import Machine, entry


async def ask(options: ClaudeAgentOptions, prompt: str) -> ResultMessage:
    """One run of an agent."""
    results = []
    async for message in query(prompt=prompt, options=options):
        assert not isinstance(message, MirrorErrorMessage), message
        if isinstance(message, ResultMessage):
            results.append(message)
    [result] = results
    return result


async def test_the_published_conformance_function_passes(place: Place, app: str) -> None:
    """All 14 contracts: no method is skipped."""
    made: list[str] = []
    async with place.client("unused") as client:

        async def make() -> SessionStore:
            made.append(f"{app}-{len(made)}")
            return SojournSessionStore(client, app=made[-1])

        await run_session_store_conformance(make, skip_optional=frozenset())
    assert len(made) >= 14


async def test_an_agent_is_resumed_on_another_machine(
    store: SojournSessionStore, machine: Machine
) -> None:
    """What one machine's agent wrote is there for another, and grows."""
    first = await ask(machine.options(store), "we need tea")
    second = await ask(machine.options(store, resume=first.session_id), "and milk")
    assert second.session_id == first.session_id
    assert second.result == "before: ['we need tea'], helpers: []"
    # The copy that the SDK wrote for the second run is gone: only Sojourn knows of it.
    third = await ask(machine.options(store, continue_conversation=True), "what?")
    assert third.result == "before: ['we need tea', 'and milk'], helpers: []"
    [listed] = await list_sessions_from_store(store, directory=str(machine.folder))
    assert listed.session_id == first.session_id
    assert (listed.first_prompt, listed.summary) == ("we need tea", "what?")
    assert (listed.git_branch, listed.cwd) == ("main", str(machine.folder))
    loaded = await store.load(machine.key(first.session_id))
    assert loaded is not None
    assert [one["type"] for one in loaded] == ["user", "assistant", "last-prompt"] * 3


async def test_a_client_of_many_turns_and_its_helpers(
    store: SojournSessionStore, machine: Machine
) -> None:
    """Each turn is stored when its result is seen; helpers come along at resume."""
    session_id = ""
    async with ClaudeSDKClient(machine.options(store)) as agent:
        for number in range(3):
            await agent.query(f"delegate task {number}")
            async for message in agent.receive_response():
                assert not isinstance(message, MirrorErrorMessage)
                if isinstance(message, ResultMessage):
                    session_id = message.session_id
            loaded = await store.load(machine.key(session_id))
            assert loaded is not None
            assert len(loaded) == 3 * (number + 1)
    assert await store.list_subkeys(machine.key(session_id)) == ["subagents/agent-scout"]
    sub = await store.load(machine.key(session_id, "subagents/agent-scout"))
    assert sub is not None
    assert [one["type"] for one in sub] == ["agent_metadata", "user", "assistant"] * 3
    resumed = await ask(machine.options(store, resume=session_id), "thanks")
    before = ", ".join(f"'delegate task {number}'" for number in range(3))
    assert resumed.result == f"before: [{before}], helpers: ['agent-scout']"


async def test_pictures_and_long_histories_come_back(
    store: SojournSessionStore, machine: Machine
) -> None:
    """An entry above 1 MiB, and a transcript of many pages."""
    first = await ask(machine.options(store, max_buffer_size=2**24), "picture 2500")
    key = machine.key(first.session_id)
    text = [entry(str(uuid.uuid4()), type="note", text="y" * 20_000) for _ in range(150)]
    await store.append(key, text)
    second = await ask(machine.options(store, resume=first.session_id), "still there?")
    assert second.result == "before: ['picture 2500', 'a picture'], helpers: []"
    loaded = await store.load(key)
    assert loaded is not None
    assert loaded[4:154] == text
    [picture] = [one for one in loaded if "picture" in one]
    assert len(json.dumps(picture)) > 2_500 * 1024


async def test_eager_flushes_lose_and_repeat_nothing(
    store: SojournSessionStore, machine: Machine
) -> None:
    """Each frame is an append of its own, behind the agent's back."""
    options = machine.options(store, session_store_flush="eager")
    result = await ask(options, "delegate a task")
    path = machine.config / "projects" / machine.project_key / f"{result.session_id}.jsonl"
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert await store.load(machine.key(result.session_id)) == written


class LostAnswers(SojournSessionStore):
    """Loses the answer of every first append."""

    calls = itertools.count()

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        await super().append(key, entries)
        if next(self.calls) % 2 == 0:
            raise ConnectionError("the answer was lost")


async def test_a_lost_answer_doubles_nothing(client: sojourn.AsyncClient, machine: Machine) -> None:
    """The SDK appends a batch again when it hears nothing: entries with a uuid count once."""
    store = LostAnswers(client)
    result = await ask(machine.options(store), "once")
    loaded = await store.load(machine.key(result.session_id))
    assert loaded is not None
    # The last one has no uuid: the SDK wants such entries kept each time.
    assert [one["type"] for one in loaded] == ["user", "assistant", "last-prompt", "last-prompt"]


async def test_agents_on_two_machines_at_once(
    place: Place, client: sojourn.AsyncClient, machine: Machine
) -> None:
    """Several processes write transcripts of one project at the same time."""
    async with place.client(client.app) as other:
        stores = [SojournSessionStore(one) for one in (client, other) for _ in range(2)]
        results = await asyncio.gather(
            *(
                ask(machine.options(store), f"delegate {number}")
                for number, store in enumerate(stores)
            )
        )
        listed = await list_sessions_from_store(stores[0], directory=str(machine.folder))
    assert {one.session_id for one in listed} == {one.session_id for one in results}
    assert {one.first_prompt for one in listed} == {f"delegate {n}" for n in range(4)}


async def test_a_local_transcript_is_imported_twice(
    store: SojournSessionStore, machine: Machine
) -> None:
    """What was on the disk before is taken in; taking it in again changes nothing."""
    session_id = str(uuid.uuid4())
    folder = machine.config / "projects" / machine.project_key

    def write(path: Path, entries: list[Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(one) + "\n\n" for one in entries))

    main = [entry(f"m{n}", customTitle=f"title {n}") for n in range(1_203)]
    sub = [entry(f"s{n}") for n in range(3)]
    write(folder / f"{session_id}.jsonl", main)
    write(folder / session_id / "subagents" / "flows" / "agent-1.jsonl", sub)
    (folder / session_id / "subagents" / "flows" / "agent-1.meta.json").write_text('{"a": 1}')
    for batch_size in (500, 1_100):
        await import_session_to_store(
            session_id, store, directory=str(machine.folder), batch_size=batch_size
        )
        assert await store.load(machine.key(session_id)) == main
        [listed] = await list_sessions_from_store(store, directory=str(machine.folder))
        assert listed.custom_title == "title 1202"
    [subkey] = await store.list_subkeys(machine.key(session_id))
    assert subkey == "subagents/flows/agent-1"
    stored = await store.load(machine.key(session_id, subkey))
    assert stored == [*sub, *[entry(type="agent_metadata", a=1)] * 2]


async def test_a_server_that_is_away_is_told_and_stops_no_agent(machine: Machine) -> None:
    """The agent goes on; the caller sees a `MirrorErrorMessage`, and `resume` raises."""
    options = sojourn.RetryOptions(max_attempts=1)
    async with sojourn.AsyncClient("127.0.0.1:9", app="a", deadline=1, retry=options) as client:
        store = SojournSessionStore(client)
        messages = [message async for message in query(prompt="hi", options=machine.options(store))]
        assert any(isinstance(message, MirrorErrorMessage) for message in messages)
        assert isinstance(messages[-1], ResultMessage) or any(
            isinstance(message, ResultMessage) for message in messages
        )
        again = machine.options(store, resume=str(uuid.uuid4()))
        with pytest.raises(RuntimeError, match="during resume"):
            await ask(again, "hi")
