# Generated from client/sojourn/_async/caller.py by `make gen`. Edit the source, never this file.
"""One call: deadline, metadata, repeats where they are safe, and our own errors."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from sojourn._acompat import (
    MAX_MESSAGE_BYTES,
    RpcError,
    SyncChannel,
    SyncMethod,
    SyncStubs,
    read_status,
    sync_sleep,
)
from sojourn._config import Config, Metadata, authorization
from sojourn._retry import pause_before_retry
from sojourn._status import forbids_retry, to_error
from sojourn._sync.bearer import Credential
from sojourn.errors import RequestTooLargeError, SojournError, UnauthenticatedError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Caller:
    """Sends requests on one channel, with one client's defaults."""

    def __init__(self, channel: SyncChannel, config: Config, credential: Credential | None) -> None:
        self.channel = channel
        self.config = config
        self.credential = credential
        self._metadata = config.metadata()

    @property
    def stubs(self) -> SyncStubs:
        """The raw stubs of the channel."""
        return self.channel.stubs

    def app(self, named: str | None) -> str:
        """Return the app that a call names, else the client's own."""
        return self.config.app if named is None else named

    def secret(self, end: float) -> str:
        """Return what says who calls, as it is now; empty: nothing does.

        `end` is when the call's deadline is, monotonic. Raises what `Credential.value` does.
        """
        return "" if self.credential is None else self.credential.value(end)

    def metadata(self, secret: str) -> Metadata:
        """Return what is sent beside a request."""
        return (*self._metadata, *authorization(secret)) if secret else self._metadata

    def is_worth_another(self, error: SojournError, secret: str, end: float) -> bool:
        """Say whether the server has refused the credential, and there is another one now.

        Nothing has happened then, so whatever the call is, it may be sent again.
        """
        if self.credential is None or not isinstance(error, UnauthenticatedError):
            return False
        return self.credential.is_replaced(secret, end)

    def call(
        self,
        method: SyncMethod[Request, Response],
        request: Request,
        *,
        deadline: timedelta | None = None,
    ) -> Response:
        """Send a request until it is answered; raise one of our errors.

        `deadline` bounds all attempts and pauses together; None: the client's default.
        """
        # The contract names every request after its RPC.
        name = request.DESCRIPTOR.name.removesuffix("Request")
        request_id = str(getattr(request, "request_id", ""))
        if request.ByteSize() > MAX_MESSAGE_BYTES:
            raise RequestTooLargeError(
                f"the request has {request.ByteSize()} bytes, more than {MAX_MESSAGE_BYTES}",
                metadata={"limit_bytes": str(MAX_MESSAGE_BYTES)},
                method=name,
            )
        end = time.monotonic() + (deadline or self.config.deadline).total_seconds()
        attempt = 0
        exchanged = False
        while True:
            attempt += 1
            secret = self.secret(end)
            try:
                return self.channel.invoke(
                    method,
                    request,
                    timeout=max(0.0, end - time.monotonic()),
                    metadata=self.metadata(secret),
                )
            except RpcError as failure:
                status = read_status(failure)
                error = to_error(status, method=name, request_id=request_id)
                if not exchanged and self.is_worth_another(error, secret, end):
                    exchanged = True
                    continue
                pause = pause_before_retry(
                    error,
                    attempt=attempt,
                    time_left=end - time.monotonic(),
                    options=self.config.retry,
                )
                if pause is None or forbids_retry(status):
                    raise error from failure
            sync_sleep(pause)
