"""JSON texts taken apart without being changed: `1.00` stays `1.00`, escapes stay escapes.

`json.loads` checks a text and tells where its parts end; the parts themselves are cut out of the
text as they stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NoReturn

_BLANKS = re.compile(r"[ \t\r\n]*")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def check(text: str) -> object:
    """Return the value of a JSON text; raise ValueError when it is none."""
    try:
        value, end = _DECODER.raw_decode(text, _skip(text, 0))
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.lower()} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _skip(text, end) != len(text):
        raise ValueError(f"there is more text after the value, at character {end + 1}")
    return value


def members(text: str) -> dict[str, str]:
    """Return the values of a JSON object, each as its text; raise ValueError when it is none.

    Of a key that is there twice the last value counts, as it does for `json.loads`.
    """
    if not isinstance(check(text), dict):
        raise ValueError("it must be an object, such as {…}")
    found: dict[str, str] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        found[key] = text[at:end]
        at = _after_comma(text, end)
    return found


def items(text: str) -> list[str]:
    """Return the values of a JSON array, each as its text; raise ValueError when it is none."""
    if not isinstance(check(text), list):
        raise ValueError("it must be an array, such as […]")
    return list(_items(text))


def _items(text: str) -> Iterator[str]:
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield text[at:end]
        at = _after_comma(text, end)


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return at if match is None else match.end()


def _after_comma(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def one_line(text: str) -> str:
    """Return a JSON text without line breaks. Inside of strings JSON has none."""
    return text.replace("\r", " ").replace("\n", " ")
