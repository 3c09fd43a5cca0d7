"""A server that asks who calls: what keys open, what they do not, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import sojourn
import sojourn.testing
from sojourn import ApiKey, NewMessage, SessionRef, View, errors
from sojourn_server.access import gate as gates
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Role
from tests.api.stores import settings_of
from tests.store.backends import BACKENDS

GRANTS = {
    "owner": (Grant(Role.ADMIN, "*"),),
    "agent": (Grant(Role.WRITE, "support"),),
    "reader": (Grant(Role.READ, "support"),),
    "ann": (Grant(Role.WRITE, "support", "ann"),),
    "bob": (Grant(Role.WRITE, "support", "bob"), Grant(Role.READ, "support", "")),
    "other": (Grant(Role.ADMIN, "sales"),),
    "nobody": (),
}


class Place:
    """A server, its file of keys, and a client for each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = ""
        made = {
            name: keys.make(name, grants, None, keys.utc_now()) for name, grants in GRANTS.items()
        }
        self.keys = {name: key for name, (key, _) in made.items()}
        self.entries = {name: entry for name, (_, entry) in made.items()}
        self.write()

    def write(self) -> None:
        keys.write_file(self.path, KeyFile(keys=tuple(self.entries.values())))

    def client(self, name: str, app: str = "support") -> sojourn.AsyncClient:
        return sojourn.AsyncClient(self.target, app=app, credentials=ApiKey(self.keys[name]))


@pytest.fixture(params=BACKENDS)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setattr(gates, "REFRESH", 0.02)
    found = Place(tmp_path / "keys.json")
    with settings_of(request.param) as settings:
        async with sojourn.testing.serve(
            keys_file=found.path, reflection=True, channelz=True, **settings
        ) as server:
            found.target = server.target
            yield found


async def test_without_a_credential_there_is_nothing_but_health(place: Place):
    async with sojourn.AsyncClient(place.target, app="support") as client:
        with pytest.raises(errors.CredentialMissingError):
            await client.sessions.create("s")
        with pytest.raises(errors.CredentialMissingError):
            await client.sessions.get("s")
    async with grpc.aio.insecure_channel(place.target) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_key_does_what_it_was_granted_and_is_the_actor(place: Place):
    async with place.client("agent") as agent:
        session = await agent.sessions.create("s", user="ann")
        async with place.client("reader") as reader:
            assert (await reader.sessions.get("s", user="ann")).uid == session.uid
            with pytest.raises(errors.GrantMissingError) as refused:
                await reader.sessions.update("s", user="ann", labels={"a": "b"})
            assert refused.value.metadata == {"permission": "write"}
        with pytest.raises(errors.GrantMissingError):
            await agent.sessions.reset("s", user="ann")
        async with place.client("owner") as owner:
            assert (await owner.sessions.reset("s", user="ann")).session.generation == 2


async def test_what_is_another_s_is_not_there(place: Place):
    async with (
        place.client("agent") as agent,
        place.client("ann") as ann,
        place.client("other") as other,
    ):
        his = await agent.sessions.create("s", user="bob")
        assert (await ann.sessions.create("mine", user="ann")).user == "ann"
        for client, user in ((ann, "bob"), (other, "bob")):
            told = []
            by_key = SessionRef("support", user, "s")
            for ref in (by_key, SessionRef("support", uid=his.uid)):
                with pytest.raises(errors.SessionNotFoundError) as refused:
                    await client.sessions.get(ref)
                told.append(refused.value.metadata)
            assert told == [{"session_id": "s"}, {"uid": his.uid}]
        with pytest.raises(errors.AppNotFoundError):
            await ann.sessions.create("new", user="bob")
        with pytest.raises(errors.AppNotFoundError):
            await ann.sessions.list(user="bob").to_list()
        with pytest.raises(errors.GrantMissingError):
            await ann.sessions.list().to_list()
        assert [each.session_id for each in await ann.sessions.list(user="ann").to_list()] == [
            "mine"
        ]
        with pytest.raises(errors.ParentEndedError):
            await ann.sessions.create("child", user="ann", parent=his.uid)
        assert (await agent.sessions.get("s", user="bob")).uid == his.uid


async def test_the_app_s_state_is_the_app_s_own(place: Place):
    async with (
        place.client("agent") as agent,
        place.client("ann") as ann,
        place.client("bob") as bob,
    ):
        await agent.apps.update_state({"secret": 1})
        for client, user in ((ann, "ann"), (bob, "bob")):
            await client.sessions.create("s", user=user)
        hers = await ann.sessions.get("s", user="ann", view=View.FULL)
        his = await bob.sessions.get("s", user="bob", view=View.FULL)
        assert dict(hers.app_state.values) == {}
        assert hers.app_state.version == 0
        assert dict(his.app_state.values) == {"secret": 1}
        with pytest.raises(errors.AppNotFoundError):
            await ann.apps.get_state()
        for client, user in ((ann, "ann"), (bob, "bob")):
            with pytest.raises(errors.GrantMissingError):
                await client.sessions.update("s", user=user, app_state={"x": 1})


async def test_a_key_that_is_revoked_opens_nothing_soon_after(place: Place):
    async with place.client("agent") as agent:
        await agent.sessions.create("s")
        entry = place.entries["agent"]
        file, _ = keys.revoke(
            KeyFile(keys=tuple(place.entries.values())), [entry.id], keys.utc_now()
        )
        keys.write_file(place.path, file)
        async with asyncio.timeout(10):
            while True:
                try:
                    await agent.sessions.get("s")
                except errors.CredentialInvalidError:
                    break
                await asyncio.sleep(0.02)


async def test_a_key_that_expired_says_so(place: Place):
    key, entry = keys.make("late", (), timedelta(seconds=-1), keys.utc_now())
    place.keys["late"], place.entries["late"] = key, entry
    place.write()
    async with asyncio.timeout(10), place.client("late") as client:
        while True:
            with pytest.raises(errors.CredentialInvalidError) as refused:
                await client.sessions.get("s")
            if "expired" in refused.value.message:
                break
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["agent", "owner", None])
async def test_reflection_and_channelz_are_for_admins(place: Place, name: str | None):
    metadata = () if name is None else (("authorization", f"Bearer {place.keys[name]}"),)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with grpc.aio.insecure_channel(place.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        channels = channelz_pb2_grpc.ChannelzStub(channel)

        async def reflect() -> int:
            answers = stub.ServerReflectionInfo(metadata=metadata)
            if name == "owner":
                # Who is refused says nothing: a write into a refused call is an error of its own.
                await answers.write(asked)
            return len((await answers.read()).list_services_response.service)

        async def count() -> int:
            answer = await channels.GetServers(channelz_pb2.GetServersRequest(), metadata=metadata)
            return len(answer.server)

        for call in (reflect, count):
            if name == "owner":
                assert await call() >= 1
                continue
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call()
            expected = "UNAUTHENTICATED" if name is None else "PERMISSION_DENIED"
            assert refused.value.code().name == expected


async def test_request_ids_of_two_callers_never_meet(place: Place):
    async with place.client("agent") as agent, place.client("owner") as owner:
        first = await agent.sessions.create("s", request_id="r-1")
        with pytest.raises(errors.SessionExistsError):
            await owner.sessions.create("s", request_id="r-1")
        assert (await agent.sessions.create("s", request_id="r-1")).uid == first.uid


@pytest.mark.parametrize("idle", [True, False])
async def test_a_stream_of_grpc_s_own_ends_with_its_credential(
    place: Place, idle: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sojourn_server.rpc.streams.RECHECK", 0.02 if idle else 60.0)
    metadata = (("authorization", f"Bearer {place.keys['owner']}"),)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with (
        place.client("owner") as owner,
        grpc.aio.insecure_channel(place.target) as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        stream = stub.ServerReflectionInfo(metadata=metadata, timeout=20)
        await stream.write(asked)
        assert await stream.read()
        del place.entries["owner"]
        place.write()
        if not idle:
            with pytest.raises(errors.CredentialInvalidError):
                await _taken(owner, "gone")
            await stream.write(asked)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
    assert refused.value.code().name == "UNAUTHENTICATED"


async def test_what_was_answered_once_is_not_told_again_to_who_may_no_longer_see_it(place: Place):
    """Keys of one name share their request_ids, and may differ in their grants."""
    place.keys["less"], place.entries["less"] = keys.make(
        "agent", (Grant(Role.WRITE, "support", "ann"),), None, keys.utc_now()
    )
    place.write()
    async with place.client("agent") as agent, place.client("less") as less:
        session = await agent.sessions.create("s", user="bob")
        ref = SessionRef("support", uid=session.uid)
        await agent.messages.append(ref, NewMessage("user", "his"))
        popped = await agent.messages.pop(ref, 1, request_id="r-1")
        again = await agent.messages.pop(ref, 1, request_id="r-1")
        assert [each.content for each in again.messages] == ["his"]
        assert again.messages == popped.messages
        await _taken(less)
        with pytest.raises(errors.SessionNotFoundError) as refused:
            await less.messages.pop(ref, 1, request_id="r-1")
        assert refused.value.metadata == {"uid": session.uid}


async def _taken(client: sojourn.AsyncClient, what: str = "there") -> None:
    """Wait until the server has taken notice of a client's key: that it is there, or gone."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.sessions.get("none", user="ann")
            except errors.SessionNotFoundError:
                if what == "there":
                    return
            except errors.CredentialInvalidError:
                if what == "gone":
                    raise
            await asyncio.sleep(0.02)
