"""Erased content is in no file: found out by searching the raw bytes."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from operator import methodcaller
from pathlib import Path

import pytest

from sojourn_server.store.base import Candidates, MessageRange, ReadTx, SessionRow, Tx
from sojourn_server.store.sqlite import SqliteStore, writer
from sojourn_server.store.sqlite.committer import Committer
from sojourn_server.store.sqlite.writer import _HINDERED
from tests.store.kit import (
    APP,
    Boom,
    a_request,
    a_session,
    apply,
    changed,
    content_of,
    create,
    finish_purges,
    found,
    insert,
    messages_of,
    put_message,
    replace,
)
from tests.store.sqlite.files import marks_in, secret
from tests.store.sqlite.scripts import run_script

SESSIONS = 40


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sojourn.db")
    await made.open()
    yield made
    await made.close()


class Writer:
    """Fills a store with interleaved sessions of secrets, and erases some of them."""

    def __init__(self, store: SqliteStore, seed: int) -> None:
        self.store = store
        self.dice = random.Random(seed)
        self.last = 0
        self.secrets: dict[str, list[int]] = {}
        """The numbers of the secrets of each session."""

    def new_secret(self, owner: str) -> bytes:
        self.last += 1
        self.secrets.setdefault(owner, []).append(self.last)
        length = int(100 * 2 ** self.dice.uniform(0, 11))  # 100 B to 200 KiB
        return secret(self.last, length)

    async def fill(self, rounds: int = 5) -> None:
        for number in range(SESSIONS):
            await create(self.store, a_session(f"s-{number}"))
        for _ in range(rounds):
            names = [f"s-{number}" for number in range(SESSIONS)]
            self.dice.shuffle(names)
            await asyncio.gather(*(self.write(name) for name in names))

    async def write(self, name: str) -> None:
        message, state, popped = (self.new_secret(name) for _ in range(3))

        async def unit(tx: Tx) -> None:
            row = await tx.session_by_key(APP, "ann", name)
            assert row is not None
            last = row.session.last_sequence + 1
            await put_message(tx, row, last, message)
            new = await tx.replace_content(row.session.state, state)
            held = await tx.put_content(popped)
            await tx.put_request(a_request(f"{name}-{last}", session_pk=row.pk, held=(held,)))
            await tx.update_session(row, changed(row.session, last_sequence=last, state=new), None)

        await apply(self.store, unit)

    async def erase(self, name: str, limit: int = 1_000) -> bool:
        """Erase a session as Delete does; whether the answer says that it is scrubbed."""

        async def unit(tx: Tx) -> None:
            row = await tx.session_by_key(APP, "ann", name)
            assert row is not None
            await tx.purge_messages(row, 1, row.session.last_sequence, limit)
            await tx.erase_content(row.session.state)
            await tx.erase_held(row)
            await tx.delete_session(row)

        return (await apply(self.store, unit)).scrubbed

    def numbers(self, names: list[str]) -> set[int]:
        return {number for name in names for number in self.secrets[name]}

    def live(self, names: list[str], rounds: int) -> set[int]:
        """What a session must still hold: all messages and popped bodies, the last state."""
        kept = set()
        for name in names:
            for step in range(rounds):
                message, state, popped = self.secrets[name][3 * step : 3 * step + 3]
                kept |= {message, popped} | ({state} if step == rounds - 1 else set())
        return kept


@pytest.mark.rule("S31")
@pytest.mark.parametrize("seed", [1, 2])
async def test_erased_secrets_are_in_no_file_and_kept_ones_are(
    store: SqliteStore, tmp_path: Path, seed: int
) -> None:
    writer = Writer(store, seed)
    await writer.fill()
    names = sorted(writer.secrets)
    assert set(marks_in(tmp_path)) >= writer.live(names, 5), "the search finds what is there"
    erased = writer.dice.sample(names, SESSIONS // 2)
    kept = [name for name in names if name not in erased]
    for name in erased[:5]:
        assert await writer.erase(name)
        assert not writer.numbers([name]) & set(marks_in(tmp_path))
    assert all(await asyncio.gather(*(writer.erase(name) for name in erased[5:])))
    assert set(marks_in(tmp_path)) == writer.live(kept, 5)
    # Rows that are free again hold new secrets; these can be erased as well.
    for name in erased:
        await create(store, a_session(name))
        await writer.write(name)
        assert await writer.erase(name)
    assert set(marks_in(tmp_path)) == writer.live(kept, 5)


@pytest.mark.rule("S31")
async def test_nothing_is_left_while_readers_are_busy(store: SqliteStore, tmp_path: Path) -> None:
    writer = Writer(store, 3)
    await writer.fill(rounds=3)
    names = sorted(writer.secrets)
    stop = False

    async def reading() -> None:
        async def look(tx: ReadTx) -> None:
            for row in await tx.candidates(Candidates(app=APP)):
                messages = await tx.messages(row, MessageRange())
                await tx.contents([each.body for each in messages])

        while not stop:
            await asyncio.gather(*(store.read(look) for _ in range(4)))

    readers = [asyncio.create_task(reading()) for _ in range(3)]
    for name in names[::2]:
        await writer.erase(name)
    await finish_purges(store)
    assert set(marks_in(tmp_path)) == writer.live(names[1::2], 3)
    stop = True
    await asyncio.gather(*readers)


@pytest.mark.rule("S31")
async def test_what_is_left_over_is_gone_when_the_purge_says_so(
    store: SqliteStore, tmp_path: Path
) -> None:
    writer = Writer(store, 4)
    await writer.fill()
    names = sorted(writer.secrets)
    for name in names[::2]:
        assert not await writer.erase(name, limit=2)
    assert writer.numbers(names[::2]) & set(marks_in(tmp_path))
    await finish_purges(store)
    assert set(marks_in(tmp_path)) == writer.live(names[1::2], 5)


@pytest.mark.rule("S31")
async def test_a_purge_of_large_messages_pauses_before_its_limit(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn_server.store.sqlite.write_tx._ERASED_AT_ONCE", 1_000)
    row = await create(store, a_session())
    for number in range(1, 10):
        await apply(store, partial(put_message, row=row, sequence=number, body=secret(number, 500)))
    answer = await apply(store, lambda tx: tx.purge_messages(row, 1, 9, 100))
    assert (answer.value, answer.scrubbed) == (False, False)
    assert set(marks_in(tmp_path)) > set(range(4, 10))
    steps = 0
    while not await store.purge(100):
        steps += 1
    assert steps >= 2
    assert marks_in(tmp_path) == {}
    assert await messages_of(store, row) == []


@pytest.mark.rule("S31")
async def test_an_answer_is_not_called_scrubbed_while_a_reader_holds_the_old_state(
    store: SqliteStore, tmp_path: Path
) -> None:
    content_id = (await apply(store, lambda tx: tx.put_content(secret(1, 5_000)))).value
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM content").fetchone()
    try:
        answer = await apply(store, lambda tx: tx.erase_content(content_id))
        assert not answer.scrubbed
        assert not await store.purge(10)
        assert 1 in marks_in(tmp_path), "this test would prove nothing"
    finally:
        reader.execute("COMMIT")
        reader.close()
    await asyncio.sleep(_HINDERED)
    await finish_purges(store)
    assert marks_in(tmp_path) == {}
    assert await content_of(store, content_id) == b""


async def test_a_reader_that_stays_does_not_hold_up_the_writers_again_and_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_HINDERED", 3_600.0)
    tries: list[bool] = []
    checkpoint = Committer.checkpoint

    def count(committer: Committer, connection: sqlite3.Connection, *, truncate: bool) -> bool:
        tries.append(truncate)
        return checkpoint(committer, connection, truncate=truncate)

    monkeypatch.setattr(Committer, "checkpoint", count)
    content_ids = [
        (await apply(store, lambda tx: tx.put_content(secret(1, 5_000)))).value for _ in range(3)
    ]
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM content").fetchone()
    assert not (await apply(store, lambda tx: tx.erase_content(content_ids[0]))).scrubbed
    assert tries
    tries.clear()
    for _ in range(20):  # the purge job; no write waits for it
        assert not await store.purge(10)
    assert not tries
    assert not (await apply(store, lambda tx: tx.erase_content(content_ids[1]))).scrubbed
    assert tries == [True]  # an answer that must say whether it is scrubbed tries once
    reader.execute("COMMIT")
    reader.close()
    assert (await apply(store, lambda tx: tx.erase_content(content_ids[2]))).scrubbed
    assert await store.purge(10)


@pytest.mark.rule("S31")
async def test_replaced_content_goes_with_the_next_scrub(
    store: SqliteStore, tmp_path: Path
) -> None:
    """An erasure that has nothing of its own to erase waits for what was replaced before."""
    content_id = 0
    for number, length in enumerate([300, 310, 70_000, 200, 0]):
        data = secret(number, length)
        answer = await replace(store, content_id, data)
        content_id = answer.value
    assert marks_in(tmp_path)
    row = await create(store, a_session())
    assert (await apply(store, lambda tx: tx.purge_messages(row, 1, 10, 10))).scrubbed
    assert marks_in(tmp_path) == {}


@pytest.mark.rule("S31")
async def test_content_replaced_in_its_own_row_goes_with_the_next_scrub(
    store: SqliteStore, tmp_path: Path
) -> None:
    content_id = (await replace(store, 0, secret(1, 300))).value
    assert (await replace(store, content_id, secret(2, 310))).value == content_id
    assert set(marks_in(tmp_path)) == {1, 2}
    assert await store.purge(10)
    assert set(marks_in(tmp_path)) == {2}


@pytest.mark.rule("S31")
async def test_a_neighbour_that_fails_does_not_bring_erased_text_back(
    store: SqliteStore, tmp_path: Path
) -> None:
    writer = Writer(store, 5)
    await writer.fill(rounds=2)
    names = sorted(writer.secrets)

    async def fails(tx: Tx) -> None:
        await tx.put_content(b"x" * 3_000)
        raise Boom

    answers = await asyncio.gather(
        *(call for name in names for call in (writer.erase(name), apply(store, fails))),
        return_exceptions=True,
    )
    assert all(answer is True for answer in answers[::2])
    assert all(isinstance(answer, Boom) for answer in answers[1::2])
    assert marks_in(tmp_path) == {}


@pytest.mark.rule("S31")
async def test_forgotten_requests_take_what_they_hold_with_them(
    store: SqliteStore, tmp_path: Path
) -> None:
    async def unit(tx: Tx) -> SessionRow:
        row = await insert(tx, a_session())
        for number in range(20):
            held = await tx.put_content(secret(number, 300))
            record = a_request(f"r-{number}", session_pk=row.pk, held=(held,), create_time=number)
            await tx.put_request(record)
        return row

    await apply(store, unit)
    assert set(marks_in(tmp_path)) == set(range(20))
    assert await store.forget_requests(10, 100) == 10
    await finish_purges(store)
    assert set(marks_in(tmp_path)) == set(range(10, 20))


DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from sojourn_server.store.sqlite import SqliteStore
from sojourn_server.store.sqlite.committer import Committer
from tests.store.sqlite.test_erasure import Writer

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    writer = Writer(store, 6)
    await writer.fill(rounds=3)
    if sys.argv[2] == "before":
        Committer.checkpoint = die
    for name in sorted(writer.secrets)[::2]:
        assert await writer.erase(name)
    die()

asyncio.run(main())
"""


@pytest.mark.rule("S31", "S3")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_killed_around_the_scrub_leaves_nothing(tmp_path: Path, when: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "sojourn.db"
    died = run_script(DIES, path, when)
    assert died.returncode == -signal.SIGKILL
    store = SqliteStore(path)
    await store.open()
    try:
        writer = Writer(store, 6)
        erased = [f"s-{number}" for number in range(SESSIONS)]
        erased = sorted(erased)[::2] if when == "after" else sorted(erased)[:1]
        marks = marks_in(folder)
        gone = [
            name
            for name in erased
            if await store.read(methodcaller("session_by_key", APP, "ann", name)) is None
        ]
        assert gone == erased
        # The same dice as in the process that died: its secrets have the same numbers.
        for _ in range(3):
            names = [f"s-{number}" for number in range(SESSIONS)]
            writer.dice.shuffle(names)
            for name in names:
                for _ in range(3):
                    writer.new_secret(name)
        assert not writer.numbers(erased) & set(marks)
        kept = [name for name in writer.secrets if name not in erased]
        assert set(marks) == writer.live(kept, 3)
        for name in kept:
            await found(store, name)
    finally:
        await store.close()
