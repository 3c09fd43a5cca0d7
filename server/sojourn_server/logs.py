"""Logs: one JSON object a line on stderr, or lines for people on a terminal.

Lines hold names, numbers and reasons, never content. The line of a call carries the
correlation id that its caller got in the trailers.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("json", "console")

correlation: Final[ContextVar[str]] = ContextVar("correlation", default="")
"""The correlation id of the call that this task serves; empty outside of calls."""

Event = MutableMapping[str, Any]


def configure(level: str = "info", form: str = "json") -> None:
    """Send this process's logs to stderr.

    Args:
        level: The lowest level that is written, one of `LEVELS`.
        form: `json` or `console`.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            _add_correlation,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard module; of theirs only what is wrong matters.
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, force=True)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry a name.

    Args:
        name: The part of the server that speaks: `rpc`, `jobs`.
    """
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger


def fault(error: BaseException) -> dict[str, object]:
    """What a log line may say of an unexpected error: where it came from, not its text.

    Texts of exceptions quote values, and values may be content.
    """
    chain: list[str] = []
    frames: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        chain.append(f"{type(each).__module__}.{type(each).__qualname__}")
        frames += [
            f"{frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(each.__traceback__)
        ]
        each = each.__cause__ or each.__context__
    return {"error": chain, "frames": frames}


def _add_correlation(_logger: object, _name: str, event: Event) -> Event:
    """Put the call's correlation id on the line."""
    identifier = correlation.get()
    if identifier:
        event.setdefault("correlation_id", identifier)
    return event
