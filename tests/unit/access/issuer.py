"""An issuer of tokens for tests: keys, good tokens, forged ones, and a server of its keys."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from sojourn_server.access.documents import BadDocument
from sojourn_server.access.identity import BadCredential
from sojourn_server.access.jwks import Jwks
from sojourn_server.access.jwt import Rules, Verifier

ISSUER = "https://login.example"
AUDIENCE = "sojourn"
ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA"})
RULES = Rules(issuer=ISSUER, audience=AUDIENCE, algorithms=ALGORITHMS, leeway=30.0)

PATIENCE = 10.0
"""Seconds until a test gives up; nothing waits that long where all is well."""

Private = Any
"""A private key of whatever kind; the library's own union has no use here."""


@functools.cache
def rsa_key(name: str = "", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key that is made once: each name has its own."""
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ec_key(name: str = "", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Private:
    return ec.generate_private_key(curve())


@functools.cache
def ed_key(name: str = "") -> Private:
    return ed25519.Ed25519PrivateKey.generate()


@functools.cache
def ed448_key() -> Private:
    return ed448.Ed448PrivateKey.generate()


def jwk(key: Private, kid: str | None = "k1", **more: Any) -> dict[str, Any]:
    """The public half of a key, as an issuer shows it."""
    algorithm = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    name = next((each for kind, each in algorithm.items() if isinstance(key, kind)), "EdDSA")
    shown = get_default_algorithms()[name].to_jwk(key.public_key(), as_dict=True)
    shown.pop("key_ops", None)
    return shown | ({} if kid is None else {"kid": kid}) | more


def document(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; None takes one away."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
    return {name: each for name, each in (good | changes).items() if each is not None}


def token(
    key: Private = None,
    algorithm: str = "ES256",
    *,
    headers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A token, signed as an issuer would."""
    headers = {"kid": "k1"} if headers is None else headers
    return jwt.encode(claims(**changes), key or ec_key(), algorithm, headers=dict(headers))


def segment(data: bytes | Mapping[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(
    header: bytes | Mapping[str, Any],
    payload: bytes | Mapping[str, Any],
    sign: Callable[[bytes], bytes],
) -> str:
    """A token as no library would make it.

    Args:
        header: An object, or whatever bytes.
        payload: Likewise.
        sign: Makes the signature of what is signed.
    """
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(sign(signed.encode()))}"


def signer(key: Private = None, algorithm: str = "ES256") -> Callable[[bytes], bytes]:
    """Signs whatever it is given, as the issuer."""
    return lambda text: get_default_algorithms()[algorithm].sign(text, key or ec_key())


class Shelf:
    """A source whose document the test lays there; an exception is raised instead."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.document: bytes | Exception = document(*keys)
        self.reads = 0
        self.closed = False
        self.is_changed = False

    def read(self) -> bytes:
        self.reads += 1
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def changed(self) -> bool:
        return self.is_changed

    def close(self) -> None:
        self.closed = True


def down() -> BadDocument:
    return BadDocument("down")


async def verifier(
    *keys: Mapping[str, Any], rules: Rules = RULES, rest: float = 0.0, **more: Any
) -> Verifier:
    """A verifier whose issuer shows these keys."""
    found = Jwks(Shelf(*keys), rules.algorithms, refresh=300.0, rest=rest)
    await found.read()
    return Verifier(rules, found, **more)


KEYS = (jwk(rsa_key(), "rsa"), jwk(ec_key(), "k1"), jwk(ed_key(), "ed"))


async def refused(bad: str, verify: Verifier | None = None) -> BadCredential:
    """Show a token, and show that it is refused, by both ways in."""
    verify = verify or await verifier(*KEYS)
    assert verify.known(bad) is None
    with pytest.raises(BadCredential) as caught:
        await verify.verify(bad)
    assert verify.known(bad) is None
    for part in bad.split("."):
        assert len(part) < 8 or part not in str(caught.value), "a credential in an error"
    return caught.value


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - what is waited for happens in threads too
            await asyncio.sleep(0.005)


class KeyServer:
    """Serves a JWKS document, or what goes wrong in its place.

    Args:
        context: TLS; None: plain HTTP.
    """

    def __init__(self, body: bytes, context: ssl.SSLContext | None = None) -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {}
        self.tells_length = True
        self.paths: list[str] = []
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.paths.append(handler.path)
        self.asked.set()
        self.go_on.wait(30)
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        if self.tells_length:
            handler.send_header("content-length", str(len(self.body)))
        handler.end_headers()
        try:
            handler.wfile.write(self.body)
        except OSError:
            # Who asked has gone, which some tests want.
            return

    def __enter__(self) -> KeyServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
