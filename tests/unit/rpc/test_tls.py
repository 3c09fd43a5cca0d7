"""The server's certificates: taken when they are good and belong together, and not before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from sojourn_server import logs
from sojourn_server.rpc import tls as tls_module
from sojourn_server.rpc.tls import ReloadedTls
from sojourn_server.settings import SettingsError
from tests.api.certificates import Pair, make_pair

LATER = timedelta(days=9)


class Lines(list[dict[str, Any]]):
    """Takes the place of the logs' sink."""

    def _take(self, event: str, **facts: Any) -> None:
        self.append({"event": event, **facts})

    debug = info = warning = error = _take


class Clock:
    """The time, and how far a test has gone ahead of it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def settle(self) -> None:
        """Let what has changed no longer count as young."""
        self.ahead += 10.0


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    taken = Lines()
    monkeypatch.setattr(logs.Log, "sink", taken)
    return taken


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tls_module, "time", clock)
    return clock


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """What the server uses."""
    return make_pair(tmp_path, "server")


@pytest.fixture
def other(tmp_path: Path) -> Pair:
    """What takes its place."""
    return make_pair(tmp_path, "other")


@pytest.fixture
def certs(pair: Pair, lines: Lines, clock: Clock) -> ReloadedTls:
    made = ReloadedTls(pair.cert, pair.key, None)
    clock.settle()
    assert made.fetch() is None
    return made


def broken(folder: Path) -> list[tuple[str, Callable[[Pair], object], str]]:
    """Ways to break a pair: a name, what is done, and what is said."""
    other = make_pair(folder, "another")
    over = make_pair(folder, "over", ends=timedelta(seconds=-1))
    early = make_pair(folder, "early", begins=LATER, ends=2 * LATER)
    return [
        ("half a certificate", lambda pair: os.truncate(pair.cert, 200), "tls_cert: "),
        ("an empty certificate", lambda pair: os.truncate(pair.cert, 0), "holds no certificate"),
        ("half a key", lambda pair: os.truncate(pair.key, 100), "tls_key: "),
        ("no key at all", lambda pair: pair.key.unlink(), "cannot be read (No such file"),
        ("a folder", lambda pair: (pair.key.unlink(), pair.key.mkdir()), "cannot be read"),
        (
            "another's key",
            lambda pair: pair.key.write_bytes(other.key.read_bytes()),
            "does not belong to the certificate",
        ),
        ("an expired certificate", lambda pair: pair.replaced_by(over), "has expired"),
        ("one of next week", lambda pair: pair.replaced_by(early), "is not valid yet"),
    ]


def test_a_broken_file_is_a_wrong_setting_at_the_start(tmp_path: Path) -> None:
    for name, spoil, said in broken(tmp_path):
        pair = make_pair(tmp_path, f"start {name}")
        spoil(pair)
        with pytest.raises(SettingsError) as caught:
            ReloadedTls(pair.cert, pair.key, None)
        assert said in str(caught.value), name
        assert str(caught.value).endswith("."), name


def test_an_encrypted_key_is_a_wrong_setting(tmp_path: Path, pair: Pair) -> None:
    from cryptography.hazmat.primitives import serialization as pem  # noqa: PLC0415

    key = pem.load_pem_private_key(pair.key.read_bytes(), None)
    form = pem.PrivateFormat.PKCS8
    password = pem.BestAvailableEncryption(b"p")
    pair.key.write_bytes(key.private_bytes(pem.Encoding.PEM, form, password))
    with pytest.raises(SettingsError, match="has no password"):
        ReloadedTls(pair.cert, pair.key, None)


def test_a_client_ca_that_is_none_is_a_wrong_setting(tmp_path: Path, pair: Pair) -> None:
    pair_of_none = tmp_path / "ca.pem"
    pair_of_none.write_text("no certificate", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"tls_client_ca: .* holds no certificate"):
        ReloadedTls(pair.cert, pair.key, pair_of_none)


def test_a_broken_new_file_leaves_the_last_good_and_is_complained_of_once(
    tmp_path: Path, lines: Lines, clock: Clock
) -> None:
    for name, spoil, said in broken(tmp_path):
        pair, good = make_pair(tmp_path, f"was {name}"), make_pair(tmp_path, f"new {name}")
        certs = ReloadedTls(pair.cert, pair.key, None)
        lines.clear()
        spoil(pair)
        for _ in range(3):
            assert certs.fetch() is None, name
        clock.settle()
        assert certs.fetch() is None, name
        [line] = lines
        assert said in line["why"], name
        if pair.key.is_dir():
            pair.key.rmdir()
        pair.replaced_by(good)
        assert isinstance(certs.fetch(), grpc.ServerCertificateConfiguration), name
        assert [line["event"] for line in lines[1:]] == [
            "certificate files are good again",
            "certificate taken",
        ], name


def test_what_is_logged_quotes_no_exception_and_no_key(
    certs: ReloadedTls, pair: Pair, lines: Lines
) -> None:
    pair.key.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    assert certs.fetch() is None
    assert [line["why"] for line in lines] == [
        f"tls_key: {pair.key} holds no private key in PEM, or a broken one."
    ]


def test_a_certificate_is_taken_with_its_key_and_not_before(
    certs: ReloadedTls, pair: Pair, other: Pair
) -> None:
    pair.cert.write_bytes(other.cert.read_bytes())
    assert certs.fetch() is None
    pair.key.write_bytes(other.key.read_bytes())
    assert certs.fetch() is not None
    assert certs.fetch() is None, "it was handed out"


def test_the_old_files_put_back_are_good_again_without_a_new_configuration(
    certs: ReloadedTls, pair: Pair, lines: Lines
) -> None:
    was = pair.cert.read_bytes()
    pair.cert.write_bytes(b"")
    assert certs.fetch() is None
    pair.cert.write_bytes(was)
    assert certs.fetch() is None
    assert [line["event"] for line in lines[1:]] == ["certificate files are good again"]


def test_a_certificate_of_next_week_is_taken_next_week(
    certs: ReloadedTls, pair: Pair, tmp_path: Path, clock: Clock
) -> None:
    pair.replaced_by(make_pair(tmp_path, "early", begins=LATER, ends=2 * LATER))
    clock.settle()
    assert certs.fetch() is None
    clock.ahead += LATER.total_seconds()
    assert certs.fetch() is not None


def test_a_certificate_that_expires_in_use_stays_and_is_complained_of_once(
    certs: ReloadedTls, lines: Lines, clock: Clock
) -> None:
    clock.ahead += LATER.total_seconds()
    assert certs.fetch() is None
    assert certs.fetch() is None
    [line] = lines
    assert line["event"] == "certificate has expired"


def test_a_folder_that_is_swapped_during_a_read_gives_no_mixed_pair(
    tmp_path: Path, lines: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes does: the files are links through one link, which is replaced."""
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        made = make_pair(folder, "tls")
        assert made.key.parent == folder
    link = tmp_path / "data"
    link.symlink_to("first")
    shown = Pair(link / "tls.pem", link / "tls-key.pem")
    certs = ReloadedTls(shown.cert, shown.key, None)
    reads: list[str] = []
    read = Path.read_bytes

    def read_and_swap(path: Path) -> bytes:
        found = read(path)
        if not reads:
            fresh = tmp_path / "fresh"
            fresh.symlink_to("second")
            fresh.replace(link)
        reads.append(path.name)
        return found

    monkeypatch.setattr(Path, "read_bytes", read_and_swap)
    assert certs.fetch() is not None
    assert reads == ["tls.pem", "tls-key.pem"] * 2
    assert [line["event"] for line in lines] == ["certificate taken"]


def test_files_that_do_not_stop_changing_are_left_for_the_next_handshake(
    certs: ReloadedTls, pair: Pair, other: Pair, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes
    pair.replaced_by(other)

    def read_and_touch(path: Path) -> bytes:
        now = path.stat().st_mtime_ns
        os.utime(path, ns=(now, now + 1))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read_and_touch)
        assert certs.fetch() is None
    assert "change while they are read" in lines[0]["why"]
    assert certs.fetch() is not None


def test_a_change_that_the_file_s_times_do_not_show_is_seen_while_they_are_young(
    certs: ReloadedTls, pair: Pair, other: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.cert.write_bytes(other.cert.read_bytes())
    # Two writes in one tick of the file system's clock, of files of one size.
    stamp = certs._look()
    monkeypatch.setattr(certs, "_look", lambda: stamp)
    clock.ahead = 0.0
    assert certs.fetch() is None
    pair.key.write_bytes(other.key.read_bytes())
    assert certs.fetch() is not None


def test_files_that_have_not_changed_are_not_read(
    certs: ReloadedTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise AssertionError(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert certs.fetch() is None


def test_a_fault_of_our_own_fails_no_handshake(
    certs: ReloadedTls, pair: Pair, other: Pair, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("secret")

    pair.replaced_by(other)
    monkeypatch.setattr(tls_module, "check", fail)
    assert certs.fetch() is None
    assert lines[0]["event"] == "certificate not looked at"
    assert "secret" not in str(lines)


def test_a_handshake_does_not_wait_for_the_reading_of_another(
    certs: ReloadedTls, pair: Pair, other: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    read = Path.read_bytes
    pair.replaced_by(other)

    def read_slowly(path: Path) -> bytes:
        reading.set()
        assert go_on.wait(10)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_slowly)
    got: list[object] = []
    slow = threading.Thread(target=lambda: got.append(certs.fetch()))
    slow.start()
    assert reading.wait(10)
    assert certs.fetch() is None
    go_on.set()
    slow.join()
    assert got != [None]
