# Generated from tests/api/_async/test_lists.py by `make gen`. Edit the source, never this file.
"""Lists of sessions: what is selected, in which order, and how they are paged."""

from datetime import UTC, datetime, timedelta

import pytest

from sojourn import (
    Client,
    LabelSelector,
    MetricsDelta,
    NewSession,
    SessionFilter,
    SessionOrder,
    Status,
    TimeRange,
    View,
    errors,
)


def names(pager) -> list[str]:
    return [session.session_id for session in pager]


def some_sessions(client: Client, count: int) -> list[str]:
    ids = [f"s-{number:02}" for number in range(count)]
    client.sessions.create_many([NewSession(session_id) for session_id in ids])
    return ids


def test_a_list_shows_active_sessions_unless_told(client: Client) -> None:
    for name, status in (("a", None), ("b", Status.FAILED), ("c", Status.COMPLETED)):
        client.sessions.create(name)
        if status is not None:
            client.sessions.end(name, status=status)
    assert names(client.sessions.list()) == ["a"]
    assert names(client.sessions.list(status=None)) == ["a", "b", "c"]
    assert names(client.sessions.list(status="any")) == ["a", "b", "c"]
    assert names(client.sessions.list(status="failed")) == ["b"]
    ended = [Status.FAILED, Status.COMPLETED]
    assert names(client.sessions.list(status=ended)) == ["b", "c"]


def test_a_list_can_be_of_one_user(client: Client) -> None:
    for user in ("", "ann", "bob"):
        client.sessions.create(f"of-{user}", user=user)
    assert names(client.sessions.list(user="ann")) == ["of-ann"]
    assert names(client.sessions.list(user="")) == ["of-"]
    assert len(names(client.sessions.list())) == 3


def test_labels_must_all_match(client: Client) -> None:
    for name, labels in (
        ("a", {"project": "x", "environment": "prod"}),
        ("b", {"project": "x", "environment": "test"}),
        ("c", {"project": "y"}),
    ):
        client.sessions.create(name, labels=labels)

    def found(labels) -> list[str]:
        return names(client.sessions.list(labels=labels))

    assert found({"project": "x"}) == ["a", "b"]
    assert found({"project": "x", "environment": "prod"}) == ["a"]
    assert found({"project": ["x", "y"]}) == ["a", "b", "c"]
    assert found([LabelSelector.absent("environment")]) == ["c"]
    assert found([LabelSelector.exists("environment")]) == ["a", "b"]
    assert found([LabelSelector.none_of("environment", "prod")]) == ["b", "c"]
    assert found([LabelSelector.one_of("project", "y", "z")]) == ["c"]


def test_a_filter_selects_by_everything_else(client: Client) -> None:
    parent = client.sessions.create("parent")
    client.sessions.create("child", parent=parent)
    client.sessions.create("lease", owner_lease=60)
    client.turns.begin("parent")
    client.sessions.update("child", metrics=MetricsDelta(requests=4, errors=3))
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    for chosen, expected in (
        (SessionFilter(session_id_prefix="p"), ["parent"]),
        (SessionFilter(parent_uid=parent.uid), ["child"]),
        (SessionFilter(has_parent=False), ["parent", "lease"]),
        (SessionFilter(ephemeral=True), ["lease"]),
        (SessionFilter(has_turn=True), ["parent"]),
        (SessionFilter(request_count_above=3), ["child"]),
        (SessionFilter(error_count_above=3), []),
        (SessionFilter(error_rate_above=0.5), ["child"]),
        (SessionFilter(create_time=TimeRange(hour_ago, None)), ["parent", "child", "lease"]),
        (SessionFilter(create_time=TimeRange(None, hour_ago)), []),
        (SessionFilter(older_than=3600), []),
        (SessionFilter(idle_longer_than=timedelta(minutes=15)), []),
        (SessionFilter(statuses=[Status.FAILED]), []),
    ):
        assert names(client.sessions.list(filter=chosen)) == expected, chosen


def test_a_list_is_sorted_as_told(client: Client) -> None:
    for name in ("b", "a", "c"):
        client.sessions.create(name)
    client.sessions.update("b", labels={"x": "y"})
    by_id = SessionOrder.SESSION_ID
    assert names(client.sessions.list()) == ["b", "a", "c"]
    assert names(client.sessions.list(order=by_id)) == ["a", "b", "c"]
    assert names(client.sessions.list(order=by_id, descending=True)) == ["c", "b", "a"]
    by_update = SessionOrder.UPDATE_TIME
    assert names(client.sessions.list(order=by_update, descending=True)) == ["b", "c", "a"]


def test_all_items_come_whatever_the_page_size(client: Client) -> None:
    ids = some_sessions(client, 10)
    for page_size in (0, 1, 3, 10, 1000, 5000):
        pager = client.sessions.list(page_size=page_size)
        assert names(pager) == ids
        assert names(pager) == ids, "a second loop starts from the beginning"


def test_pages_come_one_by_one_and_can_be_taken_up_elsewhere(client: Client) -> None:
    ids = some_sessions(client, 5)
    pages = [page for page in client.sessions.list(page_size=2).pages()]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert pages[0].resume_token
    assert pages[-1].next_page_token == ""
    rest = client.sessions.list(page_size=1, page_token=pages[0].next_page_token)
    assert names(rest) == ids[2:]


@pytest.mark.parametrize("limit", [1, 3, 4, 50])
def test_page_n_has_the_items_that_belong_there(client: Client, limit: int) -> None:
    ids = some_sessions(client, 10)
    pager = client.sessions.list()
    number = 0
    while True:
        number += 1
        page = pager.page(number, limit=limit)
        start = (number - 1) * limit
        assert [session.session_id for session in page.items] == ids[start : start + limit]
        assert page.total_size == 10
        if start >= 10:
            break
        assert bool(page.next_page_token) == (start + limit < 10)


def test_a_page_past_the_end_is_empty_and_the_total_still_right(client: Client) -> None:
    some_sessions(client, 3)
    page = client.sessions.list().page(9, limit=10)
    assert page.items == ()
    assert page.next_page_token == ""
    assert page.total_size == 3


def test_page_numbers_start_at_one(client: Client) -> None:
    for number, limit in ((0, 10), (1, 0), (1, 1001)):
        with pytest.raises(errors.InvalidFieldError):
            client.sessions.list().page(number, limit=limit)


def test_sessions_are_counted_without_being_read(client: Client) -> None:
    some_sessions(client, 7)
    assert client.sessions.list().count() == 7
    assert client.sessions.list(user="nobody").count() == 0
    assert client.messages.list("s-00").count() == 0


def test_ids_alone_are_listed_as_references(client: Client, app: str) -> None:
    ids = some_sessions(client, 3)
    refs = client.sessions.list_ids(page_size=2).to_list()
    assert [ref.session_id for ref in refs] == ids
    assert {ref.app for ref in refs} == {app}
    assert (client.sessions.get(refs[0])).session_id == ids[0]


def test_a_full_list_has_content(client: Client) -> None:
    client.sessions.create("s", state={"x": 1.0}, user_state={"y": 2})
    [session] = client.sessions.list(view=View.FULL).to_list()
    assert session.state_json == {"x": "1.0"}
    assert session.user_state.values == {"y": 2}


def test_a_page_token_belongs_to_its_request(client: Client) -> None:
    some_sessions(client, 3)
    page = client.sessions.list().page(1, limit=1)
    token = page.next_page_token
    with pytest.raises(errors.PageTokenInvalidError):
        client.sessions.list(user="ann", page_token=token).to_list()
    flipped = token[:-1] + ("A" if token[-1] != "A" else "B")
    with pytest.raises(errors.PageTokenInvalidError):
        client.sessions.list(page_token=flipped).to_list()


def test_an_app_that_was_never_heard_of_has_no_sessions(client: Client) -> None:
    assert client.sessions.list().to_list() == []
