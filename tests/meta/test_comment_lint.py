"""The comment lint accepts what a reader needs and names what is missing."""

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from tools import lint_comments


@pytest.mark.parametrize(
    ("kind", "comment"),
    [
        ("field", "The name, 1 to 128 characters."),
        ("value", "`OK` as in HTTP."),
        ("field", "64 at most."),
        ("message", "A sentence that goes on\nto a second line. And a second one"),
        ("rpc", "Creates a session.\n\nErrors: SESSION_EXISTS."),
        ("rpc", "Reads one app. Errors: none of its own."),
    ],
)
def test_good_comment_passes(kind: str, comment: str) -> None:
    assert list(lint_comments.complaints(kind, comment)) == []


@pytest.mark.parametrize(
    ("kind", "comment", "complaint"),
    [
        ("field", "", "has no comment"),
        ("field", "the name.", "starts with"),
        ("field", "The name", "without a period"),
        ("field", "The name\n\nMore. And more.", "without a period"),
        ("rpc", "Creates a session.", "Errors:"),
    ],
)
def test_bad_comment_is_named(kind: str, comment: str, complaint: str) -> None:
    (found,) = lint_comments.complaints(kind, comment)
    assert complaint in found


def test_reason_that_does_not_exist_is_named() -> None:
    values = {"ERROR_REASON_SESSION_ENDED", "IF_EXISTS_FAIL"}
    comment = "Ends it. Errors: SESSION_ENDED, SESION_ENDED."
    (found,) = lint_comments.unknown_reasons(comment, values)
    assert "SESION_ENDED" in found


def test_every_kind_of_element_needs_a_comment() -> None:
    file = FileDescriptorProto(name="a.proto", package="a.v1")
    file.service.add(name="S").method.add(name="M")
    file.enum_type.add(name="E").value.add(name="V", number=0)
    message = file.message_type.add(name="T")
    message.oneof_decl.add(name="one")
    message.field.add(name="f", number=1, oneof_index=0)
    message.nested_type.add(name="N")
    message.enum_type.add(name="E").value.add(name="V", number=0)
    kinds = [kind for kind, _, _ in lint_comments.elements(file)]
    assert sorted(kinds) == sorted(
        ["service", "rpc", "message", "field", "oneof", "message", "enum", "value", "enum", "value"]
    )
    assert len(list(lint_comments.lint([file]))) == len(kinds)


def test_what_protoc_adds_by_itself_needs_none() -> None:
    file = FileDescriptorProto(name="a.proto", package="a.v1")
    message = file.message_type.add(name="T")
    message.oneof_decl.add(name="_maybe")
    message.field.add(name="maybe", number=1, oneof_index=0, proto3_optional=True)
    entry: DescriptorProto = message.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    assert [kind for kind, _, _ in lint_comments.elements(file)] == ["message", "field"]
