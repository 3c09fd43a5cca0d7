"""Random requests from the descriptors: mostly sensible, with anything anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sojourn_server.rpc.methods import Method
from tests.fuzz import probes
from tests.fuzz.caller import APP
from tests.fuzz.furnish import OTHERS, SESSION, USER, Furniture, fill
from tests.fuzz.probes import Probe
from tests.fuzz.rules import rules_of

JSON_TEXTS: Final = ("1", "null", "true", '"x"', "[]", '{"a": [1, 2.5e300]}', "1e999", "-0")
NOT_JSON: Final = ("", "{", "NaN", "'a'", '"\\ud800"', "[" * 2_000, "\0", "01", '{"a":1,"a":2}')
MOST_ITEMS: Final = 4
ALPHABET: Final = 'ab 01-_./|é日😀\0\n\t\u2028\u200b"\\{}[]'


class Generator:
    """Makes random requests.

    Args:
        chance: Decides everything.
        furniture: What the requests may find.
    """

    def __init__(self, chance: random.Random, furniture: Furniture) -> None:
        self._chance = chance
        self._furniture = furniture
        tokens = (furniture.session_page_token, furniture.message_page_token)
        self._tokens = (*tokens, furniture.resume_token, furniture.turn_token)

    def request(self, method: Method) -> Any:
        """A request, filled so that it may well be valid, then changed here and there."""
        request: Any = method.request()
        chance = self._chance
        if chance.random() < 0.9:
            fill(request, self._furniture)
            for field in request.DESCRIPTOR.fields:
                if rules_of(field).required and field.message_type is not None:
                    fill(getattr(request, field.name), self._furniture)
        self._change(request, 0.4 if chance.random() < 0.2 else 0.12)
        if method.name == "BeginTurn" and (request.wait_timeout.seconds or not _waits(request)):
            # So that no call waits for long.
            request.wait_timeout.seconds, request.wait_timeout.nanos = 0, 5_000_000
        return request

    def _change(self, message: Any, often: float) -> None:
        for field in message.DESCRIPTOR.fields:
            part = field.message_type is not None and not field.is_repeated
            if part and message.HasField(field.name) and not _is_moment(field):
                self._change(getattr(message, field.name), often)
            elif self._chance.random() < often:
                self._set(message, field, often)

    def _set(self, message: Any, field: FieldDescriptor, often: float) -> None:
        chance = self._chance
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            for _ in range(chance.randint(1, MOST_ITEMS)):
                key = self._text(field.name)
                value: Any = self._value(entry["value"], rules_of(field).map.values, field.name)
                getattr(message, field.name)[key] = value
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(chance.randint(1, MOST_ITEMS)):
                if field.message_type is None:
                    items.append(self._value(field, rules_of(field).repeated.items, field.name))
                else:
                    self._part(items.add(), often)
        elif field.message_type is None:
            setattr(message, field.name, self._value(field, rules_of(field), field.name))
        elif _is_moment(field):
            moment = getattr(message, field.name)
            moment.SetInParent()
            values = self._pick(probes.moments(rules_of(field), field.message_type.name))
            moment.seconds, moment.nanos = values
        else:
            getattr(message, field.name).SetInParent()
            self._part(getattr(message, field.name), often)

    def _part(self, message: Message, often: float) -> None:
        if self._chance.random() < 0.8:
            fill(message, self._furniture)
        self._change(message, often)

    def _value(self, field: FieldDescriptor, rules: Any, name: str) -> Any:
        chance = self._chance
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return chance.randbytes(chance.choice((0, 1, 100, 70_000)))
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text(name)
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_ENUM:
                return self._pick(probes.enums(rules, field))
            case FieldDescriptor.CPPTYPE_DOUBLE:
                return self._pick(probes.doubles(rules))
            case kind:
                if chance.random() < 0.5:
                    return chance.randrange(1, 12)
                return self._pick(probes.integers(rules, kind))

    def _pick(self, values: Iterator[Probe]) -> Any:
        """One of some values, seldom one that its rule forbids."""
        found = list(values)
        if self._chance.random() < 0.9:
            found = [probe for probe in found if probe.fits is not False]
        return self._chance.choice(found).value

    def _text(self, name: str) -> str:
        """A text that may mean something in a field of this name."""
        chance = self._chance
        if chance.random() < 0.05:
            length = chance.choice((0, 1, 5, 64, 300))
            return "".join(chance.choice(ALPHABET) for _ in range(length))
        if chance.random() < 0.05:
            return chance.choice(probes.TEXTS)
        if "token" in name:
            return mutated(chance, chance.choice(self._tokens))
        if name in probes.JSON_FIELDS:
            return chance.choice(JSON_TEXTS if chance.random() < 0.9 else NOT_JSON)
        if "uid" in name:
            return chance.choice((*self._furniture.uids, probes.UUID))
        if name == "etag":
            return chance.choice((self._furniture.etag, "AAAA"))
        if name == "request_id":
            return f"r-{chance.randrange(20)}"
        if name in ("app", "user"):
            return {"app": APP, "user": USER}[name]
        return chance.choice((SESSION, *OTHERS, "k", "k1", "m-1"))


def _is_moment(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.name in ("Duration", "Timestamp")


def _waits(request: Any) -> bool:
    return bool(request.HasField("wait_timeout"))


def mutated(chance: random.Random, token: str) -> str:
    """A token as it is, or damaged in one of many ways."""
    kind = chance.randrange(9)
    at = chance.randrange(len(token)) if token else 0
    match kind:
        case 0:
            return token[:at]
        case 1:
            return token[:at] + chance.choice("AZaz09-_+/=. é\0") + token[at + 1 :]
        case 2:
            return token + chance.choice(("=", "==", "A", "\n", " "))
        case 3:
            return token[:at] + chance.choice("AZ09-_") + token[at:]
        case 4:
            return token.swapcase()
        case 5:
            return token + token
        case _:
            return token


def damaged(chance: random.Random, raw: bytes) -> bytes:
    """An encoding, cut short, with bits flipped, or with bytes put in."""
    data = bytearray(raw or b"\0")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(4):
            case 0:
                del data[at:]
            case 1 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                data += data[at:]
    return bytes(data[: 1 << 20])
