"""What ADK's own suite asks of every persistent session service, here of ours, on both stores.

By behaviour after google/adk-python `tests/unittests/sessions/test_session_service.py` and
`_conformance.py` at 11cc0931 (2.13). Left out: what is about tables, engines, locks, schemas and
rollbacks of SQLAlchemy (`prepare_tables`, `_get_or_create_state`, `pool_pre_ping`, time zones of
dialects, missing rows of state), the in-memory service's shared references, and Vertex AI.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

from sojourn.adapters.adk import SojournSessionService as Service

NOW = 1_795_000_000.25


def event(invocation: str = "inv", author: str = "user", **fields: Any) -> Event:
    """An event; `delta` is its change of state."""
    actions = EventActions(state_delta=fields.pop("delta", {}))
    return Event(invocation_id=invocation, author=author, actions=actions, **fields)


async def read(service: Service, session: Session, **config: Any) -> Session:
    """The session as it is stored."""
    found = await service.get_session(
        app_name=session.app_name,
        user_id=session.user_id,
        session_id=session.id,
        config=GetSessionConfig(**config) if config else None,
    )
    assert found is not None
    return found


def said(session: Session) -> list[str]:
    """The invocations of its events, in order."""
    return [one.invocation_id for one in session.events]


# --- create, get, delete -------------------------------------------------------------------------


async def test_what_is_not_there_is_none(service: Service, app: str) -> None:
    """A session, an app and a user that nobody made are None, empty and {}."""
    assert await service.get_session(app_name=app, user_id="u", session_id="1") is None
    assert (await service.list_sessions(app_name=app)).sessions == []
    assert (await service.list_sessions(app_name=app, user_id="u")).sessions == []
    assert await service.get_user_state(app_name=app, user_id="u") == {}
    await service.delete_session(app_name=app, user_id="u", session_id="1")


async def test_a_session_that_is_read_equals_the_one_created(service: Service, app: str) -> None:
    """Equal in everything, the private marker too; deleted, it is gone."""
    before = time.time()
    created = await service.create_session(app_name=app, user_id="u", state={"key": "value"})
    assert (created.app_name, created.user_id, created.state) == (app, "u", {"key": "value"})
    assert created.id
    assert before - 1 <= created.last_update_time <= time.time() + 1
    assert await read(service, created) == created
    await service.delete_session(app_name=app, user_id="u", session_id=created.id)
    gone = await service.get_session(app_name=app, user_id="u", session_id=created.id)
    assert gone is None


async def test_an_id_belongs_to_one_user(service: Service, app: str) -> None:
    """Two users have sessions of one id, and neither sees the other's events."""
    first = await service.create_session(app_name=app, user_id="u1", session_id="s")
    await service.append_event(first, event())
    second = await service.create_session(app_name=app, user_id="u2", session_id="s")
    found = await read(service, second)
    assert (found.user_id, found.events) == ("u2", [])
    assert said(await read(service, first)) == ["inv"]


async def test_an_id_that_is_taken_is_refused(service: Service, app: str) -> None:
    """AlreadyExistsError, also of an id in blanks; what is there stays as it is."""
    await service.create_session(app_name=app, user_id="u", session_id="s", state={"keep": 1})
    for taken in ("s", "  s  "):
        with pytest.raises(AlreadyExistsError):
            await service.create_session(
                app_name=app, user_id="u", session_id=taken, state={"keep": 2}
            )
    found = await service.get_session(app_name=app, user_id="u", session_id="s")
    assert found is not None
    assert found.state == {"keep": 1}


async def test_blanks_around_an_id_do_not_count(service: Service, app: str) -> None:
    """Create, get, append and delete take the id without them; nothing but blanks is no id."""
    created = await service.create_session(app_name=app, user_id="u", session_id="order-42\n")
    assert created.id == "order-42"
    found = await service.get_session(app_name=app, user_id="u", session_id="  order-42\n")
    assert found == created
    padded = Session(id=" order-42 ", app_name=app, user_id="u")
    await service.append_event(padded, event())
    assert said(await read(service, created)) == ["inv"]
    await service.delete_session(app_name=app, user_id="u", session_id=" order-42 ")
    assert await service.get_session(app_name=app, user_id="u", session_id="order-42") is None
    made = await service.create_session(app_name=app, user_id="u", session_id="   ")
    assert made.id.strip() == made.id != ""
    assert await service.get_session(app_name=app, user_id="u", session_id="   ") is None


# --- lists ---------------------------------------------------------------------------------------


async def test_lists_are_of_one_user_or_of_all(service: Service, app: str) -> None:
    """They bring the state of all scopes merged, and no events."""
    for user, name in (("u1", "a"), ("u1", "b"), ("u2", "c")):
        made = await service.create_session(
            app_name=app, user_id=user, session_id=name, state={"k": name, "user:n": user}
        )
        await service.append_event(made, event(delta={"app:all": [1]}))
    mine = (await service.list_sessions(app_name=app, user_id="u1")).sessions
    assert {one.id for one in mine} == {"a", "b"}
    everybody = (await service.list_sessions(app_name=app)).sessions
    assert {one.id: one.state for one in everybody} == {
        "a": {"k": "a", "user:n": "u1", "app:all": [1]},
        "b": {"k": "b", "user:n": "u1", "app:all": [1]},
        "c": {"k": "c", "user:n": "u2", "app:all": [1]},
    }
    assert all(one.events == [] for one in everybody)
    everybody[0].state["app:all"].append(2)  # Each is its reader's own.
    assert [one.state["app:all"] for one in everybody[1:]] == [[1], [1]]


async def test_lists_begin_with_the_oldest_update(service: Service, app: str) -> None:
    """By the newest event's own time, then by user and id; the same as a get, but for events."""
    for name in ("a", "b", "c"):
        await service.create_session(app_name=app, user_id="u", session_id=name)
    for name, when in (("a", NOW + 3), ("b", NOW), ("c", NOW)):
        found = await service.get_session(app_name=app, user_id="u", session_id=name)
        assert found is not None
        await service.append_event(found, event(timestamp=when))
    listed = (await service.list_sessions(app_name=app, user_id="u")).sessions
    assert [one.id for one in listed] == ["b", "c", "a"]
    assert listed[2] == await read(service, listed[2], num_recent_events=0)


# --- state ---------------------------------------------------------------------------------------


async def test_state_of_the_app_is_shared_by_its_users(service: Service, app: str) -> None:
    """It is in every session of every user, from create and from events."""
    first = await service.create_session(app_name=app, user_id="u1", state={"app:k1": "v1"})
    await service.append_event(first, event(delta={"app:k2": "v2"}))
    second = await service.create_session(app_name=app, user_id="u2")
    assert second.state == {"app:k1": "v1", "app:k2": "v2"}
    assert (await read(service, first)).state == second.state == first.state


async def test_state_of_a_user_is_shared_by_the_user_s_sessions(service: Service, app: str) -> None:
    """And by nobody else's; `get_user_state` names its keys without the prefix."""
    first = await service.create_session(app_name=app, user_id="u1", state={"user:k1": "v1"})
    await service.append_event(first, event(delta={"user:k2": {"a": None}, "own": 1}))
    again = await service.create_session(app_name=app, user_id="u1")
    assert again.state == {"user:k1": "v1", "user:k2": {"a": None}}
    assert (await service.create_session(app_name=app, user_id="u2")).state == {}
    mine = await service.get_user_state(app_name=app, user_id="u1")
    assert mine == {"k1": "v1", "k2": {"a": None}}
    assert await service.get_user_state(app_name=app, user_id="u2") == {}
    assert await service.get_user_state(app_name=app + "2", user_id="u1") == {}
    await service.append_event(first, event(delta={"user:k1": 2}))
    assert (await service.get_user_state(app_name=app, user_id="u1"))["k1"] == 2


async def test_a_session_s_own_state_is_its_own(service: Service, app: str) -> None:
    """No other session sees it, not even the user's next one."""
    first = await service.create_session(app_name=app, user_id="u1", state={"k1": "v1"})
    await service.append_event(first, event(delta={"k2": "v2"}))
    assert (await read(service, first)).state == {"k1": "v1", "k2": "v2"}
    assert (await service.create_session(app_name=app, user_id="u1")).state == {}


@pytest.mark.parametrize("prefix", ["", "user:", "app:"])
async def test_a_delta_replaces_values_key_by_key(service: Service, app: str, prefix: str) -> None:
    """Dicts are not merged, None is kept as null, booleans stay booleans."""
    session = await service.create_session(
        app_name=app,
        user_id="u",
        state={prefix + "d": {"a": 1, "b": 2}, prefix + "n": True, prefix + "f": False},
    )
    await service.append_event(
        session, event(delta={prefix + "d": {"a": 9}, prefix + "n": None, prefix + "t": True})
    )
    wanted = {"d": {"a": 9}, "n": None, "f": False, "t": True}
    for found in (session, await read(service, session)):
        assert found.state == {prefix + key: value for key, value in wanted.items()}
        assert found.state[prefix + "f"] is False
        assert found.state[prefix + "t"] is True


async def test_temporary_state_is_not_stored(service: Service, app: str) -> None:
    """`temp:` is there for the agents of one run, in no event and no session that is read."""
    session = await service.create_session(
        app_name=app, user_id="u", state={"temp:at once": 1, "k": 1}
    )
    assert session.state == {"k": 1}
    first = event("first", delta={"temp:out": "x", "k": 2})
    await service.append_event(session, first)
    assert session.state == {"temp:out": "x", "k": 2}
    assert first.actions.state_delta == {"k": 2}
    await service.append_event(session, event("second", delta={"k": 3}))
    assert session.state == {"temp:out": "x", "k": 3}
    found = await read(service, session)
    assert found.state == {"k": 3}
    assert found.events == session.events


async def test_values_that_are_no_json_become_text(service: Service, app: str) -> None:
    """They do not lose the event, in whatever scope they stand."""
    session = await service.create_session(app_name=app, user_id="u", state={"s": object()})
    await service.append_event(
        session, event(delta={"callback": lambda: 1, "ok": 2, "user:set": {1}, "app:t": (1, 2)})
    )
    found = await read(service, session)
    assert isinstance(found.state["callback"], str)
    assert isinstance(found.state["s"], str)
    assert (found.state["ok"], found.state["app:t"]) == (2, [1, 2])
    assert said(found) == ["inv"]


# --- events --------------------------------------------------------------------------------------


async def test_bytes_come_back(service: Service, app: str) -> None:
    """Pictures and blobs of grounding are bytes again."""
    picture = types.Content(
        role="user", parts=[types.Part.from_bytes(data=b"\xff\x00\xfe", mime_type="image/png")]
    )
    ground = types.GroundingMetadata(
        search_entry_point=types.SearchEntryPoint(sdk_blob=bytes(range(256)))
    )
    session = await service.create_session(app_name=app, user_id="u")
    await service.append_event(session, event(content=picture, grounding_metadata=ground))
    [found] = (await read(service, session)).events
    assert (found.content, found.grounding_metadata) == (picture, ground)
    assert found == session.events[0]


async def test_all_of_an_event_comes_back(service: Service, app: str) -> None:
    """Every field, and a session with it equals the one in memory, a time in the past and all."""
    full = Event(
        invocation_id="inv",
        author="user",
        content=types.Content(role="user", parts=[types.Part(text="text")]),
        turn_complete=True,
        partial=False,
        actions=EventActions(
            artifact_delta={"file": 0},
            transfer_to_agent="agent",
            transfer_reason="why",
            escalate=True,
            skip_summarization=False,
            route="left",
            rewind_before_invocation_id="earlier",
            requested_tool_confirmations={
                "call": ToolConfirmation(hint="sure?", confirmed=False, payload={"id": [1, None]})
            },
        ),
        long_running_tool_ids={"t1", "t2"},
        branch="a.b",
        isolation_scope="own",
        output={"any": [1, 2.5, None]},
        error_code="code",
        error_message="message",
        interrupted=True,
        grounding_metadata=types.GroundingMetadata(web_search_queries=["query"]),
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=1),
        citation_metadata=types.CitationMetadata(),
        custom_metadata={"key": "value", "none": None},
        timestamp=1700000000.123,
        input_transcription=types.Transcription(text="in", finished=True),
        output_transcription=types.Transcription(text="out", finished=True),
    )
    session = await service.create_session(app_name=app, user_id="u")
    await service.append_event(session, full)
    assert session.last_update_time == full.timestamp
    assert await read(service, session) == session


async def test_the_update_time_is_the_newest_event_s(service: Service, app: str) -> None:
    """To the last bit, also when it goes backwards."""
    session = await service.create_session(app_name=app, user_id="u")
    for when in (
        session.last_update_time + 10,
        1700000000.123,
        NOW + 1e-6,
        1733616158.2164404,
        0.1,
        -5.5,
        4e9 + 1 / 3,
    ):
        await service.append_event(session, event(timestamp=when))
        assert session.last_update_time == when
        assert await read(service, session) == session


async def test_partial_events_are_passed_over(service: Service, app: str) -> None:
    """Neither memory nor the store has them."""
    session = await service.create_session(app_name=app, user_id="u")
    await service.append_event(session, event(partial=True, delta={"k": 1, "temp:t": 1}))
    assert (session.events, session.state) == ([], {})
    assert await read(service, session) == session


async def test_fewer_events_are_read_when_told(service: Service, app: str) -> None:
    """The newest N, those from a time on, or both; the session is the same otherwise."""
    session = await service.create_session(app_name=app, user_id="u")
    for number in range(1, 6):
        await service.append_event(session, event(str(number), timestamp=NOW + number))
    assert said(await read(service, session)) == ["1", "2", "3", "4", "5"]
    assert said(await read(service, session, num_recent_events=0)) == []
    assert said(await read(service, session, num_recent_events=3)) == ["3", "4", "5"]
    assert said(await read(service, session, num_recent_events=9_999)) == ["1", "2", "3", "4", "5"]
    assert said(await read(service, session, after_timestamp=NOW + 4)) == ["4", "5"]
    assert said(await read(service, session, after_timestamp=NOW + 50)) == []
    both = await read(service, session, after_timestamp=NOW + 4, num_recent_events=3)
    assert said(both) == ["4", "5"]
    both.events = session.events
    assert both == session


# --- stale writers -------------------------------------------------------------------------------


async def test_an_append_to_a_deleted_session_is_refused(service: Service, app: str) -> None:
    """SessionNotFoundError, also for one that was never there."""
    session = await service.create_session(app_name=app, user_id="u")
    await service.delete_session(app_name=app, user_id="u", session_id=session.id)
    never = Session(id="never", app_name=app, user_id="u")
    for gone in (session, never):
        with pytest.raises(SessionNotFoundError):
            await service.append_event(gone, event())
    assert await service.get_session(app_name=app, user_id="u", session_id="never") is None


async def test_a_stale_writer_is_refused_and_nothing_stored(service: Service, app: str) -> None:
    """StaleSessionError, a ValueError that says what to do; history and state are the others'."""
    stale = await service.create_session(app_name=app, user_id="u")
    await service.append_event(stale, event("1", delta={"sk1": 1}))
    current = await read(service, stale)
    await service.append_event(current, event("2", delta={"sk2": 2}))
    assert (said(stale), "sk2" in stale.state) == (["1"], False)
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(stale, event("3", delta={"sk3": 3, "user:u": 3, "app:a": 3}))
    assert issubclass(StaleSessionError, ValueError)
    assert (said(stale), stale.state) == (["1"], {"sk1": 1})
    found = await read(service, stale)
    assert found == current
    assert (said(found), found.state) == (["1", "2"], {"sk1": 1, "sk2": 2})


async def test_of_two_stale_writers_exactly_one_wins(service: Service, app: str) -> None:
    """Round after round, with events of the same time, and the loser leaves no trace."""
    session = await service.create_session(app_name=app, user_id="u")
    for number in range(8):
        latest = await read(service, session)
        outcomes = await asyncio.gather(
            *(
                service.append_event(
                    latest.model_copy(deep=True),
                    event(f"{number}-{side}", timestamp=NOW, delta={f"{number}-{side}": 1}),
                )
                for side in "ab"
            ),
            return_exceptions=True,
        )
        refused = [one for one in outcomes if isinstance(one, BaseException)]
        assert [type(one) for one in refused] == [StaleSessionError]
    found = await read(service, session)
    assert sorted(found.state) == sorted(said(found))
    assert [one.split("-")[0] for one in said(found)] == [str(number) for number in range(8)]


async def test_a_drifting_clock_makes_nobody_stale(service: Service, app: str) -> None:
    """With a marker that is current the float does not count."""
    session = await service.create_session(app_name=app, user_id="u")
    await service.append_event(session, event("1", timestamp=NOW))
    session.last_update_time -= 0.0001
    await service.append_event(session, event("2", timestamp=NOW + 10))
    assert said(await read(service, session)) == ["1", "2"]


async def test_a_session_without_a_marker_may_go_on_where_it_is_current(
    service: Service, app: str
) -> None:
    """Its last event is the newest one stored; otherwise it is stale."""
    session = await service.create_session(app_name=app, user_id="u")
    empty = Session(id=session.id, app_name=app, user_id="u")
    await service.append_event(session, event("1"))
    with pytest.raises(StaleSessionError):
        await service.append_event(empty, event("0"))
    by_hand = Session.model_validate_json(session.model_dump_json())
    by_hand.last_update_time -= 0.0001
    await service.append_event(by_hand, event("2"))
    assert said(await read(service, session)) == ["1", "2"]
    assert await read(service, session) == by_hand
    with pytest.raises(StaleSessionError):
        await service.append_event(session, event("3"))
