"""How many streams there may be: of an app, and of the server."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sojourn_server.domain.errors import Reason
from sojourn_server.settings import Settings
from tests.unit.rpc.wire import failure_of
from tests.watch.test_wire import Call, retry_of, running

BUDGETS = ("max_streams_per_app", "max_streams")

pytestmark = pytest.mark.skipif(
    not {field.name for field in fields(Settings)}.issuperset(BUDGETS),
    reason="admission control, which bounds streams, is not in this tree",
)


@pytest.mark.guarantee("W18")
@pytest.mark.parametrize("budget", BUDGETS)
async def test_one_stream_too_many_is_refused_and_room_is_made_when_one_ends(
    tmp_path: Path, budget: str
) -> None:
    settings: dict[str, Any] = {budget: 2}
    async with (
        running(tmp_path, **settings) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        first, second = Call(channel), Call(channel)
        await first.read()
        await second.read()
        error = await Call(channel).error()
        failure = failure_of(error)
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", Reason.STREAM_LIMIT)
        assert retry_of(error) > 0
        first.cancel()
        for _ in range(100):
            third = Call(channel)
            try:
                await third.read()
            except grpc.aio.AioRpcError as again:
                assert failure_of(again).reason == Reason.STREAM_LIMIT  # noqa: PT017
            else:
                return
        raise AssertionError("no room is made")
