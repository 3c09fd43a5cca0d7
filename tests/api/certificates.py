"""Certificates that sign themselves, made by openssl for one test."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path


def make_pair(folder: Path, name: str) -> Pair:
    """Make a certificate for sojourn.example and for 127.0.0.1."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:sojourn.example,IP:127.0.0.1"),
            *("-out", str(pair.cert), "-keyout", str(pair.key)),
        ],
        check=True,
        capture_output=True,
    )
    return pair
