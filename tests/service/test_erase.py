"""EraseUser: everything of one user goes, nothing of another, and no name is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.auditing import AuditEntry, AuditRange
from sojourn_server.domain.commands import NewOwner
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import ChangeCause, DeletedWhy, Erased, Session, Status
from sojourn_server.rpc.callers import unnamed
from sojourn_server.service import Services
from sojourn_server.service import erasing as erasing_module
from sojourn_server.service.answers import Answer
from sojourn_server.service.operations import ERASE
from sojourn_server.store.base import ReadTx, RequestRecord
from tests.service.kit import APP, USER, World, message, patches, refused

BOB = "bob"
PER_USER = 3
MESSAGES = 5


async def erase(world: World, user: str = USER, request_id: str = "", **who: Any) -> Answer[Any]:
    world.apps.add(APP)
    call = world.call("EraseUser", request_id, payload=user.encode())
    call = msgspec.structs.replace(call, **who)
    return await world.services.erasing.erase(call, APP, user)


async def audit(world: World) -> list[AuditEntry]:
    async def query(tx: ReadTx) -> list[AuditEntry]:
        return list(await tx.audit(AuditRange(app=APP, limit=10_000)))

    return await world.units.read(query)


async def records(world: World) -> list[RequestRecord]:
    async def query(tx: ReadTx) -> list[RequestRecord]:
        return list(await tx.requests_after(APP, None, 10_000))

    return await world.units.read(query)


async def everything(world: World) -> str:
    """All that the rows of the app say, as text to be searched."""
    sessions = await world.every_session()
    log = [msgspec.structs.asdict(change) for change in await world.log()]
    kept = [(each.key, each.outcome) for each in await records(world)]
    return repr((sessions, log, await audit(world), kept))


class Died(Exception):
    """The server is no more."""


def request_id_of(what: str, name: str) -> str:
    """A request id as calls have it: hashed before it comes to the use cases."""
    return unnamed(f"{what}-{name}")


async def make(world: World, user: str, name: str) -> Session:
    return await world.create(
        name,
        user=user,
        labels={"team": f"team-{user}"},
        metadata={"m": f'"meta {user}"'},
        state=patches(session={"k": "1", "l": "2"}, user={"u": f'"{user}"'}),
        request_id=request_id_of("make", name),
    )


@pytest.fixture(params=[64, 1], ids=["large steps", "small steps"])
async def two(
    world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Sessions of ann and of bob, who is to notice nothing."""
    monkeypatch.setattr(erasing_module, "STEP_ROWS", request.param)
    monkeypatch.setattr(erasing_module, "ROWS", request.param + 1)
    for user in (USER, BOB):
        made = [await make(world, user, f"{user}-s{number}") for number in range(PER_USER)]
        texts = [message(f"m-{n}", f"text of {user}") for n in range(MESSAGES)]
        await world.append(made[0], texts, request_id=request_id_of("say", user))
        await world.pop(made[0], 1, request_id=request_id_of("pop", user))
        await world.begin(made[1])
        await world.end(made[2])
    return world


async def test_everything_goes_and_the_receipt_counts_it(two: World) -> None:
    before = await two.every_session()
    head = await two.head()
    answer = await erase(two)
    log = await two.log()
    mine = [change for change in log if change.detail.alias and change.revision <= head]
    assert answer.outcome.erased == Erased(
        sessions=PER_USER,
        messages=MESSAGES - 1,
        state_keys=2 * PER_USER + 1,
        changes=len(mine) + 1,  # and the turn that was revoked
        audit_entries=PER_USER + 3,
    )
    assert answer.revision == await two.head()
    assert answer.scrubbed is two.store.scrubs
    assert await two.every_session() == [each for each in before if each.user == BOB]
    assert (await two.states.get(two.call("GetState"), APP, USER)).state.version == 0
    assert (await two.states.get(two.call("GetState"), APP, BOB)).state.version == 1


async def test_no_row_names_the_user_any_more(two: World) -> None:
    assert USER in await everything(two)
    await erase(two, request_id="e")
    left = await everything(two)
    for name in (USER, f"{USER}-s0", f"team-{USER}"):
        assert name not in left
    assert f"team-{BOB}" in left


async def test_the_log_tells_of_each_session_that_it_is_gone(two: World) -> None:
    uids = {each.uid for each in await two.every_session() if each.user == USER}
    head = await two.head()
    await erase(two)
    gone = [change for change in await two.log(head) if change.cause is ChangeCause.DELETED]
    assert {change.uid for change in gone} == uids
    for change in gone:
        assert change.detail.deleted_why is DeletedWhy.ERASED
        assert change.before is change.after is None
    last = (await two.log())[-1]
    assert (last.cause, last.uid) == (ChangeCause.USER_ERASED, "")
    assert len({change.detail.alias for change in [*gone, last]}) == 1


async def test_the_log_keeps_revisions_nonces_and_causes(two: World) -> None:
    before = await two.log()
    await erase(two)
    after = (await two.log())[: len(before)]
    for old, new in zip(before, after, strict=True):
        assert (old.revision, old.index, old.nonce, old.time, old.cause, old.uid) == (
            (new.revision, new.index, new.nonce, new.time, new.cause, new.uid)
        )
        if not new.detail.alias:
            assert old == new


async def test_the_audit_keeps_an_alias_that_is_no_function_of_the_user(two: World) -> None:
    mine = [each for each in await audit(two) if each.user == USER]
    await erase(two)
    entries = await audit(two)
    alias = entries[0].user
    assert alias is not None
    assert alias.startswith("erased-")
    assert entries[0].detail.erased is not None
    same = {(each.revision, each.index, each.cause, each.uid) for each in entries if each.uid}
    assert {(each.revision, each.index, each.cause, each.uid) for each in mine} <= same
    assert all(each.session_id == "" for each in entries if each.user == alias)
    await make(two, USER, "again")
    await erase(two)
    assert (await audit(two))[0].user not in {alias, None}


async def test_an_actor_who_is_the_user_gets_the_alias(two: World) -> None:
    await erase(two, actor=f"jwt:{USER}")
    assert USER not in await everything(two)
    actors = {each.actor for each in await audit(two) if each.cause is ChangeCause.USER_ERASED}
    assert actors == {(await audit(two))[0].user}


async def test_a_late_retry_brings_nothing_back(two: World) -> None:
    await erase(two)
    head = await two.head()
    for again in (
        two.make(f"{USER}-s0", request_id=request_id_of("make", f"{USER}-s0")),
        two.append(
            f"{USER}-s0", [message("x")], request_id=request_id_of("say", USER), create=True
        ),
    ):
        with refused(Reason.SESSION_NOT_FOUND):
            await again
    assert await two.head() == head


async def test_retries_of_others_are_answered_as_ever(two: World) -> None:
    first = await make(two, BOB, "late")
    await erase(two)
    again = await two.make(
        "late",
        user=BOB,
        request_id=request_id_of("make", "late"),
    )
    assert again.outcome.session == first


async def test_a_repeat_gets_the_same_receipt_and_its_record_names_nobody(two: World) -> None:
    first = await erase(two, request_id="e")
    again = await erase(two, request_id="e")
    assert (again.outcome, again.revision) == (first.outcome, first.revision)
    with refused(Reason.REQUEST_ID_REUSED):
        await erase(two, BOB, request_id="e")


async def test_the_app_s_own_sessions_are_a_user_s_like_any_other(world: World) -> None:
    await make(world, "", "own")
    await make(world, BOB, "his")
    answer = await erase(world, "")
    assert answer.outcome.erased.sessions == 1
    assert [each.session_id for each in await world.every_session()] == ["his"]


async def test_an_app_or_a_user_that_is_not_there(world: World) -> None:
    assert (await erase(world)).outcome.erased == Erased()
    assert await world.store.apps("", 10) == []
    await make(world, BOB, "his")
    assert (await erase(world)).outcome.erased == Erased()
    assert [each.session_id for each in await world.every_session()] == ["his"]


async def test_children_of_others_stay_but_ephemeral_ones_end(world: World) -> None:
    parent = await make(world, USER, "parent")
    await world.create("mine", parent_uid=parent.uid)
    await world.create("kept", user=BOB, parent_uid=parent.uid)
    owner = NewOwner(lease=60_000_000_000)
    await world.create("ephemeral", user=BOB, parent_uid=parent.uid, owner=owner)
    await erase(world)
    left = {each.session_id: each.status for each in await world.every_session()}
    assert left == {"kept": Status.ACTIVE, "ephemeral": Status.FAILED}


async def test_a_large_history_is_purged_in_parts(world: World) -> None:
    large = await make(world, USER, "large")
    await world.fill(large, 1_200)
    answer = await erase(world)
    assert answer.outcome.erased.messages == 1_200


async def test_what_is_created_meanwhile_belongs_to_the_time_after(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody creates a session, and writes to it, between any two steps."""
    step = erasing_module.step
    made: list[Session] = []

    async def slow(work: Any, task: Any) -> Any:
        return await step(work, task)

    async def keep_making() -> None:
        while not done.is_set():
            made.append(await make(two, USER, f"new-{len(made)}"))
            await two.append(made[-1], [message("n", "new text")])
            await asyncio.sleep(0)

    done = asyncio.Event()
    task = asyncio.create_task(keep_making())
    monkeypatch.setattr(erasing_module, "step", slow)
    await erase(two)
    done.set()
    await task
    head = next(c.revision for c in await two.log() if c.cause is ChangeCause.USER_ERASED)
    left = [each for each in await two.every_session() if each.user == USER]
    assert {each.uid for each in left} <= {each.uid for each in made}
    told = {c.uid: c for c in await two.log() if c.cause is ChangeCause.CREATED and c.after}
    assert {each.uid for each in left} <= told.keys(), f"erased until {head}"


async def test_thirty_two_callers_while_a_user_is_erased(world: World) -> None:
    for number in range(20):
        await make(world, USER, f"old-{number}")
    old = {each.uid for each in await world.every_session()}
    outcomes: list[str] = []

    async def caller(number: int) -> None:
        for turn in range(6):
            try:
                if number % 2:
                    await make(world, USER, f"new-{number}-{turn}")
                else:
                    await world.append(
                        f"old-{(number + turn) % 20}", [message(f"c-{number}-{turn}")]
                    )
                outcomes.append("OK")
            except Refusal as refusal:
                outcomes.append(refusal.reason.value)

    callers = [caller(number) for number in range(32)]
    answer, *_ = await asyncio.gather(erase(world), *callers)
    left = {each.uid for each in await world.every_session()}
    assert not left & old
    assert answer.outcome.erased.sessions >= 20
    assert set(outcomes) <= {"OK", "SESSION_NOT_FOUND"}
    created = [c.uid for c in await world.log() if c.cause is ChangeCause.CREATED and c.after]
    assert set(created) == left, "the log names the sessions there are, and no others"


async def test_an_erasure_that_was_cut_off_is_finished_by_another_server(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies after each step; the next one takes the operation up."""
    services = two.services
    for _ in range(200):
        steps = 0

        async def one_step(work: Any, task: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > 1:
                raise Died
            return await erasing_module.step(work, task)

        services.operations.register(ERASE, one_step)
        call = two.call("EraseUser", "e", payload=USER.encode())
        try:
            answer = await services.erasing.erase(call, APP, USER)
        except Died:
            services = Services(
                two.store, services.sealer, services.units.limits, services.units.defaults
            )
            continue
        assert answer.outcome.erased.sessions == PER_USER
        break
    else:
        raise AssertionError("it never came to its end")
    assert USER not in await everything(two)
