"""Logs: one JSON object a line on stderr, or lines for people on a terminal.

Lines hold names, numbers and reasons, never content. The line of a call carries the
correlation id that its caller got in the trailers.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, ClassVar, Final

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("json", "console")

correlation: Final[ContextVar[str]] = ContextVar("correlation", default="")
"""The correlation id of the call that this task serves; empty outside of calls."""

Event = MutableMapping[str, Any]


class _Output(structlog.PrintLogger):
    """Writes lines, and goes on where nobody takes them: calls must not fail for their log."""

    def msg(self, message: str) -> None:
        """Write a line."""
        # A broken pipe, a full disk, or a stream that was closed.
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = msg


def _logger(level: str, form: str) -> structlog.typing.FilteringBoundLogger:
    """A logger of our own: structlog's global settings belong to whoever embeds the server."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _Output(sys.stderr),
        processors=[
            _add_correlation,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
    )
    # Binding settles the lazy proxy, so that a line below the level costs next to nothing.
    return logger.bind()


def configure(level: str = "info", form: str = "json") -> None:
    """Send this process's logs to stderr.

    Args:
        level: The lowest level that is written, one of `LEVELS`.
        form: `json` or `console`.
    """
    Log.sink = _logger(level, form)
    # Libraries log through the standard module; of theirs only what is wrong matters.
    lowest = max(_number(level), logging.WARNING)
    logging.basicConfig(level=lowest, handlers=[_Libraries()], force=True)


def guard() -> None:
    """Let exceptions that nobody caught say where they came from, and not their texts.

    For this process: of its last exception, of its threads, and of what is thrown away.
    """
    sys.excepthook = lambda _, error, __: _say_stray(error)
    sys.unraisablehook = lambda stray: _say_stray(stray.exc_value)
    threading.excepthook = lambda stray: _say_stray(stray.exc_value)


def _say_stray(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        Log("process").error("exception that nobody caught", **fault(error))


class Log:
    """Writes lines that carry a name, to wherever `configure` sent them last.

    Until then, as in a server inside another program, warnings and errors alone are
    written.

    Args:
        part: The part of the server that speaks: `rpc`, `jobs`.
    """

    sink: ClassVar[structlog.typing.FilteringBoundLogger]

    def __init__(self, part: str) -> None:
        self._part = part

    def debug(self, event: str, **facts: object) -> None:
        """Write a line for developers."""
        self.sink.debug(event, part=self._part, **facts)

    def info(self, event: str, **facts: object) -> None:
        """Write a line about what is as it should be."""
        self.sink.info(event, part=self._part, **facts)

    def warning(self, event: str, **facts: object) -> None:
        """Write a line about what an operator should look at."""
        self.sink.warning(event, part=self._part, **facts)

    def error(self, event: str, **facts: object) -> None:
        """Write a line about what failed."""
        self.sink.error(event, part=self._part, **facts)


CALLER_LEFT: Final = "ExecuteBatchError"
"""What grpc calls it when a caller leaves while it is being answered: nobody's fault, and
whoever wants to fill a log could do so by leaving."""


class _Libraries(logging.Handler):
    """Writes what libraries say in the server's own form, without what they put into it.

    Their messages quote values and exceptions; what they put them into is a text of their
    own. A message that was put together before is left out: the place where it was said tells
    what it is about.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        error = record.exc_info[1] if record.exc_info else None
        log = Log("libraries")
        write = log.error if record.levelno >= logging.ERROR else log.warning
        if type(error).__name__ == CALLER_LEFT:
            write = log.debug
        write(
            "a library says something",
            library=record.name,
            said=str(record.msg) if record.args else "",
            where=f"{record.pathname}:{record.lineno}",
            **({} if error is None else fault(error)),
        )


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


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


Log.sink = _logger("warning", "json")
