"""The credential of one client: kept, renewed in time, and exchanged when it is refused."""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime

from sojourn import _credentials as rules
from sojourn._acompat import AsyncLock, async_ask, async_within
from sojourn._credentials import Held, held_token
from sojourn.errors import (
    ConfigurationError,
    CredentialUnavailableError,
    DeadlineExceededError,
    SojournError,
)
from sojourn.options import ApiKey, Credentials, read_secret

logger = logging.getLogger("sojourn")


class AsyncCredential:
    """What a client shows of itself, call after call."""

    def __init__(self, option: Credentials) -> None:
        secret = option.key if isinstance(option, ApiKey) else option.token
        self._kind = "an API key" if isinstance(option, ApiKey) else "a token"
        self._file = option.file
        self._function = secret if callable(secret) else None
        self._held: Held | None = None
        if isinstance(secret, str):
            self._held = Held(secret, math.inf if self._file is None else 0.0)
        self._lock = AsyncLock()
        self._failure: Exception | None = None
        self._failed = self._refused = -math.inf

    async def value(self, end: float) -> str:
        """Return it as it is to be sent; `end` is when the call's deadline is, monotonic.

        Raises `CredentialUnavailableError` when there is none, and `DeadlineExceededError` when
        there is none in time.
        """
        held = self._held
        now = time.monotonic()
        if held is not None and now < held.renew_at:
            return held.value
        if held is not None and now < held.expires_at and self._lock.locked():
            # Another call is asking, and this one still lasts.
            return held.value
        return (await self._renewed(held, end)).value

    async def is_replaced(self, refused: str, end: float) -> bool:
        """Say whether there is another one than the server has refused; ask for it if need be."""
        held = self._held
        if held is not None and held.value != refused:
            return True
        if self._file is None and self._function is None:
            return False
        try:
            return (await self._renewed(held, end, refused=True)).value != refused
        except SojournError:
            # The refusal says more.
            return False

    async def _renewed(self, held: Held | None, end: float, *, refused: bool = False) -> Held:
        """Ask for another one than this; one call at a time, the others take what it got."""
        try:
            async with async_within(end - time.monotonic()), self._lock:
                if self._held is None or self._held is held:
                    self._held = await self._asked(held, refused)
                fresh = self._held
        except TimeoutError as error:
            raise DeadlineExceededError("no credential came within the deadline") from error
        if time.monotonic() >= end:
            # A thread that asked could not be stopped; what it got serves the next call.
            raise DeadlineExceededError("no credential came within the deadline")
        return fresh

    async def _asked(self, held: Held | None, refused: bool) -> Held:
        """Ask; if nothing comes, go on with what there is while it lasts."""
        now = time.monotonic()
        if refused and held is not None and self._function is not None:
            if now < self._refused + rules.LOOK_EVERY:
                # It was just asked for another: a server that refuses them all is not helped.
                return held
            self._refused = now
        lasts = held is not None and now < held.expires_at
        if self._failure is not None and not lasts and now < self._failed + rules.LOOK_EVERY:
            # Those who waited for one failure do not each wait for their own.
            raise _unavailable(self._failure) from self._failure
        try:
            fresh = await self._fetch(now)
        except Exception as error:
            known, self._failure = self._failure, error
            now = self._failed = time.monotonic()
            if held is None or now >= held.expires_at:
                raise _unavailable(error) from error
            if known is None:
                # Its type alone: whatever makes tokens may say anything.
                kind = type(error).__name__
                logger.warning("no new credential (%s); the last one stays in use", kind)
            return held.kept(now)
        self._failure = None
        return fresh

    async def _fetch(self, now: float) -> Held:
        if self._function is None:
            assert self._file is not None
            return Held(read_secret(self._file, self._kind), now + rules.LOOK_EVERY)
        answer = await async_ask(self._function)
        return held_token(answer, time.monotonic(), datetime.now(UTC))


def _unavailable(error: Exception) -> CredentialUnavailableError:
    # What this client says of a file or an answer holds no secret; what others say might.
    why = error.message if isinstance(error, ConfigurationError) else type(error).__name__
    return CredentialUnavailableError(f"no credential could be had: {why}")
