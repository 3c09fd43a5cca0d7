"""The table of permissions, and what it makes of a request."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.v1 import (
    admin_service_pb2,
    app_service_pb2,
    history_service_pb2,
    session_pb2,
    turn_service_pb2,
)
from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.domain.access import EVERY_USER, Grant, Permission, Principal, Role
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.rpc.methods import methods
from sojourn_server.rpc.permissions import TABLE, authorise

UID = "01890000-0000-7000-8000-000000000001"


def ref(user: str = "ann", session_id: str = "s", uid: str = "") -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app="a", user=user, session_id=session_id, uid=uid)


def somebody(*grants: Grant) -> Principal:
    return Principal("key:x", grants)


def outcome(principal: Principal, method: str, request: Any) -> str:
    """`OK`, or the reason of the refusal."""
    try:
        authorise(principal, TABLE[method], request)
    except Refusal as refusal:
        return refusal.reason.value
    return "OK"


def test_every_method_has_a_row_and_every_row_a_method():
    assert TABLE.keys() == {f"{each.service}/{each.name}" for each in methods()}


@pytest.mark.parametrize("method", list(methods()), ids=lambda each: each.name)
def test_every_row_fits_its_request(method):
    """What a row reads of a request is there: it can be asked of an empty one."""
    rule = TABLE[f"{method.service}/{method.name}"]
    request = method.request()
    if rule.app is not None:
        assert rule.app(request) == ""
    assert list(rule.whose(request))
    if rule.ref is not None:
        assert rule.ref(request).session_id == ""


@pytest.mark.parametrize("method", list(methods()), ids=lambda each: each.name)
def test_who_was_granted_nothing_may_do_nothing_but_ask_what_server_it_is(method):
    found = outcome(somebody(), f"{method.service}/{method.name}", method.request())
    if method.name == "GetServerInfo":
        assert found == "OK"
    else:
        assert found == "GRANT_MISSING"


@pytest.mark.parametrize("method", list(methods()), ids=lambda each: each.name)
def test_what_is_another_app_s_is_not_there(method):
    other = somebody(Grant(Role.ADMIN, "b"))
    found = outcome(other, f"{method.service}/{method.name}", method.request())
    rule = TABLE[f"{method.service}/{method.name}"]
    if rule.permission is None or rule.sifted:
        assert found == "OK"
    elif rule.app is None:
        assert found == "GRANT_MISSING"
    else:
        assert found == ("APP_NOT_FOUND" if rule.ref is None else "SESSION_NOT_FOUND")


@pytest.mark.parametrize("method", list(methods()), ids=lambda each: each.name)
def test_an_admin_of_everything_may_do_everything(method):
    admin = somebody(Grant(Role.ADMIN, "*"))
    assert outcome(admin, f"{method.service}/{method.name}", method.request()) == "OK"


def test_reset_and_erase_are_permissions_of_their_own():
    writer, resetter = somebody(Grant(Role.WRITE, "a")), somebody(Grant(Role.RESET, "a"))
    reset = pb.ResetSessionRequest(session=ref())
    update = pb.UpdateSessionRequest(session=ref())
    erase = app_service_pb2.EraseUserRequest(app="a", user="ann")
    assert outcome(writer, "SessionService/ResetSession", reset) == "GRANT_MISSING"
    assert outcome(resetter, "SessionService/ResetSession", reset) == "OK"
    assert outcome(resetter, "SessionService/UpdateSession", update) == "GRANT_MISSING"
    for each in (writer, resetter):
        assert outcome(each, "AppService/EraseUser", erase) == "GRANT_MISSING"


def test_who_may_only_read_may_only_read():
    reader = somebody(Grant(Role.READ, "a"))
    read = {
        "SessionService/GetSession": pb.GetSessionRequest(session=ref()),
        "SessionService/ListSessions": pb.ListSessionsRequest(app="a"),
        "SessionService/WatchSessions": pb.WatchSessionsRequest(app="a"),
        "HistoryService/ListMessages": history_service_pb2.ListMessagesRequest(session=ref()),
        "AppService/GetState": app_service_pb2.GetStateRequest(app="a"),
    }
    write = {
        "SessionService/CreateSession": pb.CreateSessionRequest(app="a"),
        "SessionService/EndSession": pb.EndSessionRequest(session=ref()),
        "SessionService/DeleteSession": pb.DeleteSessionRequest(session=ref(uid=UID)),
        "TurnService/BeginTurn": turn_service_pb2.BeginTurnRequest(session=ref()),
        "TurnService/EndTurn": turn_service_pb2.EndTurnRequest(app="a", turn_token="t"),
        "HistoryService/PopMessages": history_service_pb2.PopMessagesRequest(session=ref()),
        "AppService/UpdateState": app_service_pb2.UpdateStateRequest(app="a", user="ann"),
        "AppService/UpdateApp": app_service_pb2.UpdateAppRequest(app="a"),
    }
    assert {outcome(reader, method, request) for method, request in read.items()} == {"OK"}
    assert {outcome(reader, *each) for each in write.items()} == {"GRANT_MISSING"}


def test_another_user_s_is_not_there():
    ann = somebody(Grant(Role.WRITE, "a", "ann"))
    get = "SessionService/GetSession"
    assert outcome(ann, get, pb.GetSessionRequest(session=ref())) == "OK"
    assert outcome(ann, get, pb.GetSessionRequest(session=ref("bob"))) == "SESSION_NOT_FOUND"
    other_app = session_pb2.SessionRef(app="b", user="ann", session_id="s")
    assert outcome(ann, get, pb.GetSessionRequest(session=other_app)) == "SESSION_NOT_FOUND"
    new = pb.CreateSessionRequest(app="a", session=pb.NewSession(user="bob"))
    assert outcome(ann, "SessionService/CreateSession", new) == "APP_NOT_FOUND"
    both = pb.BatchCreateSessionsRequest(
        app="a", sessions=[pb.NewSession(user="ann"), pb.NewSession(user="bob")]
    )
    assert outcome(ann, "SessionService/BatchCreateSessions", both) == "APP_NOT_FOUND"
    state = app_service_pb2.GetStateRequest(app="a", user="bob")
    assert outcome(ann, "AppService/GetState", state) == "APP_NOT_FOUND"


def test_a_list_of_all_users_is_for_those_who_may_see_them_all():
    ann = somebody(Grant(Role.WRITE, "a", "ann"), Grant(Role.READ, "a", "team-*"))
    method = "SessionService/ListSessions"
    assert outcome(ann, method, pb.ListSessionsRequest(app="a")) == "GRANT_MISSING"
    assert outcome(ann, method, pb.ListSessionsRequest(app="a", user="ann")) == "OK"
    assert outcome(ann, method, pb.ListSessionsRequest(app="a", user="team-1")) == "OK"
    assert outcome(ann, method, pb.ListSessionsRequest(app="a", user="bob")) == "APP_NOT_FOUND"
    assert outcome(ann, method, pb.ListSessionsRequest(app="b")) == "APP_NOT_FOUND"


def test_by_uid_whose_it_is_shows_when_it_is_read():
    ann = somebody(Grant(Role.READ, "a", "ann"))
    request = pb.GetSessionRequest(session=ref("", "", UID))
    users = authorise(ann, TABLE["SessionService/GetSession"], request)
    assert users.covers("ann")
    assert not users.covers("bob")
    update = pb.UpdateSessionRequest(session=ref("", "", UID))
    assert outcome(ann, "SessionService/UpdateSession", update) == "GRANT_MISSING"


@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        (
            "SessionService/UpdateSession",
            lambda state: pb.UpdateSessionRequest(session=ref(), state=state),
        ),
        (
            "HistoryService/AppendMessages",
            lambda state: history_service_pb2.AppendMessagesRequest(session=ref(), state=state),
        ),
        (
            "SessionService/CreateSession",
            lambda state: pb.CreateSessionRequest(
                app="a", session=pb.NewSession(user="ann", state=state)
            ),
        ),
        (
            "SessionService/BatchCreateSessions",
            lambda state: pb.BatchCreateSessionsRequest(
                app="a",
                sessions=[pb.NewSession(user="ann"), pb.NewSession(user="ann", state=state)],
            ),
        ),
    ],
)
def test_the_app_s_state_takes_a_grant_on_the_app_itself(method: str, request_of):
    ann = somebody(Grant(Role.WRITE, "a", "ann"))
    both = somebody(Grant(Role.WRITE, "a", "ann"), Grant(Role.WRITE, "a", ""))
    patch = session_pb2.StatePatch(set={"k": "1"})
    own = request_of(session_pb2.StatePatches(session=patch, user=patch))
    app = request_of(session_pb2.StatePatches(app=patch))
    assert outcome(ann, method, own) == "OK"
    assert outcome(ann, method, app) == "GRANT_MISSING"
    assert outcome(both, method, app) == "OK"


def test_the_whole_server_is_for_those_who_may_everywhere():
    most = somebody(Grant(Role.ADMIN, "a*"), Grant(Role.ADMIN, "*", "a*"))
    backup = admin_service_pb2.BackupStoreRequest(name="b")
    assert outcome(most, "AdminService/BackupStore", backup) == "GRANT_MISSING"


def test_apps_are_listed_for_everybody_who_was_granted_something():
    apps = app_service_pb2.ListAppsRequest()
    assert outcome(somebody(Grant(Role.READ, "a")), "AppService/ListApps", apps) == "OK"
    assert outcome(somebody(), "AppService/ListApps", apps) == "GRANT_MISSING"


def test_refusals_are_those_of_what_is_not_there():
    """To the letter, but for the name that the caller used."""
    with pytest.raises(Refusal) as refused:
        authorise(
            somebody(Grant(Role.ADMIN, "b")),
            TABLE["SessionService/GetSession"],
            pb.GetSessionRequest(session=ref()),
        )
    assert refused.value.reason is Reason.SESSION_NOT_FOUND
    assert refused.value.message == "there is no such session"
    assert refused.value.metadata == {"session_id": "s"}


def test_who_may_do_everything_costs_nothing_to_let_through():
    rule = TABLE["SessionService/GetSession"]
    request = pb.GetSessionRequest(session=ref())
    everyone = somebody(Grant(Role.WRITE, "*"))
    users = authorise(everyone, rule, request)
    assert users.everyone
    assert authorise(everyone, rule, request) is users  # remembered
    assert authorise(somebody(), TABLE["AdminService/GetServerInfo"], request) is EVERY_USER
    assert Permission.READ in Permission
