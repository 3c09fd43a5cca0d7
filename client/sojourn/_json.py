"""JSON values that come back exactly as they went.

State, metadata and results travel as JSON texts, never as a protobuf Struct, which would turn 1
into 1.0. The texts are kept as they are; decoding happens at each access and hands out a fresh
value, so that nobody can change a value behind the model's back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sojourn.errors import ArgumentTypeError, FieldViolation, InvalidFieldError, JsonValueError


@dataclass(frozen=True, slots=True)
class RawJson:
    """A JSON text to be stored letter by letter, such as `1.00`, instead of a Python value."""

    text: str


class JsonMap(Mapping[str, Any]):
    """A read-only mapping of decoded JSON values; `.json` has the raw texts.

    Reading a value raises `JsonValueError` (a ValueError) when Python cannot hold it.
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)

    @property
    def json(self) -> Mapping[str, str]:
        """The raw JSON text per key, exactly as it was written."""
        return dict(self._texts)

    def __getitem__(self, key: str) -> Any:
        return decode(self._texts[key])

    def __contains__(self, key: object) -> bool:
        return key in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"JsonMap({self._texts!r})"


def decode(text: str) -> Any:
    """Return the Python value of a JSON text; raise `JsonValueError` if Python cannot hold it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JsonValueError(f"this JSON text has no Python value: {error}") from error


def encode(value: Any, field: str) -> str:
    """Return the JSON text of a Python value, without spaces and with all letters as they are.

    Dicts with keys other than str, NaN, infinities, halves of surrogates and values that JSON does
    not know are refused: they would not come back as they went. Tuples come back as lists.
    """
    if isinstance(value, RawJson):
        if not isinstance(value.text, str):
            raise _wrong_type(field, "the text of a RawJson must be a str")
        return value.text
    try:
        _refuse_other_keys(value, field)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except TypeError as error:
        raise _wrong_type(field, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidFieldError(
            f"{field}: {error}", field_violations=(FieldViolation(field, str(error)),)
        ) from error
    return text


def encode_map(values: Mapping[str, Any], field: str) -> dict[str, str]:
    """Return the JSON text of each value; the keys must be str."""
    if not isinstance(values, Mapping):
        raise _wrong_type(field, f"must be a mapping, not {type(values).__name__}")
    if isinstance(values, JsonMap):
        return dict(values.json)
    for key in values:
        if not isinstance(key, str):
            raise _wrong_type(field, f"keys must be str, not {type(key).__name__}")
    return {key: encode(value, f"{field}[{key!r}]") for key, value in values.items()}


def _refuse_other_keys(value: Any, field: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise _wrong_type(field, f"keys must be str, not {type(key).__name__}")
            _refuse_other_keys(inner, field)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_other_keys(inner, field)


def _wrong_type(field: str, description: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{field}: {description}", field_violations=(FieldViolation(field, description),)
    )
