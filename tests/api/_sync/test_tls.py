# Generated from tests/api/_async/test_tls.py by `make gen`. Edit the source, never this file.
"""Encrypted connections: who is trusted, and who is let in."""

from pathlib import Path

import pytest

from sojourn import TLS, ApiKey, RetryOptions, errors, testing
from tests.api.certificates import make_pair

ONCE = RetryOptions(max_attempts=1)
GRANTS = """
[[grant]]
principal = "cert:sojourn.example"
app = "a"
user = "*"
roles = ["write"]
"""


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
    pair, own = make_pair(tmp_path, "server"), make_pair(tmp_path, "client")
    grants = tmp_path / "grants.toml"
    grants.write_text(GRANTS, encoding="utf-8")
    settings = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": own.cert}
    with testing.serve_sync(grants_file=grants, **settings) as server:
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
