"""The ceilings agree with the protos' rules and with each other."""

from __future__ import annotations

from sojourn.v1 import error_reason_pb2, history_service_pb2, message_pb2, session_pb2
from sojourn_server.domain import limits
from sojourn_server.domain.errors import Reason, Violation, invalid_field, too_large
from sojourn_server.domain.limits import Limits
from sojourn_server.domain.model import EndCause, ExpireCause, Status


def test_a_message_fits_into_an_answer_and_a_request() -> None:
    assert Limits().message_bytes <= limits.ANSWER_BYTES <= Limits().request_bytes


def test_the_default_page_is_not_larger_than_the_largest() -> None:
    assert 0 < limits.PAGE_DEFAULT <= limits.PAGE_MOST <= limits.SCAN_ROWS
    assert limits.UNIT_ROWS <= limits.CASCADE_MOST


def test_numbers_of_the_domain_are_those_of_the_contract() -> None:
    pairs = [
        (Status, session_pb2.SessionStatus, "SESSION_STATUS_"),
        (EndCause, session_pb2.EndCause, "END_CAUSE_"),
        (ExpireCause, session_pb2.ExpireCause, "EXPIRE_CAUSE_"),
    ]
    for ours, theirs, prefix in pairs:
        wire = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
        assert wire == {each.name: each.value for each in ours}


def test_every_reason_of_the_contract_is_one_of_the_domain() -> None:
    wire = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }
    assert {reason.value for reason in Reason} == wire - {"UNSPECIFIED"}


def test_a_refusal_names_its_field_and_its_limit() -> None:
    bad = invalid_field("messages[0].role", "must be set")
    assert bad.violations == (Violation("messages[0].role", "must be set"),)
    assert str(bad) == "INVALID_FIELD: messages[0].role: must be set"
    large = too_large("messages[3]", 10)
    assert large.metadata == {"field": "messages[3]", "limit_bytes": "10"}


def test_the_protos_are_the_ones_meant() -> None:
    assert history_service_pb2.DESCRIPTOR.package == message_pb2.DESCRIPTOR.package == "sojourn.v1"
