# Generated from client/sojourn/_async/caller.py by `make gen`. Edit the source, never this file.
"""One call: deadline, metadata, repeats where they are safe, and our own errors."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from sojourn import _checks as check
from sojourn import inputs
from sojourn._acompat import (
    MAX_MESSAGE_BYTES,
    RpcError,
    SyncChannel,
    SyncMethod,
    SyncStubs,
    read_status,
    sync_sleep,
)
from sojourn._astreams import SyncStream, SyncStreamMethod, Upload, sync_upload
from sojourn._config import Config, Metadata, authorization
from sojourn._retry import pause_before_retry
from sojourn._status import Status, forbids_retry, to_error
from sojourn._sync.bearer import Credential
from sojourn.errors import RequestTooLargeError, SojournError, UnauthenticatedError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

LONG = timedelta(hours=1)


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

    def long_deadline(self, named: inputs.Duration | None) -> timedelta:
        """Return the deadline of a call that takes as long as there is something to do.

        Unless the caller names one, that is an hour, or the client's own if that is longer: the
        connection's pings find a server that is gone long before.
        """
        if named is None:
            return max(LONG, self.config.deadline)
        return check.duration("deadline", named, minimum=timedelta(microseconds=1))

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
                pause = self._pause(error, status, attempt, end)
                if pause is None:
                    raise error from failure
            sync_sleep(pause)

    def stream(
        self, method: SyncStreamMethod[Request, Response], request: Request
    ) -> Generator[Response, None]:
        """Send a request and hand out the messages of its answer; raise one of our errors.

        It is repeated as a call is, until the first message has come. There is no deadline for the
        whole: the connection's pings find a server that is gone.
        """
        name = request.DESCRIPTOR.name.removesuffix("Request")
        end = time.monotonic() + self.config.deadline.total_seconds()
        attempt = 0
        exchanged = False
        while True:
            attempt += 1
            secret = self.secret(end)
            stream = SyncStream(self.channel, method, request, self.metadata(secret))
            begun = False
            try:
                while (message := stream.read()) is not None:
                    begun = True
                    yield message
                return
            except RpcError as failure:
                status = read_status(failure)
                error = to_error(status, method=name)
                if begun:
                    raise error from failure
                if not exchanged and self.is_worth_another(error, secret, end):
                    exchanged = True
                    continue
                pause = self._pause(error, status, attempt, end)
                if pause is None:
                    raise error from failure
            finally:
                stream.cancel()
            sync_sleep(pause)

    def upload(
        self,
        pick: Upload[Request, Response],
        parts: Iterator[Request],
        *,
        name: str,
        deadline: timedelta,
    ) -> Response:
        """Send a request part by part; raise one of our errors, or what `parts` raises.

        It is never repeated: what was sent is gone. `name` is that of the RPC.
        """
        end = time.monotonic() + deadline.total_seconds()
        secret = self.secret(end)
        try:
            return sync_upload(
                self.channel,
                pick,
                parts,
                timeout=max(0.0, end - time.monotonic()),
                metadata=self.metadata(secret),
            )
        except RpcError as failure:
            raise to_error(read_status(failure), method=name) from failure

    def _pause(self, error: SojournError, status: Status, attempt: int, end: float) -> float | None:
        """Return the seconds to wait before the next attempt; None: there is none."""
        if forbids_retry(status):
            return None
        return pause_before_retry(
            error,
            attempt=attempt,
            time_left=end - time.monotonic(),
            options=self.config.retry,
        )
