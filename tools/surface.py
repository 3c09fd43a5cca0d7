"""Write the contract's surface as text: every symbol, number and type, one line each.

The file makes a change of the contract a line that a reviewer can see, also where the proto's
diff is mostly comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)


def render(files: Iterable[FileDescriptorProto]) -> str:
    """Return the surface of the files, one symbol a line, however their authors ordered it."""
    blocks: list[tuple[str, list[str]]] = []
    for file in files:
        prefix = f"{file.package}."
        blocks += ((prefix + each.name, _service(prefix, each)) for each in file.service)
        blocks += ((prefix + each.name, _enum(prefix, each)) for each in file.enum_type)
        blocks += ((prefix + each.name, _message(prefix, each)) for each in file.message_type)
    return "".join(f"{line}\n" for _, block in sorted(blocks) for line in block)


def _service(prefix: str, service: ServiceDescriptorProto) -> list[str]:
    name = prefix + service.name
    lines = sorted(_method(name, method) for method in service.method)
    return [f"service {name}", *lines]


def _method(service: str, method: MethodDescriptorProto) -> str:
    request = _stream(method.client_streaming) + method.input_type.lstrip(".")
    response = _stream(method.server_streaming) + method.output_type.lstrip(".")
    return f"rpc {service}.{method.name}({request}) returns ({response})"


def _stream(streaming: bool) -> str:
    return "stream " if streaming else ""


def _enum(prefix: str, enum: EnumDescriptorProto) -> list[str]:
    name = prefix + enum.name
    values = sorted(enum.value, key=lambda value: (value.number, value.name))
    reserved = [f"{low.start}-{low.end}" for low in enum.reserved_range]
    return [
        f"enum {name}",
        *(f"value {name}.{value.name} = {value.number}" for value in values),
        *_reserved(name, [*reserved, *enum.reserved_name]),
    ]


def _message(prefix: str, message: DescriptorProto) -> list[str]:
    name = prefix + message.name
    entries = {
        f".{name}.{nested.name}": nested
        for nested in message.nested_type
        if nested.options.map_entry
    }
    fields = sorted(message.field, key=lambda field: field.number)
    # A reserved range of a message ends before its end; that of an enum includes it.
    reserved = [f"{low.start}-{low.end - 1}" for low in message.reserved_range]
    return [
        f"message {name}",
        *(_field(name, message, field, entries) for field in fields),
        *_reserved(name, [*reserved, *message.reserved_name]),
        *_nested(name, message),
    ]


def _nested(name: str, message: DescriptorProto) -> Iterator[str]:
    for enum in sorted(message.enum_type, key=lambda each: each.name):
        yield from _enum(f"{name}.", enum)
    for nested in sorted(message.nested_type, key=lambda each: each.name):
        if not nested.options.map_entry:
            yield from _message(f"{name}.", nested)


def _field(
    message_name: str,
    message: DescriptorProto,
    field: FieldDescriptorProto,
    entries: dict[str, DescriptorProto],
) -> str:
    line = f"field {message_name}.{field.name} = {field.number} {_label(field, entries)}"
    if field.HasField("oneof_index") and not field.proto3_optional:
        line += f" oneof {message.oneof_decl[field.oneof_index].name}"
    return line


def _label(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    entry = entries.get(field.type_name)
    if entry is not None:
        key, value = entry.field
        return f"map<{_type(key)}, {_type(value)}>"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {_type(field)}"
    return f"optional {_type(field)}" if field.proto3_optional else _type(field)


def _type(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return field.type_name.lstrip(".")
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _reserved(name: str, what: list[str]) -> list[str]:
    return [f"reserved {name} {each}" for each in what]
