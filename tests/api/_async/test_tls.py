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


async def test_a_server_with_tls_answers_those_who_trust_it(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "server")
    async with testing.serve(tls_cert=pair.cert, tls_key=pair.key) as server:
        trusting = TLS.from_files(pair.cert)
        async with server.client(app="a", tls=trusting, credentials=ApiKey("k")) as client:
            await client.sessions.create("s")
        named = TLS.from_files(pair.cert, server_name="sojourn.example")
        async with server.client(app="a", tls=named) as client:
            assert (await client.sessions.get("s")).is_active
        for tls in (None, TLS(), TLS.from_files(pair.cert, server_name="other.example")):
            async with server.client(app="a", tls=tls, retry=ONCE, deadline=5) as client:
                with pytest.raises(errors.UnavailableError):
                    await client.sessions.get("s")


async def test_a_server_that_wants_client_certificates_answers_only_those(tmp_path: Path) -> None:
    pair, own = make_pair(tmp_path, "server"), make_pair(tmp_path, "client")
    grants = tmp_path / "grants.toml"
    grants.write_text(GRANTS, encoding="utf-8")
    settings = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": own.cert}
    async with testing.serve(grants_file=grants, **settings) as server:
        known = TLS.from_files(pair.cert, own.cert, own.key)
        async with server.client(app="a", tls=known) as client:
            await client.sessions.create("s")
        unknown = TLS.from_files(pair.cert)
        async with server.client(app="a", tls=unknown, retry=ONCE, deadline=5) as client:
            with pytest.raises(errors.UnavailableError):
                await client.sessions.get("s")


async def test_a_certificate_that_is_none_is_a_wrong_configuration(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate", encoding="utf-8")
    pair = make_pair(tmp_path, "server")
    async with testing.serve(tls_cert=pair.cert, tls_key=pair.key) as server:
        tls = TLS.from_files(nonsense)
        async with server.client(app="a", tls=tls, retry=ONCE, deadline=5) as client:
            with pytest.raises(errors.SojournError):
                await client.sessions.get("s")
