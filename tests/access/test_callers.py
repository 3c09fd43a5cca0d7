"""Who calls is asked before anything else, and what one caller did is not another's."""

from __future__ import annotations

from typing import Any

from sojourn.v1 import session_pb2, session_service_pb2
from sojourn_server.domain.access import Permission
from sojourn_server.rpc.methods import Method, methods
from sojourn_server.rpc.permissions import TABLE
from tests.access.places import Place
from tests.access.requests import WHOLE, Target, make, paths
from tests.access.tenants import METHODS, Line, Wanted, answer_type, furnish, reason_of

LIST = METHODS["ListSessions"]
WHOLE_APPS = ("DeleteApp", "DeleteApps", "EraseUser")
"""What they do is done to everything else, too."""
WRITES = [method for method in methods() if method.has_request_id and method.name not in WHOLE_APPS]


async def test_who_calls_is_asked_before_the_request_is_looked_at(place: Place):
    """Nobody learns by bytes that are no request, or too many, whether they were looked at."""
    bad = place.keys["first"][:-1] + ("A" if place.keys["first"][-1] != "A" else "B")
    nobody = {
        "none": (),
        "wrong": (f"Bearer {bad}",),
        "late": (f"Bearer {place.keys['late']}",),
        "two": (f"Bearer {place.keys['first']}",) * 2,
        "basic": ("Basic Zmlyc3Q6eA==",),
        "bare": (place.keys["first"],),
        "empty": ("",),
        "a JWT": ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJmaXJzdCJ9.",),
    }
    for name, values in nobody.items():
        answers = {
            (await place.bearing(*values).send(method, raw))[1]
            for method in methods()
            for raw in (b"", b"\xff\xff")
        }
        answers.add((await place.bearing(*values).send(LIST, bytes(5_000_000)))[1])
        assert len(answers) == 1, name
        reason = "CREDENTIAL_MISSING" if name == "none" else "CREDENTIAL_INVALID"
        assert reason_of(answers.pop()) == reason, name


async def test_a_credential_s_kind_is_written_in_any_case(place: Place):
    for kind in ("Bearer", "bearer", "BEARER"):
        line = place.bearing(f"{kind} {place.keys['first']}")
        await line.ask(
            session_service_pb2.ListSessionsRequest(app="acme"),
            session_service_pb2.ListSessionsResponse(),
        )


async def test_the_same_request_by_two_callers_is_done_twice_and_answered_to_each(place: Place):
    """An id is its caller's own: the other's answer is nobody else's, not even an owner's."""
    first, second = place.line("first"), place.line("second")
    wanted = [Wanted(f"s-{number}") for number in range(len(WRITES))]
    for method, target in zip(
        WRITES, await furnish(first, "acme", "ann", wanted, "text"), strict=True
    ):
        request = _writing(method, target, "r-1")
        raw = request.SerializeToString()
        theirs, refused = await first.send(method, raw)
        assert not refused, (method.name, refused)
        mine, refused = await second.send(method, raw)
        assert refused or _unlike(method, theirs, mine), method.name
        again, refused = await first.send(method, raw)
        assert not refused
        assert not _unlike(method, theirs, again), method.name


async def test_an_id_that_another_used_is_as_good_as_new(place: Place):
    """For callers whom no grant lets near it, in the same bytes as any other."""
    first, ann = place.line("first"), place.line("ann")
    wanted = [Wanted(f"s-{number}") for number in range(len(WRITES))]
    for method, target in zip(
        WRITES, await furnish(first, "acme", "bob", wanted, "text"), strict=True
    ):
        told = []
        for request_id in ("r-1", "r-2"):
            request = _writing(method, target, request_id)
            if request_id == "r-1":
                assert not (await first.send(method, request.SerializeToString()))[1]
            told.append(await ann.send(method, request.SerializeToString()))
        assert told[0] == told[1], method.name
        allowed: tuple[str, ...] = ("SESSION_NOT_FOUND", "APP_NOT_FOUND")
        if TABLE[f"{method.service}/{method.name}"].permission is Permission.ADMIN:
            allowed = ("GRANT_MISSING",)  # The app itself is there, for she has something in it.
        assert reason_of(told[0][1]) in allowed


async def test_a_list_of_all_users_is_for_who_may_see_all(place: Place):
    for method in methods():
        if ("user",) not in paths(method) or "State" in method.name:
            continue
        if method.name == "EraseUser":
            continue  # of all users there is none: that is DeleteApp
        request: Any = method.request(app="acme")
        if "all" in method.request.DESCRIPTOR.fields_by_name:
            request.all = True
        answer, refused = await place.line("first").send(method, request.SerializeToString())
        assert not refused, answer
        _, refused = await place.line("ann").send(method, request.SerializeToString())
        assert reason_of(refused) == "GRANT_MISSING", method.name


async def test_a_page_token_grants_nothing(place: Place):
    first, ann = place.line("first"), place.line("ann")
    [his, _] = await furnish(first, "acme", "bob", [Wanted("s-1"), Wanted("s-2")], "text")
    await furnish(first, "acme", "ann", [Wanted("s-1"), Wanted("s-2")], "text")
    for user, reason in (("bob", "APP_NOT_FOUND"), ("ann", "PAGE_TOKEN_INVALID")):
        request = session_service_pb2.ListSessionsRequest(
            app="acme", user=user, page_size=1, page_token=his.sessions_page
        )
        _, refused = await ann.send(LIST, request.SerializeToString())
        assert reason_of(refused) == reason


async def test_metadata_names_no_actor_where_credentials_do(place: Place):
    """What a caller says of itself counts only while nobody is asked who they are."""
    metadata = (
        ("authorization", f"Bearer {place.keys['ann']}"),
        ("x-sojourn-actor-bin", b"\xff" * 10),
    )
    answer = await Line(place.channel, metadata).ask(  # type: ignore[arg-type]
        session_service_pb2.CreateSessionRequest(
            app="acme", session=session_service_pb2.NewSession(user="ann", session_id="mine")
        ),
        session_service_pb2.CreateSessionResponse(),
    )
    assert answer.session.status == session_pb2.SESSION_STATUS_ACTIVE


def _writing(method: Method, target: Target, request_id: str) -> Any:
    """A request that changes something, for the first who makes it."""
    request = make(method, WHOLE, target, target)
    request.request_id = request_id
    if method.name == "BatchCreateSessions":
        request.sessions[0].session_id += "-new"
    if method.name == "CreateSession":
        request.session.session_id += "-new"
    if method.name == "UpdateState":
        request.patch.set["new"] = "1"
    return request


def _unlike(method: Method, one: bytes, other: bytes) -> bool:
    """Whether two answers are of two doings, by all but the session, which may be the same."""
    kind: Any = answer_type(method)
    answers = [kind.FromString(one), kind.FromString(other)]
    for answer in answers:
        for name in {"session", "sessions"} & set(answer.DESCRIPTOR.fields_by_name):
            answer.ClearField(name)
    return bool(answers[0] != answers[1])
