"""TLS whose files are exchanged while a client lives. Whoever asks says what time it is."""

from __future__ import annotations

import logging
import ssl
from dataclasses import replace
from pathlib import Path

from sojourn.errors import ConfigurationError
from sojourn.options import TLS

logger = logging.getLogger("sojourn")

Files = tuple[Path | None, Path | None, Path | None]

LOOK_EVERY = 10.0
"""How often the files are read at most, in seconds."""


class FollowedTLS:
    """What a client's connections are encrypted with, as its files say.

    Files that cannot be read, or a key that does not belong to its certificate, leave the last good
    ones in use.
    """

    def __init__(self, tls: TLS) -> None:
        self.tls = tls
        """As it is now."""
        self._look_at = 0.0
        self._told = False

    def is_renewed(self, now: float) -> bool:
        """Look at the files if it is time to, and say whether `tls` is another one now.

        `now` is monotonic, in seconds.
        """
        files = self.tls.files
        if files is None or now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        try:
            found = _read(self.tls, files)
            if found == self.tls:
                return False
            _check(files)
            # Both looked at the files; they must have seen the same.
            if _read(self.tls, files) != found:
                return False
        except (ConfigurationError, OSError) as error:
            if not self._told:
                kind = type(error.__cause__ or error).__name__
                logger.warning("TLS files not taken (%s); the last good ones stay in use", kind)
            self._told = True
            return False
        self.tls = found
        self._told = False
        return True


def _read(tls: TLS, files: Files) -> TLS:
    return replace(TLS.from_files(*files), server_name=tls.server_name)


def _check(files: Files) -> None:
    """Raise `OSError` for what no connection could be made with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots, chain, key = files
    if roots is not None:
        context.load_verify_locations(roots)
    if chain is not None:
        # Without an answer of ours, an encrypted key would have it asked on the terminal.
        context.load_cert_chain(chain, key, password=lambda: b"")
