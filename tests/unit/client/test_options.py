"""Options that are safe, and their secrets."""

import copy
import pickle
from datetime import timedelta
from pathlib import Path

import pytest

import sojourn
from sojourn import TLS, ApiKey, BearerToken, KeepaliveOptions, testing
from sojourn._config import Config, authorization, is_this_machine
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


@pytest.mark.parametrize("credentials", [ApiKey("k"), BearerToken("t"), BearerToken(lambda: "t")])
def test_credentials_are_not_sent_unencrypted_to_another_machine(
    credentials: ApiKey | BearerToken,
) -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        sojourn.connect_sync("sojourn.example.com:443", credentials=credentials)
    with pytest.raises(ConfigurationError, match="unencrypted"):
        sojourn.connect("sojourn.example.com:443", credentials=credentials)
    sojourn.connect("sojourn.example.com:443", credentials=credentials, tls=TLS())
    sojourn.connect("localhost:7070", credentials=credentials)


def a_token() -> str:
    """What a function may give."""
    return "hunter2"


def secrets(folder: Path) -> list[TLS | ApiKey | BearerToken]:
    """One of everything that holds a secret, in an order of its own."""
    path = folder / "word"
    path.write_text("hunter2\n", encoding="ascii")
    return [
        ApiKey("hunter2"),
        ApiKey.from_file(path),
        BearerToken("hunter2"),
        BearerToken.from_file(path),
        BearerToken(a_token),
        TLS(certificate_chain=b"chain", private_key=b"hunter2"),
    ]


def test_secrets_are_in_no_repr_and_no_log(tmp_path: Path) -> None:
    for option in secrets(tmp_path):
        assert "hunter2" not in f"{option} {option!r} {[option]}", type(option)
        if not isinstance(option, TLS):
            client = sojourn.connect_sync("localhost:1", credentials=option)
            assert "hunter2" not in f"{client!r} {vars(client)}"
            assert "hunter2" not in str(vars(client._credential))
    assert repr(ApiKey.from_file(tmp_path / "word")) == f"ApiKey(file='{tmp_path / 'word'}')"
    assert repr(BearerToken(a_token)) == "BearerToken(a_token)"


def test_secrets_are_not_pickled_and_a_copy_is_the_same(tmp_path: Path) -> None:
    for option in secrets(tmp_path):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(option)
        assert copy.deepcopy(option) is copy.copy(option) is option


def test_metadata_says_who_acts_and_who_calls() -> None:
    assert Config(actor="Änne").metadata() == (("x-sojourn-actor-bin", "Änne".encode()),)
    assert Config().metadata() == ()
    assert authorization("k-1") == (("authorization", "Bearer k-1"),)


@pytest.mark.parametrize("key", ["", "with blank", "ümlaut", "line\n"])
def test_a_key_or_token_is_one_printable_word(key: str, tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_text(key or "\n", encoding="utf-8")
    for make in (ApiKey, BearerToken):
        with pytest.raises(ConfigurationError) as caught:
            make(key)
        assert not key or key not in str(caught.value)
    if key != "line\n":
        for read in (ApiKey.from_file, BearerToken.from_file):
            with pytest.raises(ConfigurationError, match=r"word holds none"):
                read(path)


def test_a_word_is_read_from_a_file_with_or_without_the_end_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "word"
    for text in ("k-1", "k-1\n", "\r\n k-1\r\n"):
        path.write_text(text, encoding="ascii", newline="")
        assert ApiKey.from_file(str(path)).key == BearerToken.from_file(path).token == "k-1"


def test_a_file_without_a_word_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*missing: No such file"):
        ApiKey.from_file(tmp_path / "missing")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="binary is no text"):
        BearerToken.from_file(binary)
    with pytest.raises(ConfigurationError, match="not from both"):
        BearerToken(lambda: "t", file=binary)


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
