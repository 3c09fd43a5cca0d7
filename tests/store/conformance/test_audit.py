"""The audit: written with the log, read newest first, kept longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from sojourn_server.domain.auditing import AuditEntry, AuditPlace, AuditRange
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    ChangeDetail,
    DeletedWhy,
    EndCause,
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.store.base import ReadTx, RequestKey, Store, Tx
from tests.store.kit import (
    ACTOR,
    APP,
    START,
    Boom,
    ManualClock,
    a_request,
    a_session,
    apply,
    changed,
)

CAUSES = {
    ChangeCause.CREATED,
    ChangeCause.MESSAGES_REMOVED,
    ChangeCause.RESET,
    ChangeCause.ENDED,
    ChangeCause.EXPIRED,
    ChangeCause.DELETED,
    ChangeCause.THRESHOLD,
}


async def log(store: Store, *changes: Change) -> None:
    async def unit(tx: Tx) -> None:
        for change in changes:
            await tx.log(change)

    await apply(store, unit)


async def entries(store: Store, **which: object) -> Sequence[AuditEntry]:
    asked = AuditRange(app=APP, **which)  # type: ignore[arg-type]

    async def query(tx: ReadTx) -> Sequence[AuditEntry]:
        return await tx.audit(asked)

    return await store.read(query)


@pytest.mark.rule("S90")
async def test_what_an_auditor_asks_for_is_written_and_nothing_else(store: Store) -> None:
    session = a_session()
    for cause in ChangeCause:
        if cause is not ChangeCause.TURN_ENDED and not cause.name.startswith(("APP_", "USER_")):
            await log(store, Change(cause=cause, before=session, after=session))
    assert {each.cause for each in await entries(store)} == CAUSES


@pytest.mark.rule("S90")
@pytest.mark.parametrize("outcome", TurnOutcome)
async def test_turns_that_were_taken_away(store: Store, outcome: TurnOutcome) -> None:
    session = a_session()
    detail = ChangeDetail(turn_outcome=outcome)
    await log(
        store,
        Change(cause=ChangeCause.TURN_ENDED, before=session, after=session, detail=detail),
    )
    taken = outcome in {TurnOutcome.STOLEN, TurnOutcome.REVOKED}
    assert [each.detail.turn_outcome for each in await entries(store)] == [outcome] * taken


@pytest.mark.rule("S90")
async def test_an_entry_says_who_what_when_why_and_where(store: Store, clock: ManualClock) -> None:
    session = a_session("s-9", user="bob")
    ended = changed(session, status=Status.FAILED, end_cause=EndCause.QUOTA)
    clock.time = START + 5
    await log(
        store,
        Change(cause=ChangeCause.ENDED, before=session, after=ended),
        Change(
            cause=ChangeCause.DELETED,
            before=ended,
            detail=ChangeDetail(deleted_why=DeletedWhy.APP, force=True),
        ),
    )
    deleted, end = await entries(store)
    assert (end.revision, end.index, deleted.index) == (1, 0, 1)
    assert (end.actor, end.time, end.cause) == (ACTOR, START + 5, ChangeCause.ENDED)
    assert (end.user, end.session_id, end.uid) == ("bob", "s-9", session.uid)
    assert (end.detail.status, end.detail.end_cause) == (Status.FAILED, EndCause.QUOTA)
    assert (deleted.detail.deleted_why, deleted.detail.force) == (DeletedWhy.APP, True)


async def three(store: Store) -> list[Session]:
    made = [a_session(f"s-{n}", user=user) for n, user in enumerate(("ann", "bob", "ann"))]
    for session in made:
        await log(store, Change(cause=ChangeCause.CREATED, after=session))
    await log(store, Change(cause=ChangeCause.APP_UPDATED))
    for session in made:
        await log(store, Change(cause=ChangeCause.RESET, before=session, after=session))
    return made


@pytest.mark.rule("S90")
async def test_ranges_newest_first(store: Store) -> None:
    made = await three(store)
    assert [each.revision for each in await entries(store)] == [7, 6, 5, 4, 3, 2, 1]
    assert [each.revision for each in await entries(store, user="ann")] == [7, 5, 3, 1]
    assert [each.revision for each in await entries(store, uid=made[1].uid)] == [6, 2]
    before = AuditPlace(5, 0)
    assert [each.revision for each in await entries(store, before=before, limit=2)] == [4, 3]
    assert [each.revision for each in await entries(store, before=before, user="ann")] == [3, 1]
    assert [each.revision for each in await entries(store, before=before, uid=made[0].uid)] == [1]
    assert await entries(store, uid="no uid") == []
    assert (await entries(store))[3].user is None


@pytest.mark.rule("S90", "S1")
async def test_a_unit_that_fails_leaves_no_entry(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        await tx.log(Change(cause=ChangeCause.CREATED, after=a_session()))
        raise Boom

    with pytest.raises(Boom):
        await apply(store, unit)
    assert await entries(store) == []


@pytest.mark.rule("S90")
async def test_the_audit_outlives_the_log_and_is_shortened_by_itself(
    store: Store, clock: ManualClock
) -> None:
    await three(store)
    clock.time = START + 100
    await log(store, Change(cause=ChangeCause.CREATED, after=a_session("late")))
    while await store.compact(APP, START + 50, 1_000, 3) >= 3:
        pass
    assert len(await entries(store)) == 8
    assert await store.forget_audit(APP, START + 50, 4) == 4
    assert await store.forget_audit(APP, START + 50, 4) == 3
    assert [each.revision for each in await entries(store)] == [8]
    assert await store.forget_audit(APP, START + 101, 4) == 1
    assert await store.forget_audit("nowhere", START + 101, 4) == 0


@pytest.mark.rule("S91")
async def test_rewriting_leaves_the_place_of_a_row(store: Store) -> None:
    await three(store)

    async def read(tx: ReadTx) -> Sequence[object]:
        return await tx.changes(APP, 0, 100)

    before = await store.read(read)

    async def unit(tx: Tx) -> None:
        for change in await tx.changes(APP, 0, 2):
            detail = ChangeDetail(alias="x")
            new = msgspec.structs.replace(change, actor="y", before=None, after=None, detail=detail)
            await tx.rewrite_changes(APP, [new])
        for entry in await tx.audit(AuditRange(app=APP, user="ann")):
            new_entry = msgspec.structs.replace(entry, actor="y", user="alias", session_id="")
            await tx.rewrite_audit(APP, [new_entry])

    await apply(store, unit)
    after = await store.read(read)
    assert after[2:] == before[2:]
    for old, new in zip(before[:2], after[:2], strict=True):
        kept = ("revision", "index", "nonce", "time", "cause", "uid")
        assert [getattr(old, name) for name in kept] == [getattr(new, name) for name in kept]
        assert (new.actor, new.before, new.after, new.detail.alias) == ("y", None, None, "x")  # type: ignore[attr-defined]
    assert await entries(store, user="ann") == []
    renamed = await entries(store, user="alias")
    assert [(each.revision, each.actor, each.session_id) for each in renamed] == [
        (7, "y", ""),
        (5, "y", ""),
        (3, "y", ""),
        (1, "y", ""),
    ]


@pytest.mark.rule("S91")
async def test_an_emptied_record_keeps_its_key_and_its_revision(store: Store) -> None:
    async def put(tx: Tx) -> None:
        held = await tx.put_content(b"popped")
        for number in range(3):
            await tx.put_request(a_request(f"r-{number}", held=(held,) if number == 1 else ()))
        await tx.log(Change(cause=ChangeCause.APP_CREATED))

    await apply(store, put)

    async def empty(tx: Tx) -> None:
        for record in await tx.requests_after(APP, None, 2):
            await tx.empty_request(record)

    await apply(store, empty)

    async def query(tx: ReadTx) -> list[tuple[str, bytes, bytes, int, tuple[int, ...]]]:
        after = RequestKey(APP, "principal", "CreateSession", "r-0")
        found = [*await tx.requests_after(APP, None, 1), *await tx.requests_after(APP, after, 9)]
        return [(r.key.request_id, r.outcome, r.payload_hash, r.revision, r.held) for r in found]

    assert await store.read(query) == [
        ("r-0", b"", b"", 1, ()),
        ("r-1", b"", b"", 1, ()),
        ("r-2", b"outcome", b"hash", 1, ()),
    ]


@pytest.mark.rule("S90")
async def test_a_unit_reads_what_it_and_those_before_it_have_logged(store: Store) -> None:
    seen: list[int] = []

    def logs(session_id: str, *, fails: bool = False) -> Callable[[Tx], Awaitable[None]]:
        change = Change(cause=ChangeCause.CREATED, after=a_session(session_id))

        async def unit(tx: Tx) -> None:
            await tx.log(change)
            seen.append(len(await tx.audit(AuditRange(app=APP))))
            await tx.log(change)
            if fails:
                raise Boom

        return unit

    units = [logs("s-1"), logs("s-2", fails=True), logs("s-3")]
    # All at once, so that they may share a commit.
    done = await asyncio.gather(*(apply(store, each) for each in units), return_exceptions=True)
    assert [isinstance(each, Boom) for each in done] == [False, True, False]
    # A batch in which one fails runs again: what counts is what each saw last.
    assert seen[-3:] == [1, 3, 3]
    assert [each.session_id for each in await entries(store)] == ["s-3", "s-3", "s-1", "s-1"]
