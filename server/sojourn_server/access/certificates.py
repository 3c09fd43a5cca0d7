"""Whose a client certificate is. That it is genuine was found out by the handshake."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cryptography import x509

from sojourn_server.access.identity import BadCredential

PREFIX: Final = "cert:"
NAME_CHARACTERS: Final = 256
"""The most that a name may have, its prefix counted: it is written into changes and audit."""
PEM_BYTES: Final = 64 * 1024
"""The most that a certificate may have; a tenth of it is large."""
KNOWN: Final = 256
"""How many certificates are remembered."""


class NamelessCertificate(BadCredential):
    """A certificate that names nobody; the text is a few words for the server's log."""


@lru_cache(maxsize=KNOWN)
def identify(pem: bytes) -> tuple[str, float]:
    """Whose a certificate is, and how long it holds. A known one costs about a microsecond.

    The name is `cert:` and the first of these that the certificate has: the first URI among
    its subject alternative names, the first DNS name among them, the common name of its
    subject. If that one cannot be used, no other stands in for it.

    Args:
        pem: The certificate that the handshake verified, as grpc hands it over.

    Returns:
        The name, printable and of at most 256 characters, and the moment after which the
        certificate is no longer good, in seconds since 1970.

    Raises:
        NamelessCertificate: It cannot be read, or has no name that can be used.
    """
    if len(pem) > PEM_BYTES:
        raise NamelessCertificate("the certificate is too large")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        found = _name(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise NamelessCertificate("the certificate cannot be read") from None
    name = f"{PREFIX}{found}"
    if not found:
        raise NamelessCertificate("the certificate has no name")
    if found != found.strip() or not found.isprintable() or len(name) > NAME_CHARACTERS:
        raise NamelessCertificate("the certificate's name cannot be used")
    return name, certificate.not_valid_after_utc.timestamp()


def _name(certificate: x509.Certificate) -> str:
    """The name that counts; empty: there is none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    for kind in (x509.UniformResourceIdentifier, x509.DNSName):
        for name in names.get_values_for_type(kind):
            return name
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if len(common) > 1:
        raise NamelessCertificate("the certificate has several common names")
    value = common[0].value if common else ""
    return value if isinstance(value, str) else ""
