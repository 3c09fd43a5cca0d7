"""Nobody learns, or changes, anything of what is not theirs: every RPC, every place, everybody."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

import pytest
from google.protobuf.message import Message

from sojourn_server.domain.access import Permission
from sojourn_server.rpc.methods import Method, methods
from sojourn_server.rpc.permissions import TABLE
from tests.access.matrix import CALLERS, NOBODY, STRANGERS, VALUES, Case, Ran
from tests.access.requests import BY_UID, HARMLESS, WHOLE, leaves, paths, raw_of
from tests.access.tenants import answer_type, reason_of, split
from tests.faults import counts

PASSING: Final = frozenset(
    {
        "revision",
        "initial_state_end",
        "resume_token",
        "next_page_token",
        "turn_token",
        "uid",
        "etag",
    }
)
"""What of an answer about one's own may differ from server to server: it is made of chance,
of the time, or of the revisions of an app in which others write as well."""
OF_ALL_USERS: Final = {"GetApp", "UpdateApp"}
"""Who may see some users of an app hears that all of it is not granted: it knows the app."""
LEAST: Final = 2_000

pytestmark = pytest.mark.timeout(300)


# --- what is asked ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: method.name)
def test_every_field_of_a_request_names_something_or_is_known_to_be_harmless(method: Method):
    """A new field must be looked at: does it say whose, or which thing, is meant?"""
    unknown = [leaf for leaf in leaves(method.request.DESCRIPTOR) if not leaf.known]
    assert unknown == []


def test_what_is_known_to_be_harmless_is_there():
    there = defaultdict(set)
    for method in methods():
        for leaf in leaves(method.request.DESCRIPTOR):
            there[leaf.message].add(leaf.path[-1])
    for message, names in HARMLESS.items():
        assert set(names.split()) <= there[message], message


def test_all_of_it_was_asked_by_everybody(ran: Ran, leaks: list[str], told_apart: list[str]):
    asked = Counter((case.caller, case.method.name, case.path, case.value) for case in ran.cases)
    assert set(asked.values()) == {1}
    callers = {case.caller for case in ran.cases}
    every = callers == set(CALLERS)
    assert every or callers == set(STRANGERS)
    assert set(asked) == {
        (caller, method.name, path, value)
        for caller in callers
        for method in methods()
        for path in paths(method)
        for value in (VALUES if every else VALUES[1:])
    }
    leaked = len(leaks) + len(told_apart)
    codes = Counter(case.code for case in ran.cases)
    most = ", ".join(f"{number:,} {code}" for code, number in codes.most_common(5))
    store = "SQLite" if every else "PostgreSQL"
    counts.report(f"isolation, {store}", len(ran.cases), f"{leaked} leaks; {most}, …")
    if every:
        assert len(ran.cases) >= LEAST


# --- that the requests are good ones ---------------------------------------------------------

ELSE: Final = {
    ("BatchCreateSessions", None): "SESSION_EXISTS",
    # The token is of a list: a page of sums has none to name anything with but its groups.
    ("AggregateSessions", "page_token"): "PAGE_TOKEN_INVALID",
    ("DeleteApp", None): "APP_HAS_SESSIONS",
    ("AppendMessages", "messages.message_id"): "MESSAGE_EXISTS",
    ("BeginTurn", "precondition.turn_token"): "INVALID_FIELD",
    ("ListApps", "page_token"): "PAGE_TOKEN_INVALID",  # it is one of a list of sessions
    # Both name the copy, and one's own id is taken.
    ("ForkSession", "session_id"): "SESSION_EXISTS",
    ("ResetSession", "backup_session_id"): "SESSION_EXISTS",
    ("ImportSessions", "session.session.key.session_id"): "SESSION_EXISTS",
    ("ListAuditEntries", "page_token"): "PAGE_TOKEN_INVALID",  # as with sums
    ("BackupStore", None): "BACKUPS_OFF",
}
"""What a good request meets that finds its thing, where that is not OK; by method and field."""
BY_ANOTHER: Final = {Permission.ADMIN, Permission.ERASE}
"""What the caller in the shared app may not even do to their own."""
OF_ALL_APPS: Final = {"DeleteApps", "BackupStore"}
"""These are about the whole store."""


def test_whoever_may_finds_all_of_it(ran: Ran):
    """The control: what the others are refused is there, and each request would have got it."""
    assert len(ran.controls) == sum(len(paths(method)) for method in methods())
    for case in ran.controls:
        expected = _expected(case, "REQUEST_ID_REUSED")
        if case.method.name == "BackupStore" and ran.store != "sqlite":
            expected = "NOT_IMPLEMENTED"  # PostgreSQL has tools of its own
        assert _reason(case) == expected, case


def test_their_own_is_theirs(ran: Ran):
    """Strangers are good at what is theirs: it is not for a bad request that they see nothing."""
    for case in ran.cases:
        if case.caller not in STRANGERS or case.value != "own":
            continue
        of_all = case.path[-1] == "(no user)" or case.method.name in OF_ALL_USERS
        if of_all and case.caller == "other user":
            continue
        expected = _expected(case, "")
        denied = case.caller == "other user" and _permission(case) in BY_ANOTHER
        if denied or case.method.name in OF_ALL_APPS:
            expected = "GRANT_MISSING"
        assert _reason(case) == expected, case


def _expected(case: Case, repeated: str) -> str:
    name = case.method.name
    children = case.path[-1] in ("parent_uid", "turn_token")
    if name in ("DeleteApp", "BackupStore"):
        return ELSE[name, None]
    if repeated and case.path == ("request_id",):
        # Of the same target, each request about state is the same.
        return "" if name in ("UpdateState", "DeleteApps") else repeated
    if name == "BatchCreateSessions" and not children:
        return ELSE[name, None]
    return ELSE.get((name, ".".join(case.path)), "")


# --- what they were told ---------------------------------------------------------------------


def test_who_is_nobody_gets_one_answer_whatever_is_asked(ran: Ran):
    for caller in {case.caller for case in ran.cases} & set(NOBODY):
        answers = {answer for case in _of(ran, caller) for answer in (case.there, case.missing)}
        assert len(answers) == 1, caller
        assert _of(ran, caller)[0].code == "UNAUTHENTICATED"


def test_what_is_another_s_and_what_is_not_there_get_the_same_bytes(told_apart: list[str]):
    assert told_apart == []


def test_a_thing_and_its_ghost_get_the_same_bytes(ran: Ran):
    """On one server: names of others' things against names as long that are nobody's."""
    found = {(case.caller, case.method.name, case.path, case.value): case for case in ran.cases}
    compared = 0
    for case in ran.cases:
        if case.caller not in STRANGERS or case.value != "other" or case.code == "OK":
            continue
        if _reason(case) == ELSE["DeleteApp", None]:
            continue  # it tells times
        if case.path[-1] == "turn_token" or (case.path == WHOLE and _takes_token(case.method)):
            continue  # A damaged token is told from a good one, whatever that is good for.
        ghost = found[case.caller, case.method.name, case.path, "missing"]
        assert _haunted(ran, case) == _haunted(ran, ghost), case
        compared += 1
    assert compared > 150


def test_what_is_all_another_s_is_refused(ran: Ran):
    """Whoever names nothing of their own gets nothing, and writes nothing."""
    for case in ran.cases:
        if case.caller not in STRANGERS or case.value != "other":
            continue
        if case.path not in (WHOLE, BY_UID):
            continue
        if case.method.name in ("GetServerInfo", "ListApps"):
            continue  # They name nothing; `leaks` looks at what is listed.
        if _about_apps(case):
            # One of these names no app, and whoever is in one sees that it is there.
            assert _reason(case) in ("GRANT_MISSING", "APP_NOT_FOUND"), case
            continue
        if case.method.name == "BatchGetSessions":
            # It names the absent ones, where anything of the app may be seen at all.
            assert _reason(case) in ("", "APP_NOT_FOUND"), case
            continue
        known = case.caller == "other user" and case.method.name in OF_ALL_USERS
        assert case.code == ("PERMISSION_DENIED" if known else "NOT_FOUND"), case


def test_who_may_only_read_is_refused_every_write_in_the_same_bytes(ran: Ran):
    answers: dict[str, set[Any]] = defaultdict(set)
    for case in _of(ran, "read-only"):
        if case.writes:
            assert _reason(case) == "GRANT_MISSING", case
            answers[str(_permission(case))].add(case.there)
            assert case.there == case.missing, case
    assert {len(each) for each in answers.values()} <= {1}
    assert len(answers) >= 2 or not _of(ran, "read-only")


def test_who_was_granted_nothing_learns_nothing_else(ran: Ran):
    """For each permission one answer, whatever is named."""
    answers: dict[str, set[Any]] = defaultdict(set)
    for case in _of(ran, "granted nothing"):
        rule = TABLE[f"{case.method.service}/{case.method.name}"]
        if rule.permission is not None:
            assert _reason(case) == "GRANT_MISSING", case
            answers[rule.permission] |= {case.there, case.missing}
    assert all(len(each) == 1 for each in answers.values())


def test_no_answer_holds_a_byte_of_what_is_another_s(leaks: list[str]):
    assert leaks == []


def test_nothing_of_the_others_has_changed(ran: Ran):
    """No call of a stranger has written, touched or taken a revision."""
    assert ran.before == ran.after
    (revision, sessions), _, _ = ran.before
    assert revision > 100
    assert len(sessions) > 100


# --- how that is found -----------------------------------------------------------------------


def _permission(case: Case) -> Permission | None:
    return TABLE[f"{case.method.service}/{case.method.name}"].permission


def _about_apps(case: Case) -> bool:
    """Whether a method is about whole apps."""
    return _permission(case) is Permission.ADMIN


def _of(ran: Ran, caller: str) -> list[Case]:
    return [case for case in ran.cases if case.caller == caller]


@pytest.fixture(scope="module")
def told_apart(ran: Ran) -> list[str]:
    """Calls whose answers tell a world with the others from one without them."""
    return [
        f"{case}\n  and without them {case.missing}"
        for case in ran.cases
        if case.caller != "read-only" and _comparable(case, "there") != _comparable(case, "missing")
    ]


@pytest.fixture(scope="module")
def leaks(ran: Ran) -> list[str]:
    """Calls whose answers hold a secret that their caller did not bring."""
    found = []
    secrets = {caller: [each.encode() for each in known] for caller, known in ran.secrets.items()}
    for case in ran.cases:
        answer = repr(case.there).encode() + case.there[0]
        for part in case.there[1]:
            if isinstance(part, tuple) and isinstance(part[1], bytes):
                answer += part[1]
        answer += b"".join(_tokens(case))
        brought = case.request + _opened(case)
        found += [
            f"{case} holds {secret.decode()}"
            for secret in secrets[case.caller]
            if secret in answer and secret not in brought
        ]
    return found


def _opened(case: Case) -> bytes:
    """What the tokens of a request hold: whoever has one can read it, and grants it nothing."""
    target = case.target
    tokens = (target.turn_token, target.parent_turn_token)
    return b"".join(raw_of(token) for token in tokens if token and token.encode() in case.request)


def _tokens(case: Case) -> list[bytes]:
    """What the tokens of an answer hold."""
    found: list[bytes] = []
    for part in split(case.method, case.there[0]):
        answer: Any = answer_type(case.method).FromString(part)
        found += [
            raw_of(getattr(answer, name))
            for name in ("next_page_token", "resume_token", "turn_token")
            if name in answer.DESCRIPTOR.fields_by_name
        ]
    return found


def _takes_token(method: Method) -> bool:
    return "turn_token" in method.request.DESCRIPTOR.fields_by_name


def _comparable(case: Case, world: str) -> Any:
    """An answer, without what may differ in answers about one's own."""
    raw, refused = getattr(case, world)
    if _reason(case) == ELSE["DeleteApp", None]:
        return refused[0]  # it tells times
    if refused:
        return refused
    answers = [answer_type(case.method).FromString(part) for part in split(case.method, raw)]
    for answer in answers:
        _without(answer, PASSING)
    return [answer.SerializeToString(deterministic=True) for answer in answers]


def _without(message: Message, names: frozenset[str]) -> None:
    """Take out fields of these names, and all times."""
    for field, value in message.ListFields():
        kind = field.message_type
        if field.name in names or (kind and kind.full_name.startswith("google.protobuf.")):
            message.ClearField(field.name)
        elif kind and not kind.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                _without(each, names)


def _haunted(ran: Ran, case: Case) -> str:
    """An answer, with the ghosts' names in the place of those they stand for."""
    text = repr(case.there)
    for known, ghost in ran.ghosts.items():
        text = text.replace(known, ghost)
    # One's own has other names in each call.
    for mine in (case.mine.session_id, case.mine.uid, case.mine.etag):
        text = text.replace(mine, "mine")
    return text


def _reason(case: Case) -> str:
    """The reason of a refusal; empty: it was none."""
    return reason_of(case.there[1])
