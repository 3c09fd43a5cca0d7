"""What a table of settings is: kinds of values, how people write them, the page made of it.

Which settings there are stands in `settings`, whose names are also how others reach these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any, Final, NamedTuple

from sojourn_server.domain.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Nanos
from sojourn_server.domain.limits import KIB, MIB

_UNITS: Final[dict[str, Nanos]] = {
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
    "d": DAY,
}
_LENGTH: Final = re.compile(r"(?:[0-9]+(?:ms|s|m|h|d))+")
_PART: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_LENGTH_MOST: Final[Nanos] = 3_650 * DAY


class SettingsError(ValueError):
    """A setting, or two together, cannot be; the text is a sentence for the operator."""


class Kind(NamedTuple):
    """What a setting's value may be, and how a person writes it."""

    name: str
    """`text`, `path`, `flag`, `choice`, `length` or `number`."""
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0


TEXT: Final = Kind("text")
PATH: Final = Kind("path")
FLAG: Final = Kind("flag")
LENGTH: Final = Kind("length", most=_LENGTH_MOST)


def setting(default: object, kind: Kind, sentence: str, *, secret: bool = False) -> Any:
    """A field of a dataclass that is one setting.

    Args:
        default: What it is where nobody sets it.
        kind: What it may be.
        sentence: What it does, for the command line and the page.
        secret: Whether its value must not be shown.
    """
    metadata = {"kind": kind, "sentence": sentence}
    return field(default=default, metadata=metadata, repr=not secret)


def ceiling(most: int, sentence: str) -> Any:
    """A limit that may only be lowered.

    Args:
        most: Its default.
        sentence: What it limits.
    """
    return setting(most, Kind("number", least=1, most=most), sentence)


class Setting(NamedTuple):
    """One line of the table."""

    name: str
    """The field: `drain_timeout`."""
    kind: Kind
    default: Any
    sentence: str

    @property
    def flag(self) -> str:
        """`--drain-timeout`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """`SOJOURN_DRAIN_TIMEOUT`."""
        return f"SOJOURN_{self.name.upper()}"

    @property
    def default_text(self) -> str:
        """The default, as a person writes it; empty: none."""
        if self.default is None:
            return ""
        if self.kind.name == "length":
            return format_length(self.default)
        if self.kind.name == "flag":
            return "true" if self.default else "false"
        return str(self.default)


def table_of(settings: type[Any]) -> list[Setting]:
    """All settings of a dataclass of them, in the order of their documentation."""
    return [
        Setting(each.name, each.metadata["kind"], each.default, each.metadata["sentence"])
        for each in fields(settings)
    ]


def check(setting: Setting, value: Any) -> None:
    """Hold a value to its setting's kind.

    Raises:
        SettingsError: It cannot be.
    """
    kind = setting.kind
    match kind.name:
        case "choice" if value not in kind.choices:
            allowed = ", ".join(kind.choices)
            raise SettingsError(f"{setting.name} must be one of {allowed}, not {value}.")
        case "length" if not kind.least <= value <= kind.most:
            least, most = format_length(kind.least), format_length(kind.most)
            raise SettingsError(f"{setting.name} must be {least} to {most}.")
        case "number" if not kind.least <= value <= kind.most:
            raise SettingsError(f"{setting.name} must be {kind.least} to {kind.most}.")


def parse_length(text: str) -> Nanos:
    """The length of time that a person wrote: `90s`, `1h30m`, `250ms`, `0`.

    Raises:
        SettingsError: It is none.
    """
    text = text.strip()
    if text == "0":
        return 0
    if not _LENGTH.fullmatch(text):
        raise SettingsError(f"a length of time is written like 90s, 15m, 1h30m or 0, not {text}.")
    return sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))


def format_length(nanos: Nanos) -> str:
    """The length of time as a person writes it; what is below a millisecond is dropped."""
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, nanos = divmod(nanos, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


def reference_of(table: Sequence[Setting]) -> str:
    """docs/reference/settings.md, made from a table."""
    lines = [
        "# Settings",
        "",
        "Every setting is a flag of `sojourn-server` and a variable; a flag wins. This page is",
        "generated from the table in `server/sojourn_server/settings.py`.",
        "",
        "A flag that is `true` is switched off by its `--no-` form: `--no-unknown-apps`.",
        "Lengths of time are written like `250ms`, `90s`, `15m`, `1h30m`, `7d` or `0`.",
        "",
        "| flag | variable | default | what it does |",
        "|---|---|---|---|",
    ]
    for setting in table:
        default = f"`{setting.default_text}`" if setting.default_text else ""
        lines.append(
            f"| `{setting.flag}` | `{setting.variable}` | {default} | {_sentence(setting)} |"
        )
    return "\n".join([*lines, ""])


def _sentence(setting: Setting) -> str:
    kind = setting.kind
    match kind.name:
        case "choice":
            return f"{setting.sentence} One of {', '.join(f'`{each}`' for each in kind.choices)}."
        case "number":
            return f"{setting.sentence} {kind.least} to {_number(kind.most)}."
        case "length" if kind.least or kind.most < _LENGTH_MOST:
            least, most = format_length(kind.least), format_length(kind.most)
            return f"{setting.sentence} `{least}` to `{most}`."
        case _:
            return setting.sentence


def _number(value: int) -> str:
    if value % MIB == 0:
        return f"{value // MIB} MiB"
    if value % KIB == 0:
        return f"{value // KIB} KiB"
    return f"{value:,}"
