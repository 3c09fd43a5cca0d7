"""Content: kept exactly, erased for good, in one place only."""

from __future__ import annotations

import asyncio
import random
from operator import methodcaller

import pytest

from sojourn_server.domain.model import NO_CONTENT, ChangeCause, ScopeState
from sojourn_server.store.base import Store, Tx
from tests.store.kit import (
    APP,
    Boom,
    a_request,
    a_session,
    apply,
    changed,
    content_of,
    contents_of,
    create,
    finish_purges,
    log_of,
    put,
    put_message,
    record_of,
    replace,
    update,
)

LENGTHS = [1, 59, 60, 61, 92, 93, 124, 125, 188, 4_000, 4_096, 4_097, 65_536, 1_048_576, 4_194_304]


@pytest.mark.rule("S30")
async def test_content_of_every_length_comes_back_exactly(store: Store) -> None:
    dice = random.Random(3)
    pieces = [dice.randbytes(length) for length in LENGTHS] + [b"\0", b"\0" * 500]
    ids = [await put(store, piece) for piece in pieces]
    assert len(set(ids)) == len(ids)
    for content_id, piece in zip(ids, pieces, strict=True):
        assert await content_of(store, content_id) == piece


@pytest.mark.rule("S30")
async def test_no_bytes_are_no_content(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        assert await tx.put_content(b"") == NO_CONTENT
        assert await tx.content(NO_CONTENT) == b""
        assert await tx.replace_content(NO_CONTENT, b"") == NO_CONTENT
        await tx.erase_content(NO_CONTENT)
        assert await tx.content(NO_CONTENT) == b""

    assert (await apply(store, unit)).scrubbed


@pytest.mark.rule("S30")
async def test_several_pieces_come_in_the_order_asked(store: Store) -> None:
    async def puts(tx: Tx) -> list[int]:
        return [await tx.put_content(b"%d" % number) for number in range(50)]

    ids = (await apply(store, puts)).value
    for count in (0, 1, 5, 50):
        asked = [*ids[:count], NO_CONTENT, *reversed(ids[:count])]
        wanted = [b"%d" % n for n in range(count)]
        got = await contents_of(store, asked)
        assert got == [*wanted, b"", *reversed(wanted)]


@pytest.mark.rule("S30")
async def test_replaced_content_is_the_new_one_whatever_its_length(store: Store) -> None:
    content_id = NO_CONTENT
    for length in [10, 20, 10, 5_000, 4_900, 0, 3, 100_000, 1]:
        data = random.Random(length).randbytes(length)
        answer = await replace(store, content_id, data)
        content_id = answer.value
        assert answer.scrubbed
        assert (content_id == NO_CONTENT) == (length == 0)
        assert await content_of(store, content_id) == data


@pytest.mark.rule("S30")
async def test_erasing_and_replacing_leave_other_content_alone(store: Store) -> None:
    dice = random.Random(5)
    kept: dict[int, bytes] = {}

    async def step(tx: Tx) -> dict[int, bytes]:
        after = dict(kept)
        for _ in range(12):
            data = dice.randbytes(dice.choice([10, 61, 300, 5_000, 40_000]))
            choice = dice.random()
            if after and choice < 0.3:
                content_id = dice.choice(list(after))
                del after[content_id]
                await tx.erase_content(content_id)
            elif after and choice < 0.6:
                content_id = dice.choice(list(after))
                del after[content_id]
                after[await tx.replace_content(content_id, data)] = data
            else:
                content_id = await tx.put_content(data)
                assert content_id not in after, "an id that is in use was given again"
                after[content_id] = data
        return after

    for _ in range(40):
        kept = (await apply(store, step)).value
    got = await store.read(lambda tx: tx.contents(list(kept)))
    assert list(got) == list(kept.values())


@pytest.mark.rule("S31")
async def test_erased_content_is_empty_and_the_answer_says_that_it_is_scrubbed(
    store: Store,
) -> None:
    content_id = (await apply(store, lambda tx: tx.put_content(b"secret words"))).value
    answer = await apply(store, lambda tx: tx.erase_content(content_id))
    assert answer.scrubbed == store.scrubs
    assert await content_of(store, content_id) == b""


@pytest.mark.rule("S31")
async def test_erasing_beside_readers_and_writers_is_scrubbed_in_the_end(store: Store) -> None:
    async def put_and_erase(number: int) -> None:
        content_id = (await apply(store, lambda tx: tx.put_content(b"words %d" % number))).value
        assert await content_of(store, content_id) == b"words %d" % number
        answer = await apply(store, lambda tx: tx.erase_content(content_id))
        if not answer.scrubbed:
            await finish_purges(store)

    async def other(number: int) -> None:
        await create(store, a_session(f"s-{number}"))

    await asyncio.gather(*(f(n) for n in range(30) for f in (put_and_erase, other)))
    assert await store.purge(10)


@pytest.mark.rule("S32")
async def test_erased_content_is_in_no_log_and_no_request_record(store: Store) -> None:
    row = await create(store, a_session())

    async def unit(tx: Tx) -> int:
        state = await tx.put_content(b"secret state")
        message = await put_message(tx, row, 1, b"secret message")
        await update(tx, row, state=state, last_sequence=1)
        await tx.put_request(
            a_request(session_pk=row.pk, held=(message.body,), outcome=b"sequence 1")
        )
        return state

    state = (await apply(store, unit)).value
    record = await store.read(lambda tx: tx.request(a_request().key))
    assert b"secret" not in repr(await log_of(store)).encode()
    assert b"secret" not in repr(record).encode()
    change = (await log_of(store))[-1]
    assert change.after is not None
    assert change.after.state == state
    await apply(store, lambda tx: tx.erase_content(state))
    assert await content_of(store, change.after.state) == b""
    assert (await log_of(store))[-1] == change


@pytest.mark.rule("S31", "S42")
async def test_what_records_hold_of_a_session_is_erased_and_the_records_stay(
    store: Store,
) -> None:
    row = await create(store, a_session())
    other = await create(store, a_session("other"))

    async def unit(tx: Tx) -> list[int]:
        ids = [await tx.put_content(b"popped %d" % number) for number in range(4)]
        await tx.put_request(a_request("r-1", session_pk=row.pk, held=(ids[0], ids[1])))
        await tx.put_request(a_request("r-2", session_pk=row.pk, held=(ids[2],)))
        await tx.put_request(a_request("r-3", session_pk=other.pk, held=(ids[3],)))
        return ids

    ids = (await apply(store, unit)).value

    async def erase(tx: Tx) -> int:
        held = await tx.put_content(b"popped last")
        await tx.put_request(a_request("r-4", session_pk=row.pk, held=(held,)))
        await tx.erase_held(row)
        return held

    answer = await apply(store, erase)
    assert answer.scrubbed == store.scrubs
    contents = list(await store.read(lambda tx: tx.contents([*ids, answer.value])))
    assert contents == [b"", b"", b"", b"popped 3", b""]
    for name, held in {"r-1": (), "r-2": (), "r-3": (ids[3],), "r-4": ()}.items():
        record = await record_of(store, a_request(name).key)
        assert record is not None
        assert record.held == held
        assert record.outcome == b"outcome"


@pytest.mark.rule("S30")
async def test_scope_states_of_the_app_of_users_and_of_nobody_are_apart(store: Store) -> None:
    scopes: dict[str | None, ScopeState] = {
        None: ScopeState(version=1, values=11),
        "": ScopeState(version=2, values=22),
        "ann": ScopeState(version=3, values=33),
    }

    async def unit(tx: Tx) -> None:
        for user, state in scopes.items():
            await tx.put_scope_state(APP, user, state)

    await apply(store, unit)
    await store.apply("other", "me", lambda tx: tx.put_scope_state("other", "ann", ScopeState()))
    for user, state in scopes.items():
        assert await store.read(methodcaller("scope_state", APP, user)) == state
    asked = ["bob", None, "nobody", *scopes, "bob", "a\0b"]
    found = await store.read(lambda tx: tx.scope_states(APP, asked))
    assert list(found) == [scopes.get(user, ScopeState()) for user in asked]
    assert list(await store.read(lambda tx: tx.scope_states("nothing", asked))) == [
        ScopeState()
    ] * len(asked)
    assert list(await store.read(lambda tx: tx.scope_states(APP, []))) == []
    newer = ScopeState(version=4)
    await apply(store, lambda tx: tx.put_scope_state(APP, "ann", newer))
    assert await store.read(lambda tx: tx.scope_state(APP, "ann")) == newer
    assert await store.read(lambda tx: tx.scope_state(APP, "bob")) == ScopeState()


@pytest.mark.rule("S1", "S31")
async def test_an_erasure_whose_unit_fails_can_be_done_again(store: Store) -> None:
    row = await create(store, a_session(labels={"a": "b"}))

    async def puts(tx: Tx) -> int:
        message = await put_message(tx, row, 1, b"words")
        return message.body

    body = (await apply(store, puts)).value

    async def fails(tx: Tx) -> None:
        assert await tx.purge_messages(row, 1, 1, 10)
        await tx.delete_session(row)
        raise Boom

    with pytest.raises(Boom):
        await apply(store, fails)
    assert await content_of(store, body) == b"words"

    async def erases(tx: Tx) -> None:
        assert await tx.purge_messages(row, 1, 1, 10)
        await update(tx, row, message_count=0)

    assert (await apply(store, erases)).scrubbed == store.scrubs
    assert await content_of(store, body) == b""
    assert [each.cause for each in await log_of(store)][-1] is ChangeCause.UPDATED
    assert changed(row.session).labels == {"a": "b"}
