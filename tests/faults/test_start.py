"""A server that cannot start says why in one sentence, and with its own exit code."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.harness import ServerProcess

BAD_SETTINGS, STORE_UNUSABLE, CANNOT_LISTEN = 2, 3, 4
SYSTEM = Path("/sys")
"""A folder in which not even root may make a file."""
PEOPLE = os.getuid() != 0
"""Whether file permissions hold for whoever runs the tests."""


class Ended(NamedTuple):
    code: int
    sentence: str
    """The one line on stderr, without the program's name."""


def run(*flags: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run a server that must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "sojourn_server", *flags],
        env={**os.environ, **(env or {})},
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return Ended(done.returncode, done.stderr.strip().removeprefix("sojourn-server: "))


def run_on(store: Path, *flags: str) -> Ended:
    return run("--listen", "127.0.0.1:0", "--store", f"sqlite:///{store}", *flags)


def assert_refused(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended
    assert "\n" not in ended.sentence, ended
    assert ended.sentence.endswith("."), ended
    for word in words:
        assert word in ended.sentence, ended


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that a server has used and left."""
    server = ServerProcess(tmp_path)
    with server:
        assert server.terminate() == 0
    return server.store


# --- the store -------------------------------------------------------------------------------


def test_a_second_server_on_one_file(tmp_path: Path):
    with ServerProcess(tmp_path) as server:
        ended = run_on(server.store)
        assert_refused(ended, STORE_UNUSABLE, str(server.store), "in use by another server")


def test_a_second_server_by_another_name_of_the_file(tmp_path: Path):
    with ServerProcess(tmp_path) as server:
        link = tmp_path / "link.db"
        link.symlink_to(server.store)
        assert_refused(run_on(link), STORE_UNUSABLE, "in use by another server")


def test_a_folder_that_is_not_there(tmp_path: Path):
    ended = run_on(tmp_path / "nowhere" / "s.db")
    assert_refused(ended, STORE_UNUSABLE, "nowhere")


@pytest.mark.skipif(not PEOPLE, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert_refused(run_on(folder / "s.db"), STORE_UNUSABLE, "locked")


@pytest.mark.skipif(not SYSTEM.is_dir(), reason="only Linux has it")
def test_a_folder_that_nobody_may_write():
    assert_refused(run_on(SYSTEM / "s.db"), STORE_UNUSABLE, str(SYSTEM))


def test_a_folder_in_the_place_of_the_file(tmp_path: Path):
    assert_refused(run_on(tmp_path), STORE_UNUSABLE, str(tmp_path))


def test_a_file_of_something_else(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 1_000)
    assert_refused(run_on(path), STORE_UNUSABLE, str(path))
    assert path.read_text() == "dear diary\n" * 1_000


def test_a_database_of_another_program(tmp_path: Path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE things (name TEXT)")
        database.commit()
    assert_refused(run_on(path), STORE_UNUSABLE, "another program")


def test_a_store_of_a_newer_server(store: Path):
    with closing(sqlite3.connect(store)) as database:
        database.execute("PRAGMA user_version = 9999")
        database.commit()
    assert_refused(run_on(store), STORE_UNUSABLE, "newer server", "9999")


def test_a_damaged_store(store: Path):
    data = bytearray(store.read_bytes())
    data[4_096 : len(data) - 100] = os.urandom(len(data) - 4_196)
    store.write_bytes(data)
    assert_refused(run_on(store), STORE_UNUSABLE, str(store))


def test_a_store_that_is_cut_off(store: Path):
    store.write_bytes(store.read_bytes()[:5_000])
    assert_refused(run_on(store), STORE_UNUSABLE, str(store))


# --- the address -----------------------------------------------------------------------------


def test_a_port_that_is_taken_by_another_server(tmp_path: Path):
    with ServerProcess(tmp_path) as server:
        other = tmp_path / "other.db"
        ended = run("--listen", server.target, "--store", f"sqlite:///{other}")
        assert_refused(ended, CANNOT_LISTEN, server.target, "in use")


def test_a_port_that_is_taken_by_another_program(tmp_path: Path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("--listen", address, "--store", f"sqlite:///{tmp_path}/s.db")
    assert_refused(ended, CANNOT_LISTEN, address)


def test_an_address_of_no_machine(tmp_path: Path):
    ended = run("--insecure", "--listen", "192.0.2.1:0", "--store", f"sqlite:///{tmp_path}/s.db")
    assert_refused(ended, CANNOT_LISTEN, "192.0.2.1:0")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "sojourn.example:0"])
def test_an_open_address_without_tls(listen: str, tmp_path: Path):
    ended = run("--listen", listen, "--store", f"sqlite:///{tmp_path}/s.db")
    assert_refused(ended, BAD_SETTINGS, listen, "--insecure", "tls_cert", "keys_file")
    assert not (tmp_path / "s.db").exists()


def test_an_open_address_by_variable(tmp_path: Path):
    env = {"SOJOURN_LISTEN": "0.0.0.0:0", "SOJOURN_STORE": f"sqlite:///{tmp_path}/s.db"}
    assert_refused(run(env=env), BAD_SETTINGS, "0.0.0.0:0")


# --- settings --------------------------------------------------------------------------------


def test_a_store_of_an_unknown_kind():
    ended = run("--store", "redis://ann:hunter2@localhost")
    assert_refused(ended, BAD_SETTINGS, "sqlite:///", "postgresql://")
    assert "hunter2" not in ended.sentence, "it may be a password"


def test_a_certificate_that_is_not_there(tmp_path: Path):
    missing = tmp_path / "cert.pem"
    ended = run_on(tmp_path / "s.db", "--tls-cert", str(missing), "--tls-key", str(missing))
    assert_refused(ended, BAD_SETTINGS, str(missing))


def test_a_port_file_that_cannot_be_written(tmp_path: Path):
    missing = tmp_path / "nowhere" / "port"
    ended = run_on(tmp_path / "s.db", "--port-file", str(missing))
    assert_refused(ended, BAD_SETTINGS, str(missing))


def test_a_certificate_that_is_none(tmp_path: Path):
    pem = tmp_path / "cert.pem"
    pem.write_text("hello")
    ended = run_on(tmp_path / "s.db", "--tls-cert", str(pem), "--tls-key", str(pem))
    assert_refused(ended, BAD_SETTINGS, f"tls_cert: {pem} holds no certificate")


@pytest.mark.parametrize(
    "flags", [["--drain-timeout", "soon"], ["--max-labels", "65"], ["--nonsense"], ["nonsense"]]
)
def test_a_flag_that_cannot_be(flags: list[str]):
    ended = run(*flags)
    assert ended.code == BAD_SETTINGS
    assert "Usage:" in ended.sentence


# --- the health command ----------------------------------------------------------------------


def test_health_of_a_server_that_is_well_and_of_none(tmp_path: Path):
    with ServerProcess(tmp_path) as server:
        command = [sys.executable, "-m", "sojourn_server", "health", "--target", server.target]
        well = subprocess.run(command, capture_output=True, check=False, text=True)
        assert (well.returncode, well.stdout) == (0, f"{server.target}: SERVING\n")
        write = subprocess.run(
            [*command, "--service", "sojourn.write"], capture_output=True, check=False
        )
        assert write.returncode == 0
        by_variable = subprocess.run(
            [sys.executable, "-m", "sojourn_server", "health"],
            env={**os.environ, "SOJOURN_LISTEN": server.target},
            capture_output=True,
            check=False,
        )
        assert by_variable.returncode == 0
        server.kill()
        gone = subprocess.run(command, capture_output=True, check=False, text=True)
        assert gone.returncode == 1
        assert gone.stderr == f"{server.target}: UNAVAILABLE\n"


# --- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_at_once_and_well(number: signal.Signals, tmp_path: Path):
    with ServerProcess(tmp_path) as server:
        assert server.process is not None
        begin = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - begin < 5
        assert '"stopped"' in server.log()
    assert not (tmp_path / "port").exists()
