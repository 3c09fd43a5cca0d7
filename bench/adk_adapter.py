"""Sojourn's adapter for google-adk, over the network: told what to do in lines of JSON.

    .venv/bin/python -m bench.adk_adapter TARGET

One process with one connection, which makes the same calls as `adk_peer` makes of google-adk's own
services.
"""

from __future__ import annotations

import asyncio
import sys
import warnings

from bench.adk_peer import obey
from sojourn.adapters.adk import SojournSessionService


async def _adapter(target: str) -> None:
    await obey({"sojourn": SojournSessionService(target)})


def main() -> None:
    """Obey until the pipe closes."""
    warnings.simplefilter("ignore")
    asyncio.run(_adapter(sys.argv[1]))


if __name__ == "__main__":
    main()
