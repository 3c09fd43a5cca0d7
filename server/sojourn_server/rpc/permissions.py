"""What each method needs, and of whom: one explicit table, and its enforcement.

Nobody learns from a refusal whether something is there. What no grant covers is refused
as what does not exist, from the request's names alone; what a grant lets a caller see,
but not do this to, is `GRANT_MISSING`, from names alone as well. Where a request
names a session by its uid only, whose it is shows when it is read: `find` looks then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from sojourn_server.domain.access import EVERY_USER, Permission, Principal, Users
from sojourn_server.domain.commands import SessionRef
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.service.work import absent


class Whose(NamedTuple):
    """Some sessions, or some state, of the request's app."""

    user: str | None = None
    """Whose; the empty name: the app's own; None: of all users."""
    later: bool = False
    """Whose it is shows when it is read; `user` is not looked at."""
    beside: bool = False
    """It is not what the request names, but is changed with it."""


ALL_USERS: Final = Whose()
LATER: Final = Whose(later=True)
APP_STATE: Final = Whose("", beside=True)


class Rule(NamedTuple):
    """What a method needs."""

    permission: Permission | None
    """None: to be somebody is enough."""
    app: Callable[[Any], str] | None
    """The app of a request; None: the method is about the whole server."""
    whose: Callable[[Any], Iterable[Whose]]
    """What of the app a request is about."""
    ref: Callable[[Any], Any] | None = None
    """The session that a request names, for those that name one."""
    sifted: bool = False
    """The answer names what the caller may read and nothing else; no call is refused."""


def _app(request: Any) -> str:
    app: str = request.app
    return app


def _session(request: Any) -> Any:
    return request.session


def _session_s_app(request: Any) -> str:
    app: str = request.session.app
    return app


def _of_session(request: Any) -> Iterable[Whose]:
    ref = request.session
    yield Whose(ref.user) if ref.session_id else LATER


def _of_session_and_app_state(request: Any) -> Iterable[Whose]:
    yield from _of_session(request)
    if request.state.HasField("app"):
        yield APP_STATE


def _of_new_session(request: Any) -> Iterable[Whose]:
    yield from _new(request.session)


def _of_new_sessions(request: Any) -> Iterable[Whose]:
    yield LATER
    for session in request.sessions:
        yield from _new(session)


def _new(session: Any) -> Iterable[Whose]:
    yield Whose(session.user)
    if session.state.HasField("app"):
        yield APP_STATE


def _of_user_or_all(request: Any) -> Iterable[Whose]:
    yield Whose(request.user) if request.HasField("user") else ALL_USERS


def _of_user_or_app(request: Any) -> Iterable[Whose]:
    yield Whose(request.user)


def _later(_: Any) -> Iterable[Whose]:
    yield LATER


def _of_all(_: Any) -> Iterable[Whose]:
    yield ALL_USERS


def _imported_app(request: Any) -> str:
    app: str = request.target.app
    return app


def _on_session(permission: Permission) -> Rule:
    return Rule(permission, _session_s_app, _of_session, _session)


_READ, _WRITE, _ADMIN = Permission.READ, Permission.WRITE, Permission.ADMIN

TABLE: Final[Mapping[str, Rule]] = {
    "SessionService/CreateSession": Rule(_WRITE, _app, _of_new_session),
    "SessionService/BatchCreateSessions": Rule(_WRITE, _app, _of_new_sessions),
    "SessionService/GetSession": _on_session(_READ),
    "SessionService/BatchGetSessions": Rule(_READ, _app, _later),
    "SessionService/ListSessions": Rule(_READ, _app, _of_user_or_all),
    "SessionService/UpdateSession": Rule(
        _WRITE, _session_s_app, _of_session_and_app_state, _session
    ),
    "SessionService/TouchSession": _on_session(_WRITE),
    "SessionService/EndSession": _on_session(_WRITE),
    "SessionService/EndSessions": Rule(_WRITE, _app, _of_user_or_all),
    "SessionService/ResetSession": _on_session(Permission.RESET),
    "SessionService/DeleteSession": _on_session(_WRITE),
    "SessionService/DeleteSessions": Rule(_WRITE, _app, _of_user_or_all),
    "SessionService/ForkSession": _on_session(_WRITE),
    "SessionService/AggregateSessions": Rule(_READ, _app, _of_user_or_all),
    "SessionService/WatchSessions": Rule(_READ, _app, _of_user_or_all),
    "TurnService/BeginTurn": _on_session(_WRITE),
    "TurnService/RenewTurn": Rule(_WRITE, _app, _later),
    "TurnService/EndTurn": Rule(_WRITE, _app, _later),
    "HistoryService/AppendMessages": Rule(
        _WRITE, _session_s_app, _of_session_and_app_state, _session
    ),
    "HistoryService/ListMessages": _on_session(_READ),
    "HistoryService/GetMessage": _on_session(_READ),
    "HistoryService/PopMessages": _on_session(_WRITE),
    "HistoryService/TruncateMessages": _on_session(_WRITE),
    "HistoryService/ReplaceMessages": _on_session(_WRITE),
    "AppService/GetApp": Rule(_READ, _app, _of_all),
    "AppService/ListApps": Rule(_READ, None, _of_all, sifted=True),
    "AppService/UpdateApp": Rule(_ADMIN, _app, _of_all),
    "AppService/DeleteApp": Rule(_ADMIN, _app, _of_all),
    "AppService/DeleteApps": Rule(_ADMIN, None, _of_all),
    "AppService/GetState": Rule(_READ, _app, _of_user_or_app),
    "AppService/UpdateState": Rule(_WRITE, _app, _of_user_or_app),
    "AppService/EraseUser": Rule(Permission.ERASE, _app, _of_user_or_app),
    "AdminService/ListAuditEntries": Rule(_ADMIN, _app, _of_all),
    "AdminService/ExportSessions": Rule(_READ, _app, _of_user_or_all),
    "AdminService/ImportSessions": Rule(_ADMIN, _imported_app, _of_all),
    "AdminService/BackupStore": Rule(_ADMIN, None, _of_all),
    "AdminService/GetServerInfo": Rule(None, None, _of_all),
}
"""Every method of the contract, built or not."""


def authorise(principal: Principal, rule: Rule, request: Any) -> Users:
    """Let a call through, or refuse it.

    Args:
        principal: Who calls.
        rule: What the method needs.
        request: What is asked for.

    Returns:
        The users of the request's app to whose sessions the caller may do this.

    Raises:
        Refusal: `GRANT_MISSING`; or, for what is not the caller's at all, the reason
            of what is not there: `SESSION_NOT_FOUND` or `APP_NOT_FOUND`.
    """
    if rule.permission is None:
        return EVERY_USER
    if not principal.grants:
        raise Refusal(
            Reason.GRANT_MISSING,
            f"nothing is granted to {principal.name}",
            {"permission": rule.permission.value},
        )
    if rule.app is None:
        if not rule.sifted and not principal.may_everywhere(rule.permission):
            raise denied(rule.permission)
        return EVERY_USER
    app = rule.app(request)
    allowed = principal.users(app, rule.permission)
    if allowed.everyone:
        return allowed
    visible = principal.users(app, Permission.READ)
    for whose in rule.whose(request):
        if not (whose.beside or _covers_some(visible, whose)):
            raise _not_there(rule, app, request)
        if not _covers_all(allowed, whose):
            raise denied(rule.permission)
    return allowed


def denied(permission: Permission) -> Refusal:
    """The refusal of what a caller may see, but not do."""
    return Refusal(
        Reason.GRANT_MISSING,
        f"your grants do not cover this: it needs {permission.value} on all that it names",
        {"permission": permission.value},
    )


def _covers_some(users: Users, whose: Whose) -> bool:
    if whose.later or whose.user is None:
        return not users.nobody
    return users.covers(whose.user)


def _covers_all(users: Users, whose: Whose) -> bool:
    if whose.later:
        return not users.nobody
    return users.everyone if whose.user is None else users.covers(whose.user)


def _not_there(rule: Rule, app: str, request: Any) -> Refusal:
    if rule.ref is None:
        return Refusal(Reason.APP_NOT_FOUND, "there is no such app", {"app": app})
    ref = rule.ref(request)
    return absent(SessionRef(app=app, session_id=ref.session_id, uid=ref.uid))
