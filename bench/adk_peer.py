"""google-adk's session services, in-process: told what to do in lines of JSON.

    .venv-bench/bin/python -m bench.adk_peer FOLDER

Runs in an environment of its own and so imports nothing of Sojourn. Each service has
its own SQLite file and its own defaults. What is measured is calls per second, with one
caller and with several at once; the better of the two counts.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


def _adk(module: str, name: str) -> Any:
    """Something of ADK's, which is installed where this runs and nowhere else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(module), name)


_SESSIONS = "google.adk.sessions"
Event = _adk("google.adk.events", "Event")
GetSessionConfig = _adk(f"{_SESSIONS}.base_session_service", "GetSessionConfig")
DatabaseSessionService = _adk(f"{_SESSIONS}.database_session_service", "DatabaseSessionService")
SqliteSessionService = _adk(f"{_SESSIONS}.sqlite_session_service", "SqliteSessionService")
types = _adk("google.genai", "types")

APP = "bench"
SESSIONS = 32
"""How many sessions the appends and reads go round."""
Call = Callable[[int], Awaitable[Any]]


class Peer:
    """One of ADK's services, with sessions that hold messages."""

    def __init__(self, service: Any, text: str, last: int) -> None:
        self.service = service
        self._text = text
        self._last = last
        self._sessions: list[Any] = []
        self._number = 0

    async def prepare(self, messages: int) -> None:
        """Make the sessions that are read and written."""
        for _ in range(SESSIONS):
            session = await self.create(0)
            for _ in range(messages):
                await self._append_to(session)
            self._sessions.append(session)

    async def create(self, index: int) -> Any:
        """Create a session."""
        self._number += 1
        return await self.service.create_session(
            app_name=APP,
            user_id=f"user-{index % 50}",
            session_id=f"session-{self._number:08d}",
        )

    async def append(self, index: int) -> None:
        """Append one message."""
        await self._append_to(self._sessions[index % SESSIONS])

    async def _append_to(self, session: Any) -> None:
        content = types.Content(role="user", parts=[types.Part(text=self._text)])
        await self.service.append_event(session, Event(author="user", content=content))

    async def get(self, index: int) -> None:
        """Get a session without its messages."""
        await self._get(index, 0)

    async def get_full(self, index: int) -> None:
        """Get a session with its newest messages."""
        found = await self._get(index, self._last)
        if len(found.events) != self._last:
            raise RuntimeError(f"{len(found.events)} events instead of {self._last}")

    async def _get(self, index: int, events: int) -> Any:
        session = self._sessions[index % SESSIONS]
        return await self.service.get_session(
            app_name=APP,
            user_id=session.user_id,
            session_id=session.id,
            config=GetSessionConfig(num_recent_events=events),
        )


async def _rate(call: Call, callers: int, seconds: float) -> float:
    """Calls per second of so many callers at once; 0 when they get into each other's way."""
    done = 0
    until = time.perf_counter() + seconds

    async def calls(who: int) -> None:
        nonlocal done
        index = who
        while time.perf_counter() < until:
            await call(index)
            index += callers
            done += 1

    began = time.perf_counter()
    try:
        await asyncio.gather(*(calls(who) for who in range(callers)))
    except Exception as error:  # noqa: BLE001 - "database is locked" is a finding, not a fault
        print(f"{callers} callers: {error!r}", file=sys.stderr)
        return 0.0
    return done / (time.perf_counter() - began)


async def _measure(peers: dict[str, Peer], order: dict[str, Any]) -> dict[str, Any]:
    peer = peers[order["service"]]
    call: Call = getattr(peer, order["call"])
    rates = {callers: await _rate(call, callers, order["seconds"]) for callers in order["callers"]}
    best = max(rates, key=lambda callers: rates[callers])
    return {"rate": rates[best], "callers": best}


async def _obey_all(folder: Path) -> None:
    order = json.loads(await asyncio.to_thread(sys.stdin.readline))
    peers = {
        "database": Peer(
            DatabaseSessionService(f"sqlite+aiosqlite:///{folder / 'adk-database.db'}"),
            order["text"],
            order["last"],
        ),
        "sqlite": Peer(
            SqliteSessionService(str(folder / "adk-sqlite.db")), order["text"], order["last"]
        ),
    }
    for peer in peers.values():
        await peer.prepare(order["messages"])
    _say({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        _say(await _measure(peers, json.loads(line)))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Obey until the pipe closes."""
    warnings.simplefilter("ignore")
    asyncio.run(_obey_all(Path(sys.argv[1]).resolve()))


if __name__ == "__main__":
    main()
