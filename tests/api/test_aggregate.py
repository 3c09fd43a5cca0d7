"""AggregateSessions over gRPC: what its fields say, beyond what 64 bits hold, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import sojourn
import sojourn.testing
from sojourn import ApiKey
from sojourn.testing import AsyncLocalServer
from sojourn.v1 import session_pb2
from sojourn.v1 import session_service_pb2 as pb
from sojourn.v1 import session_service_pb2_grpc as stubs
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Role
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.sums import Sums
from sojourn_server.rpc.convert_aggregate import fill_group
from sojourn_server.service.aggregating import Group
from tests.api.stores import settings_of
from tests.store.backends import BACKENDS
from tests.unit.rpc.wire import failure_of

APP = "support"
LARGEST = (1 << 63) - 1
GRANTS = {
    "owner": (Grant(Role.ADMIN, "*"),),
    "ann": (Grant(Role.WRITE, APP, "ann"),),
    "other": (Grant(Role.READ, "sales"),),
}


@pytest.fixture(params=BACKENDS)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[AsyncLocalServer]:
    with settings_of(request.param) as settings:
        async with sojourn.testing.serve(**settings) as made:
            yield made


async def ask(target: str, key: str = "", **fields: Any) -> pb.AggregateSessionsResponse:
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    request = pb.AggregateSessionsRequest(**{"app": APP, **fields})
    async with grpc.aio.insecure_channel(target) as channel:
        stub = stubs.SessionServiceStub(channel)
        answer: pb.AggregateSessionsResponse = await stub.AggregateSessions(
            request, timeout=20, metadata=metadata
        )
    return answer


async def test_groups_say_what_their_sessions_come_to(server: AsyncLocalServer) -> None:
    async with server.client(app=APP) as client:
        for user, requests, errors in (("ann", 3, 1), ("ann", 1, 1), ("", 0, 0)):
            session = await client.sessions.create(user=user, labels={"env": user or "none"})
            await client.sessions.update(
                session.ref,
                metrics=sojourn.MetricsDelta(
                    requests=requests,
                    errors=errors,
                    processing_time=requests * 2.5,
                    counters={"tokens": 7, "debt": -requests},
                ),
            )
            await client.messages.append(session.ref, sojourn.NewMessage("user", "hello"))
    for fields in (
        {"group_by": pb.AggregateSessionsRequest.GROUP_BY_USER},
        {"group_by": pb.AggregateSessionsRequest.GROUP_BY_USER, "roll_up": True},
    ):
        answer = await ask(server.target, **fields)
        assert [group.group for group in answer.groups] == ["", "ann"]
        own, ann = answer.groups
        assert (own.session_count, own.message_count, own.error_rate) == (1, 1, 0)
        assert own.metrics.counters == {"tokens": 7}
        assert not own.HasField("mean_processing_time")
        assert own.metrics.HasField("processing_time")
        assert (ann.session_count, ann.message_count, ann.error_rate) == (2, 2, 0.5)
        assert (ann.metrics.request_count, ann.metrics.error_count) == (4, 2)
        assert ann.metrics.processing_time.ToNanoseconds() == 10 * SECOND
        assert ann.mean_processing_time.ToNanoseconds() == 2.5 * SECOND
        assert ann.metrics.counters == {"tokens": 14, "debt": -4}
        assert answer.revision > 0
    by_label = await ask(
        server.target, group_by=pb.AggregateSessionsRequest.GROUP_BY_LABEL, label_key="env"
    )
    assert [group.group for group in by_label.groups] == ["ann", "none"]
    only = session_pb2.SessionFilter(request_count_above=2)
    (one,) = (await ask(server.target, filter=only)).groups
    assert (one.group, one.session_count, one.metrics.request_count) == ("", 1, 3)


async def test_pages_go_on_also_behind_the_longest_user(server: AsyncLocalServer) -> None:
    users = sorted(["a", "\U0001f418" * 256, "é" * 256, "z" * 256], key=str.encode)
    async with server.client(app=APP) as client:
        for user in users:
            await client.sessions.create(user=user)
    for which in (None, session_pb2.SessionFilter(has_turn=False)):
        fields: dict[str, Any] = {"group_by": pb.AggregateSessionsRequest.GROUP_BY_USER}
        fields |= {"page_size": 1, "filter": which}
        found: list[str] = []
        for _ in range(9):
            answer = await ask(server.target, **fields)
            found += [group.group for group in answer.groups]
            fields["page_token"] = answer.next_page_token
            if not answer.next_page_token:
                break
        assert found == users


async def test_sums_beyond_64_bits_are_the_greatest_that_can_be_said(
    server: AsyncLocalServer,
) -> None:
    async with server.client(app=APP) as client:
        for _ in range(3):
            session = await client.sessions.create(user="ann")
            counters = {"up": LARGEST, "down": -LARGEST}
            delta = sojourn.MetricsDelta(requests=1, counters=counters)
            await client.sessions.update(session.ref, metrics=delta)
    for which in (None, session_pb2.SessionFilter(has_turn=False)):
        (group,) = (await ask(server.target, filter=which)).groups
        assert group.metrics.counters == {"up": LARGEST, "down": -LARGEST - 1}
        assert group.metrics.request_count == 3


def test_every_field_holds_what_it_can_of_any_sum() -> None:
    group = pb.SessionAggregate()
    huge = 5 * LARGEST
    sums = Sums(sessions=1, requests=2, errors=huge, processing_time=huge**2, messages=huge)
    fill_group(group, Group("x", sums))
    assert group.metrics.error_count == group.message_count == LARGEST
    assert group.metrics.processing_time.seconds == 315_576_000_000
    assert group.mean_processing_time.seconds == 315_576_000_000
    assert group.error_rate == pytest.approx(huge / 2)
    assert pb.SessionAggregate.FromString(group.SerializeToString()) == group


async def test_a_caller_learns_of_no_sessions_but_those_it_may_read(tmp_path: Path) -> None:
    made = {name: keys.make(name, grants, None, keys.utc_now()) for name, grants in GRANTS.items()}
    path = tmp_path / "keys.json"
    keys.write_file(path, KeyFile(keys=tuple(entry for _, entry in made.values())))
    async with sojourn.testing.serve(keys_file=path) as server:
        owner = ApiKey(made["owner"][0])
        async with sojourn.AsyncClient(server.target, app=APP, credentials=owner) as client:
            root = await client.sessions.create("root", user="ann")
            await client.sessions.create("child", user="bob", parent=root.uid)
            await client.sessions.create("own", user="ann", parent=root.uid)
            await client.sessions.create("else", user="bob")
        for key, roll_up, count in (
            ("owner", False, 2),
            ("owner", True, 3),
            ("ann", False, 2),
            ("ann", True, 2),  # not its child of another user
        ):
            answer = await ask(server.target, made[key][0], user="ann", roll_up=roll_up)
            assert [group.session_count for group in answer.groups] == [count], (key, roll_up)
        for key, fields, reason in (
            ("ann", {"user": "bob"}, Reason.APP_NOT_FOUND),
            ("ann", {}, Reason.GRANT_MISSING),  # as ListSessions of all users
            ("other", {"user": "ann"}, Reason.APP_NOT_FOUND),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(server.target, made[key][0], **fields)
            assert failure_of(caught.value).reason == reason.name
