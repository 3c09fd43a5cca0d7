"""Certificates for one test: signed by themselves, or by another one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path

    def replaced_by(self, other: Pair) -> None:
        """Put the files of another pair into this one's place, one after the other."""
        self.cert.write_bytes(other.cert.read_bytes())
        self.key.write_bytes(other.key.read_bytes())


def server_names() -> list[x509.GeneralName]:
    """The names of a server on this machine: `sojourn.example` and 127.0.0.1."""
    return [x509.DNSName("sojourn.example"), x509.IPAddress(ip_address("127.0.0.1"))]


def make_pair(
    folder: Path,
    name: str,
    *,
    names: Sequence[x509.GeneralName] | None = None,
    common_name: str | None = None,
    signed_by: Pair | None = None,
    begins: timedelta = -DAY,
    ends: timedelta = DAY,
) -> Pair:
    """Make a certificate and its key.

    Args:
        folder: Where the files go.
        name: What the files are called.
        names: The subject alternative names; None: those of a server on this machine.
        common_name: The subject's common name; None: `name`; empty: none.
        signed_by: Who signs; None: it signs itself.
        begins: When it becomes valid, from now.
        ends: When it expires, from now.
    """
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    common = name if common_name is None else common_name
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, common)] if common else [],
    )
    issuer, signer = subject, key
    if signed_by is not None:
        issuer = x509.load_pem_x509_certificate(signed_by.cert.read_bytes()).subject
        loaded = load_pem_private_key(signed_by.key.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
    )
    alternatives = server_names() if names is None else names
    if alternatives:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(alternatives), critical=not common
        )
    certificate = builder.sign(signer, hashes.SHA256())
    pair.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    return pair
