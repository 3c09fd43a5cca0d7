"""One server at a time runs a job, of those that share a store."""

from __future__ import annotations

import asyncio
from typing import Final

from sojourn_server.store.base import BesideUnits

POLL: Final = 1.0
"""How often a server asks whether the job has come to it, in seconds."""


async def wait_to_lead(store: BesideUnits, job: str) -> None:
    """Wait until this server is the one to run a job.

    Args:
        store: That the servers share.
        job: Its name.
    """
    while True:
        if await store.leads(job):
            return
        await asyncio.sleep(POLL)
