"""The figures of a run and the targets that they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """What a figure should reach."""

    value: float
    at_least: bool = False
    """Whether more is better; otherwise less is."""

    def met(self, figure: float) -> bool:
        """Whether it is reached."""
        return figure >= self.value if self.at_least else figure <= self.value

    def text(self, unit: str) -> str:
        """As a person writes it: `≤ 1.6×`."""
        return f"{'≥' if self.at_least else '≤'} {self.value:g}{unit}"


# What the project set out to reach.
TARGETS: Mapping[str, Target] = {
    "get": Target(1.6),
    "create": Target(2.5),
    "update": Target(2.5),
    "update_metrics": Target(2.5),
    "append": Target(2.5),
    "begin_turn": Target(2.5),
    "end_turn": Target(2.5),
    "adk database create": Target(10, at_least=True),
    "adk database append": Target(10, at_least=True),
    "adk database get": Target(5, at_least=True),
    "adk database get_full": Target(5, at_least=True),
    "adapter create": Target(6, at_least=True),
    "adapter append": Target(6, at_least=True),
    "adapter get": Target(3, at_least=True),
    "adapter get_all": Target(3, at_least=True),
    "adapter list_all": Target(20, at_least=True),
    "list user": Target(1.5),
    "list label": Target(1.5),
    "list user+label": Target(1.5),
    "list active": Target(1.5),
    "list completed": Target(1.5),
    "page far all": Target(1.2),
    "page far label": Target(1.2),
    "residual": Target(3),
    "history list": Target(1.5),
    "history get": Target(1.5),
    "memory filled": Target(64),
    "memory restarted": Target(64),
    "expiry p99": Target(2),
    "children of turns": Target(3_000, at_least=True),
    "aggregate all": Target(1_000),
    "aggregate status": Target(1_000),
    "aggregate user": Target(1_000),
    "aggregate user 1000": Target(1_000),
    "aggregate failed": Target(1_000),
    "apps listed": Target(1.5),
    "bulk rate": Target(5_000, at_least=True),
    "bulk p99": Target(2),
    "fan-out 40": Target(2),
    "fan-out 200": Target(2),
    "catch-up": Target(100, at_least=True),
    "catch-up typed": Target(30, at_least=True),
    "filtered": Target(1.1),
    "idle watchers": Target(40),
    "unwatched": Target(1.02),
    "neighbours p99": Target(2),
    "neighbours goodput": Target(0.8, at_least=True),
    "access key": Target(1.05),
    "access jwt": Target(1.10),
    "postgres create": Target(1.5, at_least=True),
    "postgres update": Target(1.5, at_least=True),
    "postgres append": Target(1.5, at_least=True),
    "postgres syncs": Target(8, at_least=True),
    "postgres get": Target(2),
    "postgres list user": Target(1.5),
    "postgres list label": Target(1.5),
    "postgres list user+label": Target(1.5),
    "postgres list active": Target(1.5),
    "postgres list completed": Target(1.5),
}


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    group: str
    name: str
    """The key of its target, and its name in JSON."""
    title: str
    value: float
    unit: str
    """`×` or ` MiB`, directly behind the figure."""
    low: float | None = None
    high: float | None = None
    """The spread over the rounds."""
    facts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def target(self) -> Target | None:
        """What it should reach; None: it is only reported."""
        return TARGETS.get(self.name)

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or empty without a target."""
        if self.target is None:
            return ""
        return "met" if self.target.met(self.value) else "missed"

    def as_json(self) -> dict[str, Any]:
        """With target and verdict."""
        target = self.target
        return {
            **asdict(self),
            "target": target and {"value": target.value, "at_least": target.at_least},
            "verdict": self.verdict,
        }


@dataclass
class Results:
    """All that a run found out."""

    figures: list[Figure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """What could not be measured, and why."""
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        group: str,
        name: str,
        title: str,
        ratios: Sequence[float],
        *,
        value: float,
        unit: str = "×",
        facts: Mapping[str, float] | None = None,
        note: str = "",
    ) -> None:
        """Add a figure with the spread of its rounds."""
        self.figures.append(
            Figure(
                group,
                name,
                title,
                value,
                unit,
                min(ratios, default=None),
                max(ratios, default=None),
                facts or {},
                note,
            )
        )
