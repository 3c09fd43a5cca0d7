"""Whatever a caller says, what comes of it is a request or one of our errors."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from sojourn import (
    LabelSelector,
    MetricsDelta,
    NewMessage,
    NewSession,
    OnExisting,
    Policy,
    Precondition,
    SessionFilter,
    StatePatch,
    Threshold,
    _app_calls,
    _bulk_calls,
    _calls,
    _message_calls,
)
from sojourn.errors import InvalidFieldError, SojournError
from sojourn.inputs import ListFields, SelectionFields

UID = "01890a5d-ac96-774b-bcce-b302099a8057"

BUILDERS = [
    value
    for module in (_calls, _message_calls, _bulk_calls, _app_calls)
    for name, value in vars(module).items()
    if inspect.isfunction(value)
    and value.__module__ == module.__name__
    and value.__annotations__["return"].endswith(("Request", "Request]"))
    and not name.endswith("_page")
]
# What each argument is when it is not the one under test.
FITTING: dict[str, object] = {
    "app": "a",
    "session": "s",
    "sessions": [],
    "messages": [],
    "default_labels": {},
    "turn_token": "t",
    "keep_through_sequence": 0,
    "fields": {},
    "user": "u",
    "patch": {},
    "session_id": "t",
    "labels": {"k": "v"},
    "status": "any",
    "uid": UID,
    "time": None,
    "on_existing": OnExisting.FAIL,
    "name": "monday.db",
}
# What needs more than the fields above, to be refused for nothing but the one under test.
MORE: dict[object, dict[str, object]] = {
    _bulk_calls.end_sessions: {"all": True},
    _bulk_calls.delete_sessions: {"all": True},
}
NONSENSE = [object(), 5, -1, 1.5, True, None, b"x", "\ud83d", "\x00", [object()], {"x": object()}]
NONSENSE += [[1], [None], {1: 2}, float("nan"), 10**30, datetime(2026, 1, 1)]  # noqa: DTZ001


def test_every_builder_was_found() -> None:
    assert len(BUILDERS) == 35


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_nonsense_in_any_argument_is_one_of_our_errors(builder: Callable[..., object]) -> None:
    parameters = inspect.signature(builder).parameters
    refused = 0
    for name in parameters:
        arguments = {
            other: FITTING[other]
            for other, parameter in parameters.items()
            if parameter.default is parameter.empty
        }
        if builder is _calls.create_session:
            arguments["session"] = NewSession()
        arguments |= MORE.get(builder, {})
        for value in NONSENSE:
            if name in {"fields", "default_labels"}:  # checked elsewhere
                break
            try:
                builder(**(arguments | {name: value}))
            except SojournError:
                refused += 1
    assert refused > 4


def test_nonsense_in_any_description_is_one_of_our_errors() -> None:
    refused = 0
    described: list[tuple[Any, Callable[[Any], object]]] = [
        (NewSession, lambda one: _calls.create_session("a", one, default_labels={})),
        (NewMessage, lambda one: _message_calls.append_messages("a", "s", [one])),
        (MetricsDelta, lambda one: _calls.update_session("a", "s", metrics=one)),
        (StatePatch, lambda one: _calls.update_state("a", "u", one)),
        (Precondition, lambda one: _calls.delete_session("a", "s", precondition=one)),
        (SessionFilter, lambda one: _calls.list_sessions("a", {"filter": one})),
        (LabelSelector, lambda one: _calls.list_sessions("a", {"labels": [one]})),
        (Policy, lambda one: _app_calls.update_app("a", policy=one)),
        (Threshold, lambda one: _app_calls.update_app("a", policy=Policy(thresholds=[one]))),
    ]
    for kind, make in described:
        base = {"role": "user"} if kind is NewMessage else {}
        base = {"key": "k"} if kind is LabelSelector else base
        for field in dataclasses.fields(kind):
            for value in NONSENSE:
                try:
                    make(kind(**(base | {field.name: value})))
                except SojournError:
                    refused += 1
    assert refused > 100


def test_nonsense_in_a_list_s_fields_is_one_of_our_errors() -> None:
    for name in ListFields.__annotations__:
        for value in NONSENSE:
            with contextlib.suppress(SojournError):
                _calls.list_sessions("a", {name: value})  # type: ignore[misc]
    for name in SelectionFields.__annotations__:
        for value in NONSENSE:
            with contextlib.suppress(SojournError):
                _bulk_calls.aggregate_sessions("a", {name: value})  # type: ignore[misc]
    with pytest.raises(InvalidFieldError, match="colour"):
        _calls.list_sessions("a", {"colour": "red"})  # type: ignore[typeddict-unknown-key]
