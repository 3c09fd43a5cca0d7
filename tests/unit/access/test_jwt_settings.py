"""The settings of JWTs, and the verifier that is made of them."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sojourn_server.access.documents import (
    FileSource,
    UrlSource,
    source_of,
)
from sojourn_server.access.identity import BadCredential
from sojourn_server.access.jwt import make_verifier
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.settings import Settings, SettingsError
from tests.unit.access.issuer import (
    AUDIENCE,
    ISSUER,
    document,
    ec_key,
    jwk,
    rsa_key,
    token,
)


def settings_for(place: object, **more: Any) -> Settings:
    return Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=str(place), **more)


async def test_the_settings_make_a_verifier(tmp_path: Path):
    path = tmp_path / "jwks.json"
    path.write_bytes(document(jwk(ec_key()), jwk(rsa_key(), "rsa")))
    verify = await make_verifier(settings_for(path))
    assert verify is not None
    identity = await verify.verify(token(exp=int(time.time()) + 60, groups="ops"))
    assert identity.groups == {"ops"}
    await verify.verify(token(rsa_key(), "RS256", headers={"kid": "rsa"}))
    chosen = settings_for(
        path, jwt_algorithms="ES256, EdDSA", jwt_groups_claim="roles", jwt_leeway=0
    )
    strict = await make_verifier(chosen)
    assert strict is not None
    now = int(time.time())
    strict_identity = await strict.verify(token(exp=now + 60, groups="no", roles="yes"))
    assert strict_identity.groups == {"yes"}
    assert strict_identity.expires == now + 60
    with pytest.raises(BadCredential):
        await strict.verify(token(rsa_key(), "RS256", headers={"kid": "rsa"}))


async def test_without_settings_there_is_no_verifier():
    assert await make_verifier(Settings()) is None


async def test_a_url_may_be_down_at_the_start_and_a_file_may_not(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    verify = await make_verifier(settings_for(f"http://127.0.0.1:{port}/"))
    assert verify is not None
    with pytest.raises(Refusal) as caught:
        await verify.verify(token())
    assert caught.value.reason is Reason.ISSUER_UNAVAILABLE
    with pytest.raises(SettingsError, match="cannot be read"):
        await make_verifier(settings_for(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_bytes(b"{")
    with pytest.raises(SettingsError, match=r"jwt_jwks: .*it is no JSON"):
        await make_verifier(settings_for(tmp_path / "broken.json"))


def test_a_place_is_a_url_or_a_file():
    assert isinstance(source_of("https://login.example/keys"), UrlSource)
    assert isinstance(source_of("/etc/jwks.json"), FileSource)
    assert isinstance(source_of("jwks.json"), FileSource)


@pytest.mark.parametrize(
    "place",
    [
        "http://login.example/keys",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1.example.org/keys",
        "http://localhost@example.org/keys",
        "https://user:secret@login.example/keys",
        "https:///keys",
        "https://login.example:x/keys",
        "https://login.example/a b",
        "https://login.example/\r\nhost: other",
        "https://[::1/keys",
        "ftp://login.example/keys",
        "file:///etc/passwd",
        "data://text/plain,x",
        "HTTP://login.example/keys",
    ],
)
def test_other_urls_are_refused_and_not_repeated(place: str):
    with pytest.raises(SettingsError) as caught:
        settings_for(place)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "https://login.example/keys",
        "https://login.example:8443/keys?v=1",
        "HTTPS://login.example/keys",
        "http://127.0.0.1:8080/keys",
        "http://127.3.2.1/keys",
        "http://[::1]:8080/keys",
        "http://localhost/keys",
        "/etc/sojourn/jwks.json",
    ],
)
def test_these_places_are_taken(place: str):
    assert settings_for(place).jwt_jwks == place


@pytest.mark.parametrize(
    "values",
    [
        {"jwt_issuer": ISSUER},
        {"jwt_audience": AUDIENCE},
        {"jwt_jwks": "jwks.json"},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE},
        {"jwt_issuer": ISSUER, "jwt_jwks": "jwks.json"},
        {"jwt_audience": AUDIENCE, "jwt_jwks": "jwks.json"},
        {"jwt_issuer": "", "jwt_audience": AUDIENCE, "jwt_jwks": "jwks.json"},
        {"jwt_issuer": ISSUER, "jwt_audience": "", "jwt_jwks": "jwks.json"},
        {"jwt_issuer": "", "jwt_audience": "", "jwt_jwks": ""},
    ],
    ids=str,
)
def test_issuer_audience_and_keys_come_together(values: dict[str, Any]):
    with pytest.raises(SettingsError, match="together"):
        Settings(**values)


@pytest.mark.parametrize(
    "algorithms", ["HS256", "none", "RS256,HS256", "RS256,none", "", "RS256,", "rs256", "ES256K"]
)
def test_algorithms_that_share_a_secret_or_none_are_refused(algorithms: str):
    with pytest.raises(SettingsError, match="jwt_algorithms"):
        settings_for("jwks.json", jwt_algorithms=algorithms)


def test_the_leeway_is_at_most_five_minutes():
    minute = 60 * 1_000_000_000
    settings_for("jwks.json", jwt_leeway=5 * minute)
    with pytest.raises(SettingsError):
        settings_for("jwks.json", jwt_leeway=5 * minute + 1)
