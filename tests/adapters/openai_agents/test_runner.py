"""The SDK's own runner with sessions in Sojourn and a scripted model, on both stores.

After the behaviour that tests/memory/test_session.py, test_session_limit.py, the parts of
test_session_context_wrapper.py that run agents, and tests/deferred_session_writes of
openai-agents 0.24 ask of any session. Of the last, what is about the state of a run rather than
about the session that it writes to is left out: checkpoints by schema version, policies for
reasoning ids, filters of handoffs, the Conversations API.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    Runner,
    RunState,
    StopAtTools,
    TResponseInputItem,
    function_tool,
    output_guardrail,
)
from agents.memory import SessionSettings
from agents.run_internal.session_persistence import rewind_session_items
from agents.testing import ScriptedModel, assistant_message, function_call

import sojourn
from sojourn.adapters.openai_agents import SojournSession
from tests.acceptance.kit import Place
from tests.adapters.openai_agents.kit import RUNS, assistant, run, said, talker, user, users


def away(place: Place, app: str, session_id: str = "s", **fields: Any) -> SojournSession:
    """A session that makes its clients itself: in each event loop its own."""
    return SojournSession(session_id, f"sojourn://{place.target}", app=app, **fields)


@pytest.mark.parametrize("how", RUNS)
async def test_a_conversation_goes_on(place: Place, app: str, how: str) -> None:
    async with away(place, app) as session:
        agent, model = talker("San Francisco", "California")
        first = await run(how, agent, "What city is the Golden Gate Bridge in?", session)
        assert first.final_output == "San Francisco"
        second = await run(how, agent, "What state is it in?", session)
        assert second.final_output == "California"
        asked = ["What city is the Golden Gate Bridge in?", "San Francisco", "What state is it in?"]
        assert said(cast("list[Any]", model.calls[-1].input)) == asked
        assert said(await session.get_items()) == [*asked, "California"]


@pytest.mark.parametrize("how", RUNS)
async def test_conversations_are_apart_and_without_a_session_there_is_none(
    place: Place, app: str, how: str
) -> None:
    async with away(place, app, "cats") as cats, away(place, app, "dogs") as dogs:
        agent, model = talker("a", "b", "c", "d")
        await run(how, agent, "I like cats", cats)
        await run(how, agent, "I like dogs", dogs)
        await run(how, agent, "What do I like?", cats)
        assert said(cast("list[Any]", model.calls[-1].input)) == [
            "I like cats",
            "a",
            "What do I like?",
        ]
        await run(how, agent, "What do I like?", None)
        assert len(model.calls[-1].input) == 1


@pytest.mark.parametrize("how", RUNS)
async def test_lists_are_appended_and_a_callback_chooses_what_the_model_sees(
    place: Place, app: str, how: str
) -> None:
    def of_users(history: list[Any], new: list[Any]) -> list[Any]:
        return [item for item in history if item["role"] == "user"] + new

    async with away(place, app) as session:
        history = [user("Earlier message"), assistant("Saved reply")]
        await session.add_items(history)
        agent, model = talker("a", "b")
        await run(how, agent, [user("one")], session)
        assert model.calls[-1].input == [*history, user("one")]
        await run(how, agent, [user("two")], session, session_input_callback=of_users)
        assert model.calls[-1].input == [history[0], user("one"), user("two")]
        assert said(await session.get_items()) == [*said(history), "one", "a", "two", "b"]


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.parametrize(("limit", "seen"), [(2, ["3", "c"]), (0, []), (100, None), (None, None)])
async def test_a_run_may_limit_what_it_reads(
    place: Place, app: str, how: str, limit: int | None, seen: list[str] | None
) -> None:
    async with away(place, app, session_settings=SessionSettings(limit=50)) as session:
        history = [user("1"), assistant("a"), user("2"), assistant("b"), user("3"), assistant("c")]
        await session.add_items(history)
        agent, model = talker("d")
        await run(how, agent, "4", session, session_settings=SessionSettings(limit=limit))
        told = said(cast("list[Any]", model.calls[-1].input))
        assert told == [*(said(history) if seen is None else seen), "4"]
        assert len(await session.get_items()) == 8


@function_tool
def look_up(query: str) -> str:
    """Find something."""
    return f"found {query}"


async def test_tools_and_handoffs_are_kept_in_their_order(client: sojourn.AsyncClient) -> None:
    session = SojournSession("s", client)
    expert = Agent(
        name="expert", model=ScriptedModel([[assistant_message("42", item_id="msg-42")]])
    )
    steps = [
        [
            function_call("look_up", {"query": "x"}, call_id="c-1"),
            function_call("look_up", {"query": "Grüße"}, call_id="c-2"),
        ],
        [function_call("transfer_to_expert", {}, call_id="c-3")],
    ]
    agent = Agent(name="desk", model=ScriptedModel(steps), tools=[look_up], handoffs=[expert])
    result = await run("run", agent, "why?", session)
    assert result.final_output == "42"
    kept = cast("list[dict[str, Any]]", await session.get_items())
    assert [item.get("type", item.get("role")) for item in kept] == [
        "user",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert [item["call_id"] for item in kept[1:7]] == ["c-1", "c-2", "c-1", "c-2", "c-3", "c-3"]
    assert kept[4]["output"] == "found Grüße"
    # And a run can be continued from it.
    again, model = talker("still 42")
    await run("run", again, "sure?", session)
    assert len(model.calls[0].input) == 9


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_a_guardrail_that_trips_leaves_what_the_user_said(
    client: sojourn.AsyncClient, how: str
) -> None:
    def trips(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    session = SojournSession("s", client)
    agent, _ = talker("not kept")
    agent.input_guardrails = [InputGuardrail(guardrail_function=trips)]
    with pytest.raises(InputGuardrailTripwireTriggered):
        await run(how, agent, "hello", session)
    assert await session.get_items() == [user("hello")]


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_an_error_of_the_session_reaches_the_caller_of_the_run(
    client: sojourn.AsyncClient, how: str
) -> None:
    session = SojournSession("s", client)
    await session.add_items(users(["old"]))
    await client.apps.update(policy=sojourn.Policy(max_messages_per_session=1))
    agent, _ = talker("not kept")
    with pytest.raises(sojourn.errors.QuotaExceededError):
        await asyncio.wait_for(run(how, agent, "hello", session), 10)
    assert said(await session.get_items()) == ["old"]


async def test_the_runner_takes_back_what_it_must_say_again(client: sojourn.AsyncClient) -> None:
    session = SojournSession("s", client)
    kept, taken = [user("keep")], [user("hello"), assistant({"n": 1.0, "t": "é"})]
    await session.add_items(kept + taken)
    await rewind_session_items(session, taken)
    assert await session.get_items() == kept
    # Only its own: somebody else was there since.
    await session.add_items([*taken, user("other")])
    await rewind_session_items(session, taken)
    assert said(await session.get_items())[-1] == "other"


async def test_runs_at_once_lose_nothing(place: Place, app: str) -> None:
    async with place.client(app) as one, place.client(app) as other:
        await asyncio.gather(
            *(
                run(how, talker(f"answer {n}")[0], f"question {n}", SojournSession("s", client))
                for n, client in enumerate((one, other) * 4)
                for how in ("run_streamed" if n % 2 else "run",)
            )
        )
        texts = said(await SojournSession("s", one).get_items())
        assert sorted(texts) == sorted(
            f"{word} {n}" for word in ("question", "answer") for n in range(8)
        )
        for n in range(8):
            assert texts.index(f"question {n}") < texts.index(f"answer {n}")


# --- approvals: a batch that is written later ---------------------------------------------------


@function_tool(needs_approval=True)
def write_thing(query: str) -> str:
    """Change something."""
    return f"wrote {query}"


@output_guardrail
async def fine(*_: Any) -> GuardrailFunctionOutput:
    """Nothing to say against it."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def approving() -> Agent[Any]:
    """An agent whose second step needs an approval, and is written to the session with the next."""
    steps = [
        [function_call("look_up", {"query": "x"}, call_id="c-look")],
        [function_call("write_thing", {"query": "x"}, call_id="c-write")],
        [assistant_message("done", item_id="msg-done")],
    ]
    return Agent(
        name="careful",
        model=ScriptedModel(steps),
        tools=[look_up, write_thing],
        output_guardrails=[fine],
        tool_use_behavior=StopAtTools(stop_at_tool_names=["finish"]),
    )


@pytest.mark.parametrize("how", ["run", "run_streamed"])
@pytest.mark.parametrize("failure", ["", "refused", "unheard"])
async def test_an_approved_step_is_kept_once_whatever_became_of_its_write(
    client: sojourn.AsyncClient, how: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write fails, or is done and nobody hears of it: the next resume finds out by reading."""
    session = SojournSession("s", client)
    agent = approving()
    first = await run(how, agent, "do it", session)
    assert len(first.interruptions) == 1
    state = await RunState.from_json(agent, json.loads(json.dumps(first.to_state().to_json())))
    state.approve(state.get_interruptions()[0])
    if failure:
        real = client.messages.append

        async def fails(*args: Any, **fields: Any) -> Any:
            monkeypatch.setattr(client.messages, "append", real)
            if failure == "unheard":
                await real(*args, **fields)
            raise sojourn.errors.UnavailableError("the line is down")

        monkeypatch.setattr(client.messages, "append", fails)
        with pytest.raises(sojourn.errors.UnavailableError):
            await run(how, agent, state, session)
        state = await RunState.from_json(agent, state.to_json())
    result = await run(how, agent, state, session)
    assert result.final_output == "done"
    kept = cast("list[dict[str, Any]]", await session.get_items())
    assert [(item.get("type"), item.get("call_id")) for item in kept] == [
        (None, None),
        ("function_call", "c-look"),
        ("function_call_output", "c-look"),
        ("function_call", "c-write"),
        ("function_call_output", "c-write"),
        ("message", None),
    ]


def test_the_synchronous_runner_of_a_program_without_a_loop(place: Place, app: str) -> None:
    """Each call of `run_sync` has an event loop, which one client would not survive."""
    session = away(place, app)
    texts: list[TResponseInputItem] = []
    for n in range(2):
        agent, model = talker(f"answer {n}")
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            Runner.run_sync(agent, f"question {n}", session=session)
            texts = cast("list[TResponseInputItem]", model.calls[0].input)
            loop.run_until_complete(session.close())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
    assert said(texts) == ["question 0", "answer 0", "question 1"]
