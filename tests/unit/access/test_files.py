"""Files that are read again: a broken one leaves the last good, and is said once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sojourn_server import logs
from sojourn_server.access.files import BadFile, WatchedFile


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
