"""The rules in the protos, read from the descriptors, by a reader that is not the server's.

The server asks protovalidate. Here the options' bytes are parsed by a schema of only
those rules that the contract uses; a rule that is not in it fails the test run, so that
no rule can be added without a test.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

EXTENSION: Final = 1159
"""`(buf.validate.field)`, `(buf.validate.message)` and `(buf.validate.oneof)`."""

# Message: field: (number, type). Numbers are those of buf/validate/validate.proto.
_SCHEMA: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Moment": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "Number": {"lt": (2, "int64"), "lte": (3, "int64"), "gt": (4, "int64"), "gte": (5, "int64")},
    "Number32": {"lt": (2, "int32"), "lte": (3, "int32"), "gt": (4, "int32"), "gte": (5, "int32")},
    "Double": {"lte": (3, "double"), "gte": (5, "double")},
    "Times": {
        "lt": (3, "Moment"),
        "lte": (4, "Moment"),
        "gt": (5, "Moment"),
        "gte": (6, "Moment"),
    },
    "Text": {
        "min_len": (2, "uint64"),
        "max_len": (3, "uint64"),
        "max_bytes": (5, "uint64"),
        "pattern": (6, "string"),
        "uuid": (22, "bool"),
    },
    "Bytes": {"min_len": (2, "uint64"), "max_len": (3, "uint64")},
    "Enum": {"defined_only": (2, "bool"), "not_in": (4, "*int32")},
    "Items": {"min_items": (1, "uint64"), "max_items": (2, "uint64"), "items": (4, "Field")},
    "Pairs": {
        "min_pairs": (1, "uint64"),
        "max_pairs": (2, "uint64"),
        "keys": (4, "Field"),
        "values": (5, "Field"),
    },
    "Field": {
        "double": (2, "Double"),
        "int32": (3, "Number32"),
        "int64": (4, "Number"),
        "string": (14, "Text"),
        "bytes": (15, "Bytes"),
        "enum": (16, "Enum"),
        "repeated": (18, "Items"),
        "map": (19, "Pairs"),
        "duration": (21, "Times"),
        "timestamp": (22, "Times"),
        "required": (25, "bool"),
        "ignore": (27, "int32"),
    },
    "Options": {"rules": (EXTENSION, "Field")},
    "Oneof": {"required": (1, "bool")},
    "OneofOptions": {"rules": (EXTENSION, "Oneof")},
}

_TYPES: Final = {
    "bool": FieldDescriptor.TYPE_BOOL,
    "double": FieldDescriptor.TYPE_DOUBLE,
    "int32": FieldDescriptor.TYPE_INT32,
    "int64": FieldDescriptor.TYPE_INT64,
    "string": FieldDescriptor.TYPE_STRING,
    "uint64": FieldDescriptor.TYPE_UINT64,
}


@cache
def _schema() -> Callable[[str], Any]:
    file = descriptor_pb2.FileDescriptorProto(name="rules.proto", package="rules", syntax="proto2")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = (
                descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
                if kind.startswith("*")
                else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
            )
            added = message.field.add(name=field, number=number, label=label)
            if kind.strip("*") in _TYPES:
                added.type = _TYPES[kind.strip("*")]  # type: ignore[assignment]
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = f".rules.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def message_class(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"rules.{name}"))

    return message_class


def _read(kind: str, options: Any) -> Any:
    parsed = _schema()(kind).FromString(options.SerializeToString())
    _refuse_unknown(parsed)
    return parsed.rules


def _refuse_unknown(message: Any) -> None:
    fields: Any = UnknownFieldSet(message)
    unknown = [field.field_number for field in fields]
    assert not unknown, f"rules that this test does not know: {message.DESCRIPTOR.name} {unknown}"
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            _refuse_unknown(value)


@cache
def rules_of(field: FieldDescriptor) -> Any:
    """The rules of a field."""
    return _read("Options", field.GetOptions())


@cache
def must_be_set(oneof: OneofDescriptor) -> bool:
    """Whether one of the fields must be set."""
    return bool(_read("OneofOptions", oneof.GetOptions()).required)


def real_oneofs(message: Descriptor) -> list[OneofDescriptor]:
    """The oneofs that someone wrote; an `optional` field makes one of its own."""
    return [oneof for oneof in message.oneofs if not oneof.name.startswith("_")]


def _category(character: str) -> str:
    return unicodedata.category(character)


def _is_name(text: str) -> bool:
    """Printable, without blanks at its ends."""
    ends = all(_category(each)[0] not in "ZC" for each in (text[:1], text[-1:]) if each)
    inner = all(_category(each) not in ("Zl", "Zp") and _category(each)[0] != "C" for each in text)
    return bool(text) and ends and inner


def _is_label_key(text: str) -> bool:
    plain = all(each.isascii() and (each.isalnum() or each in "._/-") for each in text)
    return plain and text[:1].isalnum() and text[-1:].isalnum()


def _is_file_name(text: str) -> bool:
    plain = all(each.isascii() and (each.isalnum() or each in "._-") for each in text)
    return plain and text[:1].isalnum()


PATTERNS: Final[dict[str, Callable[[str], bool]]] = {
    "": lambda text: True,
    r"^[^\p{Z}\p{C}]([^\p{Zl}\p{Zp}\p{C}]*[^\p{Z}\p{C}])?$": _is_name,
    r"^([^\p{Z}\p{C}]([^\p{Zl}\p{Zp}\p{C}]*[^\p{Z}\p{C}])?)?$": lambda text: (
        not text or _is_name(text)
    ),
    r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$": _is_label_key,
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": _is_file_name,
    r"^[^\p{Cc}]*$": lambda text: all(_category(each) != "Cc" for each in text),
    r"^[^\x00]*$": lambda text: "\0" not in text,
    r"^[\x21-\x7e]*$": lambda text: all("!" <= each <= "~" for each in text),
    r"^[\x20-\x7e]*$": lambda text: all(" " <= each <= "~" for each in text),
}
"""What each pattern of the contract means, said in another way."""
