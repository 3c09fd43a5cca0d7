"""A database that cannot be opened: each reason has a sentence of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn_server.store.base import StoreUnusable
from sojourn_server.store.sqlite import SqliteStore
from sojourn_server.store.sqlite.schema import APPLICATION_ID, migrations
from tests.store.kit import a_session, create, found
from tests.store.sqlite.scripts import (
    mount_small_disk,
    remount,
    run_script,
    start_script,
    unmount,
)

pytestmark = pytest.mark.rule("S51")


async def refusal(path: Path) -> str:
    """Why a store cannot be opened. Trying leaves nothing open and nothing changed."""
    store = SqliteStore(path)
    with pytest.raises(StoreUnusable) as caught:
        await store.open()
    await store.close()
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert any(place in text for place in places(path))
    return text


def places(path: Path) -> list[str]:
    """What a sentence about this path may name."""
    real = os.path.realpath(path)
    return [real, str(Path(real).parent)]


def put_file(path: Path, data: bytes | bytearray) -> None:
    path.write_bytes(data)


def get_file(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sojourn.db"


async def make(path: Path, sessions: int = 1) -> None:
    store = SqliteStore(path)
    await store.open()
    for number in range(sessions):
        await create(store, a_session(f"s-{number}"))
    await store.close()


async def test_a_second_server_is_refused_while_the_first_is_there(path: Path) -> None:
    first = SqliteStore(path)
    await first.open()
    assert "in use by another server" in await refusal(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    assert "in use by another server" in await refusal(link)
    await create(first, a_session())
    await first.close()
    second = SqliteStore(link)
    await second.open()
    await found(second, "s-1")
    await second.close()


async def test_a_second_process_is_refused_and_a_dead_one_is_no_hindrance(path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from sojourn_server.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    store = SqliteStore(sys.argv[1])\n"
        "    await store.open()\n"
        "    print('open', flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    other = start_script(script, path)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    assert "in use by another server" in await refusal(path)
    other.kill()
    other.wait()
    other.stdout.close()
    await make(path)


@pytest.mark.parametrize("text", [b"x", b"not a database at all\n" * 1_000])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(
    path: Path, text: bytes
) -> None:
    put_file(path, text)
    assert "is not an SQLite database" in await refusal(path)
    assert get_file(path) == text


async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = get_file(path)
    assert "of another program" in await refusal(path)
    assert get_file(path) == before
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    other.close()


async def test_a_newer_schema_is_refused_and_names_both_versions(path: Path) -> None:
    await make(path)
    newest = migrations()[-1][0]
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {newest + 3}")
    raw.close()
    text = await refusal(path)
    assert f"schema {newest + 3}" in text
    assert f"knows {newest}" in text


@pytest.mark.parametrize("damage", ["header", "middle", "truncated", "schema"])
async def test_a_damaged_file_is_refused(path: Path, damage: str) -> None:
    await make(path, sessions=200)
    data = bytearray(get_file(path))
    if damage == "header":
        data[28:100] = os.urandom(72)
    elif damage == "middle":
        for page in range(8, len(data) // 4096):
            data[page * 4096 : page * 4096 + 2048] = os.urandom(2048)
    elif damage == "truncated":
        del data[len(data) // 2 :]
    else:
        data[100:4096] = os.urandom(3996)
    put_file(path, data)
    text = await refusal(path)
    assert "damaged" in text or "not an SQLite database" in text


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert "there is no directory" in await refusal(tmp_path / "none" / "sojourn.db")


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is not a directory" in await refusal(tmp_path / "file" / "sojourn.db")


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "sojourn.db").mkdir()
    assert "is not a file" in await refusal(tmp_path / "sojourn.db")


def test_a_link_that_leads_to_itself_is_refused(path: Path) -> None:
    path.symlink_to(path)
    asyncio.run(refusal(path))


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount_small_disk(folder, "4m"):
        pytest.skip("this user may not mount a file system")
    asyncio.run(make(folder / "sojourn.db"))
    remount(folder, "ro")
    yield folder
    unmount(folder)


def test_a_read_only_disk_is_refused(read_only_disk: Path) -> None:
    assert "read-only disk" in asyncio.run(refusal(read_only_disk / "sojourn.db"))
    assert "read-only disk" in asyncio.run(refusal(read_only_disk / "new.db"))


AS_NOBODY = """
import asyncio, os, sys
from sojourn_server.store.base import StoreUnusable
from sojourn_server.store.sqlite import SqliteStore
asyncio.run(asyncio.sleep(0))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    asyncio.run(SqliteStore(sys.argv[1]).open())
except StoreUnusable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("folder", "may not be written by this user"),
        ("file", "may not be written by this user"),
        ("secret", "may not be read by this user"),
        ("closed", "cannot be reached"),
    ],
)
async def test_a_place_without_permission_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, case: str, sentence: str
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    base = tmp_path_factory.getbasetemp()
    for each in (tmp_path, *tmp_path.parents):
        if each.name.startswith("pytest-") or base in {each, *each.parents}:
            each.chmod(0o755)
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "sojourn.db"
    await make(path)
    folder.chmod({"folder": 0o755, "closed": 0o700}.get(case, 0o777))
    (folder / "sojourn.db.lock").chmod(0o666)
    path.chmod({"file": 0o644, "secret": 0o200}.get(case, 0o666))
    done = run_script(AS_NOBODY, path)
    assert done.stderr == ""
    assert sentence in done.stdout
    assert done.stdout.count("\n") == 1


async def test_a_new_file_is_marked_as_ours(path: Path) -> None:
    await make(path)
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert raw.execute("PRAGMA user_version").fetchone() == (migrations()[-1][0],)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    put_file(path, b"")
    await make(path)


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path)
    broken = [*migrations(), (99, "CREATE TABLE extra (x);\nCREATE TABLE app (x);\n")]
    with monkeypatch.context() as patched:
        patched.setattr("sojourn_server.store.sqlite.schema.migrations", lambda: broken)
        await refusal(path)
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    assert raw.execute("PRAGMA user_version").fetchone() == (migrations()[-1][0],)
    raw.close()
    await make(path.with_name("other.db"))


async def test_a_later_migration_is_applied_to_an_older_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path)
    more = [*migrations(), (99, "-- One more table.\nCREATE TABLE extra (\n  x TEXT\n);\n")]
    monkeypatch.setattr("sojourn_server.store.sqlite.schema.migrations", lambda: more)
    store = SqliteStore(path)
    await store.open()
    await found(store, "s-0")
    await store.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (99,)
    raw.close()


def test_settings_that_make_no_sense_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="synchronous"):
        SqliteStore(path, synchronous="SOMETIMES")
    with pytest.raises(ValueError, match="max_batch"):
        SqliteStore(path, max_batch=0)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are no numbers there")
async def test_the_files_are_their_owner_s_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.open()
        await create(store, a_session())
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(before)
    assert set(modes) == {f"sojourn.db{suffix}" for suffix in ("", "-wal", "-shm", ".lock")}
    assert set(modes.values()) == {0o600}
