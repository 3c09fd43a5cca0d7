"""Files that are read again: a broken one leaves the last good, and is said once."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sojourn_server import logs
from sojourn_server.access.files import BadFile, WatchedFile, replace_file, warn_of_readers


def parse(data: bytes) -> str:
    if b"bad" in data:
        raise BadFile("x_file: it is bad.")
    return data.decode()


class Lines(list[str]):
    """Takes the place of the logs' sink."""

    def _take(self, event: str, **facts: Any) -> None:
        self.append(f"{event} {facts}")

    debug = info = warning = error = _take


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    taken = Lines()
    monkeypatch.setattr(logs.Log, "sink", taken)
    return taken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(b"one")
    return found


def test_a_change_is_noticed_and_nothing_else_is(path: Path):
    file = WatchedFile(path, "x_file", parse)
    assert file.value == "one"
    assert not file.refresh()
    path.write_bytes(b"two")
    assert file.refresh()
    assert file.value == "two"
    os.utime(path)
    assert not file.refresh()  # touched, and says the same


def test_an_exchanged_file_is_noticed_though_size_and_time_are_the_same(path: Path):
    file = WatchedFile(path, "x_file", parse)
    was = path.stat()
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"six")
    os.utime(fresh, ns=(was.st_atime_ns, was.st_mtime_ns))
    fresh.replace(path)
    assert file.refresh()
    assert file.value == "six"


@pytest.mark.parametrize("how", ["broken", "gone", "a folder"])
def test_a_broken_file_leaves_what_was_good_and_heals(path: Path, how: str, lines: Lines):
    file = WatchedFile(path, "x_file", parse)
    path.unlink()
    if how == "broken":
        path.write_bytes(b"bad secret")
    elif how == "a folder":
        path.mkdir()
    for _ in range(3):
        assert not file.refresh()
        assert file.value == "one"
    assert len(lines) == 1
    assert "what it said before stays" in lines[0]
    assert "secret" not in lines[0]
    if how == "a folder":
        path.rmdir()
    path.write_bytes(b"good")
    assert file.refresh()
    assert file.value == "good"
    assert len(lines) == 2  # that it is good again


def test_at_the_start_a_file_must_be_good(path: Path):
    with pytest.raises(BadFile, match="cannot be read"):
        WatchedFile(path.with_name("none"), "x_file", parse)
    path.write_bytes(b"bad")
    with pytest.raises(BadFile, match="it is bad"):
        WatchedFile(path, "x_file", parse)


def test_a_file_that_everybody_may_change_is_refused(path: Path):
    path.chmod(0o666)
    with pytest.raises(BadFile, match="can be changed by everybody"):
        WatchedFile(path, "x_file", parse)


def test_what_everybody_may_change_does_not_count_later_either(path: Path, lines: Lines):
    file = WatchedFile(path, "x_file", parse)
    path.chmod(0o602)
    path.write_bytes(b"two")
    assert not file.refresh()
    assert file.value == "one"
    assert "can be changed by everybody" in lines[0]
    path.chmod(0o600)
    assert file.refresh()
    assert file.value == "two"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_is_written_is_for_its_owner_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        replace_file(tmp_path / "new", b"text")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("was", "becomes"), [(0o600, 0o600), (0o640, 0o640), (0o660, 0o640), (0o644, 0o640)]
)
def test_a_group_that_could_read_a_file_still_can_and_others_no_more(
    path: Path, was: int, becomes: int
):
    path.chmod(was)
    replace_file(path, b"two")
    assert (path.read_bytes(), mode(path)) == (b"two", becomes)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_writes_stays_its_owner_s(path: Path):
    """Else the server could not read any more that a key is revoked, and would let it in."""
    os.chown(path, 12_345, 23_456)
    replace_file(path, b"two")
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(path: Path):
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="irectory"):
        replace_file(path, b"two")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("bits", "told"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)])
def test_a_secret_that_everybody_may_read_is_told_of(
    path: Path, bits: int, told: int, lines: Lines
):
    path.chmod(bits)
    assert warn_of_readers(path, "keys_file") == bool(told)
    assert len(lines) == told
    if told:
        assert "can be read by everybody" in lines[0]
        assert "one" not in lines[0].replace(str(path), "")


def test_of_a_file_that_is_not_there_nothing_is_told(path: Path, lines: Lines):
    assert not warn_of_readers(path.with_name("none"), "tls_key")
    assert lines == []
