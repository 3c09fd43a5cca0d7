"""A quota holds for many callers at once, on one server with a file of its own.

Two servers on a database stand in `tests/cluster/test_quotas.py`.
"""

from __future__ import annotations

import pytest

from sojourn import testing
from tests.api.quota_race import race


@pytest.mark.parametrize("action", ["REFUSE", "END_OLDEST_IDLE"])
async def test_no_look_ever_finds_more_than_the_quota(action: str) -> None:
    async with (
        testing.serve(sqlite_synchronous="OFF") as server,
        server.client(app="support", deadline=30) as client,
    ):
        await race([client], action)
