"""What the client can tell before it sends: types, lengths, ranges and letters of fields.

The rules are those of the contract's messages (a test holds the two together). Each check returns
the value in the shape in which it is sent, or raises `InvalidFieldError`, `ArgumentTypeError`,
or `ContentTooLargeError`, naming the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar
from unicodedata import category

from sojourn._json import encode, encode_map
from sojourn.errors import (
    ArgumentTypeError,
    ContentTooLargeError,
    FieldViolation,
    InvalidFieldError,
)
from sojourn.models import EPOCH

T = TypeVar("T")

MAX_APP = 128
MAX_ID = 256
MAX_ROLE = 64
MAX_ITEMS = 1000
MAX_LABELS = 64
MAX_METADATA_VALUE = 64 * 1024
MAX_STATE_VALUE = 256 * 1024
MAX_MESSAGE = 1024 * 1024
MAX_TEXT = 4096
MAX_INT64 = 2**63 - 1
TEN_YEARS = timedelta(days=3650)
ONE_DAY = timedelta(days=1)

_LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")
_REQUEST_ID = re.compile(r"[\x21-\x7e]*")
_MEDIA_TYPE = re.compile(r"[\x20-\x7e]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Letters that no id may hold. Unassigned ones are left to the server: its Unicode may be newer.
_NEVER_INSIDE = {"Zl", "Zp", "Cc", "Cf", "Cs", "Co"}


def invalid(field: str, rule: str) -> InvalidFieldError:
    """Return the error of a field that breaks a rule."""
    return InvalidFieldError(f"{field}: {rule}", field_violations=(FieldViolation(field, rule),))


def wrong_type(field: str, expected: str, value: object) -> ArgumentTypeError:
    """Return the error of a value of the wrong Python type."""
    rule = f"must be {expected}, not {type(value).__name__}"
    return ArgumentTypeError(f"{field}: {rule}", field_violations=(FieldViolation(field, rule),))


def too_large(field: str, limit: int) -> ContentTooLargeError:
    """Return the error of a content that is over its limit, in bytes."""
    return ContentTooLargeError(
        f"{field}: more than {limit} bytes", metadata={"field": field, "limit_bytes": str(limit)}
    )


def instance(field: str, value: object, kind: type[T]) -> T:
    """Return the value if it is of this type."""
    if not isinstance(value, kind):
        raise wrong_type(field, f"a {kind.__name__}", value)
    return value


def mapping(field: str, value: Mapping[Any, T]) -> Mapping[Any, T]:
    """Return the value if it is a mapping."""
    if not isinstance(value, Mapping):
        raise wrong_type(field, "a mapping", value)
    return value


def flag(field: str, value: object) -> bool:
    """Return a bool."""
    return instance(field, value, bool)


def optional_flag(field: str, value: object) -> bool | None:
    """Return a bool or None."""
    return None if value is None else flag(field, value)


def items(field: str, values: Iterable[T]) -> list[T]:
    """Return a list of what is iterated; a str is no such thing here."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise wrong_type(field, "a list", values)
    return list(values)


def string(field: str, value: object) -> str:
    """Return a str that UTF-8 can hold."""
    if not isinstance(value, str):
        raise wrong_type(field, "str", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid(field, "must be valid Unicode, without halves of surrogates") from None
    return value


def name(field: str, value: object, *, maximum: int = MAX_ID, required: bool = False) -> str:
    """Return an id without the blanks around it: up to `maximum` printable characters."""
    text = string(field, value).strip()
    if required and not text:
        raise invalid(field, "must not be empty")
    if len(text) > maximum:
        raise invalid(field, f"must have at most {maximum} characters")
    if text.isascii() and text.isprintable():
        return text
    if any(category(letter) in _NEVER_INSIDE for letter in text):
        raise invalid(field, "must hold printable characters only")
    return text


def app_name(value: object) -> str:
    """Return an app's name."""
    if isinstance(value, str) and not value.strip():
        raise invalid("app", "must be named, in the call or when connecting")
    return name("app", value, maximum=MAX_APP, required=True)


def role(value: object) -> str:
    """Return a message's role."""
    return name("role", value, maximum=MAX_ROLE, required=True)


def request_id(value: object) -> str:
    """Return a request id: up to 128 printable ASCII characters without blanks."""
    text = string("request_id", value)
    if len(text) > 128 or not _REQUEST_ID.fullmatch(text):
        raise invalid("request_id", "must be up to 128 printable ASCII characters without blanks")
    return text


def free_text(field: str, value: object) -> str:
    """Return a text for people without NUL, of at most 4 KiB."""
    text = string(field, value)
    if "\x00" in text:
        raise invalid(field, "must not hold NUL")
    if len(text.encode()) > MAX_TEXT:
        raise too_large(field, MAX_TEXT)
    return text


def opaque(field: str, value: object, *, maximum: int) -> str:
    """Return a text that only the server reads, of at most `maximum` characters."""
    text = string(field, value)
    if len(text) > maximum:
        raise invalid(field, f"must have at most {maximum} characters")
    return text


def holder(value: object) -> str:
    """Return a turn's holder: up to 256 characters without control characters."""
    text = string("holder", value)
    if len(text) > MAX_ID or _CONTROL.search(text):
        raise invalid("holder", "must be up to 256 characters without control characters")
    return text


def media_type(value: object) -> str:
    """Return a media type: up to 128 printable ASCII characters."""
    text = string("content_type", value)
    if len(text) > 128 or not _MEDIA_TYPE.fullmatch(text):
        raise invalid("content_type", "must be up to 128 printable ASCII characters")
    return text


def label_key(field: str, value: object) -> str:
    """Return a label's key: 1 to 63 letters, digits and `.`, `_`, `/`, `-` between them."""
    text = string(field, value)
    if len(text) > 63 or not _LABEL_KEY.fullmatch(text):
        raise invalid(
            field,
            f"the key {text[:70]!r} must have 1 to 63 letters or digits, with . _ / - between them",
        )
    return text


def label_value(field: str, value: object) -> str:
    """Return a label's value: 1 to 256 characters without control characters."""
    text = string(field, value)
    if not 1 <= len(text) <= 256 or _CONTROL.search(text):
        raise invalid(field, "must have 1 to 256 characters without control characters")
    return text


def labels(value: Mapping[str, str], field: str = "labels") -> dict[str, str]:
    """Return up to 64 labels."""
    if len(mapping(field, value)) > MAX_LABELS:
        raise invalid(field, f"must have at most {MAX_LABELS} entries")
    return {
        label_key(field, key): label_value(f"{field}[{key!r}]", text) for key, text in value.items()
    }


def map_key(field: str, value: object) -> str:
    """Return a key of metadata or state: 1 to 256 characters without NUL."""
    text = string(field, value)
    if not 1 <= len(text) <= MAX_ID or "\x00" in text:
        raise invalid(field, "keys must have 1 to 256 characters without NUL")
    return text


def metadata(value: Mapping[str, Any], field: str = "metadata") -> dict[str, str]:
    """Return metadata as JSON texts: up to 64 keys of up to 64 KiB each."""
    texts = encode_map(value, field)
    if len(texts) > MAX_LABELS:
        raise invalid(field, f"must have at most {MAX_LABELS} entries")
    return _json_texts(texts, field, MAX_METADATA_VALUE)


def state(value: Mapping[str, Any], field: str = "state") -> dict[str, str]:
    """Return state values as JSON texts: up to 1,000 keys."""
    texts = encode_map(value, field)
    if len(texts) > MAX_ITEMS:
        raise invalid(field, f"must have at most {MAX_ITEMS} entries")
    return _json_texts(texts, field, MAX_STATE_VALUE)


def json_text(field: str, value: Any, *, maximum: int) -> str:
    """Return the JSON text of a value, of at most `maximum` bytes; empty for None."""
    if value is None:
        return ""
    text = encode(value, field)
    if len(text.encode()) > maximum:
        raise too_large(field, maximum)
    return text


def names(field: str, values: Iterable[str], *, maximum: int = MAX_LABELS) -> list[str]:
    """Return a list of keys to remove."""
    keys = [map_key(field, key) for key in items(field, values)]
    if len(keys) > maximum:
        raise invalid(field, f"must have at most {maximum} entries")
    return keys


def integer(field: str, value: object, *, minimum: int = 0, maximum: int = MAX_INT64) -> int:
    """Return an int within a range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(field, "int", value)
    if not minimum <= value <= maximum:
        raise invalid(field, f"must be from {minimum} to {maximum}")
    return value


def duration(
    field: str,
    value: object,
    *,
    minimum: timedelta = timedelta(0),
    maximum: timedelta = TEN_YEARS,
) -> timedelta:
    """Return a timedelta within a range; the value may also be a number of seconds."""
    if isinstance(value, timedelta):
        length = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            length = timedelta(seconds=value)
        except (ValueError, OverflowError):
            raise invalid(field, "must be a number of seconds that a timedelta can hold") from None
    else:
        raise wrong_type(field, "a timedelta or a number of seconds", value)
    if not minimum <= length <= maximum:
        raise invalid(
            field, f"must be from {minimum.total_seconds()} to {maximum.total_seconds()} seconds"
        )
    return length


def nanoseconds(field: str, value: object) -> int:
    """Return an instant in nanoseconds since 1970, given so or as an aware datetime."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not -62_135_596_800 <= value // 10**9 < 253_402_300_800:
            raise invalid(field, "must be from the year 1 to the year 9999")
        return value
    if not isinstance(value, datetime):
        raise wrong_type(field, "an aware datetime or nanoseconds since 1970", value)
    if value.utcoffset() is None:
        raise invalid(field, "must have a time zone")
    since = value - EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def event_time(value: object) -> int:
    """Return a message's event time in nanoseconds since 1970, from the year 1678 to 2261."""
    instant = nanoseconds("event_time", value)
    if not -9_214_560_000 * 10**9 <= instant < 9_214_646_400 * 10**9:
        raise invalid("event_time", "must be from the year 1678 to the year 2261")
    return instant


def _json_texts(texts: dict[str, str], field: str, maximum: int) -> dict[str, str]:
    for key, text in texts.items():
        map_key(field, key)
        if not text:
            raise invalid(f"{field}[{key!r}]", "must be a JSON text, not empty")
        string(f"{field}[{key!r}]", text)
        if len(text) > maximum or len(text.encode()) > maximum:
            raise too_large(f"{field}[{key!r}]", maximum)
    return texts
