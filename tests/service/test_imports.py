"""Imports below parents that have ended, or that might make room for their own children."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.imports import ImportedSession, OnExisting
from sojourn_server.domain.model import EndCause, EndNote, Owner, Session, Status
from sojourn_server.domain.policy import QuotaAction
from sojourn_server.service.importing import Importing
from tests.service.kit import APP, World

OTHER = "elsewhere"


def importing(world: World, app: str) -> Importing:
    world.apps.add(app)
    return Importing(world.units, world.call("ImportSessions"), app, OnExisting.FAIL)


async def take(into: Importing, session: Session, **changes: Any) -> None:
    await into.take_session(
        ImportedSession(
            session=msgspec.structs.replace(session, **changes),
            metadata={},
            state={},
            note=EndNote(),
            turn_error="",
            reset_reason="",
        )
    )


async def test_an_ephemeral_session_comes_ended_below_one_that_has(world: World) -> None:
    """The parent was overdue when it came, say, and the job was faster than its child."""
    parent = await world.create("p")
    child = await world.create("c", app=OTHER)
    await world.rule(max_active_sessions=0)
    await world.end("p", Status.FAILED)
    await take(importing(world, APP), child, parent_uid=parent.uid, owner=Owner(turn_number=1))
    came = await world.get("c")
    assert (came.status, came.end_cause) == (Status.FAILED, EndCause.PARENT_ENDED)
    assert came.parent_uid == parent.uid
    # One that is not ephemeral outlives its parent, here as there.
    await world.rule()
    await take(importing(world, APP), child, session_id="d", parent_uid=parent.uid)
    assert (await world.get("d")).is_active


async def test_a_parent_with_a_new_uid_makes_no_room_for_its_own_child(world: World) -> None:
    parent = await world.create("p")
    child = await world.create("c", parent_uid=parent.uid)
    end = QuotaAction.END_OLDEST_IDLE
    await world.rule(OTHER, max_active_sessions=1, session_quota_action=end)
    into = importing(world, OTHER)
    await take(into, parent)
    with pytest.raises(Refusal) as caught:
        await take(into, child)
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    left = await world.every_session(OTHER)
    assert [(each.session_id, each.is_active) for each in left] == [("p", True)]
