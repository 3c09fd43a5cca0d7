"""The floor of a watch: a server that hands what it is told to every open stream.

    python -m bench.fanout --port-file PATH

`Say` is told how often, how long and how much to say; what waits for a stream goes out in
one message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import time
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from bench.echo import run

STAMP: Final = struct.Struct("<d")
"""When a message was said, by the monotonic clock: its first bytes."""


class Fan:
    """All open streams."""

    def __init__(self) -> None:
        self._waiting: dict[object, tuple[list[bytes], asyncio.Event]] = {}

    async def say(self, request: bytes, context: object) -> bytes:
        """Hand bytes to everybody, at a rate."""
        del context
        order = json.loads(request)
        rate, body = order["rate"], b"x" * (order["size"] - STAMP.size)
        began = time.monotonic()
        for number in range(round(rate * order["seconds"])):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            said = STAMP.pack(time.monotonic()) + body
            for some, event in self._waiting.values():
                some.append(said)
                event.set()
        return b""

    async def listen(self, request: bytes, context: Any) -> None:
        """Get what is said."""
        del request
        some: list[bytes] = []
        event, me = asyncio.Event(), object()
        self._waiting[me] = some, event
        try:
            await context.write(STAMP.pack(0.0))
            while True:
                await event.wait()
                event.clear()
                message = b"".join(some)
                some.clear()
                if message:
                    await context.write(message)
        finally:
            del self._waiting[me]


async def _serve(port_file: Path) -> None:
    fan = Fan()
    handlers: dict[str, Any] = {
        "Say": grpc.unary_unary_rpc_method_handler(fan.say),
        "Listen": grpc.unary_stream_rpc_method_handler(fan.listen),
    }
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 10_000)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Fan", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    fresh = port_file.with_suffix(".new")
    fresh.write_text(str(port))
    fresh.replace(port_file)
    await server.wait_for_termination()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True)
    run(_serve(parser.parse_args().port_file))


if __name__ == "__main__":
    main()
