"""ADK's own runner on our sessions, with a model that says what it is told to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.agents.sequential_agent import SequentialAgent
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import Field

from sojourn.adapters.adk import SojournSessionService as Service
from tests.acceptance.kit import Place

APP = "support"


# The agents that run others are to be replaced one day, and say so.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated in favor of:DeprecationWarning")


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user of this test's own; ADK has rules for the names of apps."""
    return str(request.node.name)


class Script(BaseLlm):
    """A model that answers from a list, or else repeats what it heard and how much came before."""

    model: str = "script"
    answers: list[types.Part] = Field(default_factory=list)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer once."""
        heard = llm_request.contents[-1].parts
        text = heard[0].text if heard else ""
        part = (
            self.answers.pop(0)
            if self.answers
            else types.Part(text=f"{len(llm_request.contents)}: {text}")
        )
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def agent(name: str = "helper", **fields: Any) -> LlmAgent:
    """An agent with such a model."""
    return LlmAgent(name=name, model=fields.pop("model", None) or Script(), **fields)


def words(text: str) -> types.Content:
    """What a user says."""
    return types.Content(role="user", parts=[types.Part(text=text)])


async def ask(runner: Runner, user: str, text: str, **fields: Any) -> list[Event]:
    """One turn: what came of it."""
    options: dict[str, Any] = {"session_id": "s", "new_message": words(text)} | fields
    return [one async for one in runner.run_async(user_id=user, **options)]


async def stored(service: Service, user: str, name: str = "s") -> Session:
    """The session as it is stored."""
    found = await service.get_session(app_name=APP, user_id=user, session_id=name)
    assert found is not None
    return found


def texts(events: list[Event]) -> list[str | None]:
    """What was said, in order."""
    return [one.content.parts[0].text for one in events if one.content and one.content.parts]


def runner_of(service: Service, root: Any = None, **fields: Any) -> Runner:
    """A runner; its app's name is that of all these tests."""
    return Runner(
        agent=root or agent(output_key="last"), app_name=APP, session_service=service, **fields
    )


async def test_several_turns_remember(service: Service, user: str) -> None:
    """The model sees all that came before; `output_key` and `state_delta` are in the state."""
    await service.create_session(app_name=APP, user_id=user, session_id="s")
    runner = runner_of(service)
    for number in (1, 2, 3):
        await ask(runner, user, f"turn {number}", state_delta={"asked": number, "user:n": number})
    session = await stored(service, user)
    assert texts(session.events) == [
        *("turn 1", "1: turn 1"),
        *("turn 2", "3: turn 2"),
        *("turn 3", "5: turn 3"),
    ]
    assert session.state["last"] == "5: turn 3"
    assert (session.state["asked"], session.state["user:n"]) == (3, 3)


async def test_another_process_goes_on(service: Service, place: Place, user: str) -> None:
    """A service that knows nothing of the first one reads all of it, and appends behind it."""
    await service.create_session(app_name=APP, user_id=user, session_id="s")
    await ask(runner_of(service), user, "one")
    async with Service(place.target) as second:
        await ask(runner_of(second), user, "two")
    await ask(runner_of(service), user, "three")
    assert texts((await stored(service, user)).events)[-1] == "5: three"


async def test_tools_change_state(service: Service, user: str) -> None:
    """Calls and answers of tools are events; `temp:` is there for the run and not stored."""
    seen: list[Any] = []

    def book(title: str, tool_context: ToolContext) -> dict[str, Any]:
        """Lend a book."""
        seen.append(tool_context.state.get("temp:hint"))
        tool_context.state["loan"] = {"title": title, "days": 14}
        tool_context.state["app:loans"] = 1
        tool_context.state["temp:hint"] = "only now"
        return {"ok": True, "title": title}

    call = types.Part(function_call=types.FunctionCall(name="book", args={"title": "Emma"}))
    model = Script(answers=[call, call, types.Part(text="lent")])
    await service.create_session(app_name=APP, user_id=user, session_id="s")
    events = await ask(runner_of(service, agent(model=model, tools=[book])), user, "Emma")
    assert texts(events)[-1] == "lent"
    assert seen == [None, "only now"]
    session = await stored(service, user)
    assert session.state["loan"] == {"title": "Emma", "days": 14}
    assert session.state["app:loans"] == 1
    assert not [key for key in session.state if key.startswith("temp:")]
    calls = [one.get_function_calls() for one in session.events]
    answers = [one.get_function_responses() for one in session.events]
    assert [len(one) for one in calls] == [0, 1, 0, 1, 0, 0]
    assert [len(one) for one in answers] == [0, 0, 1, 0, 1, 0]
    assert session.events[1:] == events


async def test_agents_hand_on_and_run_beside_each_other(service: Service, user: str) -> None:
    """A sequence passes `temp:` on; parallel branches append to one session."""

    def hinted(context: Any) -> str:
        return f"hint: {context.state['temp:out']}"

    root = SequentialAgent(
        name="all",
        sub_agents=[
            agent("first", output_key="temp:out"),
            agent("second", instruction=hinted),
            ParallelAgent(
                name="both", sub_agents=[agent(f"p{n}", output_key=f"p{n}") for n in range(4)]
            ),
        ],
    )
    await service.create_session(app_name=APP, user_id=user, session_id="s")
    events = await ask(runner_of(service, root), user, "go")
    session = await stored(service, user)
    assert session.events[1:] == events
    assert {f"p{n}" for n in range(4)} <= session.state.keys()
    assert {one.branch for one in events} >= {f"both.p{n}" for n in range(4)}


async def test_a_rewind_undoes_state(service: Service, user: str) -> None:
    """What came after is left out of the model's context, and its state taken back."""
    await service.create_session(app_name=APP, user_id=user, session_id="s")
    runner = runner_of(service, artifact_service=None)
    await ask(runner, user, "one", state_delta={"n": 1})
    events = await ask(runner, user, "two", state_delta={"n": 2, "new": True})
    await runner.rewind_async(
        user_id=user, session_id="s", rewind_before_invocation_id=events[0].invocation_id
    )
    session = await stored(service, user)
    assert (session.state["n"], session.state["new"]) == (1, None)
    assert session.events[-1].actions.rewind_before_invocation_id == events[0].invocation_id
    assert texts(await ask(runner, user, "three")) == ["3: three"]


async def test_a_missing_session_is_made_only_when_told(service: Service, user: str) -> None:
    """`auto_create_session`; otherwise ADK's own error."""
    with pytest.raises(SessionNotFoundError):
        await ask(runner_of(service), user, "hello")
    await ask(runner_of(service, auto_create_session=True), user, "hello")
    assert texts((await stored(service, user)).events) == ["hello", "1: hello"]


async def test_of_two_runs_at_once_one_wins(service: Service, user: str) -> None:
    """The other one is told that it is stale, and nothing of both is mixed."""
    await service.create_session(app_name=APP, user_id=user, session_id="s")
    outcomes = await _race(service, user)
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [StaleSessionError]
    [won] = [one for one in outcomes if not isinstance(one, BaseException)]
    session = await stored(service, user)
    assert session.events[1:] == won
    assert len(session.events) == 2


async def _race(service: Service, user: str) -> list[Any]:
    """Two runs, both of which have read the session before either writes."""
    both = asyncio.Barrier(2)
    get = service.get_session

    async def together(**fields: Any) -> Session | None:
        found = await get(**fields)
        await both.wait()
        return found

    service.get_session = together  # type: ignore[method-assign]
    try:
        return await asyncio.gather(
            *(ask(runner_of(service), user, text) for text in ("one", "two")),
            return_exceptions=True,
        )
    finally:
        service.get_session = get  # type: ignore[method-assign]


def test_the_synchronous_face_works(place: Place, user: str) -> None:
    """`Runner.run` has an event loop of its own each time."""
    service = Service(place.target)
    runner = runner_of(service, auto_create_session=True)
    for number in (1, 2):
        events = list(runner.run(user_id=user, session_id="s", new_message=words(f"turn {number}")))
        assert texts(events) == [f"{2 * number - 1}: turn {number}"]
    found = asyncio.run(stored(service, user))
    assert len(found.events) == 4
