"""Which servers start, and which are refused with which sentence: nothing is open by default."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from sojourn_server.settings import JWT_ALGORITHMS, Settings, SettingsError

ROOT: Final = Path(__file__).resolve().parents[3]
PATIENCE: Final = 60.0

NEAR: Final = ("127.0.0.1:0", "127.8.9.1:7070", "localhost:0", "[::1]:7070")
"""Only this machine reaches them."""
FAR: Final = (
    *("0.0.0.0:7070", "[::]:0", "192.0.2.1:7070", "[2001:db8::1]:0", "sojourn.internal:7070"),
    # What may look near, or be everywhere under another name.
    *("0:7070", "*:7070", "127.1:7070", "localhost.:0", "localhost.example.org:0", "LOCALHOST:0"),
    *("[::ffff:0.0.0.0]:0", "[::127.0.0.1]:0", "0177.0.0.1:0", "2130706433:0", "127.0.0.1.:0"),
)
TLS: Final[dict[str, Any]] = {"tls_cert": Path("cert.pem"), "tls_key": Path("key.pem")}
JWT: Final = {"jwt_issuer": "https://i", "jwt_audience": "a", "jwt_jwks": "https://i/keys"}
ASKED: Final[dict[str, dict[str, Any]]] = {
    "nobody is asked": {},
    "keys": {"keys_file": Path("keys.json")},
    "JWT": JWT,
    "certificates": {"tls_client_ca": Path("ca.pem")},
    "all": {"keys_file": Path("keys.json"), **JWT, "tls_client_ca": Path("ca.pem")},
}
METRICS: Final = (None, "127.0.0.1:9464", "0.0.0.0:9464", "metrics.internal:9464")
FLAGS: Final = ("insecure", "reflection", "channelz")

OPEN: Final = (
    "{} can be reached from elsewhere: set tls_cert and tls_key, and one of keys_file, jwt_issuer "
    "and tls_client_ca, or say --insecure."
)
OPEN_METRICS: Final = (
    "{} can be reached from elsewhere, and metrics are served without TLS or credentials: say "
    "--insecure."
)
NO_TLS: Final = "tls_client_ca needs tls_cert and tls_key."


def refused(listen: str, tls: bool, asked: str, metrics: str | None, insecure: bool) -> str:
    """The sentence with which it is refused; empty: it starts."""
    if asked in ("certificates", "all") and not tls:
        return NO_TLS
    if listen in FAR and not insecure and not (tls and asked != "nobody is asked"):
        return OPEN.format(listen)
    if metrics is not None and not metrics.startswith("127.") and not insecure:
        return OPEN_METRICS.format(metrics)
    return ""


def test_every_combination_starts_or_is_refused_as_it_should():
    outcomes: Counter[str] = Counter()
    for listen, tls, asked, metrics, *flags in itertools.product(
        NEAR + FAR, (False, True), ASKED, METRICS, *[(False, True)] * len(FLAGS)
    ):
        said = dict(zip(FLAGS, flags, strict=True))
        values: dict[str, Any] = {
            "listen": listen,
            "metrics_listen": metrics,
            **said,
            **ASKED[asked],
        }
        try:
            Settings(**values, **(TLS if tls else {}))
            sentence = ""
        except SettingsError as error:
            sentence = str(error)
        assert sentence == refused(listen, tls, asked, metrics, said["insecure"]), values
        outcomes[re.sub(r"^\S+ can", "… can", sentence) or "starts"] += 1
    assert outcomes.total() == 6_400
    assert len(outcomes) == 4
    assert min(outcomes.values()) > 500


def test_no_default_is_open():
    settings = Settings()
    assert settings.listen in NEAR or settings.listen.startswith("127.0.0.1:")
    assert settings.metrics_listen is None
    assert (settings.insecure, settings.reflection, settings.channelz) == (False, False, False)
    assert refused("0.0.0.0:7070", False, "nobody is asked", None, False)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"grants_file": Path("g")}, "grants_file needs keys_file, jwt_issuer or tls_client_ca."),
        (
            {"jwt_issuer": "i"},
            "jwt_issuer, jwt_audience and jwt_jwks must be set together.",
        ),
        (
            {"jwt_issuer": "i", "jwt_audience": "a", "jwt_jwks": ""},
            "jwt_issuer, jwt_audience and jwt_jwks must be set together.",
        ),
        (
            {**JWT, "jwt_jwks": "http://issuer.internal/keys"},
            "jwt_jwks must begin with https:// where it leaves this machine.",
        ),
        (
            {**JWT, "jwt_algorithms": "RS256,HS256"},
            f"jwt_algorithms must be some of {', '.join(JWT_ALGORITHMS)}, with commas.",
        ),
        ({**JWT, "jwt_algorithms": "none"}, None),
        ({**JWT, "jwt_algorithms": ""}, None),
        ({"tls_cert": Path("c")}, "tls_cert and tls_key must be set together."),
    ],
)
def test_half_a_way_to_authenticate_is_none(values: dict[str, Any], sentence: str | None):
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    assert sentence is None or str(caught.value) == sentence


def ended(folder: Path, *flags: str, **variables: str) -> tuple[int, str]:
    """Start a real server that must not start."""
    own = {key: value for key, value in os.environ.items() if "SOJOURN" not in key}
    done = subprocess.run(
        [sys.executable, "-m", "sojourn_server", *flags],
        cwd=folder,
        env=own | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def image_s_variables() -> dict[str, str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return dict(re.findall(r"^\s+(?:ENV )?(SOJOURN_\w+)=(\S+)", text, re.MULTILINE))


def test_the_image_does_not_start_until_somebody_decides(tmp_path: Path):
    variables = image_s_variables()
    assert "SOJOURN_LISTEN" in variables
    code, said = ended(tmp_path, **variables)
    assert (code, said) == (2, f"sojourn-server: {OPEN.format(variables['SOJOURN_LISTEN'])}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_keys_that_is_not_there_or_broken_or_anybody_s_starts_no_server(tmp_path: Path):
    """It does not start and ask nobody, nor start and let nobody in."""
    path = tmp_path / "keys.json"
    flags = ("--listen", "127.0.0.1:0", "--keys-file", str(path))
    begin = "sojourn-server: keys_file: "
    assert ended(tmp_path, *flags) == (
        2,
        f"{begin}{path} cannot be read (No such file or directory).\n",
    )
    path.write_text("{}[")
    path.chmod(0o600)
    assert ended(tmp_path, *flags) == (
        2,
        f"{begin}it is no file of keys; make one with keys create.\n",
    )
    path.write_text('{"version": 1, "keys": []}')
    path.chmod(0o602)
    assert ended(tmp_path, *flags) == (
        2,
        f"{begin}{path} can be changed by everybody; take that right away.\n",
    )
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]
