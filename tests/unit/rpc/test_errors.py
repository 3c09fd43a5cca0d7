"""Refusals on the wire: one reason, one code, details that fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from sojourn.v1.error_reason_pb2 import ErrorReason
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import (
    Reason,
    Refusal,
    Violation,
    draining,
    invalid_field,
    too_large,
)
from sojourn_server.rpc.errors import STATUS_BYTES, TABLE, refusal_of, status_of
from sojourn_server.store.base import StoreDown, StoreFull

PROTO = Path(__file__).resolve().parents[3] / "protos/sojourn/v1/error_reason.proto"
PREFIX = "ERROR_REASON_"


def named_codes() -> dict[str, str]:
    """The code that each reason's comment begins with, by the reason's name."""
    text = PROTO.read_text(encoding="utf-8")
    entry = re.compile(r"((?: *//[^\n]*\n)+) *ERROR_REASON_(\w+) = [1-9]")
    found = {}
    for comment, name in entry.findall(text):
        first = comment.strip().removeprefix("// ")
        found[name] = first.partition(".")[0]
    return found


M = TypeVar("M", bound=Message)


def detail(status: Status, kind: type[M]) -> M | None:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None


def test_every_reason_of_the_contract_is_a_reason_of_the_domain_and_back():
    contract = {name.removeprefix(PREFIX) for name, _ in ErrorReason.items()} - {"UNSPECIFIED"}
    assert contract == {reason.value for reason in Reason}


def test_the_table_has_every_reason():
    assert set(TABLE) == set(Reason)


def test_each_reason_has_the_code_that_its_comment_names():
    codes = named_codes()
    assert len(codes) == len(Reason)
    assert {reason.value: row.code.name for reason, row in TABLE.items()} == codes


def test_a_thing_that_is_named_is_of_a_code_about_things():
    about = {"NOT_FOUND", "ALREADY_EXISTS"}
    for row in TABLE.values():
        assert bool(row.resource) == (row.code.name in about)


@pytest.mark.parametrize("reason", list(Reason))
def test_error_info_comes_first_and_says_what_the_refusal_says(reason: Reason):
    status = status_of(Refusal(reason, "a sentence", {"key": "value"}))
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        reason.value,
        "sojourn",
        {"key": "value"},
    )
    assert status.code == TABLE[reason].code.value[0]
    assert status.message == "a sentence"


def test_what_is_not_there_is_named():
    refusal = Refusal(Reason.SESSION_NOT_FOUND, "no such session", {"session_id": "x"})
    found = detail(status_of(refusal), ResourceInfo)
    assert found is not None
    assert (found.resource_type, found.resource_name) == ("session", "x")


def test_what_was_asked_for_by_uid_is_named_by_uid():
    refusal = Refusal(Reason.SESSION_NOT_FOUND, "no such session", {"uid": "u-1"})
    found = detail(status_of(refusal), ResourceInfo)
    assert found is not None
    assert found.resource_name == "u-1"


def test_a_failed_precondition_says_which():
    found = detail(status_of(Refusal(Reason.SESSION_ENDED, "it ended")), PreconditionFailure)
    assert found is not None
    assert [each.type for each in found.violations] == ["SESSION_ENDED"]


def test_a_wait_is_told_to_the_nanosecond():
    refusal = Refusal(Reason.TURN_CONFLICT, "taken", retry_after=3 * SECOND + 7)
    found = detail(status_of(refusal), RetryInfo)
    assert found is not None
    assert (found.retry_delay.seconds, found.retry_delay.nanos) == (3, 7)


def test_a_store_that_failed_says_when_to_come_again():
    found = detail(status_of(refusal_of(StoreDown("secret"))), RetryInfo)
    assert found is not None
    assert 0 < found.retry_delay.ToTimedelta().total_seconds() <= 1


def test_a_drain_says_when_to_come_again():
    assert detail(status_of(draining()), RetryInfo) is not None


def test_a_bad_field_is_named_with_its_rule():
    found = detail(status_of(invalid_field("page_size", "must not be negative")), BadRequest)
    assert found is not None
    assert [(each.field, each.description) for each in found.field_violations] == [
        ("page_size", "must not be negative")
    ]


def test_at_most_twenty_violations_are_told():
    violations = [Violation(f"f{number}", "wrong") for number in range(50)]
    status = status_of(Refusal(Reason.INVALID_FIELD, "wrong", violations=violations))
    found = detail(status, BadRequest)
    assert found is not None
    assert [each.field for each in found.field_violations] == [f"f{n}" for n in range(20)]


def test_violations_that_do_not_fit_are_left_out_from_the_end():
    violations = [Violation(f"{number}" * 500, "wrong") for number in range(20)]
    status = status_of(Refusal(Reason.INVALID_FIELD, "wrong", violations=violations))
    found = detail(status, BadRequest)
    assert found is not None
    assert 1 <= len(found.field_violations) < 20
    assert found.field_violations[0].field == "0" * 500


@given(
    reason=st.sampled_from(list(Reason)),
    message=st.text(max_size=3_000),
    metadata=st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=3_000)),
    violations=st.lists(
        st.builds(Violation, st.text(max_size=400), st.text(max_size=400)), max_size=30
    ),
    retry_after=st.none() | st.integers(-SECOND, 10**18),
)
def test_a_status_is_never_larger_than_four_kibibytes(
    reason: Reason,
    message: str,
    metadata: dict[str, str],
    violations: list[Violation],
    retry_after: int | None,
):
    refusal = Refusal(reason, message, metadata, violations=violations, retry_after=retry_after)
    status = status_of(refusal)
    assert status.ByteSize() <= STATUS_BYTES
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == reason.value
    assert info.metadata.keys() == metadata.keys()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreFull("secret"), Reason.STORAGE_FULL),
        (StoreDown("secret"), Reason.STORE_UNAVAILABLE),
        (KeyError("secret"), Reason.INTERNAL),
        (RuntimeError("secret"), Reason.INTERNAL),
    ],
)
def test_what_is_raised_below_has_a_reason_and_keeps_its_text(error: Exception, reason: Reason):
    refusal = refusal_of(error)
    assert refusal.reason is reason
    assert "secret" not in status_of(refusal).SerializeToString().decode("latin-1")


def test_a_refusal_stays_itself():
    refusal = too_large("messages[0]", 1_024)
    assert refusal_of(refusal) is refusal
