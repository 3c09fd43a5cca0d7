"""How the command line says that something went wrong, and with which exit status.

One sentence on standard error, beginning with the reason; with `--verbose` also what the server's
log knows the call by. Never a traceback.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self

import click

from sojourn import SojournError, errors
from sojourn.cli.settings import Settings


class ExitCode(IntEnum):
    """What the exit status means; `sentence` says it to people."""

    sentence: str

    def __new__(cls, value: int, sentence: str) -> Self:
        """Make a member of a number and its sentence."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    DONE = 0, "done"
    REFUSED = 1, "refused by the service, or it failed; the reason says why"
    USAGE = 2, "a wrong command, option, value or input file"
    UNREACHABLE = 3, "no server answered, or not in time, or it cannot serve now"
    MISMATCH = 4, "replay read something else back than what it wrote"
    INTERRUPTED = 130, "interrupted by Ctrl-C"


WHO_CALLS = "say who calls with --api-key-file, --token-file, or --tls-cert and --tls-key"


class Failure(click.ClickException):
    """Ends the command with one sentence and an exit status."""

    def __init__(self, sentence: str, code: ExitCode) -> None:
        super().__init__(sentence)
        self.code = code

    # click reads it from the instance.
    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """Return the exit status."""
        return int(self.code)

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the sentence on standard error."""
        sentence = visible(self.message, keep="\n")
        click.echo(f"sojourn: {sentence}", err=True)


def visible(text: str, *, keep: str = "") -> str:
    """Return a text whose control characters are written out, so that no terminal obeys them."""
    if text.isprintable():
        return text
    return "".join(letter if letter in keep else _shown(letter) for letter in text)


def _shown(letter: str) -> str:
    number = ord(letter)
    if number < 0x20 or 0x7F <= number < 0xA0:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(letter, f"\\x{number:02x}")
    return letter


def sentence_of(error: SojournError, settings: Settings) -> str:
    """Return what happened, beginning with the reason."""
    name = error.reason or error.code
    message = error.message
    if isinstance(error, errors.UnavailableError) and not error.correlation_id:
        message = f"no server answers at {settings.target}"
    elif isinstance(error, errors.DeadlineExceededError) and not error.correlation_id:
        limit = "in time" if settings.deadline is None else f"within {settings.deadline:g} seconds"
        message = f"no answer from {settings.target} {limit}"
    elif isinstance(error, errors.CredentialMissingError):
        message += f"; {WHO_CALLS}"
    return f"{name}: {message}" if name else message


def facts_of(error: SojournError) -> list[str]:
    """Return what else is known of an error, a line each."""
    facts = {
        "method": error.method,
        "request id": error.request_id,
        "correlation id": error.correlation_id,
        **error.metadata,
    }
    if error.retry_after is not None:
        facts["retry after"] = f"{error.retry_after.total_seconds():g} s"
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    lines += [f"field {one.field}: {one.description}" for one in error.field_violations]
    if error.message not in sentence_of(error, Settings()):
        lines.append(f"it was said: {error.message}")
    return lines


def code_of(error: SojournError) -> ExitCode:
    """Return the exit status of an error."""
    if isinstance(error, errors.UnavailableError | errors.DeadlineExceededError):
        return ExitCode.UNREACHABLE
    wrong = errors.InvalidFieldError | errors.ConfigurationError | errors.ExportFormatError
    if isinstance(error, wrong):
        return ExitCode.USAGE
    return ExitCode.REFUSED


def failure_of(error: SojournError, settings: Settings) -> Failure:
    """Return the failure that says what happened."""
    lines = [sentence_of(error, settings)]
    if settings.verbose:
        lines += [f"  {line}" for line in facts_of(error)]
    return Failure("\n".join(lines), code_of(error))
