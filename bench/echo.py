"""The floor: a server that does nothing but answer with the bytes it was sent."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import grpc.aio


async def _echo(request: bytes, context: object) -> bytes:
    del context
    return request


async def _serve(port_file: Path) -> None:
    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    fresh = port_file.with_suffix(".new")
    fresh.write_text(str(port))
    fresh.replace(port_file)
    await server.wait_for_termination()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on the event loop that the server would take."""
    try:
        import uvloop  # noqa: PLC0415 - optional, as in the server
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True)
    run(_serve(parser.parse_args().port_file))


if __name__ == "__main__":
    main()
