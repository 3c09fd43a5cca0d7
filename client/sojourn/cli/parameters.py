"""The types of values that the commands' options and arguments take, and options they share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import sojourn
from sojourn.cli import rawjson
from sojourn.cli.times import parse_duration, parse_time

F = TypeVar("F", bound=Callable[..., Any])

# Newer releases of click make it generic; older ones would refuse the brackets.
if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType


class Pair(ParamType):
    """`key=value`."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value
        key, sign, text = str(value).partition("=")
        if not sign or not key:
            self.fail(f"{value!r} is not of the form key=value", param, ctx)
        return key, text


class Count(Pair):
    """`name=N`."""

    name = "name=n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name and the number."""
        key, text = super().convert(value, param, ctx)
        try:
            return key, int(text)
        except ValueError:
            self.fail(f"{value!r} is not of the form name=N with a whole number", param, ctx)


class JsonObject(ParamType):
    """A JSON object, or `@FILE` that holds one. The values are kept letter by letter."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the members, each as its text."""
        if isinstance(value, dict):
            return value
        try:
            return rawjson.members(_text_or_file(str(value)))
        except OSError as error:
            self.fail(f"cannot read {str(value)[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(f"no JSON object: {error}", param, ctx)


class JsonValue(ParamType):
    """Any JSON value, or `@FILE` that holds one, kept letter by letter."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        try:
            text = _text_or_file(str(value)).strip(" \t\r\n")
            rawjson.check(text)
        except OSError as error:
            self.fail(f"cannot read {str(value)[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(f"no JSON value: {error}", param, ctx)
        return text


class JsonPair(Pair):
    """`KEY=JSON`."""

    name = "key=json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the key and the JSON text."""
        key, text = super().convert(value, param, ctx)
        try:
            rawjson.check(text)
        except ValueError as error:
            self.fail(
                f"{text!r} is no JSON value: {error}; a text is written {key}='\"…\"'", param, ctx
            )
        return key, text


class DurationType(ParamType):
    """`90`, `15m`, `1h30m`, `7d`, or `never`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration; `never` is zero."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Selector(ParamType):
    """`key`, `!key`, `key=value`, `key=a|b` or `key!=value`."""

    name = "selector"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, tuple[str, ...]]:
        """Return the key, the operator's name, and the values."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        key, sign, rest = text.partition("=")
        if not sign:
            absent = key.startswith("!")
            found: tuple[str, str, tuple[str, ...]] = (
                key.removeprefix("!"),
                "NOT_EXISTS" if absent else "EXISTS",
                (),
            )
        else:
            none = key.endswith("!")
            values = tuple(rest.split("|"))
            found = (key.removesuffix("!"), "NOT_IN" if none else "IN", values)
        if not found[0] or (sign and not all(found[2])):
            self.fail(
                f"{text!r} selects no label: write key, !key, key=value, key=a|b or key!=value",
                param,
                ctx,
            )
        return found


class Instant(ParamType):
    """A time, or how long ago it was."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        """Return the time, or how long ago it was."""
        if isinstance(value, datetime | timedelta):
            return value
        with suppress(ValueError):
            return parse_time(str(value))
        try:
            return parse_duration(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time like 2030-05-17T09:30:00Z, nor 2h ago", param, ctx)


INSTANT = Instant()
PAIR = Pair()
COUNT = Count()
JSON_OBJECT = JsonObject()
JSON_VALUE = JsonValue()
JSON_PAIR = JsonPair()
DURATION = DurationType()
SELECTOR = Selector()
SEQUENCE = click.IntRange(min=0)


def _text_or_file(text: str) -> str:
    return Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text


def by_key(pairs: tuple[tuple[str, Any], ...], option: str) -> dict[str, Any]:
    """Return pairs as a dict; a key that was named twice is a mistake."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise click.UsageError(f"{option} names {key!r} twice.")
        found[key] = value
    return found


def raw_values(texts: dict[str, str] | None) -> dict[str, sojourn.RawJson] | None:
    """Return JSON texts so that the client sends them letter by letter."""
    return None if texts is None else {key: sojourn.RawJson(text) for key, text in texts.items()}


def selectors(
    found: tuple[tuple[str, str, tuple[str, ...]], ...],
) -> list[sojourn.LabelSelector] | None:
    """Return label selectors for the client."""
    return [
        sojourn.LabelSelector(key, sojourn.LabelOperator(operator), values)
        for key, operator, values in found
    ] or None


def session_argument(function: F) -> F:
    """Add the argument and the options that say which session is meant; see `reference`."""
    # The last decorator stands first in the help.
    function = click.option("--uid", default="", help="By its server-made id.")(function)
    function = click.option("--user", default="", help="Whose it is, if it is a user's.")(function)
    return click.argument("session_id", metavar="[SESSION_ID]", default="")(function)


def precondition_options(function: F) -> F:
    """Add the options that say what must hold for a write to happen."""
    function = click.option(
        "--generation", type=click.IntRange(min=1), metavar="N", help="Only in this generation."
    )(function)
    return click.option("--etag", default="", help="Only if it has this etag.")(function)


def request_id_option(function: F) -> F:
    """Add the option that makes repeats of a command safe."""
    return click.option(
        "--request-id", help="Repeating the command with the same id does nothing twice."
    )(function)


def label_selector_option(function: F) -> F:
    """Add the option that selects by labels; see `selectors`."""
    return click.option(
        *("-l", "--label", "labels"),
        type=SELECTOR,
        multiple=True,
        help="Whose label matches: key, !key, key=value, key=a|b, key!=value; again for more.",
    )(function)


STATUSES = ["active", "completed", "failed", "expired", "any"]


def selection_options(status: str) -> Callable[[F], F]:
    """Add the options that say which sessions are followed; see `selection`."""

    def decorate(function: F) -> F:
        # The last decorator stands first in the help.
        for option in (
            click.option("--busy/--not-busy", default=None, help="With a live turn, or without."),
            click.option("--parent", default="", help="Whose parent has this uid."),
            click.option("--prefix", default="", help="Whose id begins so."),
            label_selector_option,
            click.option(
                "--status",
                type=click.Choice(STATUSES, case_sensitive=False),
                multiple=True,
                help=f"With this status; again for more.  [default: {status}]",
            ),
            click.option(
                "--user", default=None, help='Of one user; "" means the app\'s own sessions.'
            ),
        ):
            function = option(function)
        return function

    return decorate


def selection(
    *,
    user: str | None,
    status: tuple[str, ...],
    labels: tuple[tuple[str, str, tuple[str, ...]], ...],
    prefix: str,
    parent: str,
    busy: bool | None,
    default: str,
    older_than: timedelta | None = None,
    idle_longer_than: timedelta | None = None,
) -> Any:
    """Return the arguments that select sessions."""
    named = status or (default,)
    return {
        "user": user,
        "status": None if "any" in named else [sojourn.Status(one.upper()) for one in named],
        "labels": selectors(labels),
        "filter": sojourn.SessionFilter(
            session_id_prefix=prefix,
            has_turn=busy,
            older_than=older_than,
            idle_longer_than=idle_longer_than,
        ),
        "parent": parent,
    }


def reference(session_id: str, user: str, uid: str) -> sojourn.SessionRef:
    """Return which session is meant."""
    if not session_id.strip() and not uid:
        raise click.UsageError("Which session? Name it by its SESSION_ID, or with --uid.")
    return sojourn.SessionRef(user=user, session_id=session_id, uid=uid)


def precondition(etag: str, generation: int | None) -> sojourn.Precondition | None:
    """Return what must hold; None: nothing."""
    if not etag and generation is None:
        return None
    return sojourn.Precondition(etag=etag, generation=generation)
