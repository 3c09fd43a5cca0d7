"""Before what cannot be undone people are asked; while it takes long they see that it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sojourn.cli.failures import ExitCode, Failure, visible

F = TypeVar("F", bound=Callable[..., Any])

EVERY = 0.2
"""How often a line on the terminal is written anew, in seconds."""


def yes_option(function: F) -> F:
    """Add the option that answers the question beforehand."""
    return click.option(
        "-y", "--yes", is_flag=True, help="Do not ask. Needed where nobody can be asked."
    )(function)


def may_be_asked(*, yes: bool) -> None:
    """Go on only if there is somebody on the terminal to ask, or `yes` answers beforehand."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("This cannot be undone, and nobody can be asked: add --yes.")


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody on the terminal says so, or `yes` did beforehand."""
    may_be_asked(yes=yes)
    if not yes and not click.confirm(visible(question), err=True):
        raise Failure("nothing was done", ExitCode.REFUSED)


class Progress:
    """One line on standard error, for people only, that says how far something has come."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._last = 0.0
        self._width = 0

    def say(self, text: str) -> None:
        """Write the line anew, if it is not too soon."""
        now = time.monotonic()
        if self._shown and now - self._last >= EVERY:
            self._last = now
            self._write(visible(text))

    def end(self) -> None:
        """Take the line away."""
        if self._width:
            self._write("")
            click.echo("\r", nl=False, err=True)

    def _write(self, text: str) -> None:
        click.echo("\r" + text.ljust(self._width), nl=False, err=True)
        self._width = len(text)
