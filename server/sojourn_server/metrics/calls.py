"""Counting calls: a few additions of plain numbers at the beginning and the end of each."""

from __future__ import annotations

from typing import Final

from sojourn_server.domain.tally import Spread
from sojourn_server.rpc.errors import TABLE
from sojourn_server.rpc.methods import Method

SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Bounds for how long a call takes."""


def _written(code: str) -> str:
    """A code as the ecosystem writes it: `InvalidArgument`; of CANCELLED, `Canceled`."""
    if code == "OK":
        return code
    return "Canceled" if code == "CANCELLED" else code.title().replace("_", "")


CODES: Final = {
    **{reason.value: _written(line.code.name) for reason, line in TABLE.items()},
    **{outcome: _written(outcome) for outcome in ("OK", "CANCELLED")},
}
"""The code of each outcome of a call."""


class MethodCalls:
    """The calls of one method; an `observer.Observer`.

    Args:
        method: The method.
    """

    __slots__ = ("labels", "method", "outcomes", "seconds", "started")

    def __init__(self, method: Method) -> None:
        self.method = method
        self.labels = (_kind(method), method.path.split("/")[1], method.name)
        """The values of `CALL_LABELS`."""
        self.started = 0
        self.outcomes: dict[str, int] = {}
        """How many calls ended so: `OK`, `CANCELLED` or a reason."""
        self.seconds = Spread(SECONDS)

    def begun(self) -> None:
        """See `Observer`."""
        self.started += 1

    def ended(self, outcome: str, seconds: float) -> None:
        """See `Observer`."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.seconds.add(seconds)

    def by_code(self) -> dict[str, int]:
        """How many calls ended with each code."""
        codes: dict[str, int] = {"OK": 0}
        for outcome, count in list(self.outcomes.items()):
            code = CODES[outcome]
            codes[code] = codes.get(code, 0) + count
        return codes

    @property
    def in_flight(self) -> int:
        """How many calls are being served."""
        over = sum(list(self.outcomes.values()))
        return self.started - over


class Calls:
    """The calls of all methods."""

    def __init__(self) -> None:
        self.methods: list[MethodCalls] = []

    def observe(self, method: Method) -> MethodCalls:
        """What counts the calls of a method."""
        made = MethodCalls(method)
        self.methods.append(made)
        return made

    def refusals(self) -> dict[str, int]:
        """How many calls were refused for each reason."""
        reasons = {reason.value: 0 for reason in TABLE}
        for method in self.methods:
            for outcome, count in list(method.outcomes.items()):
                if outcome in reasons:
                    reasons[outcome] += count
        return reasons


def _kind(method: Method) -> str:
    match method.requests_stream, method.responses_stream:
        case True, True:
            return "bidi_stream"
        case True, False:
            return "client_stream"
        case False, True:
            return "server_stream"
        case _:
            return "unary"
