"""TLS from files that may be exchanged while the server runs.

A new certificate, key or client CA counts for connections that come after it; open ones
stay as they are. What cannot be used is not taken: the last good files stay in use, and
the log says why, once.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from sojourn_server import logs
from sojourn_server.settings import Settings, SettingsError

YOUNG: Final = 2_000_000_000
"""How old a change must be before a look at the file's times would show the next one, in ns."""
TRIES: Final = 5
"""How often files are read that change meanwhile, before the next handshake has to do it."""
FOREVER: Final = float("inf")

_Stamp = tuple[tuple[int, int, int, int, int], ...]

_log = logs.Log("tls")


class BadFiles(Exception):
    """Files that cannot be used.

    Args:
        why: A sentence for the operator.
        until: When they could be used as they are, in seconds since 1970.
    """

    def __init__(self, why: str, until: float = FOREVER) -> None:
        super().__init__(why)
        self.until = until


class Files(NamedTuple):
    """What the files hold, or one read of them."""

    cert: bytes
    key: bytes
    client_ca: bytes | None


class ReloadedTls:
    """The server's certificate, its key and the client CA, as their files say now.

    `fetch` is called at each handshake, on grpc's threads. It compares the files' times, and
    reads only what has changed. It serves one port: each change is handed out once.

    Args:
        cert: The server's certificate chain, PEM.
        key: Its private key, PEM.
        client_ca: Who signs client certificates, PEM; None: clients need none.

    Raises:
        SettingsError: A file cannot be read, or cannot be used.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = {"tls_cert": cert, "tls_key": key}
        if client_ca is not None:
            self._paths["tls_client_ca"] = client_ca
        self._lock = threading.Lock()
        self._complaint = ""
        # When a look at the files' times no longer does, in seconds since 1970.
        self._look_again = FOREVER
        try:
            self._stamp, self._seen = self._read()
            self._expires = check(self._seen, self._paths)
        except BadFiles as error:
            raise SettingsError(str(error)) from None
        self._good = self._seen

    def credentials(self) -> grpc.ServerCredentials:
        """What grpc takes for one port. With a client CA, callers must show a certificate."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._good),
            # grpc's stubs do not say so, but None means that nothing has changed.
            self.fetch,  # type: ignore[arg-type]
            require_client_authentication=self._good.client_ca is not None,
        )

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The files for the connection that comes; None: the same as for the last. Never raises."""
        # Two handshakes at once: the second does not wait for the first one's reading.
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._refresh()
        except Exception as error:  # noqa: BLE001 - no handshake may fail for the files of the next
            _log.error("certificate not looked at", **logs.fault(error))
            return None
        finally:
            self._lock.release()

    def _refresh(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            if not self._may_differ():
                return None
            self._stamp, files = self._read()
            # Young files are read more than once; only other bytes are worth a thought.
            if files == self._seen and time.time() < self._look_again:
                return None
            self._seen = files
            self._look_again = FOREVER
            expires = check(files, self._paths)
        except BadFiles as error:
            self._look_again = min(self._look_again, error.until)
            self._complain("certificate files not taken; the last good stay", str(error))
            return None
        if self._complaint:
            self._complaint = ""
            _log.info("certificate files are good again")
        self._expires = expires
        if files == self._good:
            return None
        self._good = files
        _log.info("certificate taken", expires=_date(expires))
        return _configuration(files)

    def _may_differ(self) -> bool:
        """Whether the files may hold something else than when they were last read."""
        now = time.time()
        stamp = self._look()
        if stamp != self._stamp or now >= self._look_again:
            return True
        if now >= self._expires:
            self._complain("certificate has expired", f"since {_date(self._expires)}")
        return any(changed > now * 1_000_000_000 - YOUNG for *_, changed in stamp)

    def _look(self) -> _Stamp:
        """The files' times and numbers, links followed.

        Raises:
            BadFiles: One is not there.
        """
        stamp = []
        for name, path in self._paths.items():
            try:
                found = path.stat()
            except OSError as error:
                raise BadFiles(f"{name}: {path} cannot be read ({error.strerror}).") from None
            stamp.append(
                (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            )
        return tuple(stamp)

    def _read(self) -> tuple[_Stamp, Files]:
        """All files as they were at one moment: who exchanges a folder exchanges them together.

        Raises:
            BadFiles: One cannot be read, or they do not stop changing.
        """
        before = self._look()
        for _ in range(TRIES):
            found: dict[str, bytes] = {}
            for name, path in self._paths.items():
                try:
                    found[name] = path.read_bytes()
                except OSError as error:
                    raise BadFiles(f"{name}: {path} cannot be read ({error.strerror}).") from None
            after = self._look()
            if after == before:
                return after, Files(found["tls_cert"], found["tls_key"], found.get("tls_client_ca"))
            before = after
        raise BadFiles("tls_cert, tls_key or tls_client_ca change while they are read.")

    def _complain(self, event: str, why: str) -> None:
        """Say what is wrong, once, until it is something else."""
        if why != self._complaint:
            self._complaint = why
            _log.warning(event, why=why)


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What a port takes for TLS as the settings say; None: without it. For one port.

    Raises:
        SettingsError: A file cannot be read, or cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ReloadedTls(settings.tls_cert, settings.tls_key, settings.tls_client_ca).credentials()


def check(files: Files, paths: dict[str, Path]) -> float:
    """Look whether files can be used, and together.

    Args:
        files: What they hold.
        paths: Where each is, by setting, for the message.

    Returns:
        When the certificate expires, in seconds since 1970.

    Raises:
        BadFiles: They cannot be used.
    """
    own = _certificates(files.cert, "tls_cert", paths)[0]
    _check_key(own, files.key, paths)
    if files.client_ca is not None:
        _certificates(files.client_ca, "tls_client_ca", paths)
    now = datetime.fromtimestamp(time.time(), UTC)
    if own.not_valid_after_utc <= now:
        raise BadFiles(f"tls_cert: {paths['tls_cert']} has expired.")
    if own.not_valid_before_utc > now:
        raise BadFiles(
            f"tls_cert: {paths['tls_cert']} is not valid yet.",
            until=own.not_valid_before_utc.timestamp(),
        )
    return own.not_valid_after_utc.timestamp()


def _certificates(pem: bytes, name: str, paths: dict[str, Path]) -> list[x509.Certificate]:
    """The certificates of a file, at least one."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        found = []
    if not found:
        raise BadFiles(f"{name}: {paths[name]} holds no certificate in PEM, or a broken one.")
    return found


def _check_key(own: x509.Certificate, pem: bytes, paths: dict[str, Path]) -> None:
    """Look whether a key belongs to a certificate."""
    path = paths["tls_key"]
    try:
        key = load_pem_private_key(pem, password=None)
        belongs = _public(key.public_key()) == _public(own.public_key())
    except TypeError:
        raise BadFiles(f"tls_key: {path} is encrypted; the server has no password.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadFiles(f"tls_key: {path} holds no private key in PEM, or a broken one.") from None
    if not belongs:
        raise BadFiles(f"tls_key: {path} does not belong to the certificate in tls_cert.")


def _public(key: PublicKeyTypes) -> bytes:
    """A public key, to be compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.cert)], files.client_ca)


def _date(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
