"""A dungeon master on Google's ADK, whose own runner keeps its sessions in Sojourn.

After "Session Management Implementation": one long session for the root agent, and temporary ones
for sub-agents, made with `create_session` and removed with `delete_session` in `finally`. The names
are ADK's; the only line that is not is the one that makes the session service. The model is a stub:
nothing leaves this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents.llm_agent import LlmAgent
from google.adk.errors import StaleSessionError
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from common import Server, run
from sojourn import AsyncClient
from sojourn.adapters.adk import SojournSessionService

USER = "root_agent"


class Stub(BaseLlm):
    """Calls the tool `roll` when dice are named; else says how much it remembers."""

    model: str = "stub"

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002 - ADK's signature
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = llm_request.contents[-1].parts or [types.Part(text="")]
        if parts[0].function_response:
            answer = types.Part(text=f"You rolled {parts[0].function_response.response}.")
        elif "dice" in (parts[0].text or "") and llm_request.tools_dict:
            answer = types.Part(function_call=types.FunctionCall(name="roll", args={"sides": 20}))
        else:
            answer = types.Part(text=f"I know {len(llm_request.contents)} messages.")
        yield LlmResponse(
            content=types.Content(role="model", parts=[answer]),
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=1, candidates_token_count=1
            ),
        )


def roll(sides: int, tool_context: ToolContext) -> int:
    """Roll a die that is loaded, and note it for all who play."""
    tool_context.state["rolls"] = tool_context.state.get("rolls", 0) + 1
    tool_context.state["user:lucky"] = True
    tool_context.state["temp:sides"] = sides
    return sides


def dungeon_master() -> LlmAgent:
    """The root agent."""
    return LlmAgent(name="dungeon_master", model=Stub(), tools=[roll], output_key="last")


async def say(service: SojournSessionService, app: str, session_id: str, text: str) -> str:
    """One turn of the root agent, with a runner of its own, as in a pod that knows nothing."""
    runner = Runner(agent=dungeon_master(), app_name=app, session_service=service)
    message = types.Content(role="user", parts=[types.Part(text=text)])
    said = ""
    async for event in runner.run_async(user_id=USER, session_id=session_id, new_message=message):
        if event.content and event.content.parts and event.content.parts[0].text:
            said = event.content.parts[0].text
    return said


async def run_sub_agent(service: SojournSessionService, app: str, agent: str) -> str:
    """Give a task to a sub-agent, in a session that is removed in any case."""
    made = await service.create_session(app_name=app, user_id=USER, session_id=f"temp-{agent}")
    try:
        return await say(service, app, made.id, f"a task for {agent}")
    finally:
        await service.delete_session(app_name=app, user_id=USER, session_id=made.id)


async def read(service: SojournSessionService, app: str) -> Session:
    """The root's session."""
    found = await service.get_session(app_name=app, user_id=USER, session_id="campaign")
    assert found is not None
    return found


async def story(client: AsyncClient, server: Server) -> None:
    """Play."""
    here = SojournSessionService(client)
    app = client.app
    names: dict[str, Any] = {"app_name": app, "user_id": USER}

    made = await here.create_session(**names, session_id="campaign", state={"app:world": "Faerûn"})
    print(f"made: {made.state}; the same when read: {made == await read(here, app)}")
    print(await say(here, app, "campaign", "We enter the inn."))
    async with SojournSessionService(server.target) as there:  # Another pod.
        print(await say(there, app, "campaign", "I throw the dice."))
    session = await read(here, app)
    print({key: session.state[key] for key in sorted(session.state)})

    answers = await asyncio.gather(*(run_sub_agent(here, app, name) for name in ("npc", "bard")))
    listed = (await here.list_sessions(**names)).sessions
    print(f"sub-agents: {answers}; left: {[one.id for one in listed]}")

    stale = await read(here, app)
    await say(here, app, "campaign", "Goodbye.")
    try:
        await here.append_event(stale, session.events[-1].model_copy(update={"id": "late"}))
    except StaleSessionError as error:
        print(f"stale: {str(error).partition(':')[0]}")

    # What others see: a message for each event, whoever asks and in whatever language.
    history = await client.messages.list("campaign", user=USER).to_list()
    print([message.role for message in history])


if __name__ == "__main__":
    run(story, __doc__, "dungeon_master")
