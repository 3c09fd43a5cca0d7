"""Much that is overdue: every use case that meets it lets it end first, however much it is.

What ends with one session may be more than a unit ends, and the sessions that are overdue may
be more than come first within one commit. Neither is any caller's business.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.commands import NewOwner, NewSession
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause, EndCause, Session, Status
from sojourn_server.domain.policy import QuotaAction
from sojourn_server.service import bulk, copying, replacing, tree, work
from sojourn_server.service.bulk import Which
from sojourn_server.store.work import PRECEDING
from tests.service.kit import APP, USER, World, message, refused
from tests.service.test_imports import OTHER, importing, take

EXPIRED = Status.EXPIRED
ROWS = 5
"""How many sessions a unit ends here."""
MANY = 2 * ROWS + 1
SEVERAL: dict[str, Any] = {"staging_id": "x"}
"""A replacement that comes in several requests."""


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "UNIT_ROWS", ROWS)


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three overdue sessions are many."""
    monkeypatch.setattr(work, "SETTLE_MOST", 3)


async def grow(world: World, count: int, *, app: str = APP, **fields: Any) -> list[Session]:
    """Sessions made at once, each of a user of its own or of the one that is named."""
    world.apps.add(app)
    wanted = [NewSession(**{"user": f"u-{number}", **fields}) for number in range(count)]
    call = world.call("BatchCreateSessions")
    return list((await world.sessions.create_many(call, app, wanted)).outcome.sessions)


async def family(world: World, *, app: str = APP) -> tuple[Session, list[Session]]:
    """A session that will be overdue, and more below it than a unit ends: they would live on."""
    parent = await world.create("p", app=app, idle_timeout=HOUR)
    owner = NewOwner(lease=20 * HOUR)
    below = await grow(
        world, MANY, app=app, user=USER, parent_uid=parent.uid, owner=owner, idle_timeout=0
    )
    return parent, below


async def check_expired(world: World, parent: Session, below: list[Session]) -> None:
    """The family has ended, children first and in batches, each session once."""
    log = await world.log(app=parent.app)
    ends = [each for each in log if each.cause in (ChangeCause.EXPIRED, ChangeCause.ENDED)]
    order = [each.uid for each in ends if each.uid in {parent.uid, *(c.uid for c in below)}]
    assert order[-1] == parent.uid
    assert sorted(order) == sorted([parent.uid, *(child.uid for child in below)])
    assert max(Counter(each.revision for each in ends).values()) <= ROWS + 1
    assert (await world.stored(parent)).end_cause is EndCause.IDLE
    for child in below:
        after = await world.stored(child)
        assert (after.status, after.end_cause) == (EXPIRED, EndCause.PARENT_ENDED)


# --- much ends with one session ----------------------------------------------------------------


@pytest.mark.usefixtures("small_units")
async def test_a_limit_lets_a_large_family_go_before_it_refuses(world: World) -> None:
    parent, below = await family(world)
    await world.rule(max_active_sessions=1)
    world.clock.step(2 * 3600)
    await world.create("new")
    await check_expired(world, parent, below)


@pytest.mark.usefixtures("small_units")
async def test_an_import_lets_a_large_family_go_first(world: World) -> None:
    parent, below = await family(world, app=OTHER)
    await world.rule(OTHER, max_active_sessions=1)
    world.clock.step(2 * 3600)
    coming = await world.create("s")
    await take(importing(world, OTHER), coming)
    assert (await world.get("s", app=OTHER)).is_active
    await check_expired(world, parent, below)


@pytest.mark.usefixtures("small_units")
async def test_the_last_part_for_a_session_with_a_large_family_comes_too_late(
    world: World,
) -> None:
    parent, below = await family(world)
    await world.replace("p", 0, [message("m-1")], more_follow=True, **SEVERAL)
    world.clock.step(2 * 3600)
    with refused(Reason.SESSION_ENDED):
        await world.replace("p", 0, [message("m-2")], part=1, **SEVERAL)
    await check_expired(world, parent, below)


@pytest.mark.usefixtures("small_units")
async def test_a_session_with_a_large_family_expires_while_what_it_keeps_is_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH_ROWS", 2)
    monkeypatch.setattr(replacing, "PAUSE", 0.0)
    parent, below = await family(world)
    await world.say("p", *(f"m-{number}" for number in range(6)))
    put = copying.put

    async def slow(*args: Any) -> None:
        await put(*args)
        world.clock.step(2 * 3600)

    monkeypatch.setattr(copying, "put", slow)
    with refused(Reason.SESSION_ENDED):
        await world.replace("p", 6, [message("new")], **SEVERAL)
    await check_expired(world, parent, below)


@pytest.mark.usefixtures("small_units")
async def test_a_fork_of_a_session_with_a_large_family_comes_after_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "UNIT_ROWS", 2)
    parent, below = await family(world)
    await world.say("p", *(f"m-{number}" for number in range(6)))
    world.clock.step(2 * 3600)
    forked = (await world.fork("p", "f")).outcome.session
    assert forked.message_count == 6
    await check_expired(world, parent, below)


@pytest.mark.usefixtures("small_units")
async def test_the_end_of_many_lets_a_large_family_expire(world: World) -> None:
    parent, below = await family(world)
    world.clock.step(2 * 3600)
    call = world.call("EndSessions")
    answer = await world.services.bulk.end(call, APP, Which(all=True), Status.COMPLETED, "")
    assert answer.outcome.count == 0
    await check_expired(world, parent, below)


# --- many are overdue --------------------------------------------------------------------------

VERY_MANY = 3 * PRECEDING + 1
"""More than come first within one commit, three at a time."""


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("action", list(QuotaAction))
async def test_a_limit_lets_very_many_go_before_it_refuses(
    world: World, action: QuotaAction
) -> None:
    old = await grow(world, VERY_MANY, idle_timeout=HOUR)
    await world.rule(max_active_sessions=1, session_quota_action=action)
    world.clock.step(2 * 3600)
    await world.create("new")
    assert [each.session_id for each in await world.every_session() if each.is_active] == ["new"]
    log = await world.log()
    assert Counter(each.cause for each in log)[ChangeCause.EXPIRED] == len(old)


@pytest.mark.parametrize("action", list(QuotaAction))
async def test_a_batch_for_very_many_users_lets_the_old_sessions_of_each_go(
    world: World, action: QuotaAction
) -> None:
    await world.rule(max_active_sessions_per_user=1, session_quota_action=action)
    old = await grow(world, PRECEDING + 1, idle_timeout=HOUR)
    world.clock.step(2 * 3600)
    new = await grow(world, PRECEDING + 1)
    assert {(await world.stored(each)).end_cause for each in old} == {EndCause.IDLE}
    assert {(await world.stored(each)).status for each in new} == {Status.ACTIVE}


@pytest.mark.usefixtures("few_at_once")
async def test_an_import_lets_very_many_go_first(world: World) -> None:
    await grow(world, VERY_MANY, app=OTHER, idle_timeout=HOUR)
    await world.rule(OTHER, max_active_sessions=1)
    world.clock.step(2 * 3600)
    await take(importing(world, OTHER), await world.create("s"))
    active = [each.session_id for each in await world.every_session(OTHER) if each.is_active]
    assert active == ["s"]


async def test_the_end_of_many_lets_very_many_expire(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STEP_ROWS", 3)
    old = await grow(world, VERY_MANY, idle_timeout=HOUR)
    await grow(world, 2, idle_timeout=0)
    world.clock.step(2 * 3600)
    call = world.call("EndSessions")
    answer = await world.services.bulk.end(call, APP, Which(all=True), Status.COMPLETED, "")
    assert answer.outcome.count == 2
    log = await world.log()
    assert Counter(each.cause for each in log)[ChangeCause.EXPIRED] == len(old)
