"""Where keys come from: URLs and files, read within bounds of time and size."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sojourn_server.access import jwks
from sojourn_server.access.documents import (
    DOCUMENT_BYTES,
    BadDocument,
    FileSource,
    UrlSource,
)
from sojourn_server.access.jwks import Jwks, parse
from sojourn_server.access.jwt import Verifier
from tests.unit.access.issuer import (
    ALGORITHMS,
    PATIENCE,
    RULES,
    KeyServer,
    document,
    ec_key,
    jwk,
    token,
    until,
)

GOOD = document(jwk(ec_key()))


# --- URLs ---------------------------------------------------------------------------------------


def test_a_document_is_fetched():
    with KeyServer(GOOD) as server:
        assert UrlSource(server.url + "?v=1").read() == GOOD
        assert server.paths == ["/jwks.json?v=1"]


@pytest.mark.parametrize("status", [204, 301, 302, 303, 307, 308, 400, 404, 500, 503])
def test_no_answer_but_a_plain_one_is_taken(status: int):
    with KeyServer(GOOD) as elsewhere, KeyServer(GOOD) as server:
        server.status = status
        server.headers = {"location": elsewhere.url}
        server.body = b"" if status == 204 else GOOD
        with pytest.raises(BadDocument, match=str(status)):
            UrlSource(server.url).read()
        assert not elsewhere.paths, "a redirect was followed"


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_document_that_is_too_large_is_refused(tells_length: bool):
    body = b'{"keys": [' + b" " * DOCUMENT_BYTES + GOOD[10:]
    with KeyServer(body) as server:
        server.tells_length = tells_length
        with pytest.raises(BadDocument, match="larger"):
            UrlSource(server.url).read()
        server.body = GOOD + b" " * (DOCUMENT_BYTES - len(GOOD))
        assert parse(UrlSource(server.url).read(), ALGORITHMS)


def test_an_answer_that_ends_early_is_no_document():
    with KeyServer(GOOD[:-1]) as server:
        server.tells_length = False
        server.headers = {"content-length": str(len(GOOD))}
        with pytest.raises(BadDocument):
            parse(UrlSource(server.url).read(), ALGORITHMS)


class Dripper:
    """A server that sends a bit of something now and then, and never ends.

    Args:
        begin: What comes at once.
    """

    def __init__(self, begin: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._begin = begin
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drip)
        self.port = self._listener.getsockname()[1]

    def _drip(self) -> None:
        self._listener.settimeout(PATIENCE)
        connection, _ = self._listener.accept()
        with connection:
            try:
                connection.sendall(self._begin)
                while not self._over.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                # Cut off, as it should be.
                self._over.set()

    def __enter__(self) -> Dripper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        self._listener.close()


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + GOOD,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfff\r\n",
    ],
    ids=["status", "header", "body", "length", "chunk"],
)
def test_a_fetch_that_never_ends_is_cut_off(begin: bytes):
    with Dripper(begin) as server:
        source = UrlSource(f"http://127.0.0.1:{server.port}/", seconds=0.2)
        with pytest.raises(BadDocument, match="longer than"):
            source.read()


def test_a_handshake_that_never_ends_is_cut_off():
    # The header of a long TLS record, then byte after byte of it.
    with Dripper(b"\x16\x03\x03\x3f\xff") as server:
        source = UrlSource(f"https://127.0.0.1:{server.port}/", seconds=0.2)
        with pytest.raises(BadDocument, match="longer than"):
            source.read()


async def test_a_stop_cuts_off_a_fetch():
    with KeyServer(GOOD) as server:
        server.go_on.clear()
        keys = Jwks(UrlSource(server.url, seconds=PATIENCE * 10), ALGORITHMS, refresh=300.0)
        running = asyncio.create_task(keys.run())
        await asyncio.to_thread(server.asked.wait, PATIENCE)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert keys._reading is None
        assert keys.failing


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BadDocument, match="ConnectionRefusedError"):
        UrlSource(f"http://127.0.0.1:{port}/").read()


def test_a_host_is_tried_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch):
    with KeyServer(GOOD) as server:
        port = urlsplit(server.url).port
        # Nobody listens at the second address of the loopback.
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port or 0))
            for at in ("127.0.0.2", "127.0.0.3", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", Answers(found))
        assert UrlSource(f"http://issuer.example:{port}/").read() == GOOD


def test_all_addresses_share_the_time_of_one_fetch(monkeypatch: pytest.MonkeyPatch):
    tried = []

    def connect(address: tuple[str, int], seconds: float) -> socket.socket:
        tried.append(seconds)
        time.sleep(seconds)
        raise TimeoutError

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))] * 9
    monkeypatch.setattr(socket, "getaddrinfo", Answers(found))
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(BadDocument):
        UrlSource("http://issuer.example/", seconds=0.1).read()
    assert len(tried) == 1


def test_an_address_in_brackets_without_a_port_is_one(monkeypatch: pytest.MonkeyPatch):
    asked = Answers([])
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    for url in ("http://[::1]/keys", "https://[::1]/keys", "http://[::1]:81/keys"):
        with pytest.raises(BadDocument):
            UrlSource(url).read()
    assert asked.questions == [("::1", 80), ("::1", 443), ("::1", 81)]


class Answers:
    """Takes the place of the machine's resolver."""

    def __init__(self, found: list[Any]) -> None:
        self.questions: list[tuple[str, int]] = []
        self._found = found
        self._real = socket.getaddrinfo

    def __call__(self, host: str, port: int, *more: int, **named: int) -> list[Any]:
        if host.startswith("127."):
            return self._real(host, port, *more, **named)
        self.questions.append((host, port))
        return self._found


def test_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    with KeyServer(GOOD) as proxy, KeyServer(GOOD) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert UrlSource(server.url).read() == GOOD
        assert not proxy.paths


def a_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signed itself, for the loopback, and its key."""
    key = ec_key(name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    cert, private = folder / f"{name}.pem", folder / f"{name}-key.pem"
    cert.write_bytes(made.public_bytes(encoding))
    private.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, private


def test_over_https_only_a_server_that_the_machine_trusts_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cert, key = a_certificate(tmp_path, "issuer")
    other, _ = a_certificate(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with KeyServer(GOOD, context) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert UrlSource(server.url).read() == GOOD
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        with pytest.raises(BadDocument, match="SSLCertVerificationError"):
            UrlSource(server.url).read()


# --- files --------------------------------------------------------------------------------------


async def test_a_file_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jwks, "LOOK_SECONDS", 0.01)
    path = tmp_path / "jwks.json"
    path.write_bytes(document(jwk(ec_key("old"), "old")))
    source = FileSource(path)
    keys = Jwks(source, ALGORITHMS, refresh=None)
    await keys.read()
    verify = Verifier(RULES, keys)
    old = token(ec_key("old"), headers={"kid": "old"})
    await verify.verify(old)
    assert not source.changed()
    running = asyncio.create_task(keys.run())
    path.write_bytes(b"{")
    await until(lambda: bool(keys.failing))
    assert verify.known(old), "the last good one stays"
    fresh = tmp_path / "fresh.json"
    fresh.write_bytes(document(jwk(ec_key("new"), "new")))
    fresh.replace(path)
    await until(lambda: not keys.failing)
    assert verify.known(old) is None
    await verify.verify(token(ec_key("new"), headers={"kid": "new"}))
    path.unlink()
    await until(lambda: bool(keys.failing))
    assert not source.changed(), "a file that is away is complained of once"
    path.write_bytes(document(jwk(ec_key("old"), "old")))
    await until(lambda: not keys.failing)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.skipif(os.name != "posix", reason="rights are others there")
def test_a_file_that_everybody_may_change_is_refused(tmp_path: Path):
    path = tmp_path / "jwks.json"
    path.write_bytes(GOOD)
    path.chmod(0o646)
    with pytest.raises(BadDocument, match="everybody"):
        FileSource(path).read()
    path.chmod(0o644)
    assert FileSource(path).read() == GOOD


def test_a_file_that_is_too_large_or_none_is_refused(tmp_path: Path):
    path = tmp_path / "jwks.json"
    path.write_bytes(b" " * (DOCUMENT_BYTES + 1))
    with pytest.raises(BadDocument, match="larger"):
        FileSource(path).read()
    with pytest.raises(BadDocument, match="cannot be read"):
        FileSource(tmp_path).read()
