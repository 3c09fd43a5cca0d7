"""A client that makes ephemeral children and then works until it is killed.

python -m tests.faults.orphan_maker TARGET APP LEASE
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import sojourn

EACH = 5
"""Children of each kind, with one of their own each."""


async def main(target: str, app: str, lease: float) -> None:
    async with sojourn.connect(target, app=app) as client, contextlib.AsyncExitStack() as stack:
        for name in ("by-turn", "by-lease"):
            root = await client.attach(name, idle_timeout=0)
            if name == "by-turn":
                await stack.enter_async_context(root.turn(lease=lease))
            for _ in range(EACH):
                child = await stack.enter_async_context(root.child(lease=lease))
                await stack.enter_async_context(child.child(lease=lease))
        # Long enough for every lease to be renewed.
        await asyncio.sleep(lease)
        sys.stdout.write("working\n")
        sys.stdout.flush()
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
