"""Quotas, with two servers that let sessions in at the same time."""

from __future__ import annotations

import pytest

from tests.api.quota_race import race
from tests.cluster.kit import Clients


@pytest.mark.parametrize("action", ["REFUSE", "END_OLDEST_IDLE"])
async def test_no_look_at_either_server_ever_finds_more_than_the_quota(
    clients: Clients, action: str
) -> None:
    await race(clients, action)
