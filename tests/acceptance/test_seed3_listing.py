"""Rows S3-12 to S3-19 and S3-23 to S3-26: lists, pages, and finding a session again."""

from __future__ import annotations

import pytest

from sojourn import Client, NewMessage, NewSession, Status, View, errors
from tests.acceptance.kit import Place


def test_s3_12_information(blocking: Client) -> None:
    """One read tells all there is to know of a session, with what the program keeps beside it."""
    created = blocking.sessions.create(
        "s", metadata={"resource_url": "https://example.org/desktop/7", "app_id": "code"}
    )
    info = blocking.sessions.get("s")
    assert (info.session_id, info.uid) == ("s", created.uid)
    assert info.metadata["resource_url"] == "https://example.org/desktop/7"
    assert info.metadata["app_id"] == "code"
    assert info.time_left is not None
    with pytest.raises(errors.NotLoadedError):
        _ = blocking.sessions.get("s", view=View.BASIC).metadata


def test_s3_13_with_the_total(blocking: Client) -> None:
    """A page says how many sessions there are in all, also when there are none."""
    assert blocking.sessions.list().page(1, limit=10).total_size == 0
    blocking.sessions.create_many([NewSession() for _ in range(25)])
    page = blocking.sessions.list().page(1, limit=10)
    assert (len(page.items), page.total_size) == (10, 25)


def test_s3_14_any_combination_of_labels(blocking: Client) -> None:
    """Several labels must all match; one label may match any of several values."""
    for project in ("demo", "other"):
        for environment in ("testing", "staging", "production"):
            labels = {"project": project, "environment": environment}
            blocking.sessions.create(f"{project}-{environment}", labels=labels)

    def ids(**labels: str | list[str]) -> list[str]:
        return [one.session_id for one in blocking.sessions.list(labels=labels)]

    assert ids(project="demo", environment="testing") == ["demo-testing"]
    assert ids(environment="staging") == ["demo-staging", "other-staging"]
    assert ids(project="demo", environment=["testing", "production"]) == [
        "demo-testing",
        "demo-production",
    ]
    assert ids(project="demo", team="x") == []


def test_s3_15_page_by_page(blocking: Client) -> None:
    """Pages are had by number or by token, and the last one has no token any more."""
    labels = {"project": "demo"}
    blocking.sessions.create_many([NewSession(f"s-{n:02}", labels=labels) for n in range(25)])
    pager = blocking.sessions.list(labels=labels)
    second = pager.page(2, limit=10)
    assert [one.session_id for one in second.items] == [f"s-{n:02}" for n in range(10, 20)]
    assert second.total_size == 25
    rest = blocking.sessions.list(labels=labels, page_token=second.next_page_token).to_list()
    assert [one.session_id for one in rest] == [f"s-{n:02}" for n in range(20, 25)]
    assert pager.page(3, limit=10).next_page_token == ""
    pages = list(blocking.sessions.list(labels=labels, page_size=10).pages())
    assert [len(page.items) for page in pages] == [10, 10, 5]


def test_s3_16_past_the_end(blocking: Client) -> None:
    """A page past the end is empty, and its total is right."""
    blocking.sessions.create_many([NewSession(labels={"project": "demo"}) for _ in range(3)])
    page = blocking.sessions.list(labels={"project": "demo"}).page(2, limit=10)
    assert (page.items, page.total_size, page.next_page_token) == ((), 3, "")
    nothing = blocking.sessions.list(labels={"project": "none"}).page(2, limit=10)
    assert (nothing.items, nothing.total_size, nothing.next_page_token) == ((), 0, "")


def test_s3_17_active_unless_asked(blocking: Client) -> None:
    """Lists show what is active; ended ones come when asked for."""
    for name in ("a", "b", "c"):
        blocking.sessions.create(name)
    blocking.sessions.end("b")
    assert [one.session_id for one in blocking.sessions.list()] == ["a", "c"]
    assert [one.session_id for one in blocking.sessions.list(status="any")] == ["a", "b", "c"]
    ended = blocking.sessions.list(status=[Status.COMPLETED, Status.FAILED, Status.EXPIRED])
    assert [one.session_id for one in ended] == ["b"]


def test_s3_18_ids_only(blocking: Client) -> None:
    """Whoever wants ids only gets references, from which a session is read when needed."""
    made = blocking.sessions.create("s", user="ann", labels={"project": "demo"})
    blocking.sessions.create("other")
    [ref] = blocking.sessions.list_ids(labels={"project": "demo"}).to_list()
    assert (ref.user, ref.session_id, ref.uid) == ("ann", "s", made.uid)
    assert blocking.sessions.get(ref).labels == {"project": "demo"}


def test_s3_19_recovered_elsewhere(place: Place, blocking: Client) -> None:
    """Another process that knows the id goes on with the session as if it had created it."""
    blocking.sessions.create("s", state={"step": 3})
    blocking.messages.append("s", NewMessage("user", "Hello"))
    with place.sync_client(blocking.app) as elsewhere:
        session = elsewhere.attach("s")
        assert dict(session.get_state().values) == {"step": 3}
        with session.turn() as turn:
            turn.append("assistant", "I am back.")
        by_uid = elsewhere.sessions.get(uid=session.uid)
    assert by_uid.session_id == "s"
    assert [one.content for one in blocking.messages.list("s")] == ["Hello", "I am back."]


def test_s3_23_released_ones_are_not_listed(blocking: Client) -> None:
    """A session that was deleted or that expired is in no list of active ones from then on."""
    blocking.sessions.create("deleted")
    blocking.sessions.create("expired", max_lifetime=0.05)
    blocking.sessions.create("kept")
    blocking.sessions.delete("deleted")
    with pytest.raises(errors.SessionEndedError):
        while True:
            blocking.sessions.touch("expired")
    assert [one.session_id for one in blocking.sessions.list()] == ["kept"]
    assert blocking.sessions.list().count() == 1


def test_s3_24_what_outlives_a_session(blocking: Client) -> None:
    """What is kept for the user or the app is there in the next session, after a delete too."""
    with blocking.session("first", user="ann", state={"draft": "x"}) as session:
        session.update(user_state={"language": "de"}, app_state={"motd": "hi"})
    blocking.sessions.delete("first", user="ann")
    blocking.sessions.create("second", user="ann")
    second = blocking.sessions.get("second", user="ann")
    assert dict(second.state) == {}
    assert dict(second.user_state.values) == {"language": "de"}
    assert dict(second.app_state.values) == {"motd": "hi"}
    assert dict(blocking.users.get_state("bob").values) == {}


def test_s3_25_still_active(blocking: Client) -> None:
    """One read of one id tells whether it is active, and one read of many tells it of each."""
    for name in ("active", "ended", "deleted"):
        blocking.sessions.create(name)
    blocking.sessions.end("ended")
    blocking.sessions.delete("deleted")
    assert blocking.sessions.get("active").is_active
    assert not blocking.sessions.get("ended").is_active
    answer = blocking.sessions.get_many(["active", "ended", "deleted", "unknown"])
    assert {one.session_id: one.status.value for one in answer.sessions} == {
        "active": "ACTIVE",
        "ended": "COMPLETED",
    }
    assert [one.session_id for one in answer.not_found] == ["deleted", "unknown"]


def test_s3_26_information_about_a_released_session(blocking: Client) -> None:
    """An ended session still tells what it was and why it ended; only writing is over."""
    blocking.sessions.create("s", labels={"project": "demo"}, state={"step": 3})
    blocking.messages.append("s", NewMessage("user", "Hello"))
    blocking.sessions.end("s", reason="done")
    info = blocking.sessions.get("s", last_messages=5)
    assert (info.status, info.end_reason) == (Status.COMPLETED, "done")
    assert (info.labels, dict(info.state)) == ({"project": "demo"}, {"step": 3})
    assert [one.content for one in info.messages] == ["Hello"]
    with pytest.raises(errors.SessionEndedError):
        blocking.sessions.update("s", labels={"project": "other"})
