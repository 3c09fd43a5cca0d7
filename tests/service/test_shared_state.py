"""State that sessions share: with each of them, or once a page; and right after a creation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from sojourn_server.domain.access import Users
from sojourn_server.domain.commands import IfExists, NewSession, View
from sojourn_server.domain.limits import ANSWER_BYTES
from sojourn_server.domain.model import Session
from sojourn_server.service import state
from sojourn_server.service.answers import (
    ScopeDocument,
    SessionContent,
    SessionPage,
    SessionSnapshot,
)
from sojourn_server.store.base import ReadTx
from tests.service.kit import APP, World, patches

LARGE = '"' + "x" * 200_000 + '"'


async def pages(world: World, **query: object) -> list[SessionPage]:
    """All pages of a list in view FULL, whose shared state comes once a page."""
    found: list[SessionPage] = []
    token = ""
    for _ in range(100):
        page = await world.page(view=View.FULL, shared_once=True, page_token=token, **query)
        found.append(page)
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the list has no end")


async def test_a_page_has_the_state_of_its_users_and_of_the_app_once(world: World) -> None:
    """By user, of those on the page alone; and what it says is what each session would say."""
    for user, name in (("ann", "a"), ("bob", "b"), ("ann", "c"), ("eve", "d")):
        await world.create(
            name, user=user, state=patches(session={"n": f'"{name}"'}, user={user: "1"})
        )
    await world.create("e", user="eve", state=patches(app={"all": "2"}))
    first, second = await pages(world, page_size=3)
    assert first.user_states.keys() == {"ann", "bob"}
    assert second.user_states == {"eve": ScopeDocument(values={"eve": "1"}, version=1)}
    for page in (first, second):
        assert page.app_state == ScopeDocument(values={"all": "2"}, version=1)
        for shot in page.snapshots:
            alone = await world.read(shot.session, View.FULL)
            assert shot.content == alone.snapshot.content
            assert shot.content is not None
            assert page.user_states[shot.session.user] == shot.content.user_state
    for page in (await world.page(view=View.FULL), await world.page(shared_once=True)):
        assert (page.app_state, page.user_states) == (None, {})


async def test_large_shared_state_does_not_make_many_pages(world: World) -> None:
    """It counts once a page; each user's does, so that no answer is too large."""
    await world.create("s-0", state=patches(app={"k": LARGE}))
    for number in range(1, 30):
        await world.create(f"s-{number}")
    assert [len(page.snapshots) for page in await pages(world)] == [30]
    for number in range(9):
        await world.create(f"u-{number}", user=f"u-{number}", state=patches(user={"k": LARGE}))
    found = await pages(world)
    assert [len(page.snapshots) for page in found] == [34, 4, 1]
    for page in found:
        states = [*page.user_states.values(), page.app_state]
        held = sum(len(text) for one in states if one for text in one.values.values())
        assert held < ANSWER_BYTES


async def test_large_sessions_are_read_a_few_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of large ones does not first read the content of a thousand."""
    text = '"' + "x" * 60_000 + '"'
    for number in range(40):
        await world.create(f"s-{number}", state=patches(session={"k": text}))
    read = 0
    contents = state.read_contents

    async def counted(
        tx: ReadTx, sessions: Sequence[Session], shared: state.SharedState
    ) -> list[SessionContent]:
        nonlocal read
        read += len(sessions)
        return await contents(tx, sessions, shared)

    monkeypatch.setattr(state, "read_contents", counted)
    page = await world.page(view=View.FULL, page_size=1_000)
    assert len(page.snapshots) == 17
    assert read == 18


@pytest.mark.parametrize("users", [("*",), ("ann",)], ids=["all users", "one user"])
async def test_a_created_session_shows_the_state_of_all_scopes(
    world: World, users: tuple[str, ...]
) -> None:
    """In view FULL, as right after the creation; the app's only to those who may see it."""
    await world.create(
        "first", user="ann", state=patches(user={"u": "1", "v": "1"}, app={"a": "1"})
    )
    shot = await created(world, "second", users, "r-1")
    assert shot.content is not None
    assert shot.content.session_state == ScopeDocument(values={"s": "null"}, version=1)
    assert shot.content.user_state == ScopeDocument(values={"u": "1", "v": "2"}, version=2)
    wanted = {"a": "1"} if users == ("*",) else {}
    assert shot.content.app_state.values == wanted
    assert shot == (await created(world, "second", users, "r-1"))
    assert (await created(world, "third", users, view=View.BASIC)).content is None


async def test_a_repeated_creation_shows_what_is_there_by_then(world: World) -> None:
    """And nothing of a session that was deleted meanwhile."""
    first = await created(world, "s", ("*",), "r-1")
    assert first.content is not None
    await world.update(first.session, state=patches(session={"s": "2"}))
    again = await created(world, "s", ("*",), "r-1")
    assert again.session == first.session
    assert again.content is not None
    assert again.content.session_state == ScopeDocument(values={"s": "2"}, version=2)
    await world.delete(first.session)
    gone = await created(world, "s", ("*",), "r-1")
    assert (gone.session, gone.content) == (first.session, None)


async def created(
    world: World, name: str, users: tuple[str, ...], request_id: str = "", view: View = View.FULL
) -> SessionSnapshot:
    """A session of ann, as the creation shows it to a caller with these users."""
    world.apps.add(APP)
    call = msgspec.structs.replace(world.call("CreateSession", request_id), users=Users(users))
    new = NewSession(
        user="ann", session_id=name, state=patches(session={"s": "null"}, user={"v": "2"})
    )
    _, shot = await world.sessions.create_shown(call, APP, new, IfExists.FAIL, view)
    return shot
