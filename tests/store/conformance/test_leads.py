"""Of the servers that share a store, one at a time runs a job."""

from __future__ import annotations

import pytest

from sojourn_server.store.base import Store


@pytest.mark.rule("S55")
async def test_a_server_that_is_alone_runs_every_job(store: Store) -> None:
    for _ in range(3):
        assert await store.leads("expiry")
        assert await store.leads("purge")
