"""Sessions: unique keys, creation order, and what an update moves."""

from __future__ import annotations

import asyncio
from operator import methodcaller

import pytest

from sojourn_server.domain.model import Lineage, Metrics, Owner, Session, Status, Turn
from sojourn_server.store.base import KeyTaken, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    ACTOR,
    APP,
    Boom,
    a_session,
    an_app,
    apply,
    changed,
    create,
    delete,
    found,
    head,
    insert,
    list_ids,
    update,
)


def a_full_session() -> Session:
    """A session with a value in every field."""
    return a_session(
        "full",
        status=Status.FAILED,
        labels={"tier": "gold", "größe": "🐘"},
        end_time=9,
        idle_timeout=8,
        max_lifetime=7,
        generation=6,
        version=5,
        parent_uid=a_session().uid,
        owner=Owner(turn_number=4),
        metrics=Metrics(requests=3, errors=2, processing_time=1, counters={"tokens": -5}),
        message_count=1,
        message_bytes=2,
        last_sequence=3,
        last_event_time=-4,
        turn=Turn(number=1, holder="pod", begin_time=2, lease_time=3, lease=4),
        turns_begun=5,
        state_version=6,
        metadata=7,
        state=8,
        end_note=9,
        turn_error=10,
        forked_from=Lineage(uid=a_session().uid, through_sequence=2),
        removed_ranges=((1, 2), (5, 9)),
    )


@pytest.mark.rule("S10")
async def test_a_session_comes_back_as_it_was(store: Store) -> None:
    session = a_full_session()
    row = await create(store, session)
    assert row.session == session
    assert await found(store, "full") == row
    assert await store.read(lambda tx: tx.session_by_uid(APP, session.uid)) == row


@pytest.mark.rule("S10")
async def test_a_taken_key_is_refused_and_the_unit_may_go_on(store: Store) -> None:
    first = await create(store, a_session("s-1", labels={"tier": "gold"}))

    async def unit(tx: Tx) -> None:
        with pytest.raises(KeyTaken):
            await tx.insert_session(a_session("s-1", labels={"tier": "lead"}), 5)
        await insert(tx, a_session("s-2"))

    assert (await apply(store, unit)).revision == 2
    assert await found(store, "s-1") == first
    assert await list_ids(store) == ["s-1", "s-2"]
    assert await list_ids(store, label=("tier", "lead")) == []
    assert await store.read(lambda tx: tx.next_due()) is None


@pytest.mark.rule("S10")
async def test_a_taken_uid_is_refused(store: Store) -> None:
    first = await create(store, a_session("s-1"))
    with pytest.raises(KeyTaken):
        await create(store, a_session("s-2", uid=first.session.uid))
    assert await list_ids(store) == ["s-1"]


@pytest.mark.rule("S10")
async def test_the_same_id_may_be_used_by_another_user_or_app(store: Store) -> None:
    await create(store, a_session("s-1", user="ann"))
    await create(store, a_session("s-1", user="bob"))
    await create(store, a_session("s-1", user=""))
    await create(store, a_session("s-1", app="other"))
    assert await list_ids(store) == ["s-1"] * 3
    assert await list_ids(store, user="") == ["s-1"]


@pytest.mark.rule("S10")
async def test_of_many_creations_of_one_key_one_succeeds(store: Store) -> None:
    answers = await asyncio.gather(
        *(create(store, a_session("same")) for _ in range(30)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, KeyTaken)]
    assert len(refused) == 29
    assert await head(store) == 1


@pytest.mark.rule("S10")
async def test_keys_are_compared_by_every_character(store: Store) -> None:
    ids = ["a", "A", "a ", "ä", "a\u0308", "\U0001f418", "a|b", "%", "_", "'"]
    for each in ids:
        await create(store, a_session(each))
    for each in ids:
        assert (await found(store, each)).session.session_id == each


@pytest.mark.rule("S10")
async def test_a_uid_of_another_app_or_none_at_all_is_not_found(store: Store) -> None:
    row = await create(store, a_session())
    uid = row.session.uid
    for app, asked in [
        ("other", uid),
        (APP, a_session().uid),
        (APP, ""),
        (APP, "no uid"),
        (APP, uid.upper().replace("-", "") if uid.upper() == uid else uid.upper()),
        (APP, uid.replace("-", "")),
    ]:
        assert await store.read(methodcaller("session_by_uid", app, asked)) is None


@pytest.mark.rule("S10")
async def test_a_removed_key_is_free_again_and_its_number_is_not(store: Store) -> None:
    seen = set()
    for _ in range(5):
        row = await create(store, a_session("s-1", labels={"tier": "gold"}))
        seen.add(row.pk)
        await delete(store, row)
        assert await list_ids(store, label=("tier", "gold")) == []
    assert len(seen) == 5


@pytest.mark.rule("S10")
async def test_numbers_are_not_given_again_after_a_restart(backend: Backend, store: Store) -> None:
    row = await create(store, a_session("s-1"))
    await apply(store, lambda tx: tx.delete_session(row))
    await store.close()
    again = await backend.open()
    new = await create(again, a_session("s-1"))
    assert new.pk != row.pk
    assert new.create_order > row.create_order


@pytest.mark.rule("S11")
async def test_create_order_follows_the_commits(store: Store) -> None:
    async def pair(number: int) -> tuple[int, list[int]]:
        async def unit(tx: Tx) -> list[int]:
            return [
                (await insert(tx, a_session(f"s-{number}-{each}"))).create_order
                for each in range(3)
            ]

        answer = await apply(store, unit)
        return answer.revision, answer.value

    made = sorted(await asyncio.gather(*(pair(number) for number in range(40))))
    orders = [order for _, several in made for order in several]
    assert orders == sorted(set(orders))


@pytest.mark.rule("S11")
async def test_create_order_ascends_even_when_nothing_is_logged(store: Store) -> None:
    orders = []
    for number in range(3):
        answer = await apply(store, methodcaller("insert_session", a_session(f"{number}"), None))
        assert not answer.changed
        orders.append(answer.value.create_order)
        orders.append((await create(store, a_session(f"logged-{number}"))).create_order)
    assert orders == sorted(set(orders))


@pytest.mark.rule("S10")
async def test_an_update_moves_what_has_changed(store: Store) -> None:
    row = await create(store, a_session(labels={"tier": "gold", "team": "red"}), due=5)

    async def unit(tx: Tx) -> None:
        await update(
            tx,
            row,
            due=9,
            status=Status.ACTIVE,
            labels={"tier": "lead", "area": "eu"},
            update_time=7,
            activity_time=8,
            session_id="renamed",
            user="bob",
        )

    await apply(store, unit)
    new = await found(store, "renamed", "bob")
    assert (new.pk, new.create_order) == (row.pk, row.create_order)
    assert await store.read(lambda tx: tx.session_by_key(APP, "ann", "s-1")) is None
    for label, expected in {
        ("tier", "gold"): [],
        ("team", "red"): [],
        ("tier", "lead"): ["renamed"],
        ("area", "eu"): ["renamed"],
    }.items():
        assert await list_ids(store, label=label) == expected
    assert await store.read(lambda tx: tx.next_due()) == 9


@pytest.mark.rule("S10")
@pytest.mark.parametrize(
    "fields",
    [
        {"activity_time": 77},
        {"activity_time": 77, "update_time": 78},
        {"status": Status.COMPLETED, "end_time": 5},
        {"message_count": 3},
        {"labels": {"only": "label"}},
        {"parent_uid": "0190c1a0-0000-7000-8000-000000000001"},
    ],
    ids="+".join,
)
async def test_each_kind_of_update_is_kept(store: Store, fields: dict[str, object]) -> None:
    row = await create(store, a_session())
    after = changed(row.session, **fields)
    new = (await apply(store, lambda tx: tx.update_session(row, after, None))).value
    assert new.session == after
    assert await found(store, "s-1") == new
    assert await list_ids(store, status=after.status) == ["s-1"]
    assert await list_ids(store, parent_uid=after.parent_uid or a_session().uid) == (
        ["s-1"] if after.parent_uid else []
    )


@pytest.mark.rule("S1")
async def test_a_session_that_is_gone_cannot_be_updated(store: Store) -> None:
    row = await create(store, a_session())
    await apply(store, lambda tx: tx.delete_session(row))
    with pytest.raises(LookupError):
        await apply(store, lambda tx: tx.update_session(row, row.session, None))


@pytest.mark.rule("S1")
async def test_an_app_is_created_and_replaced(store: Store) -> None:
    await apply(store, lambda tx: tx.put_app(an_app()))
    assert await store.read(lambda tx: tx.app(APP)) == an_app()
    await create(store, a_session())
    other = an_app(labels={"team": "red"}, feed_id="feed-2")
    await apply(store, lambda tx: tx.put_app(other))
    assert await store.read(lambda tx: tx.app(APP)) == other
    assert await head(store) == 1

    async def fails(tx: Tx) -> None:
        await tx.put_app(an_app(feed_id="feed-3"))
        raise Boom

    with pytest.raises(Boom):
        await apply(store, fails)
    assert await store.read(lambda tx: tx.app(APP)) == other
    assert (await apply(store, lambda tx: tx.app(APP))).value == other


@pytest.mark.rule("S1")
async def test_a_unit_writes_no_other_app(store: Store) -> None:
    with pytest.raises(ValueError, match="own app"):
        await store.apply("a", ACTOR, lambda tx: tx.put_app(an_app("b")))
    with pytest.raises(ValueError, match="own app"):
        await store.apply("a", ACTOR, lambda tx: tx.insert_session(a_session(app="b"), None))
