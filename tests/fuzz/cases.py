"""The boundary cases of a request, made from its descriptor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sojourn_server.rpc.methods import Method
from tests.fuzz import probes
from tests.fuzz.furnish import Furniture, fill
from tests.fuzz.probes import Probe
from tests.fuzz.rules import must_be_set, real_oneofs, rules_of

MOMENTS: Final = ("Duration", "Timestamp")
Reach = Callable[[Any], Any]
"""From a request to one of its parts, which it makes where it is not there."""
Put = Callable[[Any, Any], None]


class Case(NamedTuple):
    """A request with one value at an edge."""

    path: str
    """The field, as the server writes it: `session.labels["k"]`, without subscripts of maps."""
    request: Message
    probe: Probe


def cases(method: Method, furniture: Furniture) -> Iterator[Case]:
    """All cases of a method's request."""

    def fresh() -> Any:
        request: Any = method.request()
        fill(request, furniture)
        for field in request.DESCRIPTOR.fields:
            if rules_of(field).required and field.message_type is not None:
                fill(_part(request, field), furniture)
            if field.is_repeated and rules_of(field).repeated.min_items:
                fill(getattr(request, field.name).add(), furniture)
        return request

    yield from _Walk(fresh, furniture).message(method.request.DESCRIPTOR, "", lambda root: root)


def _part(message: Any, field: FieldDescriptor) -> Any:
    """A message field, made to be there."""
    part = getattr(message, field.name)
    part.SetInParent()
    return part


class _Walk:
    def __init__(self, fresh: Callable[[], Any], furniture: Furniture) -> None:
        self._fresh = fresh
        self._furniture = furniture

    def message(self, descriptor: Any, path: str, reach: Reach) -> Iterator[Case]:
        for field in descriptor.fields:
            where = f"{path}{field.name}"
            if _is_map(field):
                yield from self._map(field, where, reach)
            elif field.is_repeated:
                yield from self._repeated(field, where, reach)
            elif field.message_type is not None and field.message_type.name not in MOMENTS:
                yield from self._part_of(field, where, reach)
            else:
                yield from self._each(where, reach, _put(field), _probes(field, rules_of(field)))
        for oneof in real_oneofs(descriptor):
            if must_be_set(oneof):
                yield self._case(f"{path}{oneof.name}", reach, _clear(oneof.name), Probe(0, False))

    def _case(self, path: str, reach: Reach, put: Put, probe: Probe) -> Case:
        request = self._fresh()
        put(reach(request), probe.value)
        return Case(path, request, probe)

    def _each(self, path: str, reach: Reach, put: Put, values: Iterator[Probe]) -> Iterator[Case]:
        for probe in values:
            yield self._case(path, reach, put, probe)

    def _part_of(self, field: FieldDescriptor, path: str, reach: Reach) -> Iterator[Case]:
        if rules_of(field).required:
            yield self._case(path, reach, _clear(field.name), Probe(0, False))

        def deeper(root: Any) -> Any:
            part = _part(reach(root), field)
            if not part.ByteSize():
                fill(part, self._furniture)
            return part

        yield from self.message(field.message_type, f"{path}.", deeper)

    def _repeated(self, field: FieldDescriptor, path: str, reach: Reach) -> Iterator[Case]:
        rules = rules_of(field).repeated
        for count in _edges(rules.min_items, rules.max_items):
            fits = rules.min_items <= count <= (rules.max_items or count)
            yield self._case(path, reach, self._items(field), Probe(count, fits))
        if field.message_type is None:

            def put(message: Any, value: Any) -> None:
                getattr(message, field.name)[:] = [value]

            yield from self._each(f"{path}[0]", reach, put, _probes(field, rules.items))
            return

        def deeper(root: Any) -> Any:
            items = getattr(reach(root), field.name)
            if not items:
                fill(items.add(), self._furniture)
            return items[0]

        yield from self.message(field.message_type, f"{path}[0].", deeper)

    def _items(self, field: FieldDescriptor) -> Put:
        def put(message: Any, count: int) -> None:
            items = getattr(message, field.name)
            del items[:]
            for number in range(count):
                if field.message_type is not None:
                    fill(items.add(), self._furniture)
                elif field.enum_type is not None:
                    items.append(1)
                else:
                    items.append(f"k{number}")

        return put

    def _map(self, field: FieldDescriptor, path: str, reach: Reach) -> Iterator[Case]:
        assert field.message_type is not None
        value: Any = field.message_type.fields_by_name["value"]
        rules = rules_of(field).map
        good: Any = "1" if value.cpp_type == value.CPPTYPE_STRING else 1

        def put_count(message: Any, count: int) -> None:
            getattr(message, field.name).update({f"k{number}": good for number in range(count)})

        def put_key(message: Any, name: Any) -> None:
            getattr(message, field.name)[name] = good

        def put_value(message: Any, content: Any) -> None:
            getattr(message, field.name)["k"] = content

        for count in _edges(rules.min_pairs, rules.max_pairs):
            fits = rules.min_pairs <= count <= (rules.max_pairs or count)
            yield self._case(path, reach, put_count, Probe(count, fits))
        yield from self._each(f"{path}[", reach, put_key, probes.texts(rules.keys, ""))
        contents = _probes(value, rules.values, field.name)
        yield from self._each(f"{path}[", reach, put_value, contents)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _edges(least: int, most: int) -> list[int]:
    edges = {0, 1, least, least + 1}
    if least:
        edges.add(least - 1)
    if most:
        edges |= {most - 1, most, most + 1}
    return sorted(edges)


def _probes(field: FieldDescriptor, rules: Any, name: str = "") -> Iterator[Probe]:
    """The probes of one value of a field."""
    if field.message_type is not None:
        return probes.moments(rules, field.message_type.name)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return probes.octets(rules)
        case FieldDescriptor.CPPTYPE_STRING:
            return probes.texts(rules, name or field.name)
        case FieldDescriptor.CPPTYPE_ENUM:
            return probes.enums(rules, field)
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return probes.doubles(rules)
        case FieldDescriptor.CPPTYPE_BOOL:
            return iter([Probe(False, True), Probe(True, True)])
        case _:
            return probes.integers(rules, field.cpp_type)


def _put(field: FieldDescriptor) -> Put:
    def put(message: Any, value: Any) -> None:
        if field.message_type is None:
            setattr(message, field.name, value)
            return
        moment = _part(message, field)
        moment.seconds, moment.nanos = value

    return put


def _clear(name: str) -> Put:
    return lambda message, _: message.ClearField(name)
