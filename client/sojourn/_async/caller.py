"""One call: deadline, metadata, repeats where they are safe, and our own errors."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from sojourn._acompat import (
    MAX_MESSAGE_BYTES,
    AsyncChannel,
    AsyncMethod,
    AsyncStubs,
    Metadata,
    RpcError,
    async_sleep,
    read_status,
)
from sojourn._config import Config
from sojourn._retry import pause_before_retry
from sojourn._status import forbids_retry, to_error
from sojourn.errors import RequestTooLargeError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class AsyncCaller:
    """Sends requests on one channel, with one client's defaults."""

    def __init__(self, channel: AsyncChannel, config: Config) -> None:
        self.channel = channel
        self.config = config
        self._metadata = config.metadata()

    @property
    def stubs(self) -> AsyncStubs:
        """The raw stubs of the channel."""
        return self.channel.stubs

    @property
    def metadata(self) -> Metadata:
        """What is sent beside every request."""
        return self._metadata

    def app(self, named: str | None) -> str:
        """Return the app that a call names, else the client's own."""
        return self.config.app if named is None else named

    async def call(
        self,
        method: AsyncMethod[Request, Response],
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
        while True:
            attempt += 1
            try:
                return await self.channel.invoke(
                    method,
                    request,
                    timeout=max(0.0, end - time.monotonic()),
                    metadata=self._metadata,
                )
            except RpcError as failure:
                status = read_status(failure)
                error = to_error(status, method=name, request_id=request_id)
                pause = pause_before_retry(
                    error,
                    attempt=attempt,
                    time_left=end - time.monotonic(),
                    options=self.config.retry,
                )
                if pause is None or forbids_retry(status):
                    raise error from failure
            await async_sleep(pause)
