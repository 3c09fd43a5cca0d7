"""TLS files are followed: taken when they are good and belong together, and not before."""

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem

from sojourn import TLS
from sojourn._tls_files import LOOK_EVERY, FollowedTLS
from tests.api.certificates import Pair, make_pair


@pytest.fixture
def used(tmp_path: Path) -> Pair:
    """The files in use: an own certificate, which is also the only one that is trusted."""
    return make_pair(tmp_path, "used")


@pytest.fixture
def fresh(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "fresh")


def followed(pair: Pair) -> FollowedTLS:
    made = FollowedTLS(TLS.from_files(pair.cert, pair.cert, pair.key, server_name="here"))
    assert not made.is_renewed(0.0)
    return made


def test_new_files_are_taken_at_the_next_look_and_once(used: Pair, fresh: Pair) -> None:
    tls = followed(used)
    used.replaced_by(fresh)
    assert not tls.is_renewed(LOOK_EVERY - 0.1)
    assert tls.is_renewed(LOOK_EVERY)
    assert (tls.tls.private_key, tls.tls.root_certificates, tls.tls.server_name) == (
        fresh.key.read_bytes(),
        fresh.cert.read_bytes(),
        "here",
    )
    assert not tls.is_renewed(2 * LOOK_EVERY)


def test_half_a_pair_and_broken_files_leave_the_last_good_and_are_logged_once(
    used: Pair, fresh: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    tls = followed(used)
    before, now = tls.tls, 0.0
    encrypted = pem.load_pem_private_key(fresh.key.read_bytes(), None).private_bytes(
        pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"p")
    )
    used.cert.write_bytes(fresh.cert.read_bytes())
    for key in (used.key.read_bytes(), b"", b"\xff", fresh.key.read_bytes()[:100], encrypted):
        used.key.write_bytes(key)
        now += LOOK_EVERY
        assert not tls.is_renewed(now), key
    used.key.unlink()
    assert not tls.is_renewed(now + LOOK_EVERY)
    used.key.write_bytes(fresh.key.read_bytes())
    used.cert.write_bytes(b"no certificate")
    assert not tls.is_renewed(now + 2 * LOOK_EVERY)
    assert tls.tls is before
    assert len(caplog.records) == 1
    used.replaced_by(fresh)
    assert tls.is_renewed(now + 3 * LOOK_EVERY)
    assert tls.tls.certificate_chain == fresh.cert.read_bytes()


def test_files_that_change_between_two_looks_of_one_are_left_for_the_next(
    used: Pair, fresh: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = followed(used)
    old = used.cert.read_bytes(), used.key.read_bytes()
    used.replaced_by(fresh)
    read = TLS.from_files
    reads: list[TLS] = []

    def read_and_swap(*files: Path) -> TLS:
        found = read(*files)
        if not reads:
            used.cert.write_bytes(old[0])
            used.key.write_bytes(old[1])
        reads.append(found)
        return found

    monkeypatch.setattr(TLS, "from_files", read_and_swap)
    assert not tls.is_renewed(LOOK_EVERY)
    assert tls.tls.private_key == old[1]
    assert len(reads) == 2


def test_roots_alone_are_followed(used: Pair, fresh: Pair) -> None:
    tls = FollowedTLS(TLS.from_files(used.cert))
    used.cert.write_bytes(fresh.cert.read_bytes())
    assert tls.is_renewed(1.0)


def test_what_came_from_no_files_is_as_it_was(used: Pair) -> None:
    tls = FollowedTLS(TLS(used.cert.read_bytes()))
    used.cert.unlink()
    assert not tls.is_renewed(1e9)


def test_the_log_says_nothing_of_what_files_hold(
    used: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    tls = followed(used)
    used.key.write_text("hunter2", encoding="ascii")
    with caplog.at_level(logging.DEBUG, "sojourn"):
        assert not tls.is_renewed(LOOK_EVERY)
    assert [record.getMessage() for record in caplog.records] == [
        "TLS files not taken (SSLError); the last good ones stay in use"
    ]
