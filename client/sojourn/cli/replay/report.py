"""What a replay says at its end: figures for programs, tables for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sojourn.cli.encode import Record
from sojourn.cli.output import Column, print_facts, print_json, print_sentence, print_table
from sojourn.cli.replay.checker import Verdict
from sojourn.cli.replay.measure import Line, Measures
from sojourn.cli.replay.player import Outcome

SHOWN = 10
"""How many failures or differences people are shown."""


@dataclass(slots=True)
class Report:
    """All that is known at the end."""

    file: str
    app: str
    agents: int
    sessions: int
    """Sessions in the file, as far as it was read."""
    messages: int
    requests: int
    measures: Measures
    outcome: Outcome | None = None
    """None when nothing was played."""
    play_seconds: float = 0.0
    verdict: Verdict | None = None
    """None when nothing was read back."""
    check_seconds: float = 0.0
    deleted: int | None = None

    @property
    def failures(self) -> list[str]:
        """One sentence per session that could not be played."""
        return [] if self.outcome is None else self.outcome.failures

    @property
    def mismatches(self) -> list[str]:
        """One sentence per difference."""
        return [] if self.verdict is None else self.verdict.mismatches

    def record(self) -> Record:
        """Return the figures for programs."""
        return {
            "file": self.file,
            "app": self.app,
            "agents": self.agents,
            "sessions": self.sessions,
            "messages": self.messages,
            "requests": self.requests,
            "played": None if self.outcome is None else len(self.outcome.played),
            "play_seconds": round(self.play_seconds, 3),
            "errors": self.measures.error_count,
            "rpcs": [_rpc(line) for line in self.measures.lines()],
            "failures": self.failures,
            "verified": None
            if self.verdict is None
            else asdict(self.verdict) | {"seconds": round(self.check_seconds, 3)},
            "deleted": self.deleted,
        }

    def print(self, *, as_table: bool) -> None:
        """Print it."""
        if not as_table:
            print_json(self.record())
            return
        print_facts(
            [
                ("file", self.file),
                ("agents", self.agents),
                ("sessions", self.sessions),
                ("messages", self.messages),
                ("requests", self.requests),
                ("errors", self.measures.error_count),
                ("played", self._played()),
                ("verified", self._verified()),
                ("deleted", self.deleted),
            ]
        )
        print_table(COLUMNS, map(_rpc, self.measures.lines()), nothing="Nothing was called.")
        for title, texts in (("failed", self.failures), ("differs", self.mismatches)):
            for text in texts[:SHOWN]:
                print_sentence(f"{title}: {text}")
            if len(texts) > SHOWN:
                print_sentence(f"{title}: {len(texts) - SHOWN} more")

    def _played(self) -> str | None:
        if self.outcome is None:
            return None
        pace = self.messages / self.play_seconds if self.play_seconds else 0
        return (
            f"{len(self.outcome.played)} sessions in {self.play_seconds:.2f} s, "
            f"{pace:.0f} messages a second"
        )

    def _verified(self) -> str | None:
        if self.verdict is None:
            return None
        read = (
            f"{self.verdict.sessions} sessions and {self.verdict.messages} messages read back "
            f"in {self.check_seconds:.2f} s"
        )
        wrong = len(self.mismatches)
        return f"{read}: {f'{wrong} differences' if wrong else 'all equal, byte for byte'}"


def _rpc(line: Line) -> Record:
    return {
        "method": line.method,
        "calls": line.calls,
        "errors": line.errors,
        "p50_ms": _milliseconds(line.p50),
        "p99_ms": _milliseconds(line.p99),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _two_digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


COLUMNS = [
    Column("RPC", lambda one: one["method"]),
    Column("CALLS", lambda one: one["calls"], right=True),
    Column("ERRORS", lambda one: one["errors"], right=True),
    Column("P50 MS", lambda one: _two_digits(one["p50_ms"]), right=True),
    Column("P99 MS", lambda one: _two_digits(one["p99_ms"]), right=True),
]
