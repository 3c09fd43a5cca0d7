"""The adapter for google-adk in place of google-adk's own DatabaseSessionService.

The adapter and the server are two processes with a connection between them; DatabaseSessionService
and its SQLite file are in one. Each is called by as many callers at once as serves it best.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from bench.calls import LAST, READ_MESSAGES, TEXT
from bench.environment import peers_python
from bench.plan import Plan
from bench.processes import Broken, Worker, start_sojourn
from bench.results import Results

CALLS = {
    "create": "create",
    "append": "append one event",
    "get": "get, no events",
    "get_all": f"get with its {READ_MESSAGES} events",
    "list_all": "list sessions, with state",
}
CALLERS = (1, 8, 64)
Say = Callable[[str], None]


def measure(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    """Calls per second: the adapter's over DatabaseSessionService's, in interleaved rounds."""
    say("adapter: making google-adk's environment")
    python = peers_python(results)
    if python is None:
        return
    peer = Worker("adk-database", [str(python), "-m", "bench.adk_peer", str(folder)], folder)
    try:
        with start_sojourn(folder, "adapter") as server:
            adapter = Worker(
                "adk-adapter", [sys.executable, "-m", "bench.adk_adapter", server.target], folder
            )
            try:
                _compare(plan, adapter, peer, results, say)
            finally:
                adapter.close()
    except Broken as error:
        results.skipped.append(f"google-adk's adapter: {error}")
    finally:
        peer.close()


def _compare(plan: Plan, adapter: Worker, peer: Worker, results: Results, say: Say) -> None:
    say(f"adapter: filling, with {plan.listed:,} sessions to list")
    sides = {"sojourn": adapter, "database": peer}
    for name, worker in sides.items():
        worker.ask(
            text=TEXT, last=LAST, messages=READ_MESSAGES, listed=plan.listed, services=[name]
        )
    rates: dict[tuple[str, str], list[float]] = {}
    callers: dict[tuple[str, str], int] = {}
    for number in range(plan.rounds):
        say(f"adapter, round {number + 1} of {plan.rounds}")
        for call in CALLS:
            for name, worker in sides.items():
                # The first round finds out how many callers at once serve it best.
                at_once = callers.get((name, call))
                answer = worker.ask(
                    service=name,
                    call=call,
                    seconds=plan.peer_seconds,
                    callers=_callers(call) if at_once is None else [at_once],
                )
                callers[name, call] = answer["callers"]
                rates.setdefault((name, call), []).append(answer["rate"])
    for call, what in CALLS.items():
        ours, theirs = rates["sojourn", call], rates["database", call]
        ratios = [mine / rate for mine, rate in zip(ours, theirs, strict=True) if rate]
        if not ratios:
            results.skipped.append(f"google-adk's adapter: {what}: the peer failed, see its log")
            continue
        results.add(
            "google-adk adapter",
            f"adapter {call}",
            f"calls per second over DatabaseSessionService: {_title(call, what, plan)}",
            ratios,
            value=statistics.median(ratios),
            facts={
                "rate": round(statistics.median(ours), 1),
                "peer_rate": round(statistics.median(theirs), 1),
                "callers": callers["sojourn", call],
                "peer_callers": callers["database", call],
            },
        )


def _callers(call: str) -> list[int]:
    """How many callers at once are tried: a list of thousands is read by one."""
    return [1] if call == "list_all" else list(CALLERS)


def _title(call: str, what: str, plan: Plan) -> str:
    return f"{what}: {plan.listed:,}" if call == "list_all" else what
