"""A live server on each store for all tests of the folder, with something in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sojourn import testing
from tests.api.stores import settings_of
from tests.fuzz.caller import Caller
from tests.fuzz.furnish import Furniture, furnish
from tests.store.backends import BACKENDS


@pytest.fixture(scope="session", params=BACKENDS)
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    with settings_of(request.param) as settings, testing.serve_sync(**settings) as server:
        caller = Caller(server.target, request.param)
        yield caller
        caller.close()


@pytest.fixture
def furniture(caller: Caller) -> Furniture:
    """Sessions, messages and tokens, all there and all good."""
    return furnish(caller)
