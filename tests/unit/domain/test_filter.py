"""The one evaluator that says which sessions are meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn_server.domain import filter as filters
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter, TimeRange
from sojourn_server.domain.model import EndCause, Metrics, Owner, Session, Status
from tests.unit.domain.values import START, a_session, a_turn

NOW = START + 100 * SECOND
UID = "018bcfe5-6800-7000-8000-00000000000a"


def selector(operator: LabelOperator, *values: str, key: str = "env") -> SessionFilter:
    return SessionFilter(labels=(LabelSelector(key, operator, values),))


def span(low: int | None = None, high: int | None = None) -> TimeRange:
    return TimeRange(
        None if low is None else START + low * SECOND,
        None if high is None else START + high * SECOND,
    )


def at(seconds: int) -> int:
    return START + seconds * SECOND


IN, NOT_IN = LabelOperator.IN, LabelOperator.NOT_IN
EXISTS, NOT_EXISTS = LabelOperator.EXISTS, LabelOperator.NOT_EXISTS

CASES: list[tuple[str, SessionFilter, Session, bool]] = [
    ("statuses", SessionFilter(statuses=(Status.ACTIVE,)), a_session(), True),
    ("statuses", SessionFilter(statuses=(Status.FAILED,)), a_session(), False),
    (
        "statuses",
        SessionFilter(statuses=(Status.FAILED, Status.EXPIRED)),
        a_session(status=Status.EXPIRED),
        True,
    ),
    ("labels", selector(IN, "dev", "prod"), a_session(labels={"env": "prod"}), True),
    ("labels", selector(IN, "dev"), a_session(labels={"env": "prod"}), False),
    ("labels", selector(IN, "dev"), a_session(), False),
    ("labels", selector(NOT_IN, "dev"), a_session(labels={"env": "prod"}), True),
    ("labels", selector(NOT_IN, "dev"), a_session(labels={"env": "dev"}), False),
    ("labels", selector(NOT_IN, "dev"), a_session(), True),
    ("labels", selector(EXISTS), a_session(labels={"env": "x"}), True),
    ("labels", selector(EXISTS), a_session(labels={"other": "x"}), False),
    ("labels", selector(NOT_EXISTS), a_session(), True),
    ("labels", selector(NOT_EXISTS), a_session(labels={"env": "x"}), False),
    (
        "labels",
        SessionFilter(labels=(LabelSelector("a", EXISTS), LabelSelector("b", EXISTS))),
        a_session(labels={"a": "1"}),
        False,
    ),
    ("session_id_prefix", SessionFilter(session_id_prefix="s-"), a_session(), True),
    ("session_id_prefix", SessionFilter(session_id_prefix="-1"), a_session(), False),
    ("session_id_prefix", SessionFilter(session_id_prefix="S-"), a_session(), False),
    ("parent_uid", SessionFilter(parent_uid=UID), a_session(parent_uid=UID), True),
    ("parent_uid", SessionFilter(parent_uid=UID), a_session(), False),
    ("has_parent", SessionFilter(has_parent=True), a_session(parent_uid=UID), True),
    ("has_parent", SessionFilter(has_parent=True), a_session(), False),
    ("has_parent", SessionFilter(has_parent=False), a_session(), True),
    ("has_parent", SessionFilter(has_parent=False), a_session(parent_uid=UID), False),
    ("ephemeral", SessionFilter(ephemeral=True), a_session(owner=Owner(turn_number=1)), True),
    ("ephemeral", SessionFilter(ephemeral=True), a_session(), False),
    ("ephemeral", SessionFilter(ephemeral=False), a_session(), True),
    ("ephemeral", SessionFilter(ephemeral=False), a_session(owner=Owner(lease=1)), False),
    ("has_turn", SessionFilter(has_turn=True), a_session(turn=a_turn()), True),
    ("has_turn", SessionFilter(has_turn=True), a_session(), False),
    ("has_turn", SessionFilter(has_turn=False), a_session(), True),
    ("has_turn", SessionFilter(has_turn=False), a_session(turn=a_turn()), False),
    ("create_time", SessionFilter(create_time=span(0, 1)), a_session(), True),
    ("create_time", SessionFilter(create_time=span(1)), a_session(), False),
    ("create_time", SessionFilter(create_time=span(None, 0)), a_session(), False),
    ("update_time", SessionFilter(update_time=span(5)), a_session(update_time=at(5)), True),
    ("update_time", SessionFilter(update_time=span(None, 5)), a_session(update_time=at(5)), False),
    ("end_time", SessionFilter(end_time=span(0, 9)), a_session(end_time=at(8)), True),
    ("end_time", SessionFilter(end_time=span(0, 9)), a_session(end_time=at(9)), False),
    ("end_time", SessionFilter(end_time=span(None, 9)), a_session(), False),
    ("older_than", SessionFilter(older_than=99 * SECOND), a_session(), True),
    ("older_than", SessionFilter(older_than=100 * SECOND), a_session(), False),
    ("older_than", SessionFilter(older_than=0), a_session(create_time=NOW), False),
    (
        "idle_longer_than",
        SessionFilter(idle_longer_than=9 * SECOND),
        a_session(activity_time=at(90)),
        True,
    ),
    (
        "idle_longer_than",
        SessionFilter(idle_longer_than=10 * SECOND),
        a_session(activity_time=at(90)),
        False,
    ),
    ("activity_time", SessionFilter(activity_time=span(5)), a_session(activity_time=at(5)), True),
    ("activity_time", SessionFilter(activity_time=span(6)), a_session(activity_time=at(5)), False),
    (
        "request_count_above",
        SessionFilter(request_count_above=2),
        a_session(metrics=Metrics(requests=3)),
        True,
    ),
    (
        "request_count_above",
        SessionFilter(request_count_above=3),
        a_session(metrics=Metrics(requests=3)),
        False,
    ),
    ("request_count_above", SessionFilter(request_count_above=0), a_session(), False),
    (
        "error_count_above",
        SessionFilter(error_count_above=0),
        a_session(metrics=Metrics(errors=1)),
        True,
    ),
    ("error_count_above", SessionFilter(error_count_above=0), a_session(), False),
    (
        "error_rate_above",
        SessionFilter(error_rate_above=0.49),
        a_session(metrics=Metrics(requests=2, errors=1)),
        True,
    ),
    (
        "error_rate_above",
        SessionFilter(error_rate_above=0.5),
        a_session(metrics=Metrics(requests=2, errors=1)),
        False,
    ),
    ("error_rate_above", SessionFilter(error_rate_above=0.0), a_session(), False),
    (
        "end_causes",
        SessionFilter(end_causes=(EndCause.IDLE,)),
        a_session(status=Status.EXPIRED, end_cause=EndCause.IDLE),
        True,
    ),
    ("end_causes", SessionFilter(end_causes=(EndCause.IDLE,)), a_session(), False),
]


@pytest.mark.parametrize(("name", "which", "session", "selected"), CASES)
def test_each_predicate_selects_what_it_says(
    name: str, which: SessionFilter, session: Session, selected: bool
) -> None:
    assert filters.predicates(which) == [name]
    assert filters.matcher(which, NOW)(session) is selected


def test_every_predicate_has_a_case_that_selects_and_one_that_does_not() -> None:
    for wanted in (True, False):
        covered = {name for name, _, _, selected in CASES if selected is wanted}
        assert covered == set(SessionFilter.__struct_fields__)


def test_an_empty_filter_selects_everything() -> None:
    assert filters.predicates(filters.EVERYTHING) == []
    assert filters.matcher(filters.EVERYTHING, NOW)(a_session())


def test_false_and_zero_are_set_where_none_is_not() -> None:
    which = SessionFilter(
        has_parent=False, ephemeral=False, has_turn=False, older_than=0, request_count_above=0
    )
    assert len(filters.predicates(which)) == 5


def test_only_predicates_on_the_present_instant_are_relative() -> None:
    relative = {"older_than": 0, "idle_longer_than": 0}
    for name in SessionFilter.__struct_fields__:
        value: Any = relative.get(name, span(0) if name.endswith("_time") else None)
        assert SessionFilter(**{name: value} if value is not None else {}).relative is (
            name in relative
        )


# A slow and obvious second opinion, written from the comments in the proto.


def _in_range(value: TimeRange | None, instant: int) -> bool:
    if value is None:
        return True
    low = value.not_before if value.not_before is not None else -(10**30)
    high = value.before if value.before is not None else 10**30
    return low <= instant < high


def _label_ok(asked: LabelSelector, labels: dict[str, str]) -> bool:
    there = asked.key in labels
    if asked.operator == EXISTS:
        return there
    if asked.operator == NOT_EXISTS:
        return not there
    among = there and labels[asked.key] in asked.values
    return among if asked.operator == IN else not among


def oracle(f: SessionFilter, s: Session, now: int) -> bool:
    rate = s.metrics.errors / s.metrics.requests if s.metrics.requests else 0
    verdicts = [
        not f.statuses or s.status in f.statuses,
        all(_label_ok(each, s.labels) for each in f.labels),
        s.session_id[: len(f.session_id_prefix)] == f.session_id_prefix,
        f.parent_uid in ("", s.parent_uid),
        f.has_parent is None or f.has_parent == (s.parent_uid != ""),
        f.ephemeral is None or f.ephemeral == (s.owner is not None),
        f.has_turn is None or f.has_turn == (s.turn is not None),
        _in_range(f.create_time, s.create_time),
        _in_range(f.update_time, s.update_time),
        f.end_time is None or (s.end_time > 0 and _in_range(f.end_time, s.end_time)),
        f.older_than is None or s.create_time < now - f.older_than,
        f.idle_longer_than is None or s.activity_time < now - f.idle_longer_than,
        _in_range(f.activity_time, s.activity_time),
        f.request_count_above is None or s.metrics.requests > f.request_count_above,
        f.error_count_above is None or s.metrics.errors > f.error_count_above,
        f.error_rate_above is None or rate > f.error_rate_above,
        not f.end_causes or s.end_cause in f.end_causes,
    ]
    return all(verdicts)


few = st.integers(0, 3)
instants = st.integers(START - 3, START + 3)
ranges = st.none() | st.builds(TimeRange, st.none() | instants, st.none() | instants)
flags = st.none() | st.booleans()
words = st.sampled_from(["a", "b", "c"])
selectors = st.builds(
    lambda key, operator, values: LabelSelector(
        key, operator, tuple(values) if operator in (IN, NOT_IN) else ()
    ),
    words,
    st.sampled_from(LabelOperator),
    st.lists(words, min_size=1, max_size=2),
)
session_filters = st.builds(
    SessionFilter,
    statuses=st.lists(st.sampled_from(Status), max_size=2).map(tuple),
    labels=st.lists(selectors, max_size=2).map(tuple),
    session_id_prefix=st.sampled_from(["", "", "s", "s-", "x"]),
    parent_uid=st.sampled_from(["", "", UID]),
    has_parent=flags,
    ephemeral=flags,
    has_turn=flags,
    create_time=ranges,
    update_time=ranges,
    end_time=ranges,
    older_than=st.none() | few,
    idle_longer_than=st.none() | few,
    activity_time=ranges,
    request_count_above=st.none() | few,
    error_count_above=st.none() | few,
    error_rate_above=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    end_causes=st.lists(st.sampled_from(EndCause), max_size=2).map(tuple),
)
sessions = st.builds(
    a_session,
    session_id=st.sampled_from(["s-1", "s", "t"]),
    status=st.sampled_from(Status),
    labels=st.dictionaries(words, words, max_size=3),
    create_time=instants,
    update_time=instants,
    activity_time=instants,
    end_time=st.just(0) | instants,
    parent_uid=st.sampled_from(["", UID]),
    owner=st.none() | st.just(Owner(turn_number=1)),
    turn=st.none() | st.just(a_turn()),
    metrics=st.builds(Metrics, requests=few, errors=few),
    end_cause=st.none() | st.sampled_from(EndCause),
)


@given(session_filters, sessions, instants)
@settings(max_examples=250, deadline=None)
def test_the_evaluator_agrees_with_a_naive_reading_of_the_contract(
    which: SessionFilter, session: Session, now: int
) -> None:
    assert filters.matcher(which, now)(session) == oracle(which, session, now)


@given(session_filters, sessions)
@settings(max_examples=150, deadline=None)
def test_a_single_predicate_alone_agrees_with_the_naive_reading(
    which: SessionFilter, session: Session
) -> None:
    for name in filters.predicates(which):
        alone = SessionFilter(**{name: getattr(which, name)})
        assert filters.matcher(alone, START)(session) == oracle(alone, session, START)


@given(session_filters, sessions)
@settings(max_examples=250, deadline=None)
def test_a_hint_never_excludes_a_session_that_the_filter_selects(
    which: SessionFilter, session: Session
) -> None:
    if not filters.matcher(which, START)(session):
        return
    status, label = filters.status_hint(which), filters.label_hint(which)
    assert status is None or session.status is status
    assert label is None or session.labels.get(label[0]) == label[1]


@given(session_filters, sessions)
@settings(max_examples=250, deadline=None)
def test_where_hints_say_all_they_select_exactly_what_the_filter_selects(
    which: SessionFilter, session: Session
) -> None:
    if not filters.hints_say_all(which):
        return
    status, label = filters.status_hint(which), filters.label_hint(which)
    selected = (
        (status is None or session.status is status)
        and (label is None or session.labels.get(label[0]) == label[1])
        and which.parent_uid in ("", session.parent_uid)
    )
    assert filters.matcher(which, START)(session) == selected


def test_hints_say_all_of_simple_filters_only() -> None:
    one = LabelSelector("env", IN, ("x",))
    for which, said in (
        (SessionFilter(), True),
        (SessionFilter(statuses=(Status.ACTIVE,), labels=(one,), parent_uid=UID), True),
        (SessionFilter(statuses=(Status.ACTIVE, Status.FAILED)), False),
        (SessionFilter(labels=(one, one)), False),
        (selector(NOT_IN, "x"), False),
        (SessionFilter(has_parent=False), False),
    ):
        assert filters.hints_say_all(which) is said


def test_hints_are_given_where_they_are_exact() -> None:
    assert filters.status_hint(SessionFilter(statuses=(Status.FAILED,))) is Status.FAILED
    assert filters.status_hint(SessionFilter(statuses=(Status.FAILED, Status.ACTIVE))) is None
    assert filters.label_hint(selector(IN, "prod")) == ("env", "prod")
    assert filters.label_hint(selector(IN, "prod", "dev")) is None
    assert filters.label_hint(selector(NOT_IN, "prod")) is None
