"""Units: atomic, serial, durable, numbered, and no danger to their neighbours."""

from __future__ import annotations

import asyncio
import functools

import pytest

from sojourn_server.domain.model import Change, ChangeCause, ScopeState
from sojourn_server.store.base import Applied, Candidates, KeyTaken, Priority, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    ACTOR,
    APP,
    Boom,
    ManualClock,
    a_message,
    a_request,
    a_session,
    an_app,
    apply,
    changed,
    content_of,
    create,
    create_many,
    found,
    head,
    insert,
    list_ids,
    log_of,
    put_message,
    read_all,
    update,
)

DUE = 5


@pytest.mark.rule("S1")
async def test_a_unit_that_fails_leaves_nothing_behind(store: Store) -> None:
    row = await create(store, a_session("kept", labels={"tier": "gold"}))
    request = a_request()

    async def fails(tx: Tx) -> None:
        await tx.put_app(an_app())
        await insert(tx, a_session("new", labels={"tier": "gold"}), DUE)
        await update(tx, row, labels={"tier": "none"}, user="bob", due=DUE)
        await put_message(tx, row, 1, b"text")
        await tx.put_scope_state(APP, "ann", ScopeState(version=7))
        await tx.put_request(request)
        raise Boom

    with pytest.raises(Boom):
        await apply(store, fails)
    assert await head(store) == 1
    assert await list_ids(store) == ["kept"]
    assert await list_ids(store, label=("tier", "gold")) == ["kept"]
    assert await found(store, "kept") == row
    assert await store.read(lambda tx: read_all(tx, row)) == []
    assert await store.read(lambda tx: tx.scope_state(APP, "ann")) == ScopeState()
    assert await store.read(lambda tx: tx.request(request.key)) is None
    assert await store.read(lambda tx: tx.app(APP)) is None
    assert await store.read(lambda tx: tx.next_due()) is None
    assert len(await log_of(store)) == 1


@pytest.mark.rule("S1")
async def test_a_unit_that_erases_and_fails_has_erased_nothing(store: Store) -> None:
    async def puts(tx: Tx) -> list[int]:
        await insert(tx, a_session())
        return [await tx.put_content(b"words %d" % each) for each in range(20)]

    ids = (await apply(store, puts)).value

    async def fails(tx: Tx) -> None:
        for each in ids[:10]:
            await tx.erase_content(each)
        for each in range(15):
            await tx.put_content(b"other %d" % each)
        raise Boom

    for _ in range(3):
        with pytest.raises(Boom):
            await apply(store, fails)
    for number, each in enumerate(ids):
        assert await content_of(store, each) == b"words %d" % number


@pytest.mark.rule("S1")
async def test_the_first_unit_of_an_app_may_fail_and_the_next_begins_at_one(store: Store) -> None:
    async def fails(tx: Tx) -> None:
        await tx.put_app(an_app())
        await insert(tx, a_session())
        raise Boom

    with pytest.raises(Boom):
        await apply(store, fails)
    assert await store.read(lambda tx: tx.app(APP)) is None
    assert (await apply(store, lambda tx: insert(tx, a_session()))).revision == 1


@pytest.mark.rule("S2")
async def test_each_unit_sees_all_that_earlier_ones_wrote(store: Store) -> None:
    await create(store, a_session("counter"))

    async def add_one(tx: Tx) -> int:
        row = await tx.session_by_key(APP, "ann", "counter")
        assert row is not None
        await update(tx, row, message_count=row.session.message_count + 1)
        return row.session.message_count

    answers = await asyncio.gather(*(apply(store, add_one) for _ in range(300)))
    assert sorted(answer.value for answer in answers) == list(range(300))
    assert (await found(store, "counter")).session.message_count == 300


@pytest.mark.rule("S2")
async def test_each_unit_finds_in_lists_all_that_earlier_ones_wrote(store: Store) -> None:
    parent = a_session().uid
    rows = [await create(store, a_session(f"c-{n}", parent_uid=parent)) for n in range(2)]

    async def count(tx: Tx, number: int) -> int:
        await tx.request(a_request(f"r-{number}").key)
        first = await tx.session_by_uid(APP, rows[0].session.uid)
        assert first is not None
        if number % 2:
            # What nobody can know before the unit's turn has come.
            await tx.session_by_key(APP, "ann", f"none-{first.session.message_count}")
        children = await tx.candidates(Candidates(app=APP, parent_uid=parent))
        await tx.session_by_key(APP, "ann", f"no-{first.session.message_count}")
        due = await tx.due_sessions(DUE, 100)
        messages = await read_all(tx, rows[0])
        counts = {row.session.message_count for row in [*children, *due]} | {len(messages)}
        assert len(counts) == 1, counts
        if number % 5 == 4:
            raise Boom
        for row in children:
            await update(tx, row, DUE, message_count=row.session.message_count + 1)
        await put_message(tx, rows[0], len(messages) + 1)
        return counts.pop()

    for _ in range(5):
        answers = await asyncio.gather(
            *(apply(store, functools.partial(count, number=number)) for number in range(30)),
            return_exceptions=True,
        )
        kept = [answer.value for answer in answers if isinstance(answer, Applied)]
        assert len(kept) == 24, answers
        assert kept == list(range(kept[0], kept[0] + 24))


@pytest.mark.rule("S2")
async def test_a_unit_reads_its_own_writes(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        await tx.put_app(an_app(labels={"a": "b"}))
        row = await insert(tx, a_session(labels={"tier": "gold"}), due=DUE)
        assert await tx.session_by_key(APP, "ann", "s-1") == row
        assert await tx.session_by_uid(APP, row.session.uid) == row
        assert await tx.app(APP) == an_app(labels={"a": "b"})
        assert await tx.next_due() == DUE
        row = await update(tx, row, session_id="s-2", labels={"tier": "lead"}, due=DUE + 1)
        assert await tx.session_by_key(APP, "ann", "s-1") is None
        assert await tx.session_by_key(APP, "ann", "s-2") == row
        await put_message(tx, row, 1, b"text")
        assert await read_all(tx, row) == [1]
        await tx.put_request(a_request(outcome=b"first"))
        await tx.put_request(a_request(outcome=b"second"))
        record = await tx.request(a_request().key)
        assert record is not None
        assert record.outcome == b"second"
        assert await tx.head(APP) == 1
        assert [each.index for each in await tx.changes(APP, 0, 10)] == [0, 1]
        await tx.put_scope_state(APP, None, ScopeState(version=3))
        assert (await tx.scope_state(APP, None)).version == 3

    await apply(store, unit)


@pytest.mark.rule("S3")
async def test_what_was_answered_survives_a_crash(backend: Backend, store: Store) -> None:
    for number in range(10):
        answers = await asyncio.gather(
            *(
                apply(store, functools.partial(insert, session=a_session(f"s-{number}-{each}")))
                for each in range(5)
            )
        )
        survivor = await backend.after_crash(store)
        assert await head(survivor) == (number + 1) * 5
        assert await log_of(survivor) == await log_of(store)
        for answer in answers:
            session = answer.value.session
            assert await found(survivor, session.session_id) == answer.value
        await survivor.close()


@pytest.mark.rule("S3", "S41")
async def test_what_was_answered_survives_close_and_open(backend: Backend, store: Store) -> None:
    row = await create(store, a_session(labels={"tier": "gold"}))
    content = (await apply(store, lambda tx: tx.put_content(b"words"))).value
    log = await log_of(store)
    keys = store.token_keys
    await store.close()
    again = await backend.open()
    assert await found(again, "s-1") == row
    assert await log_of(again) == log
    assert await content_of(again, content) == b"words"
    assert again.token_keys == keys
    assert (await apply(again, lambda tx: insert(tx, a_session("s-2")))).revision == 2


@pytest.mark.rule("S4")
async def test_revisions_are_dense_and_follow_the_commits(store: Store) -> None:
    async def fails(tx: Tx) -> None:
        await insert(tx, a_session("s-0"))
        raise Boom

    async def refuses(tx: Tx) -> None:
        raise Boom

    async def reads(tx: Tx) -> None:
        await tx.head(APP)

    done: list[int] = []

    async def one(number: int) -> None:
        if number % 7 == 3:
            with pytest.raises(Boom):
                await apply(store, fails)
        elif number % 7 == 5:
            with pytest.raises(Boom):
                await apply(store, refuses)
        elif number % 7 == 6:
            assert not (await apply(store, reads)).changed
        else:
            answer = await apply(store, lambda tx: insert(tx, a_session(f"n-{number}")))
            assert answer.changed
            done.append(answer.revision)

    for start in range(0, 140, 35):
        await asyncio.gather(*(one(number) for number in range(start, start + 35)))
    assert sorted(done) == list(range(1, len(done) + 1))
    assert [each.revision for each in await log_of(store)] == sorted(done)
    assert await head(store) == len(done)


@pytest.mark.rule("S4")
async def test_a_unit_with_many_changes_takes_one_revision(store: Store) -> None:
    await create(store, a_session("before"))

    async def unit(tx: Tx) -> None:
        for number in range(5):
            await insert(tx, a_session(f"n-{number}"))

    answer = await apply(store, unit)
    assert (answer.revision, answer.changed) == (2, True)
    log = await log_of(store, after=1)
    assert [(each.revision, each.index) for each in log] == [(2, n) for n in range(5)]
    assert len({each.nonce for each in log}) == 1


@pytest.mark.rule("S4")
async def test_a_unit_that_logs_nothing_is_answered_with_the_head_it_saw(store: Store) -> None:
    async def nothing(tx: Tx) -> str:
        return "done"

    assert await apply(store, nothing) == Applied("done", 0, changed=False, scrubbed=True)
    row = await create(store, a_session())

    async def touches(tx: Tx) -> None:
        await tx.update_session(row, changed(row.session, activity_time=DUE), None)

    answer = await apply(store, touches)
    assert (answer.revision, answer.changed) == (1, False)
    assert (await found(store, "s-1")).session.activity_time == DUE


@pytest.mark.rule("S4")
async def test_a_repeated_outcome_is_answered_with_its_own_revision(store: Store) -> None:
    for number in range(3):
        await create(store, a_session(f"s-{number}"))

    async def repeats(tx: Tx) -> None:
        tx.answer_at(2)

    answer = await apply(store, repeats)
    assert (answer.revision, answer.changed) == (2, False)


@pytest.mark.rule("S4")
async def test_apps_count_their_revisions_apart(store: Store) -> None:
    async def one(app: str, number: int) -> int:
        session = a_session(f"s-{number}", app=app)
        return (await store.apply(app, ACTOR, lambda tx: insert(tx, session))).revision

    apps = ["a", "b", "c"]
    taken = await asyncio.gather(*(one(app, number) for number in range(20) for app in apps))
    for place, app in enumerate(apps):
        assert sorted(taken[place::3]) == list(range(1, 21))
        assert await head(store, app) == 20


@pytest.mark.rule("S5")
async def test_a_unit_that_fails_leaves_its_neighbours_alone(store: Store) -> None:
    async def fails_late(tx: Tx) -> None:
        await insert(tx, a_session("bad"))
        await tx.put_content(b"bad words")
        raise Boom

    async def fails_by_mistake(tx: Tx) -> None:
        row = await insert(tx, a_session("worse"))
        await tx.insert_messages(row, [a_message(1), a_message(1)])

    async def good(number: int) -> int:
        return (await apply(store, lambda tx: insert(tx, a_session(f"good-{number}")))).revision

    answers = await asyncio.gather(
        *(
            apply(store, fails_late)
            if number % 5 == 1
            else apply(store, fails_by_mistake)
            if number % 5 == 3
            else good(number)
            for number in range(50)
        ),
        return_exceptions=True,
    )
    for number, answer in enumerate(answers):
        if number % 5 == 1:
            assert isinstance(answer, Boom)
        elif number % 5 == 3:
            assert isinstance(answer, KeyTaken)
        else:
            assert isinstance(answer, int)
    assert await head(store) == 30
    assert len(await list_ids(store)) == 30


@pytest.mark.rule("S5")
async def test_a_cancelled_caller_leaves_its_neighbours_alone(store: Store) -> None:
    tasks = [asyncio.create_task(create(store, a_session(f"s-{number}"))) for number in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::4]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kept = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(kept) == 30
    for row in kept:
        assert await found(store, row.session.session_id) == row
    log = await log_of(store)
    assert [each.revision for each in log] == list(range(1, len(log) + 1))
    assert (await create(store, a_session("after"))).session.session_id == "after"


@pytest.mark.rule("S5")
async def test_a_unit_may_wait_for_nothing_but_its_transaction(store: Store) -> None:
    async def waits(tx: Tx) -> None:
        await insert(tx, a_session("never"))
        await asyncio.sleep(3600)

    async def good(tx: Tx) -> None:
        await insert(tx, a_session("good"))

    first = asyncio.create_task(apply(store, waits))
    second = asyncio.create_task(apply(store, good))
    done, _ = await asyncio.wait([first], timeout=0.5)
    first.cancel()  # a backend may also let it wait
    await second
    for task in done:
        assert isinstance(task.exception(), RuntimeError)
    assert await list_ids(store) == ["good"]


@pytest.mark.rule("S2")
async def test_jobs_are_carried_out_beside_callers(store: Store) -> None:
    async def one(number: int) -> int:
        priority = Priority.JOB if number % 2 else Priority.CALLER
        session = a_session(f"s-{number}")
        return (await store.apply(APP, ACTOR, lambda tx: insert(tx, session), priority)).revision

    taken = await asyncio.gather(*(one(number) for number in range(60)))
    assert sorted(taken) == list(range(1, 61))


@pytest.mark.rule("S4")
async def test_a_change_carries_its_time_and_actor(store: Store, clock: ManualClock) -> None:
    clock.time += DUE

    async def unit(tx: Tx) -> int:
        await tx.log(Change(cause=ChangeCause.APP_UPDATED))
        return tx.now

    assert (await store.apply(APP, "somebody", unit)).value == clock.time
    (change,) = await log_of(store)
    assert (change.time, change.actor) == (clock.time, "somebody")


@pytest.mark.rule("S3")
async def test_closing_finishes_what_was_accepted(backend: Backend, store: Store) -> None:
    tasks = [asyncio.create_task(create(store, a_session(f"s-{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    rows = await asyncio.gather(*tasks)
    again = await backend.open()
    assert len(await list_ids(again, limit=100)) == len(rows) == 50


@pytest.mark.rule("S1")
async def test_many_sessions_may_be_made_in_one_unit(store: Store) -> None:
    rows = await create_many(store, [a_session(f"s-{number:05}") for number in range(5_000)])
    assert len({row.pk for row in rows}) == 5_000
    assert len(await list_ids(store, limit=10_000)) == 5_000
