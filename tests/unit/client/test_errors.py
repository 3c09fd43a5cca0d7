"""One class per reason, one per code, in one tree; they can be pickled."""

import copy
import pickle
import re
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

import sojourn
from sojourn import errors
from sojourn.errors import FieldViolation, SojournError, error_class
from sojourn.v1.error_reason_pb2 import ErrorReason

PREFIX = "ERROR_REASON_"
REASONS = [name.removeprefix(PREFIX) for name, number in ErrorReason.items() if number]
CODES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, SojournError)
]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_the_contract_has_a_class_of_its_own(reason: str) -> None:
    cls = error_class("UNKNOWN", reason)
    assert cls.reason == reason
    assert [other for other in CLASSES if vars(other).get("reason") == reason] == [cls]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_s_class_has_the_code_that_the_contract_gives_it(reason: str) -> None:
    # The comment of each reason in the contract begins with its code.
    comment = reason_comments()[reason]
    assert error_class("UNKNOWN", reason).code == comment.partition(".")[0]


def reason_comments() -> dict[str, str]:
    root = Path(__file__).resolve().parents[3]
    text = (root / "protos/sojourn/v1/error_reason.proto").read_text(encoding="utf-8")
    found = re.findall(r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) =", text)
    return {name: comment.replace("  // ", "").strip() for comment, name in found}


@pytest.mark.parametrize("code", CODES)
def test_every_status_code_has_a_class(code: str) -> None:
    if code == "UNKNOWN":
        assert error_class(code) is errors.UnknownStatusError
    else:
        assert error_class(code).code == code


def test_an_unknown_reason_becomes_the_class_of_its_code() -> None:
    assert error_class("ABORTED", "FROM_THE_FUTURE") is errors.AbortedError


def test_no_class_of_ours_is_missing_from_the_drawing() -> None:
    drawn = re.findall(r"(?:── |^)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert set(drawn) | {"SojournError"} == {cls.__name__ for cls in CLASSES}
    assert len(drawn) == len(set(drawn))


def test_the_drawing_shows_each_class_below_its_parent() -> None:
    parents: list[tuple[int, str]] = [(-1, "SojournError")]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([ │]*)[├└]── (\w+)", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while parents[-1][0] >= depth:
            parents.pop()
        cls = getattr(errors, name)
        assert cls.__bases__[0].__name__ == parents[-1][1], name
        parents.append((depth, name))


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_can_be_pickled_and_copied_with_all_it_knows(cls: type[SojournError]) -> None:
    error = cls(
        "it went wrong",
        code="ABORTED",
        reason="SOME_REASON",
        metadata={"app": "x"},
        field_violations=(FieldViolation("app", "too long"),),
        retry_after=timedelta(seconds=2),
        correlation_id="c-1",
        request_id="r-1",
        method="GetSession",
    )
    error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is cls
        assert vars(other) == vars(error)
        assert str(other) == str(error)
        assert other.args == error.args
        assert other.__notes__ == ["a note"]


def test_a_subclass_with_arguments_of_its_own_can_be_pickled() -> None:
    error = Stubborn(1, 2)
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is Stubborn
    assert (other.message, other.sum) == ("the sum is 3", 3)


class Stubborn(SojournError):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"the sum is {one + two}")
        self.sum = one + two


def test_a_user_s_own_subclass_takes_no_part_in_the_mapping() -> None:
    class Mine(errors.SessionNotFoundError):
        reason = "SESSION_NOT_FOUND"

    assert error_class("NOT_FOUND", "SESSION_NOT_FOUND") is errors.SessionNotFoundError
    assert issubclass(Mine, errors.NotFoundError)


def test_the_text_names_reason_method_and_correlation_id() -> None:
    error = errors.SessionNotFoundError(
        "no such session", method="GetSession", correlation_id="c-1"
    )
    assert str(error) == "no such session [SESSION_NOT_FOUND, GetSession, correlation id c-1]"
    assert error.message == "no such session"
    assert str(errors.ClientClosedError("the client is closed")) == "the client is closed"


def test_some_errors_are_python_s_own_too() -> None:
    assert issubclass(errors.ArgumentTypeError, TypeError)
    assert issubclass(errors.JsonValueError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)
    assert sojourn.SojournError is SojournError
