"""Whose a certificate is: one order of names, and nobody rather than a guess."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sojourn_server.access import certificates
from sojourn_server.access.certificates import NamelessCertificate, identify
from tests.api.certificates import make_pair

URI = x509.UniformResourceIdentifier("spiffe://example/agent")
URI_2 = x509.UniformResourceIdentifier("spiffe://example/other")
DNS = x509.DNSName("agent.internal")
DNS_2 = x509.DNSName("other.internal")
MAIL = x509.RFC822Name("agent@example.org")


def name_of(folder: Path, *names: x509.GeneralName, common_name: str = "agent") -> str:
    pair = make_pair(folder, "client", names=names, common_name=common_name)
    return identify(pair.cert.read_bytes())[0]


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ((URI,), "cert:spiffe://example/agent"),
        ((DNS, URI), "cert:spiffe://example/agent"),
        ((MAIL, DNS, URI_2, URI), "cert:spiffe://example/other"),
        ((DNS,), "cert:agent.internal"),
        ((MAIL, DNS_2, DNS), "cert:other.internal"),
        ((MAIL,), "cert:agent"),
        ((), "cert:agent"),
    ],
)
def test_the_first_uri_counts_then_the_first_dns_name_then_the_common_name(
    tmp_path: Path, names: tuple[x509.GeneralName, ...], name: str
) -> None:
    assert name_of(tmp_path, *names) == name


def test_a_common_name_may_have_blanks_and_letters_of_any_alphabet(tmp_path: Path) -> None:
    assert name_of(tmp_path, common_name="Büro 7") == "cert:Büro 7"


@pytest.mark.parametrize(
    ("names", "common_name"),
    [
        ((), ""),
        ((MAIL,), ""),
        ((), "line\nfeed"),
        ((), "nul\0"),
        ((), " agent"),
        ((), "right-to-left \u202e"),
        ((x509.DNSName("a" * 252),), "agent"),
        ((x509.DNSName("tab\t"),), "agent"),
        ((x509.UniformResourceIdentifier(""),), "agent"),
    ],
)
def test_a_certificate_whose_name_cannot_be_used_is_refused_whatever_else_it_says(
    tmp_path: Path, names: tuple[x509.GeneralName, ...], common_name: str
) -> None:
    with pytest.raises(NamelessCertificate):
        name_of(tmp_path, *names, common_name=common_name)


def test_the_longest_name_has_256_characters_with_its_prefix(tmp_path: Path) -> None:
    assert len(name_of(tmp_path, x509.DNSName("a" * 251))) == 256


@pytest.mark.parametrize("pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_bytes_that_are_no_certificate_name_nobody(pem: bytes) -> None:
    with pytest.raises(NamelessCertificate):
        identify(pem)


def test_a_certificate_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    pem = make_pair(tmp_path, "client").cert.read_bytes()
    with pytest.raises(NamelessCertificate, match="too large"):
        identify(pem + b"\n" * certificates.PEM_BYTES)


def test_a_certificate_holds_until_it_expires(tmp_path: Path) -> None:
    pem = make_pair(tmp_path, "client", ends=timedelta(hours=-3)).cert.read_bytes()
    ends: datetime = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    assert identify(pem)[1] == ends.timestamp()


def test_a_known_certificate_is_not_read_again_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (
        make_pair(tmp_path, name, names=()).cert.read_bytes() for name in ("one", "other")
    )
    assert (identify(one)[0], identify(other)[0]) == ("cert:one", "cert:other")
    monkeypatch.setattr(certificates, "_name", None)
    # Another object of the same bytes, as each call brings one.
    assert identify(bytes(bytearray(one)))[0] == "cert:one"
    assert identify.cache_info().maxsize == certificates.KNOWN
