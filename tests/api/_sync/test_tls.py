# Generated from tests/api/_async/test_tls.py by `make gen`. Edit the source, never this file.
"""Encrypted connections: who is trusted, and who is let in."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sojourn
from sojourn import TLS, ApiKey, RetryOptions, Session, _acompat, errors, testing
from sojourn._acompat import sync_sleep
from tests.api.certificates import make_pair
from tests.api.scripted import Script
from tests.api.together import sync_together

ONCE = RetryOptions(max_attempts=1)


def test_a_server_with_tls_answers_those_who_trust_it(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "server")
    with testing.serve_sync(tls_cert=pair.cert, tls_key=pair.key) as server:
        trusting = TLS.from_files(pair.cert)
        with server.client(app="a", tls=trusting, credentials=ApiKey("k")) as client:
            client.sessions.create("s")
        named = TLS.from_files(pair.cert, server_name="sojourn.example")
        with server.client(app="a", tls=named) as client:
            assert (client.sessions.get("s")).is_active
        for tls in (None, TLS(), TLS.from_files(pair.cert, server_name="other.example")):
            with server.client(app="a", tls=tls, retry=ONCE, deadline=5) as client:
                with pytest.raises(errors.UnavailableError):
                    client.sessions.get("s")


def test_a_server_that_wants_client_certificates_answers_only_those(tmp_path: Path) -> None:
    pair, own = make_pair(tmp_path, "server"), make_pair(tmp_path, "client", names=())
    grants = tmp_path / "grants.toml"
    grants.write_text(
        '[[grant]]\nprincipal = "cert:client"\nroles = ["write"]\napp = "a"\nuser = "*"'
    )
    settings = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": own.cert}
    with testing.serve_sync(**settings, grants_file=grants) as server:
        known = TLS.from_files(pair.cert, own.cert, own.key)
        with server.client(app="a", tls=known) as client:
            client.sessions.create("s")
        unknown = TLS.from_files(pair.cert)
        with server.client(app="a", tls=unknown, retry=ONCE, deadline=5) as client:
            with pytest.raises(errors.UnavailableError):
                client.sessions.get("s")


def test_a_certificate_that_is_none_is_a_wrong_configuration(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate", encoding="utf-8")
    pair = make_pair(tmp_path, "server")
    with testing.serve_sync(tls_cert=pair.cert, tls_key=pair.key) as server:
        tls = TLS.from_files(nonsense)
        with server.client(app="a", tls=tls, retry=ONCE, deadline=5) as client:
            with pytest.raises(errors.SojournError):
                client.sessions.get("s")


class Renewing:
    """Files that are exchanged when the test says so, of a connection without TLS."""

    tls = None

    def __init__(self) -> None:
        self.renewed = False

    def is_renewed(self, now: float) -> bool:
        renewed, self.renewed = self.renewed, False
        return renewed


def replaced_during_a_call(script: Script, then: Callable[[], object]) -> object:
    """Replace the connection of a call that is under way; return what becomes of the call."""
    script.hold = threading.Event()
    with sojourn.connect_sync(script.target, app="a", deadline=30) as client:
        channel: Any = client._channel
        channel._tls = files = Renewing()

        def replace() -> None:
            for _ in range(1000):
                if script.seen:
                    break
                sync_sleep(0.01)
            before = client.stubs
            files.renewed = True
            assert client.stubs is not before
            assert client.stubs is client.stubs
            then()

        outcome, done = sync_together(lambda: client.sessions.get("s"), replace)
        assert done is None
        script.hold.set()
        assert isinstance(client.sessions.get("s"), Session), "the new one works"
        return outcome


def test_a_call_under_way_ends_on_the_connection_that_it_began_on(script: Script) -> None:
    outcome = replaced_during_a_call(script, script.let_go)
    assert isinstance(outcome, Session), outcome
    assert script.methods == ["GetSession"] * 2


def test_a_call_that_outlives_too_many_connections_is_broken_off(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_acompat, "REPLACED_CONNECTIONS", 0)
    outcome = replaced_during_a_call(script, lambda: None)
    assert isinstance(outcome, errors.UnavailableError)
    assert "replaced" in str(outcome)
