"""The SDK's published tests of session stores, by behaviour, with a store in Sojourn.

After claude-agent-sdk-python's `tests/test_session_helpers_store.py`, `test_session_summary.py`,
`test_session_resume.py`, `test_transcript_mirror.py`, `test_session_import.py` and
`test_example_postgres_session_store.py`, as of version 0.2.186. Left out:

| left out | why |
|---|---|
| stores that lack methods, that hang, fail or return what is no JSON | of the SDK, not of a store |
| validation of options, of session ids; project keys; flags of the command | as above |
| credentials and settings in the home that is laid out for resume, and its time-outs | as above |
| the batcher's order, coalescing, thresholds, back-off, cancelled waiters | as above |
| `load_range`, checks of a whole file before its import | not in this version of the SDK |
| names of tables, part files, lists and keys in PostgreSQL, S3 and Redis | of those stores |

What is there beside this file: `test_sdk.py` has import, eager flushes and lost answers.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    SessionStoreEntry,
    delete_session_via_store,
    fork_session_via_store,
    get_session_info_from_store,
    get_session_messages_from_store,
    get_subagent_messages_from_store,
    list_sessions_from_store,
    list_subagents_from_store,
    rename_session_via_store,
    tag_session_via_store,
)
from claude_agent_sdk._internal.session_resume import materialize_resume_session
from claude_agent_sdk._internal.transcript_mirror_batcher import TranscriptMirrorBatcher

from sojourn.adapters.claude import SojournSessionStore
from tests.adapters.claude.kit import Machine, entry


def spoken(
    role: str, text: str, session_id: str, parent: str | None, **more: Any
) -> SessionStoreEntry:
    """What one side said."""
    return entry(
        str(uuid.uuid4()),
        type=role,
        parentUuid=parent,
        sessionId=session_id,
        timestamp="2026-02-03T04:05:06.007Z",
        message={"role": role, "content": [{"type": "text", "text": text}]},
        **more,
    )


async def talk(
    store: SojournSessionStore, machine: Machine, pairs: int = 2, subpath: str = "", **more: Any
) -> tuple[str, list[str]]:
    """Write questions and answers; return the session's id and the uuids."""
    session_id = str(more.pop("session_id", uuid.uuid4()))
    written: list[SessionStoreEntry] = []
    for number in range(pairs):
        for role, text in (("user", f"question {number}"), ("assistant", f"answer {number}")):
            parent = written[-1]["uuid"] if written else None
            written.append(spoken(role, text, session_id, parent, **more))
    await store.append(machine.key(session_id, subpath), written)
    return session_id, [one["uuid"] for one in written]


async def listed(store: SojournSessionStore, machine: Machine, **which: Any) -> list[Any]:
    return await list_sessions_from_store(store, directory=str(machine.folder), **which)


async def test_lists_are_sorted_cut_and_without_side_chains(
    store: SojournSessionStore, machine: Machine
) -> None:
    """Newest first; sessions of helpers and those without words take no place in a page."""
    names = []
    for _ in range(4):
        session_id, _ = await talk(store, machine, 1)
        names.append(session_id)
        side = str(uuid.uuid4())
        await store.append(
            machine.key(side), [spoken("user", "inside", side, None, isSidechain=True)]
        )
        await store.append(machine.key(str(uuid.uuid4())), [entry(type="x")])
    found = await listed(store, machine)
    assert {one.session_id for one in found} == set(names)
    assert [one.last_modified for one in found] == sorted(
        (one.last_modified for one in found), reverse=True
    )
    assert {(one.summary, one.first_prompt) for one in found} == {("question 0", "question 0")}
    # Entries without a folder are of the folder that was asked for.
    assert {one.cwd for one in found} == {str(machine.folder)}
    assert [one.session_id for one in await listed(store, machine, limit=2, offset=1)] == [
        one.session_id for one in found[1:3]
    ]
    assert len(await listed(store, machine, limit=3, offset=2)) == 2


async def test_a_list_loads_no_transcript(
    store: SojournSessionStore, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summaries are complete and as new as the list: one call for all, whoever wrote last."""
    first, _ = await talk(store, machine)
    second, _ = await talk(store, machine)
    await rename_session_via_store(store, first, "Tea", directory=str(machine.folder))

    async def never(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(SojournSessionStore, "load", never)
    assert {one.session_id: one.summary for one in await listed(store, machine)} == {
        first: "Tea",
        second: "question 0",
    }


async def test_a_summary_is_what_reading_all_would_say(
    store: SojournSessionStore, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written bit by bit, or found by loading the transcript: the same."""
    session_id = str(uuid.uuid4())

    def said(text: str, **more: Any) -> SessionStoreEntry:
        return spoken("user", text, session_id, None, **more)

    for batch in (
        [said("<command-name>/clear</command-name>", cwd="/work", gitBranch="main")],
        [said("not this one", isMeta=True), said("the first question")],
        [entry(type="x", aiTitle="By a machine"), entry(type="tag", tag="wip")],
        [entry(type="x", customTitle="By hand", gitBranch="feature")],
    ):
        await store.append(machine.key(session_id), batch)
    [incremental] = await listed(store, machine)

    async def unknown(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(SojournSessionStore, "list_session_summaries", unknown)
    [read] = await listed(store, machine)
    read.file_size = None
    assert incremental == read
    assert (read.custom_title, read.tag, read.first_prompt) == (
        "By hand",
        "wip",
        "the first question",
    )


async def test_one_session_its_messages_titles_and_tags(
    store: SojournSessionStore, machine: Machine
) -> None:
    """Reads of one session; entries that are no messages are not among its messages."""
    folder = str(machine.folder)
    session_id, names = await talk(store, machine, 3)
    await rename_session_via_store(store, session_id, "  A title ", directory=folder)
    await tag_session_via_store(store, session_id, "tagged", directory=folder)
    info = await get_session_info_from_store(store, session_id, directory=folder)
    assert info is not None
    assert (info.session_id, info.summary, info.tag) == (session_id, "A title", "tagged")
    assert info.created_at is not None
    messages = await get_session_messages_from_store(store, session_id, directory=folder)
    assert [one.uuid for one in messages] == names
    part = await get_session_messages_from_store(
        store, session_id, directory=folder, limit=2, offset=2
    )
    assert [one.uuid for one in part] == names[2:4]
    await tag_session_via_store(store, session_id, None, directory=folder)
    info = await get_session_info_from_store(store, session_id, directory=folder)
    assert info is not None
    assert info.tag is None
    [told] = await listed(store, machine)
    assert (told.tag, told.custom_title) == (None, "A title")
    other = str(uuid.uuid4())
    assert await get_session_info_from_store(store, other, directory=folder) is None
    assert await get_session_messages_from_store(store, other, directory=folder) == []


async def test_helpers_transcripts(store: SojournSessionStore, machine: Machine) -> None:
    """Listed by the helper's name, wherever below the session; read without their metadata."""
    folder = str(machine.folder)
    session_id, _ = await talk(store, machine)
    deep = "subagents/workflows/run-1/agent-deep"
    for subpath in ("subagents/agent-near", deep, "subagents/flows/agent-near"):
        await talk(store, machine, 1, subpath, session_id=session_id)
    about = entry(type="agent_metadata", agentType="general")
    await store.append(machine.key(session_id, "subagents/agent-near"), [about])
    found = await list_subagents_from_store(store, session_id, directory=folder)
    assert sorted(found) == ["deep", "near"]
    for name in found:
        messages = await get_subagent_messages_from_store(store, session_id, name, directory=folder)
        assert [one.type for one in messages] == ["user", "assistant"]
    assert await list_subagents_from_store(store, "no-uuid", directory=folder) == []


async def test_forks(store: SojournSessionStore, machine: Machine) -> None:
    """A fork has uuids, ids and a title of its own, through a message or whole."""
    folder = str(machine.folder)
    session_id, names = await talk(store, machine, 2)
    replaced = entry(type="content-replacement", sessionId=session_id, replacements=[{"a": 1}])
    title = entry(type="custom-title", customTitle="Tea", sessionId=session_id)
    await store.append(machine.key(session_id), [replaced, title])
    fork = await fork_session_via_store(store, session_id, directory=folder)
    loaded: Any = await store.load(machine.key(fork.session_id))
    spoken_again = [one for one in loaded if one["type"] in ("user", "assistant")]
    assert [one["forkedFrom"]["messageUuid"] for one in spoken_again] == names
    assert not {one["uuid"] for one in loaded} & set(names)
    assert {one["sessionId"] for one in loaded} == {fork.session_id}
    assert [one["parentUuid"] for one in spoken_again] == [
        None,
        *(one["uuid"] for one in spoken_again[:-1]),
    ]
    assert loaded[-1]["customTitle"] == "Tea (fork)"
    [again] = [one for one in loaded if one["type"] == "content-replacement"]
    assert again["replacements"] == [{"a": 1}]
    short = await fork_session_via_store(
        store, session_id, directory=folder, up_to_message_id=names[1], title="Short"
    )
    messages = await get_session_messages_from_store(store, short.session_id, directory=folder)
    assert len(messages) == 2
    titles = {one.session_id: one.summary for one in await listed(store, machine)}
    assert titles == {session_id: "Tea", fork.session_id: "Tea (fork)", short.session_id: "Short"}
    with pytest.raises(FileNotFoundError):
        await fork_session_via_store(store, str(uuid.uuid4()), directory=folder)


async def test_deletes(store: SojournSessionStore, machine: Machine) -> None:
    folder = str(machine.folder)
    session_id, _ = await talk(store, machine)
    other, _ = await talk(store, machine)
    await talk(store, machine, 1, "subagents/agent-x", session_id=session_id)
    await delete_session_via_store(store, session_id, directory=folder)
    assert await store.load(machine.key(session_id)) is None
    assert await list_subagents_from_store(store, session_id, directory=folder) == []
    assert [one.session_id for one in await listed(store, machine)] == [other]
    await delete_session_via_store(store, session_id, directory=folder)


async def test_what_was_mirrored_is_laid_out_for_resume(
    store: SojournSessionStore, machine: Machine
) -> None:
    """Frames of a main transcript and of a helper come back as files, and go away again."""
    session_id = str(uuid.uuid4())
    projects = machine.config / "projects" / machine.project_key
    main = [spoken("user", "hi", session_id, None), entry("a1", type="assistant")]
    sub = [entry("s1", isSidechain=True), entry(type="agent_metadata", agentType="x", n=1)]

    async def no_error(*told: object) -> None:
        raise AssertionError(told)

    batcher = TranscriptMirrorBatcher(
        store=store, projects_dir=str(projects.parent), on_error=no_error
    )
    batcher.enqueue(str(projects / f"{session_id}.jsonl"), main[:1])
    batcher.enqueue(str(projects / session_id / "subagents" / "agent-1.jsonl"), sub)
    batcher.enqueue(str(projects / f"{session_id}.jsonl"), main[1:])
    batcher.enqueue(str(projects / f"{uuid.uuid4()}.jsonl"), [])
    await batcher.close()
    assert len(await store.list_sessions(machine.project_key)) == 1
    laid_out = await materialize_resume_session(machine.options(store, resume=session_id))
    assert laid_out is not None
    folder = laid_out.config_dir / "projects" / machine.project_key

    def lines(path: Path) -> list[Any]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    assert lines(folder / f"{session_id}.jsonl") == main
    assert lines(folder / session_id / "subagents" / "agent-1.jsonl") == sub[:1]
    about = json.loads((folder / session_id / "subagents" / "agent-1.meta.json").read_text())
    assert about == {"agentType": "x", "n": 1}
    await laid_out.cleanup()
    assert not laid_out.config_dir.exists()


async def test_which_session_is_continued(store: SojournSessionStore, machine: Machine) -> None:
    """The one that changed last and is no helper's; none where there is none, or it is empty."""

    async def continued(**which: Any) -> str | None:
        laid_out = await materialize_resume_session(machine.options(store, **which))
        if laid_out is None:
            return None
        await laid_out.cleanup()
        return laid_out.resume_session_id

    assert await continued(continue_conversation=True) is None
    side = str(uuid.uuid4())
    await talk(store, machine, 1, session_id=side, isSidechain=True)
    assert await continued(continue_conversation=True) is None
    first, _ = await talk(store, machine)
    await asyncio.sleep(0.002)  # The SDK's times are in milliseconds.
    second, _ = await talk(store, machine)
    await asyncio.sleep(0.002)
    await store.append(machine.key(side), [entry("last", isSidechain=True)])
    assert await continued(continue_conversation=True) == second
    await store.append(machine.key(first), [entry("later")])
    for _ in range(2):
        assert await continued(continue_conversation=True) == first
    assert await continued(resume=second) == second
    assert await continued() is None
    for unknown in (str(uuid.uuid4()), "../../etc/passwd"):
        assert await continued(resume=unknown) is None
    empty = str(uuid.uuid4())
    await store.append(machine.key(empty), [])
    assert await continued(resume=empty) is None
