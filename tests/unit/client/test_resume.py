"""How a watch goes on: exactly once, wherever it is cut; and what each failure means."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn import errors
from sojourn._mirror import Mirror, step_of
from sojourn._resume import Progress
from sojourn.changes import (
    Bookmark,
    Change,
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    SessionChange,
    WatchEvent,
    WatchPosition,
)
from sojourn.errors import SojournError, error_class
from sojourn.options import RetryOptions
from tests.unit.client.feed import UIDS, UNITS, Log, Message, Request, change, stream, token

CUT = errors.UnavailableError("the connection was cut")
NOW = WatchPosition("")


def progress(after: WatchPosition = NOW, **more: object) -> Progress:
    return Progress(Request(app="app"), after, draw=lambda: 0.0, **more)  # type: ignore[arg-type]


def places(events: list[WatchEvent]) -> list[tuple[int, int]]:
    return [(one.revision, one.index) for one in events if isinstance(one, Change)]


def cut(made: Progress) -> None:
    made.after_end(CUT, lasted=0, elapsed=0)


def log_of(units: list[list[str]]) -> Log:
    log = Log()
    for unit in units:
        log.add(unit)
    return log


# --- exactly once --------------------------------------------------------------------------------


@pytest.mark.guarantee("W2")
@given(units=UNITS, data=st.data())
def test_every_change_comes_once_and_in_order_wherever_streams_are_cut(
    units: list[list[str]], data: st.DataObject
) -> None:
    log, draw = log_of(units), data.draw
    start = draw(st.integers(0, log.head))
    watch = progress(WatchPosition(token(start)))
    seen: list[WatchEvent] = []
    for _ in range(draw(st.integers(0, 4))):
        for message in stream(log, watch.opening(), draw, grow=True):
            if draw(st.booleans()):
                break
            seen += watch.take(message)
        cut(watch)
    for message in stream(log, watch.opening(), draw, grow=False):
        seen += watch.take(message)
    assert places(seen) == log.places(start)


@pytest.mark.guarantee("W15")
@given(units=UNITS, data=st.data())
def test_a_position_that_was_stored_after_any_event_goes_on_with_the_next_one(
    units: list[list[str]], data: st.DataObject
) -> None:
    log, draw = log_of(units), data.draw
    watch = progress(WatchPosition(token(0)))
    seen: list[WatchEvent] = []
    stored = WatchPosition(token(0))
    wanted = draw(st.integers(0, len(log.places())))
    for message in stream(log, watch.opening(), draw, grow=False):
        for event in watch.take(message):
            if len(places(seen)) < wanted:
                seen.append(event)
                stored = watch.position
    another = progress(stored)
    for message in stream(log, another.opening(), draw, grow=False):
        seen += another.take(message)
    assert places(seen) == log.places()


@given(units=UNITS, data=st.data())
def test_a_token_that_was_stored_after_any_event_misses_nothing(
    units: list[list[str]], data: st.DataObject
) -> None:
    log, draw = log_of(units), data.draw
    watch = progress(WatchPosition(token(0)))
    handed: list[tuple[int, int]] = []
    for message in stream(log, watch.opening(), draw, grow=False):
        for event in watch.take(message):
            handed += places([event])
            after = int(watch.position.token.removeprefix("token-"))
            assert {*log.places()} == {*handed, *log.places(after)}


@pytest.mark.guarantee("W6")
@given(units=UNITS, data=st.data())
def test_a_mirror_of_the_initial_state_is_true_wherever_streams_are_cut(
    units: list[list[str]], data: st.DataObject
) -> None:
    log, draw = log_of(units), data.draw
    watch = progress(initial_state=True)
    mirror = Mirror(len(UIDS))
    seen: list[WatchEvent] = []

    def take(message: Message) -> None:
        events = list(watch.take(message))
        seen.extend(events)
        steps = [step for step in map(step_of, events) if step is not None]
        mirror.take(steps, watch.complete)
        if mirror.ready:
            held = {one.uid: one.state_version for one in mirror.all()}
            assert held == log.state(mirror.revision)

    for _ in range(draw(st.integers(0, 4))):
        for message in stream(log, watch.opening(), draw, grow=True):
            if draw(st.booleans()):
                break
            take(message)
        cut(watch)
    for message in stream(log, watch.opening(), draw, grow=False):
        take(message)
    assert mirror.revision == log.head

    [end] = [one for one in seen if isinstance(one, InitialStateEnd)]
    assert places(seen[seen.index(end) :]) == log.places(end.revision)
    begins = [number for number, one in enumerate(seen) if isinstance(one, InitialStateBegin)]
    parts = [number for number, one in enumerate(seen) if isinstance(one, InitialSession)]
    assert begins[0] == 0
    assert all(number < seen.index(end) for number in (*begins, *parts))


# --- messages ------------------------------------------------------------------------------------


def test_a_message_with_a_token_and_no_change_is_a_bookmark() -> None:
    watch = progress(WatchPosition(token(1)))
    assert list(watch.take(Message(resume_token=token(4), revision=4))) == [Bookmark(4, token(4))]
    assert watch.position.token == token(4)


@pytest.mark.guarantee("W10")
def test_a_bookmark_that_went_back_is_not_gone_back_to() -> None:
    watch = progress(WatchPosition(token(1)))
    list(watch.take(Message(resume_token=token(4), revision=4)))
    assert list(watch.take(Message(resume_token=token(3), revision=3))) == []
    assert watch.position.token == token(4)


def test_the_token_follows_once_the_last_change_of_its_message_is_handed_out() -> None:
    watch = progress(WatchPosition(token(0)))
    two = [change(1, 0, "a", 1), change(2, 0, "b", 1)]
    events = watch.take(Message(changes=two, resume_token=token(2), revision=2))
    next(events)
    assert watch.position == WatchPosition(token(0), 1, 0)
    next(events)
    assert watch.position == WatchPosition(token(2), 2, 0)


def test_without_a_token_there_is_no_position() -> None:
    watch = progress()
    assert not watch.has_start
    list(watch.take(Message(changes=[change(1, 0, "a", 1)])))
    assert watch.position == WatchPosition("")


def test_a_token_inside_the_initial_state_skips_no_state() -> None:
    # No server sends one; if it did, it must not count.
    watch = progress(initial_state=True)
    assert watch.opening().send_initial_state
    list(watch.take(Message(resume_token=token(5), revision=5)))
    cut(watch)
    assert watch.opening() == Request(app="app", send_initial_state=True)


def test_the_state_comes_again_until_there_is_a_token_to_go_on_from() -> None:
    watch = progress(initial_state=True)
    watch.opening()
    list(watch.take(Message(initial_state_end=3)))
    cut(watch)
    assert watch.opening().send_initial_state
    events = list(watch.take(Message(initial_state_end=3, resume_token=token(3), revision=3)))
    assert events == [InitialStateBegin(), InitialStateEnd(3)]
    cut(watch)
    assert watch.opening() == Request(app="app", resume_after_token=token(3))


def test_a_unit_is_complete_with_its_last_message() -> None:
    watch = progress(WatchPosition(token(0)))
    list(watch.take(Message(changes=[change(1, 0, "a", 1)], continued=True)))
    inside = watch.complete
    assert inside is None
    rest = Message(changes=[change(1, 1, "b", 1)], resume_token=token(1), revision=1)
    [event] = watch.take(rest)
    assert watch.complete == 1
    assert isinstance(event, SessionChange)
    assert event.uid == "b"


# --- failures ------------------------------------------------------------------------------------


def error(
    code: str, reason: str = "", *, retry_after: float | None = None, correlation_id: str = ""
) -> SojournError:
    return error_class(code, reason)(
        "as the test wants it",
        code=code,
        reason=reason,
        retry_after=None if retry_after is None else timedelta(seconds=retry_after),
        correlation_id=correlation_id or ("c-1" if reason else ""),
        method="WatchSessions",
    )


GOES_ON = [
    error("UNAVAILABLE"),
    error("UNAVAILABLE", "DRAINING"),
    error("UNAVAILABLE", "STORE_UNAVAILABLE"),
    error("RESOURCE_EXHAUSTED", "SLOW_CONSUMER"),
    error("RESOURCE_EXHAUSTED", "STREAM_LIMIT", retry_after=1),
    error("RESOURCE_EXHAUSTED", "RATE_LIMITED", retry_after=1),
    error("CANCELLED"),
    error("DEADLINE_EXCEEDED"),
    error("INTERNAL"),
    error("UNKNOWN"),
]
SURFACES = [
    error("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID"),
    error("INVALID_ARGUMENT", "FILTER_NOT_WATCHABLE"),
    error("UNAUTHENTICATED", "CREDENTIAL_INVALID"),
    error("UNAUTHENTICATED"),
    error("PERMISSION_DENIED"),
    error("NOT_FOUND", "APP_NOT_FOUND"),
    error("INTERNAL", "INTERNAL"),
    error("INTERNAL", correlation_id="c-1"),
    error("UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    error("RESOURCE_EXHAUSTED"),
    error("RESOURCE_EXHAUSTED", "STREAM_LIMIT"),
    error("RESOURCE_EXHAUSTED", "RATE_LIMITED"),
]
LOST = [
    error("OUT_OF_RANGE", "REVISION_COMPACTED"),
    error("OUT_OF_RANGE", "REVISION_FUTURE"),
    error("FAILED_PRECONDITION", "FEED_CHANGED"),
]


def named(one: SojournError) -> str:
    return f"{one.code}-{one.reason}"


def begun(**more: object) -> Progress:
    watch = progress(WatchPosition(token(0)), **more)
    watch.opening()
    first = Message(changes=[change(1, 0, "a", 1)], resume_token=token(1), revision=1)
    list(watch.take(first))
    return watch


@pytest.mark.parametrize("failure", GOES_ON, ids=named)
def test_these_it_gets_over_by_itself(failure: SojournError) -> None:
    watch = begun()
    verdict = watch.after_end(failure, lasted=0, elapsed=10_000)
    assert verdict.anew is None
    assert watch.opening() == Request(app="app", resume_after_token=token(1))


@pytest.mark.parametrize("failure", SURFACES, ids=named)
@pytest.mark.parametrize("may_begin_anew", [True, False])
def test_these_it_raises(failure: SojournError, may_begin_anew: bool) -> None:
    watch = begun(may_begin_anew=may_begin_anew)
    with pytest.raises(type(failure)) as raised:
        watch.after_end(failure, lasted=0, elapsed=0)
    assert raised.value is failure


@pytest.mark.parametrize("failure", LOST, ids=named)
def test_these_it_raises_unless_it_may_begin_anew(failure: SojournError) -> None:
    with pytest.raises(type(failure)):
        begun().after_end(failure, lasted=0, elapsed=0)
    watch = begun(may_begin_anew=True)
    verdict = watch.after_end(failure, lasted=0, elapsed=10_000)
    assert verdict.anew is not None
    assert verdict.anew.reason == failure.reason
    assert watch.opening() == Request(app="app", send_initial_state=True)
    assert watch.position == WatchPosition("")
    # A restored log counts anew: what was handed out before must not hide it.
    events = list(watch.take(Message(changes=[change(1, 0, "a", 1)])))
    assert events[0] == InitialStateBegin(verdict.anew)
    assert places(events) == [(1, 0)]


def test_a_stream_that_is_too_slow_for_its_own_state_begins_it_again() -> None:
    watch = progress(initial_state=True)
    watch.opening()
    list(watch.take(Message(initial_sessions=[])))
    verdict = watch.after_end(LOST[0], lasted=0, elapsed=0)
    assert verdict.anew is None
    assert watch.opening().send_initial_state


def test_a_compacted_watch_says_how_far_it_came() -> None:
    watch = begun()
    compacted = error("OUT_OF_RANGE", "REVISION_COMPACTED")
    compacted.metadata["oldest_revision"] = "1200"
    with pytest.raises(errors.WatchCompactedError) as raised:
        watch.after_end(compacted, lasted=0, elapsed=0)
    assert raised.value.position == WatchPosition(token(1), 1, 0)
    assert raised.value.oldest_revision == 1200
    assert raised.value.correlation_id == "c-1"
    assert raised.value.__cause__ is compacted


def test_a_credential_that_is_missing_for_a_while_is_waited_for() -> None:
    missing = errors.CredentialUnavailableError("no credential could be had")
    assert begun().after_end(missing, lasted=0, elapsed=0).anew is None
    with pytest.raises(errors.CredentialUnavailableError):
        progress().after_end(missing, lasted=0, elapsed=0)


def test_a_server_that_asks_not_to_be_called_again_is_not() -> None:
    with pytest.raises(errors.UnavailableError):
        begun().after_end(CUT, lasted=0, elapsed=0, forbidden=True)


def test_pauses_grow_to_ten_seconds_and_progress_makes_them_short_again() -> None:
    watch = progress(WatchPosition(token(0)))
    watch._draw = lambda: 1.0

    def pause(lasted: float = 0.0) -> float:
        return watch.after_end(CUT, lasted=lasted, elapsed=0).pause

    list(watch.take(Message(resume_token=token(1), revision=1)))
    grown = [pause() for _ in range(9)]
    assert grown == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    list(watch.take(Message(changes=[change(2, 0, "a", 1)])))
    assert pause() == pytest.approx(0.1)
    assert pause() == pytest.approx(0.2)
    # Where it began is no news.
    list(watch.take(Message(resume_token=token(1), revision=1)))
    assert pause() == pytest.approx(0.4)
    # A stream that was quiet for long was none the worse for it.
    assert pause(lasted=3600) == pytest.approx(0.1)


@given(draw=st.floats(0, 1, exclude_max=True), failures=st.integers(1, 20))
def test_a_pause_is_any_part_of_its_ceiling_and_what_the_server_asks_comes_on_top(
    draw: float, failures: int
) -> None:
    watch = begun()
    watch._draw = lambda: draw
    pause = 0.0
    for _ in range(failures):
        pause = watch.after_end(
            error("RESOURCE_EXHAUSTED", "STREAM_LIMIT", retry_after=3), lasted=0, elapsed=0
        ).pause
    assert 3 <= pause <= 3 + min(10, 0.1 * 2 ** (failures - 1))


def test_the_first_opening_has_a_deadline_and_so_many_attempts() -> None:
    late = progress(deadline=30.0)
    late.after_end(CUT, lasted=0, elapsed=29.9)
    with pytest.raises(errors.UnavailableError):
        late.after_end(CUT, lasted=0, elapsed=30.0)
    tried = progress(first=RetryOptions(max_attempts=3))
    tried.after_end(CUT, lasted=0, elapsed=0)
    tried.after_end(CUT, lasted=0, elapsed=0)
    with pytest.raises(errors.UnavailableError):
        tried.after_end(CUT, lasted=0, elapsed=0)
    # Once a server has answered, it goes on for ever.
    watch = begun(first=RetryOptions(max_attempts=3))
    for _ in range(50):
        watch.after_end(CUT, lasted=0, elapsed=10_000)
