"""Documents that a setting names by a file or a URL: here, an issuer's keys.

Reading blocks, for at most a few seconds, and takes no more than a bounded number of
bytes. Nothing here runs on the event loop.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import stat
import threading
import time
from pathlib import Path
from typing import Final, NoReturn, Protocol
from urllib.parse import urlsplit

DOCUMENT_BYTES: Final = 1024 * 1024
"""The most that a document may be."""
FETCH_SECONDS: Final = 5.0
"""How long a fetch may take in all."""


class BadDocument(Exception):
    """A document that cannot be had or used; the text is for the log and quotes nothing."""


class Source(Protocol):
    """Where a document comes from. Its methods block: not for the event loop."""

    def read(self) -> bytes:
        """The document, as it is now.

        Raises:
            BadDocument: It cannot be had.
        """
        ...

    def changed(self) -> bool:
        """Whether it is worth another reading before its time."""
        ...

    def close(self) -> None:
        """End a reading that is under way. Safe from any thread."""
        ...


class FileSource:
    """A document in a file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            BadDocument: It cannot be read, is too large, or everybody could have written it.
        """
        try:
            # First, so that a file that is exchanged meanwhile is read again.
            self._stamp = None
            self._stamp = self._look()
            if os.name == "posix" and self._path.stat().st_mode & stat.S_IWOTH:
                raise BadDocument("everybody may change the file")
            with self._path.open("rb") as file:
                document = file.read(DOCUMENT_BYTES + 1)
        except OSError as error:
            raise BadDocument(f"the file cannot be read ({error.strerror})") from None
        return _bounded(document)

    def changed(self) -> bool:
        """Whether it is another file than the one that was read, or has gone."""
        try:
            return self._look() != self._stamp
        except OSError:
            # True once: the next reading fails, and then there is nothing to compare.
            return self._stamp is not None

    def close(self) -> None:
        """Nothing: reading a file ends by itself."""

    def _look(self) -> tuple[int, ...]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


class UrlSource:
    """A document that a server hands out, fetched without proxies and redirects.

    Args:
        url: `https://…`, or `http://…` on the loopback: see `check_place`.
        seconds: How long a fetch may take in all, once the host's name is known.
    """

    def __init__(self, url: str, *, seconds: float = FETCH_SECONDS) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._secure = parts.scheme == "https"
        default = http.client.HTTPS_PORT if self._secure else http.client.HTTP_PORT
        self._port = parts.port or default
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def read(self) -> bytes:
        """Fetch the document.

        Raises:
            BadDocument: It cannot be had in time, is too large, or lies elsewhere.
        """
        with self._lock:
            self._cut = False
        watchdog = threading.Timer(self._seconds, self.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            document = self._fetch()
        except (OSError, http.client.HTTPException, ValueError) as error:
            # ValueError: a socket that was cut, or a host that is no name.
            self._refuse_if_cut()
            raise BadDocument(type(error).__name__) from None
        finally:
            watchdog.cancel()
        # What was cut may look whole: not every answer tells its length.
        self._refuse_if_cut()
        return _bounded(document)

    def changed(self) -> bool:
        """False: a server tells only whoever asks for all of it."""
        return False

    def close(self) -> None:
        """Cut the connection, so that whoever reads from it gets no further."""
        with self._lock:
            self._cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError, ValueError):
                    # Not TLS's own way, which takes from the reader what it reads with.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _fetch(self) -> bytes:
        connection = self._connect()
        try:
            headers = {"accept": "application/jwk-set+json, application/json"}
            connection.request("GET", self._target, headers=headers)
            with connection.getresponse() as response:
                if response.status != http.client.OK:
                    raise BadDocument(f"the answer has status {response.status}")
                return response.read(DOCUMENT_BYTES + 1)
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        """A connection that the watchdog can cut from its first byte on."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._seconds)
        raw = self._dial()
        if not self._secure:
            connection.sock = self._watch(raw)
            return connection
        try:
            # Made anew each time, for authorities come and go.
            wrapped = ssl.create_default_context().wrap_socket(
                raw, server_hostname=self._host, do_handshake_on_connect=False
            )
        except BaseException:
            raw.close()
            raise
        connection.sock = self._watch(wrapped)
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return connection

    def _dial(self) -> socket.socket:
        """A connection to the first of the host's addresses that answers in time."""
        until = time.monotonic() + self._seconds
        failed: OSError = TimeoutError()
        for *_, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            rest = until - time.monotonic()
            if rest <= 0:
                break
            try:
                return socket.create_connection((str(address[0]), self._port), rest)
            except OSError as error:
                failed = error
        raise failed

    def _watch(self, fresh: socket.socket) -> socket.socket:
        with self._lock:
            if self._cut:
                fresh.close()
                self._raise_cut()
            self._socket = fresh
        return fresh

    def _refuse_if_cut(self) -> None:
        if self._cut:
            self._raise_cut()

    def _raise_cut(self) -> NoReturn:
        raise BadDocument(f"it took longer than {self._seconds:g} s")


def source_of(place: str) -> Source:
    """Where a document comes from.

    Args:
        place: A URL or the path of a file, checked before.
    """
    return UrlSource(place) if "://" in place else FileSource(Path(place))


def _bounded(document: bytes) -> bytes:
    if len(document) > DOCUMENT_BYTES:
        raise BadDocument(f"it is larger than {DOCUMENT_BYTES} bytes")
    return document
