"""A full disk refuses writes, serves reads, and heals without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sojourn_server.store.base import StoreFull, Tx
from sojourn_server.store.sqlite import SqliteStore
from tests.store.kit import (
    a_session,
    apply,
    content_of,
    create,
    found,
    head,
    insert,
    list_ids,
    log_of,
    put,
)
from tests.store.sqlite.files import marks_in, secret
from tests.store.sqlite.scripts import mount_small_disk, remount, run_script, unmount


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; skipped where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount_small_disk(folder, "3m"):
        pytest.skip("this user may not mount a file system")
    yield folder
    unmount(folder)


@pytest.fixture
async def store(small_disk: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(small_disk / "sojourn.db")
    await made.open()
    yield made
    await made.close()


async def write(store: SqliteStore, number: int, size: int = 20_000) -> int:
    async def unit(tx: Tx) -> int:
        state = await tx.put_content(b"%06d" % number + b"x" * size)
        await insert(tx, a_session(f"s-{number}", state=state))
        return state

    return (await apply(store, unit)).value


@pytest.mark.rule("S50")
async def test_a_full_disk_refuses_writes_serves_reads_and_heals(
    store: SqliteStore, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 1_000_000)
    written: dict[int, int] = {}
    for number in range(1_000):
        try:
            written[number] = await write(store, number)
        except StoreFull:
            break
    else:
        raise AssertionError("the disk never fills")
    assert len(written) > 3
    for _ in range(3):
        answers = await asyncio.gather(
            *(write(store, 2_000 + n) for n in range(5)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreFull) for answer in answers), answers
        await store.check_readable()
        assert len(await list_ids(store, limit=1_000)) == len(written)
        assert await head(store) == len(written)
        for number, state in written.items():
            assert (await content_of(store, state)).startswith(b"%06d" % number)
    # A beat of one row may still fit where the last attempt made room in the WAL.
    await asyncio.gather(store.check_writable(), return_exceptions=True)
    ballast.unlink()
    await store.check_writable()
    state = await write(store, 5_000)
    assert (await content_of(store, state)).startswith(b"005000")
    assert [c.revision for c in await log_of(store)] == list(range(1, len(written) + 2))
    await store.close()
    again = SqliteStore(store.path)
    await again.open()
    assert await head(again) == len(written) + 1
    await found(again, "s-5000")
    await again.close()


@pytest.mark.rule("S31", "S50")
async def test_content_can_be_erased_after_the_disk_was_full(
    store: SqliteStore, small_disk: Path
) -> None:
    ids: list[int] = []

    async def fill() -> None:
        for number in range(1_000):
            data = secret(number, 50_000)
            ids.append(await put(store, data))

    with pytest.raises(StoreFull):
        await fill()
    assert ids
    erased = scrubbed = False
    for attempt in range(60):
        await asyncio.sleep(0.1)
        if attempt == 1:
            # Nothing is erased, or not scrubbed, while there is no room to empty the WAL.
            remount(small_disk, "size=6m")
        try:
            if not erased:
                scrubbed = (await apply(store, lambda tx: tx.erase_content(ids[0]))).scrubbed
                erased = True
            if scrubbed or await store.purge(10):
                break
        except StoreFull:
            continue
    else:
        raise AssertionError("the disk never heals")
    assert 0 not in marks_in(small_disk)
    assert set(marks_in(small_disk)) >= set(range(1, len(ids)))


@pytest.mark.rule("S50")
async def test_a_database_at_its_greatest_size_refuses_writes_and_heals(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sojourn.db")
    await store.open()
    try:
        await create(store, a_session("first"))
        connection = store._writer._connection
        assert connection is not None
        pages = await connection.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await connection.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        answers = await asyncio.gather(
            *(write(store, number) for number in range(4)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreFull) for answer in answers)
        assert await list_ids(store) == ["first"]
        await connection.run(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
        await write(store, 7)
        assert await list_ids(store) == ["first", "s-7"]
        assert await head(store) == 2
    finally:
        await store.close()


FAILS_TO_WRITE = """
import asyncio, os, resource, sys
from sojourn_server.store.base import StoreDown
from sojourn_server.store.sqlite import SqliteStore
from tests.store.kit import a_session, create, head, list_ids

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await create(store, a_session("first"))
    size = os.path.getsize(sys.argv[1] + "-wal")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
    down = 0
    for number in range(5):
        try:
            await create(store, a_session(f"lost-{number}"))
        except StoreDown as error:
            assert "IOERR" in str(error), error
            down += 1
        assert (await list_ids(store))[0] == "first"
    assert down, "no write failed"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await create(store, a_session("second"))
    ids = await list_ids(store)
    assert ids[0] == "first" and ids[-1] == "second", ids
    assert await head(store) == len(ids)
    await store.close()
    again = SqliteStore(sys.argv[1])
    await again.open()
    assert await list_ids(again) == ids
    await again.close()

asyncio.run(main())
"""


@pytest.mark.rule("S52")
async def test_a_disk_that_fails_is_down_and_heals(tmp_path: Path) -> None:
    done = run_script(FAILS_TO_WRITE, tmp_path / "sojourn.db")
    assert done.returncode == 0, done.stderr
