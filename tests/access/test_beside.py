"""What lies beside one's own, in one tree, list or sum, is still another's."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.v1 import (
    app_service_pb2,
    history_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
)
from tests.access.places import Place
from tests.access.requests import raw_of
from tests.access.tenants import METHODS, Line, reason_of

SECRET = "secret-of-bob"
KEY = session_service_pb2.AggregateSessionsRequest.GROUP_BY_LABEL


async def _create(line: Line, user: str, session_id: str, parent: str = "", **more: Any) -> str:
    """Make a session; its uid."""
    new = session_service_pb2.NewSession(
        user=user, session_id=session_id, parent_uid=parent, **more
    )
    answer = await line.ask(
        session_service_pb2.CreateSessionRequest(app="acme", session=new),
        session_service_pb2.CreateSessionResponse(),
    )
    return str(answer.session.uid)


async def _refusal(line: Line, request: Any) -> tuple[Any, ...]:
    method = METHODS[type(request).__name__.removesuffix("Request")]
    _, refused = await line.send(method, request.SerializeToString())
    return refused


def _lease() -> session_service_pb2.Ephemeral:
    owner = session_service_pb2.Ephemeral()
    owner.lease.seconds = 3_600
    return owner


async def _tree(place: Place) -> str:
    """Ann's session, with Bob's below it, which only somebody else could put there, and one
    of Ann's below that; the uid of the first."""
    first, ann = place.line("first"), place.line("ann")
    up = await _create(ann, "ann", "up")
    refused = await _refusal(
        ann,
        session_service_pb2.CreateSessionRequest(
            app="acme",
            session=session_service_pb2.NewSession(user="bob", session_id=SECRET, parent_uid=up),
        ),
    )
    assert reason_of(refused) == "APP_NOT_FOUND"
    between = await _create(first, "bob", SECRET, up)
    await _create(first, "ann", "below", between)
    return up


async def test_of_children_that_are_others_nothing_is_told_but_that_they_are_there(place: Place):
    await _tree(place)
    request = session_service_pb2.DeleteSessionRequest(
        session=session_pb2.SessionRef(app="acme", user="ann", session_id="up")
    )
    told = []
    for force in (False, True):
        request.force = force
        refused = await _refusal(place.line("ann"), request)
        assert reason_of(refused) == "HAS_CHILDREN"
        assert SECRET not in repr(refused)
        told.append(refused)
    assert told[0] == told[1], "with force it is told no more"
    request.force = False
    assert SECRET in repr(await _refusal(place.line("first"), request))
    await _create(place.line("first"), "bob", f"{SECRET}-2", await _uid(place, "ann", "up"))
    request.force = True
    assert await _refusal(place.line("ann"), request) == told[0], "nor how many they are"


async def test_what_is_below_one_s_own_goes_with_it_only_for_who_may_delete_it(place: Place):
    await _tree(place)
    request = session_service_pb2.DeleteSessionRequest(
        session=session_pb2.SessionRef(app="acme", user="ann", session_id="up"), force=True
    )
    assert reason_of(await _refusal(place.line("ann"), request)) == "HAS_CHILDREN"
    every = session_service_pb2.DeleteSessionsRequest(app="acme", user="ann")
    gone = await place.line("ann").ask(every, session_service_pb2.DeleteSessionsResponse())
    assert [key.session_id for key in gone.first_keys] == ["below"]
    assert await _uid(place, "bob", SECRET)
    gone = await place.line("first").ask(request, session_service_pb2.DeleteSessionResponse())
    assert gone.sessions_deleted == 2


async def test_what_ends_with_one_s_own_is_not_told_if_it_is_another_s(place: Place):
    first, ann = place.line("first"), place.line("ann")
    up = await _create(ann, "ann", "up")
    await _create(first, "bob", SECRET, up, ephemeral=_lease())
    request = session_service_pb2.EndSessionsRequest(app="acme", user="ann", dry_run=True)
    for dry_run in (True, False):
        request.dry_run = dry_run
        ended = await ann.ask(request, session_service_pb2.EndSessionsResponse())
        assert ended.count == 1
        assert [key.session_id for key in ended.first_keys] == ["up"]


async def test_a_repeat_with_fewer_grants_names_no_more_than_they_cover(place: Place):
    up = await _create(place.line("ann"), "ann", "up")
    await _create(place.line("first"), "bob", SECRET, up, ephemeral=_lease())
    request = session_service_pb2.EndSessionsRequest(app="acme", user="ann", request_id="r-1")
    told = session_service_pb2.EndSessionsResponse
    ended = await place.line("first").ask(request, told())
    assert sorted(key.session_id for key in ended.first_keys) == [SECRET, "up"]
    again = await place.line("first, less").ask(request, told())
    assert [key.session_id for key in again.first_keys] == ["up"]


async def test_sums_are_those_of_a_tree_without_what_is_another_s(place: Place):
    up = await _tree(place)
    first, ann = place.line("first"), place.line("ann")
    request = session_service_pb2.AggregateSessionsRequest(app="acme", user="ann", roll_up=True)
    told = session_service_pb2.AggregateSessionsResponse
    before = await ann.ask(request, told())
    assert before.groups[0].session_count == 2, "one root each, and nothing twice"
    one = session_service_pb2.GetSessionRequest(
        session=session_pb2.SessionRef(app="acme", uid=up), roll_up=True
    )
    alone = await ann.ask(one, session_service_pb2.GetSessionResponse())
    assert alone.rolled_up.session_count == 1
    await first.ask(
        session_service_pb2.EndSessionRequest(
            session=session_pb2.SessionRef(app="acme", user="bob", session_id=SECRET)
        ),
        session_service_pb2.EndSessionResponse(),
    )
    after = await ann.ask(request, told())
    assert after.groups == before.groups
    assert (
        await first.ask(one, session_service_pb2.GetSessionResponse())
    ).rolled_up.session_count == 3


async def test_a_root_is_one_whether_another_s_parent_is_there_or_not(place: Place):
    first, ann = place.line("first"), place.line("ann")
    above = await _create(first, "bob", SECRET)
    await _create(first, "ann", "below", above)
    request = session_service_pb2.AggregateSessionsRequest(app="acme", user="ann", roll_up=True)
    told = session_service_pb2.AggregateSessionsResponse
    there = await ann.ask(request, told())
    assert there.groups[0].session_count == 1
    await first.ask(
        app_service_pb2.EraseUserRequest(app="acme", user="bob"),
        app_service_pb2.EraseUserResponse(),
    )
    assert (await ann.ask(request, told())).groups == there.groups


async def test_a_page_token_names_no_value_of_a_label_that_is_another_s(place: Place):
    first, ann = place.line("first"), place.line("ann")
    for user, value in (("ann", "a"), ("bob", SECRET), ("ann", "z")):
        await _create(first, user, f"s-{value}", labels={"topic": value})
    request = session_service_pb2.AggregateSessionsRequest(
        app="acme", user="ann", group_by=KEY, label_key="topic", page_size=1
    )
    named = []
    for _ in range(3):
        page = await ann.ask(request, session_service_pb2.AggregateSessionsResponse())
        named += [group.group for group in page.groups]
        assert SECRET.encode() not in raw_of(page.next_page_token)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert named == ["a", "z"]


async def test_a_page_token_names_no_app_that_is_another_s(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """Also where a page ends because it has looked at enough."""
    monkeypatch.setattr("sojourn_server.service.apps.SCAN_ROWS", 1)
    monkeypatch.setattr("sojourn_server.service.apps.CHUNK", 1)
    for app in ("acme", SECRET):
        await place.line("first").ask(
            app_service_pb2.UpdateAppRequest(app=app), app_service_pb2.UpdateAppResponse()
        )
    request, tokens = app_service_pb2.ListAppsRequest(), []
    for _ in range(4):
        page = await place.line("ann").ask(request, app_service_pb2.ListAppsResponse())
        assert not page.apps, "she may read one user of it"
        if page.next_page_token:
            tokens.append(raw_of(page.next_page_token))
        request.page_token = page.next_page_token
    assert tokens
    assert not any(SECRET.encode() in token or b"acme" in token for token in tokens)


async def test_what_one_caller_stages_is_nothing_to_another(place: Place):
    """Also where no request_id says that it is theirs."""
    first, other = place.line("first"), place.line("second")
    await _create(first, "ann", "s")
    request = history_service_pb2.ReplaceMessagesRequest(
        session=session_pb2.SessionRef(app="acme", user="ann", session_id="s"),
        messages=[message_pb2.NewMessage(role="user", content="one")],
        staging_id="st-1",
        more_follow=True,
    )
    await first.ask(request, history_service_pb2.ReplaceMessagesResponse())
    request.part, request.more_follow = 1, False
    assert reason_of(await _refusal(other, request)) == "STAGING_LOST"
    done = await first.ask(request, history_service_pb2.ReplaceMessagesResponse())
    assert done.session.message_count == 2


async def _uid(place: Place, user: str, session_id: str) -> str:
    request = session_service_pb2.GetSessionRequest(
        session=session_pb2.SessionRef(app="acme", user=user, session_id=session_id)
    )
    found = await place.line("first").ask(request, session_service_pb2.GetSessionResponse())
    return str(found.session.uid)
