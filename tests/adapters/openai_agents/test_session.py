"""The `Session` protocol of openai-agents 0.24, on both stores.

After the behaviour that the SDK's own tests ask of its sessions, version 0.24: tests/memory/
test_session.py, test_session_limit.py and test_session_context_wrapper.py; tests/extensions/memory/
test_async_sqlite_session.py and test_sqlalchemy_session.py. Left out is what is about their
databases (schemas, engines, locks of files, time stamps that tie, connections that cannot roll
back), about the closed state of theirs (here `close` closes a connection, no session), and about
OpenAI's Conversations API (test_session_persistence_sanitize.py).
"""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from agents.memory import Session, SessionSettings
from agents.memory.session import _session_accepts_wrapper
from agents.testing import assistant_message

import sojourn
from sojourn.adapters.openai_agents import SojournSession
from sojourn.errors import ConfigurationError, SessionNotFoundError, TurnRequiredError
from tests.acceptance.kit import Place, eventually
from tests.adapters.openai_agents.kit import assistant, said, user, users

ROUND_TRIPS: list[dict[str, Any]] = [
    {"role": "user", "content": "O'Reilly'); DROP TABLE sessions;--"},
    {"content": "the role comes last", "role": "user"},
    {"role": "user", "content": "こんにちは 😊👍 Привет \u0000 \u2028 \x7f"},
    {"role": "user", "content": "half a pair: \ud83d", "\udc00": None},
    {"role": "assistant", "content": [{"type": "output_text", "text": "", "logprobs": []}]},
    {"n": 1, "x": 1.0, "e": 1e300, "big": 2**70, "small": 5e-324, "neg": -0.0, "yes": True},
    {"nan": float("nan"), "inf": float("-inf")},
    {"null": None, "empty": {}, "": [], "a.b": {"$c": [[], [None]]}},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1.0}'},
    {"type": "function_call_output", "call_id": "c", "output": "x" * 2_500_000},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
    {"role": "\ud800", "type": " blanks "},
    {},
]


@pytest.fixture
def session(client: sojourn.AsyncClient) -> SojournSession:
    """A session that nobody has used yet."""
    return SojournSession("s", client)


def test_it_is_a_session(session: SojournSession) -> None:
    assert isinstance(session, Session)
    assert session.session_id == "s"


async def test_items_come_back_exactly_as_they_went(session: SojournSession) -> None:
    items = cast("list[Any]", ROUND_TRIPS)
    await session.add_items(items)
    # Texts, because 1 equals 1.0 and dicts equal in any order.
    assert json.dumps(await session.get_items()) == json.dumps(items)
    for item in reversed(items):
        assert json.dumps(await session.pop_item()) == json.dumps(item)
    assert await session.pop_item() is None


async def test_others_see_who_spoke(session: SojournSession, client: sojourn.AsyncClient) -> None:
    await session.add_items(cast("list[Any]", ROUND_TRIPS))
    messages = await client.messages.list("s").to_list()
    assert [one.role for one in messages] == [
        *("user",) * 4,
        "assistant",
        *("item",) * 3,
        "function_call",
        *("function_call_output",) * 3,
        "reasoning",
        *("item",) * 2,
    ]
    assert json.loads(messages[0].payload) == ROUND_TRIPS[0]
    assert {one.content_type for one in messages} == {"application/json"}


async def test_a_session_that_is_not_there_reads_as_empty_and_stays_away(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    assert await session.get_items() == []
    assert await session.get_items(3) == []
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([])
    with pytest.raises(SessionNotFoundError):
        await client.sessions.get("s")


async def test_limits(session: SojournSession) -> None:
    items = users(range(6))
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(limit=2) == items[-2:]
    assert await session.get_items(limit=10) == items
    assert await session.get_items(limit=2_147_483_647) == items
    assert await session.get_items(limit=True) == items[-1:]
    for nothing in (0, -1, False):
        assert await session.get_items(limit=nothing) == []


@pytest.mark.parametrize("settings", [SessionSettings(limit=3), {"limit": 3}])
async def test_an_explicit_limit_beats_that_of_the_settings(
    client: sojourn.AsyncClient, settings: Any
) -> None:
    assert SojournSession("s", client).session_settings == SessionSettings(limit=None)
    session = SojournSession("s", client, session_settings=settings)
    assert session.session_settings == SessionSettings(limit=3)
    await session.add_items(users(range(5)))
    assert said(await session.get_items()) == ["2", "3", "4"]
    assert said(await session.get_items(limit=2)) == ["3", "4"]
    assert said(await session.get_items(limit=4)) == ["1", "2", "3", "4"]
    session.session_settings = None
    assert len(await session.get_items()) == 5
    session.session_settings = SessionSettings(limit=0)
    assert await session.get_items() == []


async def test_what_is_no_item_is_passed_over_and_does_not_count(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    async def note(payload: bytes) -> None:
        await client.messages.append("s", sojourn.NewMessage("operator", payload=payload))

    await session.add_items(users(range(3)))
    for payload in (b"not json {{{", b"", b'"a text"', b"[1]", b"\xff"):
        await note(payload)
    assert said(await session.get_items()) == ["0", "1", "2"]
    assert said(await session.get_items(limit=2)) == ["1", "2"]
    assert await session.pop_item() == user("2")
    # The notes stood behind the item, and went with it.
    await note(b"3")
    assert said(await session.get_items(limit=1)) == ["1"]
    assert await session.pop_item() == user("1")
    assert await session.pop_item() == user("0")
    await note(b"3")
    assert await session.pop_item() is None
    assert await session.get_items() == []


async def test_clearing_keeps_the_session(
    client: sojourn.AsyncClient, session: SojournSession
) -> None:
    await session.add_items([user("a"), assistant("b")])
    before = await client.sessions.update("s", labels={"tier": "gold"}, state={"k": 1})
    await session.clear_session()
    assert await session.get_items() == []
    after = await client.sessions.get("s")
    assert after.uid == before.session.uid
    assert (dict(after.labels), dict(after.state)) == ({"tier": "gold"}, {"k": 1})
    await session.clear_session()
    await session.add_items([user("c")])
    assert said(await session.get_items()) == ["c"]


async def test_sessions_are_apart_by_id_user_and_app(place: Place, app: str) -> None:
    async with place.client(app) as client:
        others = [
            SojournSession("s", client),
            SojournSession("S", client),
            SojournSession("s", client, user="u-1"),
            SojournSession("s", client, user="u-2"),
            SojournSession("s", client, app=f"{app[:100]}-other"),
            SojournSession("s", place.target, app=f"{app[:100]}-third"),
        ]
        for number, session in enumerate(others):
            await session.add_items([user(str(number)), user(f"{number}!")])
        assert await others[2].pop_item() == user("2!")
        await others[3].clear_session()
        texts = [said(await session.get_items()) for session in others]
        assert texts == [["0", "0!"], ["1", "1!"], ["2"], [], ["4", "4!"], ["5", "5!"]]
        await others[-1].close()


@pytest.mark.parametrize("name", [" s", "s ", "s\n"])
def test_an_id_that_would_be_that_of_another_session_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="blank"):
        SojournSession(name, "localhost:1", app="a")
    with pytest.raises(ValueError, match="blank"):
        SojournSession("s", "localhost:1", app="a", user=name)


async def test_nothing_expires_unless_told(place: Place, app: str) -> None:
    async with place.client(app, default_labels={"from": "client"}) as client:
        policy = sojourn.Policy(default_idle_timeout=3600, default_max_lifetime=7200)
        await client.apps.update(policy=policy)
        await SojournSession("kept", client, labels={"tier": "gold"}).add_items([user("a")])
        kept = await client.sessions.get("kept")
        assert kept.expire_time is None
        assert kept.labels == {"from": "client", "tier": "gold"}
        told = SojournSession("told", client, idle_timeout=60, max_lifetime=120)
        await told.add_items([user("a")])
        seen = await client.sessions.get("told")
        assert (seen.idle_timeout.total_seconds(), seen.max_lifetime.total_seconds()) == (60, 120)


async def test_a_session_that_has_ended_counts_as_none(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    await session.add_items(users("ab"))
    ended = (await client.sessions.end("s")).session
    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([user("c")])
    assert said(await session.get_items()) == ["c"]
    assert (await client.sessions.get("s")).uid != ended.uid


async def test_a_session_that_has_expired_counts_as_none(client: sojourn.AsyncClient) -> None:
    session = SojournSession("s", client, idle_timeout=0.2)
    await session.add_items([user("a")])

    async def expired() -> bool:
        return not await session.get_items()

    await eventually(expired, "expired")
    await session.add_items([user("b")])
    assert said(await session.get_items()) == ["b"]


@pytest.mark.parametrize("wrong", [object(), {1, 2}, b"x", assistant_message("of the model")])
async def test_a_batch_with_what_json_does_not_know_writes_nothing(
    session: SojournSession, wrong: object
) -> None:
    await session.add_items([user("kept")])
    with pytest.raises(TypeError):
        await session.add_items([user("a"), user(wrong), user("b")])
    with pytest.raises(TypeError):
        await session.add_items([user("a"), cast("Any", wrong)])
    for no_dict in ("a text", 7, None):
        with pytest.raises(TypeError, match="must be a dict"):
            await session.add_items([user("a"), cast("Any", no_dict)])
    assert said(await session.get_items()) == ["kept"]


async def test_refusals_are_sojourns_and_write_nothing(
    session: SojournSession, client: sojourn.AsyncClient
) -> None:
    await session.add_items([user("kept")])
    await client.apps.update(policy=sojourn.Policy(require_turn=True))
    for write in (session.add_items([user("a")]), session.pop_item()):
        with pytest.raises(TurnRequiredError):
            await write
    assert said(await session.get_items()) == ["kept"]


async def test_a_given_client_stays_open_and_takes_no_options(client: sojourn.AsyncClient) -> None:
    async with SojournSession("s", client) as session:
        await session.add_items([user("a")])
    await session.close()
    assert said(await session.get_items()) == ["a"]
    with pytest.raises(ConfigurationError):
        SojournSession("s", client, actor="ann")


async def test_an_own_client_is_closed_and_made_again(place: Place, app: str) -> None:
    session = SojournSession("s", f"sojourn://{place.target}", app=app, actor="ann")
    await session.add_items([user("a")])
    await session.close()
    await session.close()
    assert said(await session.get_items()) == ["a"]
    await session.close()


def test_no_method_takes_the_context_of_the_run(session: SojournSession) -> None:
    """Whose session it is does not depend on a run: `user` says it once, for every call."""
    assert not _session_accepts_wrapper(session)
