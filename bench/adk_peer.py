"""google-adk's session services, in-process: told what to do in lines of JSON.

    .venv-bench/bin/python -m bench.adk_peer FOLDER

Runs in an environment of its own and so imports nothing of Sojourn; `adk_adapter` does the same
with our adapter. Each service has its own SQLite file and its own defaults. What is measured is
calls per second, with one caller and with several at once; the better of the two counts.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
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
types = _adk("google.genai", "types")

APP = "bench"
LISTED = "listed"
"""The app whose sessions are listed."""
SESSIONS = 32
"""How many sessions the appends and reads go round."""
Call = Callable[[int], Awaitable[Any]]


class Peer:
    """One of ADK's services, with sessions that hold messages."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self._text = ""
        self._last = 0
        self._messages = 0
        self._listed = 0
        self._sessions: list[Any] = []
        self._read: list[Any] = []
        self._number = 0

    async def prepare(self, order: Mapping[str, Any]) -> None:
        """Make the sessions that are written, those that are read, and those that are listed."""
        self._text, self._last = order["text"], order["last"]
        self._messages, self._listed = order["messages"], order.get("listed", 0)
        for sessions in (self._sessions, self._read):
            for _ in range(SESSIONS):
                session = await self.create(0)
                for _ in range(self._messages):
                    await self._append_to(session)
                sessions.append(session)
        for number in range(self._listed):
            await self.service.create_session(
                app_name=LISTED,
                user_id=f"user-{number % 50}",
                session_id=f"session-{number:08d}",
                state={"topic": "the weather in Graz", "turns": 3, "user:language": "de"},
            )

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

    async def get_all(self, index: int) -> None:
        """Get a session with all its messages, as a runner does."""
        found = await self._get(index, None)
        if len(found.events) != self._messages:
            raise RuntimeError(f"{len(found.events)} events instead of {self._messages}")

    async def list_all(self, _: int) -> None:
        """List the sessions of an app, with their state."""
        found = (await self.service.list_sessions(app_name=LISTED)).sessions
        if len(found) != self._listed:
            raise RuntimeError(f"{len(found)} sessions instead of {self._listed}")

    async def get_full(self, index: int) -> None:
        """Get a session with its newest messages."""
        found = await self._get(index, self._last)
        if len(found.events) != self._last:
            raise RuntimeError(f"{len(found.events)} events instead of {self._last}")

    async def _get(self, index: int, events: int | None) -> Any:
        session = self._read[index % SESSIONS]
        return await self.service.get_session(
            app_name=APP,
            user_id=session.user_id,
            session_id=session.id,
            config=None if events is None else GetSessionConfig(num_recent_events=events),
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


async def obey(services: Mapping[str, Any]) -> None:
    """Prepare services, by their names, and measure them until the pipe closes."""
    order = json.loads(await asyncio.to_thread(sys.stdin.readline))
    names = order.get("services", services)
    peers = {name: Peer(services[name]) for name in names}
    for peer in peers.values():
        await peer.prepare(order)
    _say({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        _say(await _measure(peers, json.loads(line)))


async def _own_services(folder: Path) -> None:
    database = _adk(f"{_SESSIONS}.database_session_service", "DatabaseSessionService")
    sqlite = _adk(f"{_SESSIONS}.sqlite_session_service", "SqliteSessionService")
    await obey(
        {
            "database": database(f"sqlite+aiosqlite:///{folder / 'adk-database.db'}"),
            "sqlite": sqlite(str(folder / "adk-sqlite.db")),
        }
    )


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Obey until the pipe closes."""
    warnings.simplefilter("ignore")
    asyncio.run(_own_services(Path(sys.argv[1]).resolve()))


if __name__ == "__main__":
    main()
