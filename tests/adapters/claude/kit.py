"""What an agent runs on, and the entries it writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from claude_agent_sdk import (
    ClaudeAgentOptions,
    SessionKey,
    SessionStoreEntry,
    fold_session_summary,
    project_key_for_directory,
)

from sojourn.adapters.claude import SojournSessionStore

PROJECT = "-work-shop"


@dataclass
class Machine:
    """A computer that agents run on: a folder to work in, and a home."""

    folder: Path
    config: Path
    command: Path

    @property
    def project_key(self) -> str:
        """How the SDK names the folder."""
        return project_key_for_directory(self.folder)

    def key(self, session_id: str, subpath: str = "") -> SessionKey:
        """The key of a transcript of the folder."""
        key: SessionKey = {"project_key": self.project_key, "session_id": session_id}
        return {**key, "subpath": subpath} if subpath else key

    def options(self, store: SojournSessionStore, **more: Any) -> ClaudeAgentOptions:
        """Options for an agent on this machine."""
        return ClaudeAgentOptions(
            session_store=store,
            cwd=self.folder,
            cli_path=self.command,
            env={"CLAUDE_CONFIG_DIR": str(self.config), "STUB_PROJECT_KEY": self.project_key},
            **more,
        )


def key(session_id: str = "s1", subpath: str = "", project: str = PROJECT) -> SessionKey:
    """A key; without a subpath, of the main transcript."""
    made: SessionKey = {"project_key": project, "session_id": session_id}
    return {**made, "subpath": subpath} if subpath else made


def entry(uuid: str = "", **more: Any) -> SessionStoreEntry:
    """An entry with these fields."""
    made = {"type": "user", **({"uuid": uuid} if uuid else {}), **more}
    return cast(SessionStoreEntry, made)


def numbered(numbers: Iterable[int], **more: Any) -> list[SessionStoreEntry]:
    """Entries with uuids `u1`, `u2` and so on."""
    return [entry(f"u{number}", n=number, **more) for number in numbers]


async def summary(store: SojournSessionStore, name: str = "s1") -> Any:
    found = await store.list_session_summaries(PROJECT)
    return {one["session_id"]: one["data"] for one in found}.get(name)


async def folded(store: SojournSessionStore, named: SessionKey) -> Any:
    """What the summary must be: the SDK's fold over all that is stored, in its order."""
    return fold_session_summary(None, named, await store.load(named) or [])["data"]
