"""Agents of the Claude Agent SDK whose transcripts outlive their machines.

An agent begins on one machine and goes on upon another: the SDK copies each transcript into
Sojourn, and lays it out again where a session is resumed. The model is a stub, so no key and no
network is needed: COMMAND stands in for the `claude` command, of which it speaks as much as this
takes. The SDK is real; leave out `cli_path` and `env`, and so is the agent.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ResultMessage,
    delete_session_via_store,
    get_session_messages_from_store,
    list_sessions_from_store,
    list_subagents_from_store,
    project_key_for_directory,
    query,
    rename_session_via_store,
)

from common import Server, run
from sojourn import AsyncClient, ChangeCause, SessionChange
from sojourn.adapters.claude import SojournSessionStore

COMMAND = """
import json, os, sys, uuid
from pathlib import Path

def say(**message):
    print(json.dumps(message), flush=True)

def write(path, role, text, **more):
    entry = {"type": role, "uuid": str(uuid.uuid4()), "parentUuid": None, "sessionId": session_id,
             "timestamp": "2026-05-01T10:00:00Z", "message": {"role": role, "content": text}}
    lines = path.read_text().splitlines() if path.exists() else []
    if lines:
        entry["parentUuid"] = json.loads(lines[-1])["uuid"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\\n" for line in [*lines, json.dumps(entry | more)]))
    say(type="transcript_mirror", filePath=str(path), entries=[entry | more])
    return [json.loads(line)["message"] for line in lines]

given = [word.partition("=")[2] for word in sys.argv if word.startswith("--resume=")]
session_id = given[0] if given else str(uuid.uuid4())
main = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", os.environ["PROJECT"], session_id)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["type"] == "control_request":
        say(type="control_response", response={
            "subtype": "success", "request_id": asked["request_id"], "response": {}})
        continue
    before = write(main.with_suffix(".jsonl"), "user", asked["message"]["content"])
    write(main / "subagents" / "agent-scout.jsonl", "user", "look around", isSidechain=True)
    text = f"I know {sum(one['role'] == 'user' for one in before)} questions of before."
    write(main.with_suffix(".jsonl"), "assistant", text)
    say(type="result", subtype="success", duration_ms=1, duration_api_ms=1, is_error=False,
        num_turns=1, session_id=session_id, result=text)
"""


async def ask(machine: Path, folder: Path, prompt: str, store: SojournSessionStore) -> str:
    """Run an agent once, on a machine whose home may be empty."""
    options = ClaudeAgentOptions(
        session_store=store,  # this line is all that it takes
        continue_conversation=True,
        cwd=folder,
        cli_path=machine / "claude",
        env={
            "CLAUDE_CONFIG_DIR": str(machine),
            "PROJECT": project_key_for_directory(folder),
        },
    )
    session_id = ""
    async for message in query(prompt=prompt, options=options):
        if isinstance(message, ResultMessage):
            print(f"{machine.name}: {prompt!r} -> {message.result}")
            session_id = message.session_id
    return session_id


def machine(folder: Path, name: str) -> Path:
    """Return the home of a machine that has the command."""
    home = folder / name
    home.mkdir()
    command = home / "claude"
    command.write_text(f"#!{sys.executable} -IS\n{COMMAND}")
    command.chmod(0o755)
    return home


async def story(client: AsyncClient, _: Server) -> None:
    """Two machines, one conversation; then what others see of it."""
    store = SojournSessionStore(client, labels={"team": "shop"})
    with tempfile.TemporaryDirectory() as place:
        os.environ["HOME"] = place  # so that the SDK reads nothing of yours
        folder = Path(place)
        session_id = ""
        for number, prompt in enumerate(("What is in the shop?", "And what is missing?"), 1):
            session_id = await ask(machine(folder, f"machine-{number}"), folder, prompt, store)

        # The SDK's own helpers read and write the same transcripts.
        await rename_session_via_store(store, session_id, "The shop", directory=str(folder))
        for info in await list_sessions_from_store(store, directory=str(folder)):
            print(f"listed: {info.summary}, first asked {info.first_prompt!r}")
        said = await get_session_messages_from_store(store, session_id, directory=str(folder))
        print(f"messages: {[one.type for one in said]}, ", end="")
        print(f"helpers: {await list_subagents_from_store(store, session_id, str(folder))}")

        # For everybody else it is a session like any other, with children.
        project = project_key_for_directory(folder)
        name = store.names({"project_key": project, "session_id": session_id})
        seen = await client.sessions.get(name, roll_up=True)
        print(f"a session of {seen.message_count} messages, labels {dict(seen.labels)}; ", end="")
        print(f"with helpers {seen.rolled_up.message_count} in {seen.rolled_up.session_count}")
        async with client.sessions.watch(labels={"team": "shop"}) as watch:
            await delete_session_via_store(store, session_id, directory=str(folder))
            async for change in watch.changes():
                if isinstance(change, SessionChange) and change.cause is ChangeCause.DELETED:
                    print("deleted, and watchers know")
                    break
        print(f"left: {await list_sessions_from_store(store, directory=str(folder))}")


if __name__ == "__main__":
    run(story, __doc__, app="claude")
