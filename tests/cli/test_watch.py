"""`sojourn sessions watch` and `sojourn top`."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.kit import Shell
from tools import demo

PATIENCE = 30.0


class Process:
    """A command in a process of its own, whose lines are read as they come."""

    def __init__(self, shell: Shell, *arguments: str, **more: Any) -> None:
        options = [f"--target={shell.target}", f"--app={shell.app}"]
        command = [demo.tool("sojourn"), *options, *arguments]
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        streams |= {"env": demo.ENVIRONMENT}
        self.process = subprocess.Popen(command, **(streams | more))

    def line(self) -> Any:
        """The next line, decoded."""
        return json.loads(self._out.readline())

    @property
    def _out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self, number: signal.Signals) -> tuple[int, bytes, bytes]:
        """Send a signal; return the exit status, and what was still written."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def running(shell: Shell, *arguments: str, **more: Any) -> Iterator[Process]:
    made = Process(shell, *arguments, **more)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def watched(shell: Shell, *arguments: str) -> list[Any]:
    """What a watch prints that ends by itself."""
    return shell.lines("sessions", "watch", *arguments)


def test_a_watch_goes_on_where_the_run_before_it_stopped(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "position"
    shell.run("sessions", "create", "s-1", "--label", "tier=gold")
    with running(shell, "sessions", "watch", "--initial-state", f"--position-file={file}") as first:
        begin, part, end = first.line(), first.line(), first.line()
        assert (begin, part["type"]) == (
            {"type": "initial_state_begin", "why": None},
            "initial_session",
        )
        assert part["session"]["session_id"] == "s-1"
        assert end == {"type": "initial_state_end", "revision": 1}
        shell.run("messages", "append", "s-1", "hi")
        change = first.line()
        assert (change["type"], change["cause"], change["membership"]) == (
            "change",
            "MESSAGES_APPENDED",
            "CHANGED",
        )
        assert (change["first_sequence"], change["last_sequence"]) == (1, 1)
        assert change["session"]["message_count"] == 1
        assert first.end(signal.SIGTERM) == (0, b"", b"")
    held = json.loads(file.read_text())
    assert (held["revision"], held["index"]) == (2, 0)
    assert [one.name for one in tmp_path.iterdir()] == ["position"]

    for name in ("s-2", "s-3"):
        shell.run("sessions", "create", name)
    # The state was shown before; now it goes on behind the last change, one after the other.
    for name in ("s-2", "s-3"):
        [change] = watched(shell, "--initial-state", f"--position-file={file}", "--limit=1")
        assert (change["cause"], change["session"]["session_id"]) == ("CREATED", name)


def test_a_watch_shows_what_its_filters_select(shell: Shell) -> None:
    shell.run("sessions", "create", "s-0", "--user", "ann")
    token = _token(shell, "--user=ann", "--label=tier=gold")
    shell.run("sessions", "create", "s-1", "--user", "ann", "--label", "tier=gold")
    shell.run("sessions", "create", "s-2", "--user", "bob", "--label", "tier=gold")
    shell.run("sessions", "update", "s-1", "--user", "ann", "--label", "tier=iron")
    options = ["--user=ann", "--label=tier=gold", f"--after={token}", "--previous", "--limit=2"]
    entered, left = watched(shell, *options)
    assert (entered["membership"], left["membership"]) == ("ENTERED", "LEFT")
    assert (entered["previous"], left["previous"]["labels"]) == (None, {"tier": "gold"})
    table = shell.table("sessions", "watch", *options)
    assert "CREATED" in table
    assert "+ ann/s-1" in table
    assert "- ann/s-1  tier" in table


def _token(shell: Shell, *selected: str) -> str:
    """The token of now, for a watch of these."""
    with running(shell, "sessions", "watch", "--bookmarks", *selected) as process:
        mark = process.line()
        assert mark["type"] == "bookmark"
        process.end(signal.SIGTERM)
        return str(mark["token"])


def test_content_and_changes_of_the_app_are_shown_where_asked_for(shell: Shell) -> None:
    shell.run("sessions", "create", "s-0")
    token = _token(shell)
    shell.run("sessions", "create", "s-1", "--state", '{"price": 1.00}', "--app-state", '{"k": 2}')
    shell.run("messages", "append", "s-1", "hi")
    after = f"--after={token}"
    lines = watched(shell, after, "--content", "--app-changes", "--limit=3")
    kinds = {one["type"] for one in lines}
    assert kinds == {"change", "app_change"}
    [shared] = [one for one in lines if one["type"] == "app_change"]
    assert (shared["state_keys"], shared["user"]) == (["k"], None)
    assert lines[-1]["messages"][0]["content"] == "hi"
    text = shell.run("sessions", "watch", after, "--content", "--limit=1").stdout
    assert '"state": {"price": 1.00}' in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_good_end(shell: Shell, number: signal.Signals) -> None:
    shell.run("sessions", "create", "s-1")
    with running(shell, "sessions", "watch", "--bookmarks") as process:
        process.line()
        assert process.end(number) == (0, b"", b"")


def test_a_reader_that_is_gone_is_a_good_end_also_when_nothing_changes(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    with running(shell, "sessions", "watch", "--initial-state", "--bookmark-interval=100ms") as one:
        assert one.line()["type"] == "initial_state_begin"
        assert one.process.stdout is not None
        one.process.stdout.close()
        assert one.process.wait(PATIENCE) == 0
        assert one.process.stderr is not None
        assert one.process.stderr.read() == b""


def test_what_a_watch_cannot_get_over_is_said(shell: Shell, tmp_path: Path) -> None:
    shell.run("sessions", "create", "s-1")
    said = shell.refusal("sessions", "watch", "--after=nonsense")
    assert said.startswith("sojourn: RESUME_TOKEN_INVALID")
    said = shell.refusal("sessions", "watch", "--target=127.0.0.1:1", status=3)
    assert "no server answers at 127.0.0.1:1" in said
    file = tmp_path / "position"
    file.write_text("nothing of ours")
    said = shell.refusal("sessions", "watch", f"--position-file={file}", status=2)
    assert "holds no position of a watch" in said
    said = shell.refusal("sessions", "watch", f"--position-file={file}", "--after=t", status=2)
    assert "exclude each other" in said
    said = shell.refusal("sessions", "watch", "--initial-state", "--after=t", status=2)
    assert "exclude each other" in said
    said = shell.refusal("sessions", "watch", f"--position-file={tmp_path}", status=2)
    assert "is a directory" in said


def test_a_position_that_cannot_be_kept_is_said(shell: Shell, tmp_path: Path) -> None:
    shell.run("sessions", "create", "s-1")
    file = tmp_path / "gone" / "position"
    done = shell.run("sessions", "watch", f"--position-file={file}", status=1)
    assert "cannot write" in done.stderr


# --- top -----------------------------------------------------------------------------------------


def test_without_a_terminal_top_prints_once(shell: Shell) -> None:
    for name in ("s-1", "s-2"):
        shell.run("sessions", "create", name, "--label", f"name={name}")
    shell.run("messages", "append", "s-1", "hi")
    shell.run("sessions", "create", "ended")
    shell.run("sessions", "end", "ended")
    assert [one["session_id"] for one in shell.lines("top")] == ["s-1", "s-2"]
    assert [one["session_id"] for one in shell.lines("top", "--sort=age")] == ["s-1", "s-2"]
    assert [one["session_id"] for one in shell.lines("top", "--label=name=s-2")] == ["s-2"]
    assert len(shell.lines("top", "--status=any")) == 3
    assert len(shell.lines("top", "--limit=1")) == 1
    table = shell.table("top").splitlines()
    assert table[0].startswith(f"{shell.app}: 2 sessions, 0 busy, 0 requests, 0 errors")
    assert table[1].split()[:3] == ["SESSION", "USER", "STATUS"]
    assert [line.split()[0] for line in table[2:]] == ["s-1", "s-2"]
    assert "at least 100ms" in shell.refusal("top", "--interval=1ms", status=2)


def test_on_a_terminal_top_follows_until_it_is_told_to_end(shell: Shell) -> None:
    shell.run("sessions", "create", "first")
    ours, theirs = pty.openpty()
    environment = demo.ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "120", "LINES": "20"}
    with running(
        shell, "top", "--interval=100ms", stdin=theirs, stdout=theirs, env=environment
    ) as process:
        os.close(theirs)
        screen = _read_until(ours, b"first")
        assert b"1 sessions" in screen
        shell.run("sessions", "create", "second")
        _read_until(ours, b"second")
        shell.run("sessions", "end", "first")
        _read_until(ours, b"1 sessions, 0 busy, 0 requests, 0 errors, revision 3")
        process.process.send_signal(signal.SIGINT)
        # It puts the terminal back as it was, for which somebody must read.
        _read_until(ours, b"\x1b[?1049l")
        assert process.process.wait(PATIENCE) == 0
    os.close(ours)


def _read_until(terminal: int, wanted: bytes) -> bytes:
    """Read what a command draws until it has drawn this."""
    seen = b""
    end = time.monotonic() + PATIENCE
    while wanted not in seen:
        assert time.monotonic() < end, seen[-2000:]
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65_536)
    return seen
