"""What a cache holds: whole units, whole states, by uid."""

from __future__ import annotations

import pytest

from sojourn import InitialSession, InitialStateBegin, InitialStateEnd, LabelSelector, Session
from sojourn import _change_convert as change_convert
from sojourn import _convert as convert
from sojourn._mirror import Mirror, selects, step_of
from sojourn.changes import AppChange, Bookmark, WatchEvent
from sojourn.errors import CacheLimitError
from sojourn.v1 import change_pb2, session_pb2
from tests.unit.client.feed import CHANGED, ENTERED, LEFT, change, session


def model(uid: str, version: int = 1) -> Session:
    return convert.session(session(uid, version), version)


def changed(revision: int, uid: str, membership: int, index: int = 0) -> WatchEvent:
    return change_convert.change(change(revision, index, uid, membership))


def feed(mirror: Mirror, *events: WatchEvent, complete: int | None = None) -> set[str]:
    return mirror.take([step for step in map(step_of, events) if step is not None], complete)


def full(*uids: str, revision: int = 1, limit: int = 10) -> Mirror:
    mirror = Mirror(limit)
    feed(mirror, *state(*uids, revision=revision))
    return mirror


def state(*uids: str, revision: int) -> list[WatchEvent]:
    parts = [InitialSession(model(uid, revision)) for uid in uids]
    return [InitialStateBegin(), *parts, InitialStateEnd(revision)]


def held(mirror: Mirror) -> dict[str, int]:
    return {one.uid: one.state_version for one in mirror.all()}


def test_it_is_ready_when_the_state_is_complete() -> None:
    mirror = Mirror(10)
    assert feed(mirror, InitialStateBegin(), InitialSession(model("a"))) == set()
    assert (mirror.ready, len(mirror), mirror.revision) == (False, 0, 0)
    assert feed(mirror, InitialStateEnd(7)) == {"a"}
    assert (mirror.ready, held(mirror), mirror.revision) == (True, {"a": 1}, 7)


def test_changes_write_and_remove() -> None:
    mirror = full("a")
    assert feed(mirror, changed(2, "b", ENTERED), complete=2) == {"b"}
    assert feed(mirror, changed(3, "a", CHANGED), complete=3) == {"a"}
    assert held(mirror) == {"a": 3, "b": 2}
    assert feed(mirror, changed(4, "a", LEFT), complete=4) == {"a"}
    assert (held(mirror), mirror.revision) == ({"b": 2}, 4)
    assert mirror.by_name("u", "name-of-a") is None
    assert mirror.by_name("u", "name-of-b") == mirror.by_uid("b")


@pytest.mark.guarantee("W3")
def test_a_unit_is_seen_whole_or_not_at_all() -> None:
    mirror = full("a")
    feed(mirror, changed(2, "a", CHANGED), complete=None)
    assert (held(mirror), mirror.revision) == ({"a": 1}, 1)
    feed(mirror, changed(2, "b", ENTERED, 1), complete=2)
    assert (held(mirror), mirror.revision) == ({"a": 2, "b": 2}, 2)


def test_a_new_state_takes_the_place_of_the_old_one_at_its_end() -> None:
    mirror = full("a", "b")
    feed(mirror, InitialStateBegin(), InitialSession(model("b", 5)))
    assert held(mirror) == {"a": 1, "b": 1}
    assert feed(mirror, InitialSession(model("c", 6)), InitialStateEnd(8)) == {"a", "b", "c"}
    assert (held(mirror), mirror.revision) == ({"b": 5, "c": 6}, 8)


def test_what_did_not_change_in_a_new_state_is_not_told() -> None:
    mirror = full("a", "b")
    feed(mirror, InitialStateBegin(), InitialSession(model("a")), InitialSession(model("b", 2)))
    assert feed(mirror, InitialStateEnd(9)) == {"b"}


def test_sessions_of_a_state_are_true_at_its_end() -> None:
    mirror = Mirror(10)
    part = InitialSession(convert.session(session("a", 1), 0))
    feed(mirror, InitialStateBegin(), part, changed(5, "b", ENTERED), InitialStateEnd(7))
    assert {one.uid: one.revision for one in mirror.all()} == {"a": 7, "b": 5}
    assert (
        feed(
            mirror,
            InitialStateBegin(),
            InitialSession(convert.session(session("a", 1), 0)),
            InitialSession(convert.session(session("b", 5), 0)),
            InitialStateEnd(9),
        )
        == set()
    )


def test_half_a_unit_of_the_old_state_does_not_get_into_the_new_one() -> None:
    mirror = full("a")
    feed(mirror, changed(2, "b", ENTERED), complete=None)
    feed(mirror, *state("a", revision=5))
    feed(mirror, Bookmark(6, "t"), complete=6)
    assert held(mirror) == {"a": 5}


def test_a_restored_log_counts_from_where_it_is() -> None:
    mirror = full("a", revision=100)
    feed(mirror, *state("a", revision=40))
    assert mirror.revision == 40


@pytest.mark.guarantee("W20")
def test_unknown_uids_that_leave_are_passed_over() -> None:
    mirror = full("a")
    erased = change_pb2.Change(revision=2, cause=change_pb2.CHANGE_CAUSE_DELETED)
    erased.session.session.uid = "nobody"
    erased.session.deleted_why = change_pb2.DELETED_WHY_ERASED
    assert feed(mirror, change_convert.change(erased), complete=2) == set()
    assert held(mirror) == {"a": 1}
    erased.session.session.uid = "a"
    erased.revision = 3
    assert feed(mirror, change_convert.change(erased), complete=3) == {"a"}
    assert held(mirror) == {}


def test_an_id_that_is_taken_again_belongs_to_the_new_session_whichever_comes_first() -> None:
    mirror = full("a")
    source = change(2, 0, "b", ENTERED)
    source.session.session.key.session_id = "name-of-a"
    heir = change_convert.change(source)
    feed(mirror, heir, changed(2, "a", LEFT, 1), complete=2)
    found = mirror.by_name("u", "name-of-a")
    assert found is not None
    assert found.uid == "b"


def test_more_sessions_than_its_limit_are_refused_also_while_it_begins() -> None:
    mirror = full("a", "b", limit=2)
    with pytest.raises(CacheLimitError, match="more than 2"):
        feed(mirror, changed(2, "c", ENTERED), complete=2)
    with pytest.raises(CacheLimitError):
        full("a", "b", "c", limit=2)


def test_changes_of_the_app_are_not_its_business() -> None:
    source = change_pb2.Change(revision=2, cause=change_pb2.CHANGE_CAUSE_APP_UPDATED)
    source.app.app = "app"
    event = change_convert.change(source)
    assert isinstance(event, AppChange)
    assert step_of(event) is None


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        (LabelSelector.one_of("tier", "gold", "silver"), True),
        (LabelSelector.one_of("tier", "silver"), False),
        (LabelSelector.one_of("none", "gold"), False),
        (LabelSelector.none_of("tier", "silver"), True),
        (LabelSelector.none_of("tier", "gold"), False),
        (LabelSelector.none_of("none", "gold"), True),
        (LabelSelector.exists("tier"), True),
        (LabelSelector.exists("none"), False),
        (LabelSelector.absent("none"), True),
        (LabelSelector.absent("tier"), False),
    ],
)
def test_labels_are_selected_as_the_server_does(selector: LabelSelector, met: bool) -> None:
    labelled = session("a", 1)
    labelled.labels["tier"] = "gold"
    one = convert.session(labelled, 1)
    assert selects([selector])(one) is met
    assert selects([LabelSelector.exists("tier"), selector])(one) is met


def test_labels_are_selected_by_every_way_to_say_it() -> None:
    source = session_pb2.Session(labels={"tier": "gold", "team": "a"})
    one = convert.session(source, 1)
    assert selects({"tier": "gold"})(one)
    assert selects({"tier": ["gold", "silver"], "team": "a"})(one)
    assert not selects({"tier": "gold", "team": "b"})(one)
    assert selects(None)(one)
