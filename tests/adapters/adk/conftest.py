"""The service under test, in an app of the test's own on each store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sojourn.adapters.adk import SojournSessionService
from tests.acceptance.kit import Place


@pytest.fixture
async def service(place: Place) -> AsyncIterator[SojournSessionService]:
    """A service that makes its own client."""
    async with SojournSessionService(place.target) as service:
        yield service
