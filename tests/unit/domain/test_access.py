"""Patterns, grants and what they come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn_server.domain.access import (
    ANYBODY,
    EVERY_USER,
    PERMISSIONS,
    Grant,
    Permission,
    Principal,
    Role,
    Users,
)

READ, WRITE = Permission.READ, Permission.WRITE


@pytest.mark.parametrize(
    ("pattern", "user", "covered"),
    [
        ("ann", "ann", True),
        ("ann", "anna", False),
        ("ann", "Ann", False),
        ("ann", "", False),
        ("", "", True),
        ("", "ann", False),
        ("*", "", True),
        ("*", "a\nb", True),
        ("team-*", "team-", True),
        ("team-*", "team-1\nx", True),
        ("team-*", "my-team-1", False),
        ("*-bot", "big-bot", True),
        ("*-bot", "big-bot2", False),
        ("a*c*e", "abcde", True),
        ("a*c*e", "abcd", False),
        # Everything but the star is itself.
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("(a|b)", "b", False),
        ("a?", "ab", False),
    ],
)
def test_a_star_stands_for_any_characters_and_all_else_for_itself(
    pattern: str, user: str, covered: bool
):
    assert Users([pattern]).covers(user) is covered


@given(st.text(), st.text())
def test_a_pattern_without_a_star_covers_itself_alone(pattern: str, user: str):
    pattern = pattern.replace("*", "").replace("{subject}", "")
    assert Users([pattern]).covers(user) is (pattern == user)


@given(subject=st.text(min_size=1), user=st.text())
def test_a_subject_is_taken_literally_whatever_stands_in_it(subject: str, user: str):
    users = Users(["{subject}"], subject)
    assert users.covers(user) is (subject == user)
    assert not users.everyone


@pytest.mark.parametrize("subject", ["*", "a*", ".*", "{subject}", "a|b", "\\"])
def test_a_subject_that_looks_like_a_pattern_is_none(subject: str):
    users = Users(["{subject}"], subject)
    assert users.covers(subject)
    assert not any(users.covers(other) for other in ("", "a", "ab", "b", "bob"))


def test_a_subject_may_stand_inside_a_pattern():
    users = Users(["{subject}-*"], "a*")
    assert users.covers("a*-phone")
    assert not users.covers("ab-phone")


def test_nobody_and_everyone_are_told_apart():
    assert Users().nobody
    assert not Users().everyone
    assert not Users().covers("")
    assert EVERY_USER.everyone
    assert not EVERY_USER.nobody
    # Only the star alone promises whoever may come.
    assert not Users(["**"]).everyone
    assert Users(["**"]).covers("anybody")


def test_every_role_reads_and_admin_does_everything():
    assert all(READ in permitted for permitted in PERMISSIONS.values())
    assert PERMISSIONS[Role.ADMIN] == frozenset(Permission)
    assert PERMISSIONS[Role.WRITE] == {READ, WRITE}
    assert PERMISSIONS[Role.RESET] == {READ, Permission.RESET}
    others = {Role.READ, Role.WRITE, Role.RESET}
    assert not any(Permission.ERASE in PERMISSIONS[role] for role in others)
    assert not any(Permission.ADMIN in PERMISSIONS[role] for role in others)


def test_grants_add_up_per_app():
    somebody = Principal(
        "key:x",
        [
            Grant(Role.READ, "support-*"),
            Grant(Role.WRITE, "support-eu", "ann"),
            Grant(Role.WRITE, "support-eu", "bob"),
        ],
    )
    assert somebody.users("support-us", READ).everyone
    assert somebody.users("support-us", WRITE).nobody
    assert somebody.users("support-eu", WRITE).covers("ann")
    assert somebody.users("support-eu", WRITE).covers("bob")
    assert not somebody.users("support-eu", WRITE).covers("eve")
    assert somebody.users("sales", READ).nobody
    assert not somebody.may_everywhere(READ)


def test_a_principal_remembers_no_more_than_it_may():
    somebody = Principal("key:x", [Grant(Role.READ, "a*")])
    for number in range(5_000):
        assert somebody.users(f"a{number}", READ).everyone
        assert somebody.users(f"b{number}", READ).nobody
    assert len(somebody._known) <= 1_000


def test_without_grants_there_is_nothing():
    nobody = Principal("jwt:x", [])
    assert all(nobody.users("a", permission).nobody for permission in Permission)
    assert not any(nobody.may_everywhere(permission) for permission in Permission)


def test_while_authentication_is_off_anybody_may_do_anything():
    assert ANYBODY.name == ""
    assert all(ANYBODY.may_everywhere(permission) for permission in Permission)
