"""What ADK's own suite does not ask, and users came to grief over."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from google.genai import types

import sojourn
from sojourn import errors
from sojourn._async.caller import AsyncCaller
from sojourn._async.messages import AsyncMessages
from sojourn.adapters.adk import SojournSessionService as Service
from tests.acceptance.kit import Place
from tests.adapters.adk.test_conformance import NOW, event, read, said


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often which RPC was called since it was last cleared."""
    counter: Counter[str] = Counter()
    call = AsyncCaller.call

    async def counting(self: AsyncCaller, stub: Any, request: Any, **fields: Any) -> Any:
        counter[type(request).__name__.removesuffix("Request")] += 1
        return await call(self, stub, request, **fields)

    monkeypatch.setattr(AsyncCaller, "call", counting)
    return counter


def picture(size: int) -> types.Content:
    """A picture of so many bytes; JSON makes them a third more."""
    part = types.Part.from_bytes(data=bytes(range(256)) * (size // 256), mime_type="image/png")
    return types.Content(role="user", parts=[part])


# --- ids of events -------------------------------------------------------------------------------


async def test_two_events_of_one_id_are_both_kept(service: Service, app: str) -> None:
    """They differ in content; an event that is there already is passed over, copies too."""
    session = await service.create_session(app_name=app, user_id="u")
    first, second = event("1", id="same", delta={"n": 1}), event("2", id="same", delta={"n": 2})
    for one in (first, second, first, first.model_copy(deep=True)):
        await service.append_event(session, one)
    assert said(session) == ["1", "2"]
    assert await read(service, session) == session
    assert session.state == {"n": 2}


@pytest.mark.parametrize("name", [" padded ", "x" * 300, "ünï\n", "a~b/1", "\ud83d"])
async def test_any_event_id_will_do(service: Service, app: str, name: str) -> None:
    """Also one that Sojourn would not take as a message's id, and without a marker."""
    session = await service.create_session(app_name=app, user_id="u")
    one = event("1")
    one.id = name
    await service.append_event(session, one)
    by_hand = Session(id=session.id, app_name=app, user_id="u", events=[one])
    await service.append_event(by_hand, event("2"))
    found = await read(service, session)
    assert (said(found), found.events[0].id) == (["1", "2"], name)


async def test_an_event_whose_answer_was_lost_may_be_appended_again(
    service: Service, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was carried out, the caller does not know, and tries again: stored once, no StaleError."""
    session = await service.create_session(app_name=app, user_id="u")
    append = AsyncMessages.append

    async def lost(self: AsyncMessages, *args: Any, **fields: Any) -> Any:
        await append(self, *args, **fields)
        raise errors.UnavailableError("the answer was lost")

    one = event("1", delta={"k": 1}, content=picture(1_000_000))
    with monkeypatch.context() as patched:
        patched.setattr(AsyncMessages, "append", lost)
        with pytest.raises(errors.UnavailableError):
            await service.append_event(session, one)
    assert session.events == []
    await service.append_event(session, one)
    assert (said(session), session.state) == (["1"], {"k": 1})
    assert await read(service, session) == session
    await service.append_event(session, event("2"))
    assert said(await read(service, session)) == ["1", "2"]


# --- one call each -------------------------------------------------------------------------------


async def test_each_call_is_one_rpc(service: Service, app: str, calls: Counter[str]) -> None:
    """Create, append with state of three scopes, get, list, user state and delete."""
    state = {"a": 1, "user:b": 2, "app:c": 3}
    session = await service.create_session(app_name=app, user_id="u", session_id="s", state=state)
    await service.append_event(session, event(delta=state | {"a": 2}))
    await read(service, session)
    await read(service, session, num_recent_events=1)
    await service.list_sessions(app_name=app)
    await service.get_user_state(app_name=app, user_id="u")
    await service.delete_session(app_name=app, user_id="u", session_id="s")
    assert calls == {
        "CreateSession": 1,
        "AppendMessages": 1,
        "GetSession": 2,
        "ListSessions": 1,
        "GetState": 1,
        "DeleteSession": 1,
    }


# --- sizes ---------------------------------------------------------------------------------------


async def test_events_of_any_size_come_back(
    service: Service, app: str, calls: Counter[str]
) -> None:
    """Pictures above what a message holds; the newest N are N, however many parts they have."""
    session = await service.create_session(app_name=app, user_id="u")
    for number, size in enumerate((0, 2_000_000, 256, 900_000)):
        await service.append_event(session, event(str(number), content=picture(size)))
    calls.clear()
    assert await read(service, session) == session
    assert calls["ListMessages"] >= 1
    for limit in range(5):
        found = await read(service, session, num_recent_events=limit)
        assert said(found) == said(session)[len(session.events) - limit :]
    with pytest.raises(errors.ContentTooLargeError, match="event"):
        await service.append_event(session, event("big", content=picture(3_000_000)))
    assert await read(service, session) == session


async def test_long_histories_come_back(service: Service, app: str, place: Place) -> None:
    """More events than an answer holds, whole, the newest N, and those from a time on."""
    session = await service.create_session(app_name=app, user_id="u")
    await service.append_event(session, event("0", timestamp=NOW))
    async with place.client(app) as client:
        [first] = (await client.sessions.get(session.id, user="u", last_messages=1)).messages
        fields = json.loads(first.payload)
        messages = [
            sojourn.NewMessage(
                role="assistant",
                payload=json.dumps(
                    fields | {"id": f"e{n}", "invocation_id": str(n), "timestamp": NOW + n}
                ).encode(),
                content_type=first.content_type,
                message_id=f"e{n}~hash",
                event_time=first.event_time_ns + n * 10**9 if first.event_time_ns else None,
            )
            for n in range(1, 2_501)
        ]
        for at in range(0, 2_500, 1_000):
            await client.messages.append(session.id, messages[at : at + 1_000], user="u")
    everything = [str(n) for n in range(2_501)]
    assert said(await read(service, session)) == everything
    assert said(await read(service, session, num_recent_events=1_500)) == everything[-1_500:]
    assert said(await read(service, session, after_timestamp=NOW + 700)) == everything[700:]
    assert said(await read(service, session, after_timestamp=NOW + 2_000)) == everything[2_000:]


@pytest.mark.parametrize(
    ("delta", "error", "says"),
    [
        ({"k" * 257: 1}, errors.InvalidFieldError, "256"),
        ({"user:": 1}, errors.InvalidFieldError, "keys must have"),
        ({"k": float("nan")}, errors.InvalidFieldError, "state"),
        ({"k": "\ud83d"}, errors.InvalidFieldError, "state"),
        ({str(n): n for n in range(1_001)}, errors.InvalidFieldError, "1000"),
        ({"app:k": "x" * 262_200}, errors.ContentTooLargeError, "app_state"),
        ({"a": "x" * 200_000, "b": "x" * 200_000}, errors.ContentTooLargeError, "state"),
    ],
    ids=["long key", "empty key", "nan", "surrogate", "many keys", "long value", "much"],
)
async def test_state_that_does_not_fit_is_refused(
    service: Service, app: str, delta: dict[str, Any], error: type[Exception], says: str
) -> None:
    """The error names the key or the scope, and nothing is stored."""
    session = await service.create_session(app_name=app, user_id="u")
    with pytest.raises(error, match=says):
        await service.append_event(session, event(delta=delta))
    assert (session.events, session.state) == ([], {})
    assert await read(service, session) == session
    with pytest.raises(error, match=says):
        await service.create_session(app_name=app, user_id="u", session_id="new", state=delta)


async def test_text_of_any_kind_comes_back(service: Service, app: str) -> None:
    """Emoji, NUL, halves of surrogates in an event; ids of any letters."""
    text = "😀\x00\u2028\ud83d"
    session = await service.create_session(
        app_name=app, user_id="auth0|ünï", session_id="Ж 1", state={"ключ": "😀\x00"}
    )
    said_so = types.Content(role="user", parts=[types.Part(text=text)])
    await service.append_event(session, event(content=said_so))
    assert await read(service, session) == session


# --- others --------------------------------------------------------------------------------------


async def test_labels_turns_and_others_state_make_nobody_stale(
    service: Service, app: str, place: Place
) -> None:
    """What moves neither this session's history nor its state does not count."""
    session = await service.create_session(app_name=app, user_id="u", session_id="s")
    other = await service.create_session(app_name=app, user_id="u")
    await service.append_event(other, event(delta={"app:a": 1, "user:b": 2, "own": 3}))
    async with place.client(app) as client:
        await client.sessions.update("s", user="u", labels={"tier": "gold"}, metadata={"m": 1})
        await client.sessions.touch("s", user="u")
        turn = await client.turns.begin("s", user="u")
        await service.append_event(session, event("1"))
        await client.turns.end(turn.turn_token)
    await service.append_event(session, event("2", delta={"k": 1}))
    found = await read(service, session)
    assert (said(found), found.state) == (["1", "2"], {"k": 1, "app:a": 1, "user:b": 2})


@pytest.mark.parametrize("what", ["state", "append", "pop", "reset", "anew"])
async def test_whatever_moves_history_or_state_makes_stale(
    service: Service, app: str, place: Place, what: str
) -> None:
    """An operator's `state set`, a foreign append, a reset, the id given to another session."""
    session = await service.create_session(app_name=app, user_id="u", session_id="s")
    await service.append_event(session, event("1"))
    async with place.client(app) as client:
        if what == "state":
            await client.sessions.update("s", user="u", state={"by": "hand"})
        elif what == "append":
            await client.messages.append("s", sojourn.NewMessage("user", "hi"), user="u")
        elif what == "pop":
            await client.messages.pop("s", user="u")
            await client.messages.append("s", sojourn.NewMessage("user", "hi"), user="u")
        elif what == "reset":
            await client.sessions.reset("s", user="u")
        else:
            await service.delete_session(app_name=app, user_id="u", session_id="s")
            await service.create_session(app_name=app, user_id="u", session_id="s")
    stored = await read(service, session)
    with pytest.raises(StaleSessionError) as stale:
        await service.append_event(session, event("2", delta={"k": 1}))
    assert isinstance(stale.value.__cause__, errors.AbortedError)
    assert await read(service, session) == stored
    await service.append_event(stored, event("2"))


async def test_an_empty_session_that_was_made_anew_is_another_one(
    service: Service, app: str
) -> None:
    """Nothing but its uid tells the two apart."""
    old = await service.create_session(app_name=app, user_id="u", session_id="s")
    await service.delete_session(app_name=app, user_id="u", session_id="s")
    new = await service.create_session(app_name=app, user_id="u", session_id="s")
    with pytest.raises(StaleSessionError):
        await service.append_event(old, event("1"))
    assert await read(service, new) == new


async def test_messages_of_others_are_events(service: Service, app: str, place: Place) -> None:
    """Text and data that the command line, say, appended; whoever reads goes on behind them."""
    session = await service.create_session(app_name=app, user_id="u")
    async with place.client(app) as client:
        await client.messages.append(
            session.id,
            [
                sojourn.NewMessage("user", "hello", message_id="m-1", event_time=1_500_000_000),
                sojourn.NewMessage("operator", payload=b"\x00", content_type="image/png"),
            ],
            user="u",
        )
    found = await read(service, session)
    text, data = found.events
    assert (text.id, text.author, text.timestamp) == ("m-1", "user", 1.5)
    assert text.content == types.Content(role="user", parts=[types.Part(text="hello")])
    assert data.author == "operator"
    assert data.content is not None
    assert data.content.role == "model"
    assert found.last_update_time > NOW
    by_hand = Session(id=session.id, app_name=app, user_id="u", events=found.events)
    await service.append_event(by_hand, event("1"))
    assert len((await read(service, session)).events) == 3


async def test_an_ended_session_is_gone(service: Service, app: str, place: Place) -> None:
    """Get and list do not find it, appends neither; its id makes a new one."""
    old = await service.create_session(app_name=app, user_id="u", session_id="s", state={"k": 1})
    await service.append_event(old, event("1"))
    async with place.client(app) as client:
        await client.sessions.end("s", user="u")
        assert await service.get_session(app_name=app, user_id="u", session_id="s") is None
        assert (await service.list_sessions(app_name=app)).sessions == []
        with pytest.raises(SessionNotFoundError) as gone:
            await service.append_event(old, event("2"))
        assert isinstance(gone.value.__cause__, errors.SessionEndedError)
        new = await service.create_session(app_name=app, user_id="u", session_id="s")
        assert (new.state, new.events) == ({}, [])
        with pytest.raises(StaleSessionError):
            await service.append_event(old, event("2"))
        assert await read(service, new) == new
        await client.sessions.end("s", user="u")
    await service.delete_session(app_name=app, user_id="u", session_id="s")


async def test_sessions_live_until_told_otherwise(service: Service, app: str, place: Place) -> None:
    """No timeout, whatever the app's policy says, unless the service names one; and labels."""
    async with place.client(app) as client:
        await client.apps.update(
            policy=sojourn.Policy(default_idle_timeout=1, default_max_lifetime=3600)
        )
        made = await service.create_session(app_name=app, user_id="u")
        stored = await client.sessions.get(made.id, user="u")
        assert (stored.idle_timeout, stored.max_lifetime) == (timedelta(0), timedelta(0))
        other = Service(client, labels={"by": "adk"}, idle_timeout=60, max_lifetime=120)
        made = await other.create_session(app_name=app, user_id="u")
        stored = await client.sessions.get(made.id, user="u")
        assert (stored.idle_timeout.seconds, stored.max_lifetime.seconds) == (60, 120)
        assert stored.labels == {"by": "adk"}


async def test_children_go_with_a_session(service: Service, app: str, place: Place) -> None:
    """ADK knows no children, so deleting what it sees is deleting all of it."""
    made = await service.create_session(app_name=app, user_id="u")
    async with place.client(app) as client:
        parent = await client.sessions.get(made.id, user="u")
        child = await client.sessions.create(parent=parent, user="u")
        await service.delete_session(app_name=app, user_id="u", session_id=made.id)
        with pytest.raises(errors.SessionNotFoundError):
            await client.sessions.get(child)


# --- at once -------------------------------------------------------------------------------------


async def test_of_many_who_create_one_session_one_does(
    service: Service, app: str, place: Place
) -> None:
    """The others are told AlreadyExistsError, whatever service they use; state adds up."""
    async with Service(place.target) as second:
        outcomes = await asyncio.gather(
            *(
                each.create_session(
                    app_name=app, user_id="u", session_id="s", state={f"app:{n}": n}
                )
                for n, each in enumerate((service, second) * 4)
            ),
            return_exceptions=True,
        )
    made = [one for one in outcomes if isinstance(one, Session)]
    refused = [one for one in outcomes if not isinstance(one, Session)]
    assert [type(one) for one in refused] == [AlreadyExistsError] * 7
    [session] = made
    assert len(session.state) == 1
    assert await read(service, session) == session


async def test_appends_to_one_object_queue_up(service: Service, app: str) -> None:
    """Parallel agents share a session object: each event is stored, in some order, once."""
    session = await service.create_session(app_name=app, user_id="u")
    names = [str(n) for n in range(20)]
    await asyncio.gather(*(service.append_event(session, event(name)) for name in names))
    assert sorted(said(session), key=int) == names
    assert await read(service, session) == session


async def test_a_cancelled_append_is_carried_out_and_seen(service: Service, app: str) -> None:
    """The object in memory says what is stored, so that the next append is not stale."""
    session = await service.create_session(app_name=app, user_id="u")
    for pause in range(12):
        task = asyncio.create_task(service.append_event(session, event(str(pause))))
        for _ in range(pause):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read(service, session) == session
    assert said(session)
    await service.append_event(session, event("last"))
    assert said(await read(service, session))[-1] == "last"


# --- how it is made ------------------------------------------------------------------------------


async def test_a_given_client_stays_open(place: Place, app: str) -> None:
    """It is the caller's; an address makes clients that the service closes."""
    async with place.client(app) as client:
        async with Service(client) as service:
            await service.create_session(app_name=app, user_id="u", session_id="s")
        assert (await client.sessions.get("s", user="u")).is_active


def test_a_service_needs_one_address() -> None:
    """A server or a uri; what contradicts itself is refused at once."""
    for wrong in (
        dict[str, Any](),
        {"server": "localhost:1", "uri": "sojourn://localhost:1"},
        {"uri": "sojourn://"},
        {"uri": "sojourn://user:secret@localhost:1"},
    ):
        with pytest.raises(errors.ConfigurationError):
            Service(**wrong)


async def test_an_event_without_a_time_is_refused(service: Service, app: str) -> None:
    """NaN would be no time at all."""
    session = await service.create_session(app_name=app, user_id="u")
    with pytest.raises(errors.InvalidFieldError, match="timestamp"):
        await service.append_event(session, Event(author="user", timestamp=float("nan")))
    assert (await read(service, session)).events == []


async def test_state_that_others_wrote_is_read_as_python_reads_it(
    service: Service, app: str, place: Place
) -> None:
    """Numbers to the last digit, and depths that a faster parser refuses; listed as well."""
    session = await service.create_session(app_name=app, user_id="u")
    texts = {"deep": "[" * 400 + "]" * 400, "big": str(10**40), "float": "1e-320", "exact": "1.00"}
    async with place.client(app) as client:
        await client.sessions.update(
            session.id,
            user="u",
            state={key: sojourn.RawJson(text) for key, text in texts.items()},
            app_state={"deep": sojourn.RawJson(texts["deep"])},
        )
    wanted = {key: json.loads(text) for key, text in texts.items()}
    wanted["app:deep"] = wanted["deep"]
    [listed] = (await service.list_sessions(app_name=app)).sessions
    for found in (await read(service, session), listed):
        assert found.state == wanted
        assert repr(found.state["exact"]) == "1.0"


async def test_state_comes_in_one_order(service: Service, app: str) -> None:
    """By name, scope by scope, each time: agents write it into prompts, which are cached."""
    names = [f"k{n}" for n in range(30)]
    state = {prefix + name: 1 for prefix in ("user:", "", "app:") for name in reversed(names)}
    session = await service.create_session(app_name=app, user_id="u", state=state)
    wanted = [prefix + name for prefix in ("", "app:", "user:") for name in sorted(names)]
    [listed] = (await service.list_sessions(app_name=app)).sessions
    for found in (session, await read(service, session), listed):
        assert list(found.state) == wanted


async def test_lists_leave_the_collector_as_it_was(service: Service, app: str) -> None:
    """On where it was on, off where somebody had it off."""
    await service.create_session(app_name=app, user_id="u")
    assert gc.isenabled()
    await service.list_sessions(app_name=app)
    assert gc.isenabled()
    gc.disable()
    try:
        await service.list_sessions(app_name=app)
        assert not gc.isenabled()
    finally:
        gc.enable()
