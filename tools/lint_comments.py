"""Lint the comments of the protos, after AIP-192: they are the reference that users read.

Every service, RPC, message, field, oneof, enum and enum value has a comment. Its first sentence
starts with a capital letter, a digit or a quoted name, and ends with a period. The comment of an
RPC says which errors to expect, after the word "Errors:", and the reasons that it names exist.
There is no list of exceptions.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

from tools.protos import PROTOS, compile_protos, own_files

# Numbers of the fields in descriptor.proto: a comment's path is made of them and of positions.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE = 2
SERVICE_METHOD = 2

OPENING = re.compile(r"[A-Z0-9`]")
ERRORS = re.compile(r"(?:^|\s)Errors:(.*)", re.DOTALL)
REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")
FULL_STOP = re.compile(r"\.[)\"'`]*(?=\s|$)")

Location = tuple[int, ...]
Element = tuple[str, str, Location]


def elements(file: FileDescriptorProto) -> Iterator[Element]:
    """Yield the kind, full name and path of every element that needs a comment."""
    prefix = f"{file.package}."
    for index, service in enumerate(file.service):
        yield from _service(prefix, service, (FILE_SERVICE, index))
    for index, message in enumerate(file.message_type):
        yield from _message(prefix, message, (FILE_MESSAGE, index))
    for index, enum in enumerate(file.enum_type):
        yield from _enum(prefix, enum, (FILE_ENUM, index))


def _service(prefix: str, service: ServiceDescriptorProto, path: Location) -> Iterator[Element]:
    name = prefix + service.name
    yield "service", name, path
    for index, method in enumerate(service.method):
        yield "rpc", f"{name}.{method.name}", (*path, SERVICE_METHOD, index)


def _message(prefix: str, message: DescriptorProto, path: Location) -> Iterator[Element]:
    if message.options.map_entry:
        return
    name = prefix + message.name
    yield "message", name, path
    # A proto3 optional field has a oneof of its own that no author wrote.
    written = {
        field.oneof_index
        for field in message.field
        if field.HasField("oneof_index") and not field.proto3_optional
    }
    for index, field in enumerate(message.field):
        yield "field", f"{name}.{field.name}", (*path, MESSAGE_FIELD, index)
    for index, oneof in enumerate(message.oneof_decl):
        if index in written:
            yield "oneof", f"{name}.{oneof.name}", (*path, MESSAGE_ONEOF, index)
    for index, nested in enumerate(message.nested_type):
        yield from _message(f"{name}.", nested, (*path, MESSAGE_NESTED, index))
    for index, enum in enumerate(message.enum_type):
        yield from _enum(f"{name}.", enum, (*path, MESSAGE_ENUM, index))


def _enum(prefix: str, enum: EnumDescriptorProto, path: Location) -> Iterator[Element]:
    name = prefix + enum.name
    yield "enum", name, path
    for index, value in enumerate(enum.value):
        yield "value", f"{name}.{value.name}", (*path, ENUM_VALUE, index)


def comments(file: FileDescriptorProto) -> dict[Location, tuple[str, int]]:
    """Return each element's comment (before it, or after it on its line) and its line number."""
    return {
        tuple(place.path): (
            (place.leading_comments or place.trailing_comments).strip(),
            place.span[0] + 1,
        )
        for place in file.source_code_info.location
    }


def complaints(kind: str, comment: str) -> Iterator[str]:
    """Yield what is wrong with the comment of one element."""
    if not comment:
        yield "has no comment"
        return
    if not OPENING.match(comment):
        yield "starts with neither a capital letter, a digit nor a quoted name"
    paragraph = comment.partition("\n\n")[0].rstrip()
    if not FULL_STOP.search(paragraph):
        yield "has a first sentence without a period"
    if kind == "rpc" and not ERRORS.search(comment):
        yield 'does not say which errors to expect, after the word "Errors:"'


def unknown_reasons(comment: str, values: Collection[str]) -> Iterator[str]:
    """Yield a complaint for each reason after "Errors:" that no enum value ends with."""
    errors = ERRORS.search(comment)
    for reason in REASON.findall(errors[1]) if errors else ():
        if not any(value == reason or value.endswith(f"_{reason}") for value in values):
            yield f"names {reason}, which is no value of any enum"


def lint(files: Collection[FileDescriptorProto]) -> Iterator[str]:
    """Yield one line per complaint, as file:line: kind name complaint."""
    named = [(file, *element) for file in files for element in elements(file)]
    values = {name.rpartition(".")[2] for _, kind, name, _ in named if kind == "value"}
    found = {file.name: comments(file) for file in files}
    for file, kind, name, path in named:
        comment, line = found[file.name].get(path, ("", 0))
        problems = [*complaints(kind, comment)]
        if kind == "rpc":
            problems += unknown_reasons(comment, values)
        for problem in problems:
            yield f"{file.name}:{line}: {kind} {name} {problem}"


def main(arguments: list[str] | None = None) -> int:
    """Lint every proto of the package; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--protos", type=Path, default=PROTOS, help="the folder of the protos")
    options = parser.parse_args(arguments)
    files = own_files(compile_protos(options.protos))
    problems = list(lint(files))
    for problem in problems:
        print(problem, file=sys.stderr)
    count = sum(1 for file in files for _ in elements(file))
    print(f"{count} elements in {len(files)} files, {len(problems)} complaints")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
