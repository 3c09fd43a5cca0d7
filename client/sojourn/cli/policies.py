"""An app's rules as options of a command, and as a JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import click

import sojourn
from sojourn.cli import parameters as given
from sojourn.cli.app_views import FLAGS, LENGTHS, NUMBERS, WORDS

F = TypeVar("F", bound=Callable[..., Any])

HELP = {
    "default_idle_timeout": "For sessions whose creator named none; or never.",
    "default_max_lifetime": "For sessions whose creator named none; or never.",
    "retention": "How long ended sessions are kept; or never, which keeps them.",
    "max_active_sessions": "The most active sessions.",
    "max_active_sessions_per_user": "The most active sessions of one user.",
    "max_requests_per_session": "The most requests in one session.",
    "max_messages_per_session": "The most messages in one session.",
    "max_bytes_per_session": "The most bytes of messages in one session.",
    "auto_create": "Whether writes may create the session that they name.",
    "require_turn": "Whether history and state want a turn to be written.",
    "session_quota_action": "What happens at the limits of active sessions.",
    "overflow_action": "What happens at the limits of messages and bytes.",
}

CHOICES = {
    "session_quota_action": (sojourn.QuotaAction, ["refuse", "end-oldest-idle"]),
    "overflow_action": (sojourn.OverflowAction, ["refuse", "drop-oldest"]),
}

NAMES = [one.name for one in fields(sojourn.Policy)]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class ThresholdType(given.ParamType):
    """`error_rate_above=0.5,min_requests=10,action=end`."""

    name = "threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the threshold."""
        if isinstance(value, sojourn.Threshold):
            return value
        said = dict(part.partition("=")[::2] for part in str(value).split(","))
        try:
            return threshold(said)
        except ValueError as error:
            self.fail(f"{value!r} is no threshold: {error}", param, ctx)


def threshold(said: dict[str, Any]) -> sojourn.Threshold:
    """Return a threshold of its fields, given as texts or numbers; raise ValueError."""
    known: dict[str, Callable[[Any], Any]] = {
        "action": lambda text: sojourn.ThresholdAction(str(text).upper()),
        "error_rate_above": float,
        "min_requests": int,
        "error_count_above": int,
    }
    unknown = sorted(said.keys() - known.keys())
    if unknown:
        raise ValueError(f"there is no {unknown[0]!r}")
    return sojourn.Threshold(
        **{name: known[name](value) for name, value in said.items() if value is not None}
    )


def policy_options(function: F) -> F:
    """Add an option for each rule."""
    options = [
        *(
            click.option(f"--{_dashed(name)}", name, type=given.DURATION, help=HELP[name])
            for name in LENGTHS
        ),
        *(
            click.option(
                f"--{_dashed(name)}", name, type=click.IntRange(min=0), metavar="N", help=HELP[name]
            )
            for name in NUMBERS
        ),
        *(
            click.option(
                f"--{_dashed(name)}",
                name,
                type=click.Choice(CHOICES[name][1], case_sensitive=False),
                help=HELP[name],
            )
            for name in WORDS
        ),
        *(
            click.option(
                f"--{_dashed(name)}/--no-{_dashed(name)}", name, default=None, help=HELP[name]
            )
            for name in FLAGS
        ),
        click.option(
            "--threshold",
            "thresholds",
            type=ThresholdType(),
            multiple=True,
            help="A bound on errors, such as error_rate_above=0.5,min_requests=10,action=end; "
            "again for more. They take the place of those there are.",
        ),
        click.option(
            "--unset",
            type=click.Choice([_dashed(name) for name in NAMES], case_sensitive=False),
            multiple=True,
            help="Back to the server's default; again for more.",
        ),
    ]
    # The last decorator stands first in the help.
    for option in reversed(options):
        function = option(function)
    return function


def changed(policy: sojourn.Policy, unset: tuple[str, ...], said: dict[str, Any]) -> sojourn.Policy:
    """Return the rules with what the options say."""
    changes = {name: value for name, value in said.items() if value not in (None, ())}
    for name, (kind, _) in CHOICES.items():
        if name in changes:
            changes[name] = kind(changes[name].upper().replace("-", "_"))
    defaults = sojourn.Policy()
    for dashed in unset:
        name = dashed.replace("-", "_")
        if name in changes:
            raise click.UsageError(f"--unset {dashed} and --{dashed} exclude each other.")
        changes[name] = getattr(defaults, name)
    return replace(policy, **changes)


def from_json(texts: dict[str, str]) -> sojourn.Policy:
    """Return the rules of a JSON object, such as `apps policy` prints; missing ones are unset."""
    values = {name: json.loads(text) for name, text in texts.items()}
    known = {f"{name}_seconds": name for name in LENGTHS} | {
        name: name for name in (*NUMBERS, *FLAGS, *WORDS, "thresholds")
    }
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise click.UsageError(f"A policy has no {unknown[0]!r}; it has {', '.join(known)}.")
    said = {known[name]: value for name, value in values.items() if value is not None}
    try:
        said["thresholds"] = [threshold(one) for one in said.get("thresholds", [])]
        for name, (kind, _) in CHOICES.items():
            if name in said:
                said[name] = kind(said[name])
    except (ValueError, TypeError, AttributeError) as error:
        raise click.UsageError(f"No policy: {error}.") from error
    return sojourn.Policy(**said)
