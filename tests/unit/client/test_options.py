"""Options that are safe, and their secrets."""

from datetime import timedelta
from pathlib import Path

import pytest

import sojourn
from sojourn import TLS, ApiKey, KeepaliveOptions, testing
from sojourn._config import Config, is_this_machine
from sojourn.errors import ConfigurationError, InvalidFieldError


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("localhost:7070", True),
        ("127.0.0.1:7070", True),
        ("127.9.9.9:1", True),
        ("[::1]:7070", True),
        ("::1", True),
        ("localhost", True),
        ("dns:///localhost:7070", True),
        ("dns://8.8.8.8/localhost:7070", True),
        ("ipv4:127.0.0.1:7070", True),
        ("ipv4:127.0.0.1:7070,127.0.0.2:7070", True),
        ("ipv6:[::1]:7070", True),
        ("unix:/run/sojourn.sock", True),
        ("unix-abstract:sojourn", True),
        ("sojourn:7070", False),
        ("10.0.0.1:7070", False),
        ("localhost.example.com:7070", False),
        ("dns:///example.com:7070", False),
        ("ipv4:127.0.0.1:7070,10.0.0.1:7070", False),
        ("xds:///localhost", False),
        ("[fe80::1]:7070", False),
    ],
)
def test_only_loopback_addresses_are_this_machine(target: str, here: bool) -> None:
    assert is_this_machine(target) is here


def test_credentials_are_not_sent_unencrypted_to_another_machine() -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        sojourn.connect_sync("sojourn.example.com:443", credentials=ApiKey("k"))
    with pytest.raises(ConfigurationError, match="unencrypted"):
        sojourn.connect("sojourn.example.com:443", credentials=ApiKey("k"))
    sojourn.connect("sojourn.example.com:443", credentials=ApiKey("k"), tls=TLS())
    sojourn.connect("localhost:7070", credentials=ApiKey("k"))


def test_secrets_are_in_no_repr() -> None:
    assert "secret" not in repr(ApiKey("secret"))
    assert "secret" not in repr(TLS(certificate_chain=b"chain", private_key=b"secret"))
    assert "secret" not in repr(Config(credentials=ApiKey("secret")))
    assert "secret" not in repr(sojourn.connect("localhost:1", credentials=ApiKey("secret")))


def test_metadata_says_who_acts_and_who_calls() -> None:
    config = Config(actor="Änne", credentials=ApiKey("k-1"))
    assert config.metadata() == (
        ("x-sojourn-actor-bin", "Änne".encode()),
        ("authorization", "Bearer k-1"),
    )
    assert Config().metadata() == ()


@pytest.mark.parametrize("key", ["", "with blank", "ümlaut", "line\n"])
def test_an_api_key_is_one_printable_word(key: str) -> None:
    with pytest.raises(ConfigurationError):
        ApiKey(key)


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(ConfigurationError):
        TLS(certificate_chain=b"chain")


def test_tls_is_read_from_files(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(b"pem")
    assert TLS.from_files(root).root_certificates == b"pem"
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        TLS.from_files(tmp_path / "missing.pem")


def test_a_client_needs_a_target_and_a_positive_deadline() -> None:
    with pytest.raises(ConfigurationError):
        sojourn.connect("")
    with pytest.raises(ConfigurationError):
        sojourn.connect("localhost:1", deadline=0)


def test_defaults_are_checked_when_connecting() -> None:
    with pytest.raises(InvalidFieldError):
        sojourn.connect("localhost:1", app="a" * 129)
    with pytest.raises(InvalidFieldError):
        sojourn.connect("localhost:1", default_labels={"k": ""})
    assert sojourn.connect("localhost:1", app=" support ").app == "support"


def test_pings_that_the_server_would_not_stand_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        KeepaliveOptions(interval=timedelta(seconds=1))


def test_what_stays_on_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    with testing.serve_sync() as server, server.client(app="a") as client:
        client.sessions.create("s")
