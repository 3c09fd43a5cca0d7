"""Values at the edges of a rule, each with what the rule says of it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from tests.fuzz.rules import PATTERNS

SECOND: Final = 1_000_000_000
JSON_FIELDS: Final = frozenset({"metadata", "set", "result"})
"""Texts that must also be JSON, which is the service's rule and not the protos'."""
IGNORE_ZERO: Final = 1
"""`IGNORE_IF_ZERO_VALUE`."""

UUID: Final = "01a1f881-f3d3-7ac5-ab98-422976f8335e"
TEXTS: Final = (
    *("", "a", "ab", "a b", "A9", "é", "日本", "😀", "e\u0301x", "a/b.c_d-e", "|;'\"\\%$"),
    *(" a", "a ", " ", "  ", "\u00a0a", "a\u3000", "a\u00a0b", "-a", "a-", "./", "_"),
    *("\0", "a\0b", "\n", "a\n", "a\nb", "\t", "a\tb", "\x7f", "\x85", "a\u0085b"),
    *("a\u2028b", "a\u2029b", "a\u200bb", "\ufeffa", "\u202ea", "a\ue000b", "\U0010ffff"),
)
"""Plain texts and nasty ones."""
WIDE: Final = ("é", "😀")
"""Characters of two and of four bytes: lengths count characters."""

INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}


class Probe(NamedTuple):
    """A value, and what the rule says of it."""

    value: Any
    fits: bool | None
    """None: the protos say nothing of it; whatever the service says is well, if it says it well."""
    too_large: bool = False
    """Refused as CONTENT_TOO_LARGE instead of INVALID_FIELD."""


def texts(rules: Any, name: str) -> Iterator[Probe]:
    """Probes of a string."""
    if rules.string.uuid:
        yield from _uuids(ignore_empty=rules.ignore == IGNORE_ZERO)
        return
    text = rules.string
    if name in JSON_FIELDS:
        if text.max_bytes:
            for length in (1, 2, 3, text.max_bytes - 1, text.max_bytes, text.max_bytes + 1):
                yield Probe(_json(length), length <= text.max_bytes, length > text.max_bytes)
        yield from (Probe(each, False if _breaks(text, each) else None) for each in TEXTS)
        return
    lengths = {0, 1}
    if text.min_len:
        lengths |= {text.min_len - 1, text.min_len, text.min_len + 1}
    if text.max_len:
        lengths |= {text.max_len - 1, text.max_len, text.max_len + 1}
    for length in sorted(lengths):
        for letter in ("a", *WIDE):
            yield _text(text, letter * length)
    if text.max_bytes:
        for letter in ("a", *WIDE):
            most = text.max_bytes // len(letter.encode())
            yield _text(text, letter * most)
            yield _text(text, letter * (most + 1))
    for each in TEXTS:
        yield _text(text, each)


def _uuids(*, ignore_empty: bool) -> Iterator[Probe]:
    yield Probe("", ignore_empty)
    yield Probe(UUID, True)
    yield Probe(UUID.upper(), True)
    yield Probe("00000000-0000-0000-0000-000000000000", True)
    broken = (UUID[:-1], UUID + "0", UUID.replace("-", ""), UUID[:-1] + "g", " " + UUID, "\0" * 36)
    for each in (*broken, UUID[:8] + "_" + UUID[9:], f"{{{UUID}}}", "é" * 36):
        yield Probe(each, False)


def _breaks(text: Any, value: str) -> bool:
    """Whether a text breaks a rule other than `max_bytes`."""
    short = len(value) < text.min_len
    long = bool(text.max_len) and len(value) > text.max_len
    return short or long or not PATTERNS[text.pattern](value)


def _text(text: Any, value: str) -> Probe:
    if text.pattern and any(unicodedata.category(each) == "Cn" for each in value):
        # Which characters are assigned depends on the Unicode version; RE2's \\p{C} has none.
        return Probe(value, None)
    broken = _breaks(text, value)
    over = bool(text.max_bytes) and len(value.encode()) > text.max_bytes
    return Probe(value, not (broken or over), over and not broken)


def _json(length: int) -> str:
    return "1" if length == 1 else '"' + "x" * (length - 2) + '"'


def octets(rules: Any) -> Iterator[Probe]:
    """Probes of bytes."""
    most = rules.bytes.max_len
    for length in {0, 1, most - 1, most, most + 1}:
        yield Probe(b"\xff" * length, length <= most, length > most)


def integers(rules: Any, kind: int) -> Iterator[Probe]:
    """Probes of an integer."""
    bounds = rules.int32 if kind == FieldDescriptor.CPPTYPE_INT32 else rules.int64
    least, most = INTEGERS[kind]
    edges = {least, -1, 0, 1, most}
    for field, value in bounds.ListFields():
        assert field.name in ("gte", "lte"), field.name
        edges |= {value - 1, value, value + 1}
    known = bool(bounds.ListFields())
    low = bounds.gte if bounds.HasField("gte") else least
    high = bounds.lte if bounds.HasField("lte") else most
    for value in sorted(edges):
        if least <= value <= most:
            yield Probe(value, low <= value <= high if known else None)


def doubles(rules: Any) -> Iterator[Probe]:
    """Probes of a double."""
    low, high = rules.double.gte, rules.double.lte
    for value in (low, -0.0, 5e-324, high, math.nextafter(high, low)):
        yield Probe(value, True)
    for value in (-5e-324, math.nextafter(high, math.inf), math.inf, -math.inf, math.nan):
        yield Probe(value, False)


def enums(rules: Any, field: FieldDescriptor) -> Iterator[Probe]:
    """Probes of an enum: every value, and numbers that are none."""
    assert field.enum_type is not None
    defined = {value.number for value in field.enum_type.values}
    for number in (*sorted(defined), max(defined) + 1, -1, 2**31 - 1):
        fits = number not in rules.enum.not_in
        if rules.enum.defined_only:
            fits = fits and number in defined
        yield Probe(number, fits if rules.enum.ListFields() else None)


def moments(rules: Any, kind: str) -> Iterator[Probe]:
    """Probes of a duration or a timestamp, as (seconds, nanos)."""
    bounds = rules.duration if kind == "Duration" else rules.timestamp
    edges = {0}
    fields = {field.name: _nanos(value) for field, value in bounds.ListFields()}
    for value in fields.values():
        edges |= {value - SECOND, value - 1, value, value + 1, value + SECOND}
    for value in sorted(edges):
        fits: bool | None = None
        if fields:
            fits = fields.get("gte", value) <= value <= fields.get(
                "lte", value
            ) and value < fields.get("lt", value + 1)
        yield Probe(_pair(value, kind), fits)
    # What no length or instant is, and the largest that the wire can say.
    for pair in ((1, -1), (0, SECOND), (0, 2**31 - 1), (0, -(2**31)), (-1, 1)):
        yield Probe(pair, None)
    for seconds in (2**63 - 1, -(2**63), 315_576_000_000, -315_576_000_001, 253_402_300_800):
        yield Probe((seconds, 0), None)


def _nanos(moment: Any) -> int:
    return int(moment.seconds) * SECOND + int(moment.nanos)


def _pair(nanos: int, kind: str) -> tuple[int, int]:
    """Seconds and nanos; a negative duration has both negative, an instant only seconds."""
    if kind == "Duration" and nanos < 0:
        seconds, rest = divmod(-nanos, SECOND)
        return -seconds, -rest
    return divmod(nanos, SECOND)
