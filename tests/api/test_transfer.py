"""ExportSessions and ImportSessions: out, into an empty server, and out again is equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.api.transfer import (
    ADMIN,
    APP,
    APPS,
    HISTORY,
    SESSIONS,
    TURNS,
    Place,
    part_of,
    place,
    ref,
    refusal_of,
)
from tests.store.backends import BACKENDS

FAIL, SKIP, RENAME = 1, 2, 3
AIRLINE = Path(__file__).parents[2] / "../shared/data/airline-sessions.jsonl"


@pytest.fixture(params=BACKENDS)
async def here(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def there(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty server on the other store."""
    other = {"sqlite": "postgres", "postgres": "sqlite"}
    of = request.node.callspec.params["here"]
    async with place(other.get(of, "sqlite"), tmp_path) as made:
        yield made


def told(session_id: str, user: str = "ann", **fields: Any) -> Any:
    new = {"user": user, "session_id": session_id, "idle_timeout": {"seconds": 0}, **fields}
    return SESSIONS.CreateSessionRequest(app=APP, session=new)


async def furnish(at: Place) -> None:
    """An app with something of everything."""
    parent = (
        await at.sessions.CreateSession(
            told(
                "parent",
                labels={"tier": "gold", "ort": "München"},
                metadata={"k": '{"a": [1.50, null, "\\u0000ü"]}', "🗝": '"😀"'},
                state={
                    "session": {"set": {"s": "1.0", "null": "null"}},
                    "user": {"set": {"lang": '"de"'}},
                    "app": {"set": {"model": '"x"'}},
                },
                max_lifetime={"seconds": 86_400},
            )
        )
    ).session
    await at.apps.UpdateApp(
        APPS.UpdateAppRequest(
            app=APP,
            labels={"team": "a"},
            policy={"retention": {"seconds": 86_400}, "max_messages_per_session": 50_000},
        )
    )
    token = ""
    for outcome in (1, 2, 2, 0):
        turn = await at.turns.BeginTurn(
            TURNS.BeginTurnRequest(session=ref("parent"), holder="pod", lease={"seconds": 60})
        )
        token = turn.turn_token
        if outcome:
            await at.turns.EndTurn(
                TURNS.EndTurnRequest(app=APP, turn_token=token, outcome=outcome, error="schlecht")
            )
    await at.sessions.CreateSession(
        told("by-turn", parent_uid=parent.uid, ephemeral={"turn_token": token})
    )
    await at.sessions.CreateSession(
        told("by-lease", parent_uid=parent.uid, ephemeral={"lease": {"seconds": 3_600}})
    )
    await at.append(
        "parent",
        [
            {"role": "user", "content": "", "message_id": "m 1"},
            {"role": "tool", "payload": b"\0\xff", "content_type": "x/y"},
            {"role": "assistant", "content": "😀 ü", "event_time": {"seconds": -5, "nanos": 7}},
            {"role": "user", "metadata": {"k": "[]"}},
        ],
    )
    await at.history.PopMessages(HISTORY.PopMessagesRequest(session=ref("parent"), count=1))
    await at.sessions.UpdateSession(
        SESSIONS.UpdateSessionRequest(
            session=ref("parent"),
            metrics={"requests": 3, "errors": 1, "counters": {"tokens": 5, "left": -7}},
        )
    )
    await at.sessions.ForkSession(
        SESSIONS.ForkSessionRequest(session=ref("parent"), session_id="fork", through_sequence=2)
    )
    await at.sessions.CreateSession(told("done", user=""))
    await at.append("done", [{"role": "user", "content": "x"}], user="")
    await at.sessions.EndSession(
        SESSIONS.EndSessionRequest(
            session=ref("done", ""), status=3, reason="Grund", result='{"ok": false}'
        )
    )
    await at.sessions.CreateSession(told("reset"))
    await at.append("reset", [{"role": "user", "content": "x"}])
    await at.sessions.ResetSession(
        SESSIONS.ResetSessionRequest(
            session=ref("reset"), reason="von vorn", backup_session_id="backup"
        )
    )
    await at.apps.UpdateState(
        APPS.UpdateStateRequest(app=APP, user="nobody's", patch={"set": {"a": "1"}})
    )


async def fill(at: Place, session_id: str, count: int) -> None:
    await at.sessions.CreateSession(told(session_id))
    for _ in range(0, count, 1_000):
        await at.append(session_id, [{"role": "user", "content": "some text"}] * 1_000)


async def test_out_into_an_empty_server_and_out_again_is_equal(
    here: Place, there: Place, request: pytest.FixtureRequest
) -> None:
    long = 20_000 if request.node.callspec.params["here"] == "sqlite" else 2_000
    await furnish(here)
    await fill(here, "long", long)
    lines = await here.export()
    kinds = [part_of(line).WhichOneof("part") for line in lines]
    assert kinds[:3] == ["app", "user", "user"]
    assert kinds.count("session") == 8
    taken = await there.take_in(lines)
    assert (taken.sessions, taken.messages) == (8, long + 7)
    assert (taken.skipped, taken.renamed) == (0, 0)
    again = await there.export()
    assert again == lines
    assert all(len(part_of(line).SerializeToString()) <= 1 << 20 for line in lines)
    read = await there.sessions.GetSession(
        SESSIONS.GetSessionRequest(session=ref("long"), last_messages=1)
    )
    assert (read.session.message_count, read.messages[0].sequence) == (long, long)
    begun = await there.turns.BeginTurn(TURNS.BeginTurnRequest(session=ref("parent")))
    assert begun.turn.number == 5, "turns are counted on"
    assert begun.session.last_sequence == 4, "no sequence comes twice"
    app = await there.apps.GetApp(APPS.GetAppRequest(app=APP))
    assert app.app.policy.max_messages_per_session == 50_000


async def test_real_sessions_come_back_as_they_were(here: Place, there: Place) -> None:
    if not AIRLINE.exists():
        pytest.skip("there are no recorded sessions beside the repository")
    count = 0
    for line in AIRLINE.read_text(encoding="utf-8").splitlines()[:40]:
        session = json.loads(line)
        await here.sessions.CreateSession(told(session["session_id"], session["user"]))
        messages = [
            {"role": each["role"], "content": each["content"], "payload": json.dumps(each).encode()}
            for each in session["messages"]
        ]
        count += len(messages)
        await here.append(session["session_id"], messages, session["user"])
    lines = await here.export()
    assert (await there.take_in(lines)).messages == count
    assert await there.export() == lines


async def test_an_empty_app_and_one_that_is_not_there(here: Place, there: Place) -> None:
    assert await here.export() == []
    done = await there.take_in([])
    assert (done.sessions, done.revision) == (0, 0)
    await here.apps.UpdateState(APPS.UpdateStateRequest(app=APP, patch={"set": {"a": "1"}}))
    lines = await here.export()
    await there.take_in(lines)
    assert await there.export() == lines


async def test_an_export_of_some(here: Place) -> None:
    await furnish(here)
    whose = [part_of(line) for line in await here.export(user="ann")]
    assert {each.session.session.key.user for each in whose if each.HasField("session")} == {"ann"}
    assert not [each for each in whose if each.HasField("app")]
    ended = [part_of(line) for line in await here.export(filter={"statuses": [3]})]
    assert [each.session.session.key.session_id for each in ended if each.HasField("session")] == [
        "done"
    ]
    part = next(each for each in whose if each.HasField("session"))
    assert not part.session.session.HasField("turn")
    assert part.session.turns_begun == 4


async def test_ids_that_are_taken_fail_are_passed_over_or_renamed(here: Place) -> None:
    await furnish(here)
    lines = await here.export()
    head = (await here.apps.GetApp(APPS.GetAppRequest(app=APP))).app.revision
    said = await refusal_of(lambda: here.take_in(lines))
    assert said[:2] == ("ALREADY_EXISTS", "SESSION_EXISTS")
    assert (said.metadata["session_id"], said.metadata["sessions_imported"]) == ("parent", "0")
    done = await here.take_in(lines, on_existing=SKIP)
    assert (done.sessions, done.skipped, done.revision) == (0, 7, head)
    done = await here.take_in(lines, on_existing=RENAME)
    assert (done.sessions, done.renamed) == (7, 7)
    found = await here.sessions.ListSessions(SESSIONS.ListSessionsRequest(app=APP, page_size=99))
    assert len(found.sessions) == 14
    assert len({each.uid for each in found.sessions}) == 14
    new = {each.uid: each for each in found.sessions[7:]}
    parents = {each.parent_uid for each in new.values() if each.parent_uid}
    assert parents <= new.keys(), "children stand under the parent that came with them"
    assert all(each.key.session_id == uid for uid, each in new.items())


async def test_an_import_that_was_broken_off_can_be_repeated(here: Place, there: Place) -> None:
    await furnish(here)
    lines = await here.export()
    broken = [*lines[:-3], '{"messages": {"messages": [{"role": "user"}]}}']
    said = await refusal_of(lambda: there.take_in(broken))
    assert said.reason == "INVALID_FIELD"
    assert int(said.metadata["sessions_imported"]) > 0
    done = await there.take_in(lines, on_existing=SKIP)
    assert done.sessions + done.skipped == 7
    assert await there.export() == lines


async def test_an_import_into_another_app_gets_ids_that_fit(here: Place) -> None:
    await furnish(here)
    lines = await here.export()
    done = await here.take_in(lines, app="other")
    assert done.sessions == 7
    found = await here.sessions.ListSessions(SESSIONS.ListSessionsRequest(app="other"))
    uids = {each.uid for each in found.sessions}
    assert {each.parent_uid for each in found.sessions if each.parent_uid} <= uids


async def test_an_import_keeps_to_quotas(here: Place, there: Place) -> None:
    await furnish(here)
    lines = await here.export()
    policy = {"max_active_sessions": 2}
    await there.sessions.CreateSession(told("first"))
    await there.apps.UpdateApp(APPS.UpdateAppRequest(app=APP, policy=policy))
    said = await refusal_of(lambda: there.take_in(lines))
    assert said.reason == "QUOTA_EXCEEDED"
    assert said.metadata["sessions_imported"] == "1"


def session_part(**fields: Any) -> dict[str, Any]:
    time = {"seconds": 1_700_000_000}
    session = {
        "key": {"app": APP, "user": "ann", "session_id": "s"},
        "uid": "0190a0a0-0000-7000-8000-000000000001",
        "status": 1,
        "create_time": time,
        "update_time": time,
        "activity_time": time,
        "generation": 1,
        **fields,
    }
    return {"session": {"session": session, "version": 1}}


def with_messages(*messages: dict[str, Any], last: int = 9, count: int = 0) -> list[dict[str, Any]]:
    time = {"seconds": 1_700_000_000}
    full = [{"role": "user", "create_time": time, **each} for each in messages]
    return [
        session_part(message_count=count or len(messages), last_sequence=last),
        {"messages": {"messages": full}},
    ]


ENDED = {"status": 2, "end_cause": 1, "end_time": {"seconds": 1_700_000_000}}
M1, M2 = {"message_id": "a", "sequence": 1}, {"message_id": "b", "sequence": 2}
HOSTILE: dict[str, tuple[list[dict[str, Any]], str]] = {
    "messages first": ([{"messages": {}}], "messages"),
    "a second target": ([{"target": {"app": APP}}], "target"),
    "nothing at all": ([{}], "part"),
    "too few messages": (with_messages(M1, count=2), "messages"),
    "too many messages": (with_messages(M1, M2, count=1), "messages.messages[1]"),
    "another session before the end": ([*with_messages(M1, count=2), session_part()], "session"),
    "an id twice": (with_messages(M1, {**M2, "message_id": "a"}), "messages.messages"),
    "a sequence twice": (with_messages(M1, {**M2, "sequence": 1}), "messages.messages[1].sequence"),
    "sequences that fall": (with_messages(M2, M1), "messages.messages[1].sequence"),
    "a sequence above the last": (
        with_messages(M1, {**M2, "sequence": 10}),
        "messages.messages[1].sequence",
    ),
    "a message without a time": (
        with_messages({**M1, "create_time": None}),
        "messages.messages[0].create_time",
    ),
    "a message without an id": (with_messages({"sequence": 1}), "messages.messages[0].message_id"),
    "a message without a role": (with_messages({**M1, "role": ""}), "messages.messages[0].role"),
    "metadata that is no JSON": (
        with_messages({**M1, "metadata": {"k": "{"}}),
        "messages.messages[0].metadata['k']",
    ),
    "no status": ([session_part(status=0)], "session.session.status"),
    "a status that is none": ([session_part(status=77)], "session.session.status"),
    "an end without a time": ([session_part(status=2)], "session.session.end_time"),
    "a time without an end": ([session_part(**{**ENDED, "status": 1})], "session.session.end_time"),
    "no cause of the end": (
        [session_part(**{**ENDED, "end_cause": 0})],
        "session.session.end_cause",
    ),
    "a negative time": (
        [session_part(create_time={"seconds": -1})],
        "session.session.create_time",
    ),
    "a time to come": (
        [session_part(update_time={"seconds": 9_000_000_000})],
        "session.session.update_time",
    ),
    "no time": ([session_part(activity_time=None)], "session.session.activity_time"),
    "a negative length": (
        [session_part(idle_timeout={"seconds": -1})],
        "session.session.idle_timeout",
    ),
    "a negative counter": (
        [session_part(metrics={"request_count": -1})],
        "session.session.metrics.request_count",
    ),
    "no generation": ([session_part(generation=0)], "session.session.generation"),
    "sequences without room": (
        [session_part(last_sequence=2**63 - 1)],
        "session.session.last_sequence",
    ),
    "more messages than sequences": (
        [session_part(message_count=2, last_sequence=1)],
        "session.session.message_count",
    ),
    "a uid that is none": ([session_part(uid="x")], "session.session.uid"),
    "a parent that is none": ([session_part(parent_uid="x")], "session.session.parent_uid"),
    "no id": ([session_part(key={"app": APP})], "session.session.key.session_id"),
    "state that is no JSON": (
        [session_part(state={"session": {"values": {"k": "nope"}, "version": 1}})],
        "session.session.state.session.values['k']",
    ),
    "state that is too large": (
        [session_part(state={"session": {"values": {"k": f'"{"x" * 262_144}"'}, "version": 1}})],
        "session.session.state.session",
    ),
    "state without a version": (
        [session_part(state={"session": {"values": {"k": "1"}}})],
        "session.session.state.session.version",
    ),
    "metadata of a session that is no JSON": (
        [session_part(metadata={"k": "'"})],
        "session.session.metadata['k']",
    ),
    "a label that is none": (
        [session_part(labels={"": "x"})],
        'session.session.labels[""]',
    ),
    "a result that is no JSON": (
        [session_part(**ENDED, end_result="{")],
        "session.session.end_result",
    ),
    "a reason that is too large": (
        [session_part(**ENDED, end_reason="x" * 4_097)],
        "session.session.end_reason",
    ),
    "ephemeral without an owner": ([session_part(ephemeral=True)], "session.owner_turn"),
    "a drop of nothing": ([{"dropped": "x"}], "dropped"),
    "a user's state that is no JSON": (
        [{"user": {"user": "u", "state": {"values": {"k": "x"}, "version": 1}}}],
        "user.state.values['k']",
    ),
    "an app's policy that cannot be": (
        [{"app": {"policy": {"retention": {"seconds": -1}}}}],
        "app.policy.retention",
    ),
}


async def test_what_is_wrong_is_named_and_nothing_half_is_left(here: Place) -> None:
    wrong = {}
    for kind, (parts, field) in HOSTILE.items():
        said = await refusal_of(partial(here.take_in, parts))
        if said.reason not in ("INVALID_FIELD", "CONTENT_TOO_LARGE"):
            wrong[kind] = said.reason
        elif said.metadata["field"] != field:
            wrong[kind] = said.metadata["field"]
    assert not wrong
    found = await here.sessions.ListSessions(SESSIONS.ListSessionsRequest(app=APP))
    assert not found.sessions


async def test_an_import_begins_with_its_target(here: Place) -> None:
    said = await refusal_of(lambda: here.send([part_of(session_part())]))
    assert (said.reason, said.metadata["field"]) == ("INVALID_FIELD", "target")
    said = await refusal_of(lambda: here.send([]))
    assert said.reason == "MALFORMED_REQUEST"


async def test_a_large_session_that_is_not_whole_leaves_nothing(here: Place, there: Place) -> None:
    await fill(here, "long", 3_000)
    lines = await here.export()
    said = await refusal_of(lambda: there.take_in(lines[:-1]))
    assert (said.reason, said.metadata["field"]) == ("INVALID_FIELD", "messages")
    found = await there.sessions.ListSessions(SESSIONS.ListSessionsRequest(app=APP))
    assert not found.sessions
    assert (await there.take_in(lines)).messages == 3_000
    twice = [*lines[:-1], lines[1], lines[-1]]
    said = await refusal_of(lambda: there.take_in(twice, on_existing=RENAME))
    assert said.metadata["sessions_imported"] == "0"


async def test_a_session_that_is_cut_down_while_it_is_read_is_sent_anew(
    here: Place, there: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(here, "long", 2_000)
    stream = here.admin.ExportSessions(ADMIN.ExportSessionsRequest(app=APP))
    parts = []
    async for part in stream:
        parts.append(part)
        if part.HasField("messages") and len(parts) == 3:
            await here.history.PopMessages(HISTORY.PopMessagesRequest(session=ref("long"), count=3))
    kinds = [part.WhichOneof("part") for part in parts]
    done = await there.take_in([part_of_bytes(part) for part in parts])
    assert done.sessions == 1
    if "dropped" in kinds:  # it may have been read to its end before
        assert done.messages == 1_997
        assert kinds.count("session") == 2


def part_of_bytes(part: Any) -> Any:
    """The numbers of fields are the same, too: an export's bytes are an import's."""
    return ADMIN.ImportSessionsRequest.FromString(part.SerializeToString())


async def test_writes_go_on_while_an_export_is_not_read(here: Place) -> None:
    await fill(here, "long", 5_000)
    stream = here.admin.ExportSessions(ADMIN.ExportSessionsRequest(app=APP))
    await stream.read()
    await asyncio.gather(
        *(here.append("long", [{"role": "user", "content": "more"}]) for _ in range(20))
    )
    stream.cancel()


async def test_a_server_that_stops_says_so_to_exports_and_imports(tmp_path: Path) -> None:
    async with place("sqlite", tmp_path) as at:
        await fill(at, "long", 1_000)
        target = ADMIN.ImportSessionsRequest(target={"app": "other"})
        call = at.admin.ImportSessions()
        await call.write(target)
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(at.server.stop(0))
        said = await refusal_of(lambda: call)
        assert said.reason == "DRAINING"
        await stopping
