"""A server that is killed while it writes: what it answered is there, nothing else is torn."""

from __future__ import annotations

from operator import methodcaller
from pathlib import Path

import pytest

from sojourn_server.store.sqlite import SqliteStore
from tests.store.kit import (
    APP,
    a_request,
    a_session,
    content_of,
    create,
    head,
    log_of,
    messages_of,
    record_of,
)
from tests.store.sqlite.scripts import start_script

WRITES = """
import asyncio, sys
from sojourn_server.store.sqlite import SqliteStore
from tests.store.kit import APP, a_request, a_session, apply, insert, put_message

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()

    async def client(name):
        for number in range(1_000_000):
            session_id = f"{sys.argv[2]}-{name}-{number}"

            async def unit(tx):
                state = await tx.put_content(b"state of " + session_id.encode())
                row = await insert(tx, a_session(session_id, state=state))
                await put_message(tx, row, 1, b"message of " + session_id.encode())
                await tx.put_request(a_request(session_id, session_pk=row.pk))

            answer = await apply(store, unit)
            print(answer.revision, session_id, flush=True)

    await asyncio.gather(*(client(name) for name in range(8)))

asyncio.run(main())
"""


@pytest.mark.rule("S1", "S3", "S40")
async def test_a_killed_server_keeps_what_it_answered(tmp_path: Path) -> None:
    path = tmp_path / "sojourn.db"
    answered: dict[int, str] = {}
    for life in range(4):
        server = start_script(WRITES, path, str(life))
        assert server.stdout is not None
        for _ in range(150 + 40 * life):
            revision, session_id = server.stdout.readline().split()
            answered[int(revision)] = session_id
        server.kill()
        for line in server.stdout.read().splitlines():
            if len(words := line.split()) == 2:
                answered[int(words[0])] = words[1]
        server.stdout.close()
        server.wait()
    store = SqliteStore(path)
    await store.open()
    try:
        log = await log_of(store)
        assert [change.revision for change in log] == list(range(1, await head(store) + 1))
        logged = {change.revision: change for change in log}
        for answer, session_id in answered.items():
            after = logged[answer].after
            assert after is not None
            assert after.session_id == session_id
        for change in log:
            session = change.after
            assert session is not None
            name = session.session_id.encode()
            row = await store.read(methodcaller("session_by_uid", APP, session.uid))
            assert row is not None
            assert row.session == session
            assert await content_of(store, session.state) == b"state of " + name
            messages = await messages_of(store, row)
            assert [await content_of(store, each.body) for each in messages] == [
                b"message of " + name
            ]
            key = a_request(session.session_id).key
            record = await record_of(store, key)
            assert record is not None
            assert record.revision == change.revision
        row = await create(store, a_session("after"))
        assert row.create_order == len(log) + 1
    finally:
        await store.close()
