"""What the tests start in place of the `claude` command: its protocol, and no model.

It speaks stream-json over standard input and output, writes transcripts below CLAUDE_CONFIG_DIR as
the command does, and mirrors each line. It answers with what it was told before, as far as the
transcript that it resumes knows. Only the standard library, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

CLOCK = iter(range(10_000))


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def option(name: str) -> str | None:
    for at, argument in enumerate(sys.argv):
        if argument == name:
            return sys.argv[at + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


class Transcript:
    """A file of lines, mirrored."""

    def __init__(self, path: Path, session_id: str) -> None:
        self.path = path
        self.session_id = session_id
        self.last: str | None = None
        lines = path.read_text().splitlines() if path.exists() else []
        self.entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for entry in self.entries:
            self.last = entry.get("uuid", self.last)

    def add(self, *entries: dict[str, Any], stored: bool = True) -> None:
        if stored:
            self.entries += entries
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
        if "--session-mirror" in sys.argv:
            say({"type": "transcript_mirror", "filePath": str(self.path), "entries": list(entries)})

    def turn(self, role: str, text: str, **more: Any) -> None:
        name = str(uuid.uuid4())
        entry = {
            "parentUuid": self.last,
            "isSidechain": False,
            "type": role,
            "uuid": name,
            "sessionId": self.session_id,
            "timestamp": f"2026-05-01T10:00:{next(CLOCK) % 60:02d}.000Z",
            "cwd": str(Path.cwd()),
            "gitBranch": "main",
            "message": {"role": role, "content": [{"type": "text", "text": text}]},
            **more,
        }
        self.last = name
        self.add(entry)

    def prompts(self) -> list[str]:
        return [
            entry["message"]["content"][0]["text"]
            for entry in self.entries
            if entry["type"] == "user"
        ]


def answer(main: Transcript, prompt: str) -> str:
    before = main.prompts()
    main.turn("user", prompt)
    if prompt.startswith("delegate "):
        folder = main.path.with_suffix("") / "subagents"
        sub = Transcript(folder / "agent-scout.jsonl", main.session_id)
        sub.add({"type": "agent_metadata", "agentType": "scout"}, stored=False)
        sub.turn("user", prompt.removeprefix("delegate "), isSidechain=True)
        sub.turn("assistant", "found", isSidechain=True)
    if prompt.startswith("picture "):
        kilobytes = int(prompt.removeprefix("picture "))
        main.turn("user", "a picture", isMeta=True, picture="x" * 1024 * kilobytes)
    known = list((main.path.with_suffix("") / "subagents").glob("*.jsonl"))
    text = f"before: {before}, helpers: {sorted(one.stem for one in known)}"
    main.turn("assistant", text)
    main.add({"type": "last-prompt", "lastPrompt": prompt, "sessionId": main.session_id})
    return text


def main() -> None:
    session_id = option("--resume") or option("--session-id") or str(uuid.uuid4())
    folder = Path(os.environ["CLAUDE_CONFIG_DIR"]) / "projects" / os.environ["STUB_PROJECT_KEY"]
    transcript = Transcript(folder / f"{session_id}.jsonl", session_id)
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "control_request":
            request_id = message["request_id"]
            response = {"subtype": "success", "request_id": request_id, "response": {}}
            say({"type": "control_response", "response": response})
        elif message["type"] == "user":
            text = answer(transcript, message["message"]["content"])
            content = [{"type": "text", "text": text}]
            said = {"role": "assistant", "model": "stub", "content": content}
            say({"type": "assistant", "message": said, "session_id": session_id})
            say(
                {
                    "type": "result",
                    "subtype": "success",
                    "duration_ms": 1,
                    "duration_api_ms": 1,
                    "is_error": False,
                    "num_turns": 1,
                    "session_id": session_id,
                    "result": text,
                }
            )


if __name__ == "__main__":
    main()
