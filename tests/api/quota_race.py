"""A quota of 100, 32 callers who want more at once, and others who look meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import sojourn
from sojourn.v1 import app_pb2, app_service_pb2, session_pb2, session_service_pb2

QUOTA = 100
PLACES = 12
"""How many of them are free at first."""
CALLERS = 32
ROUNDS = 4

Clients = Sequence[sojourn.AsyncClient]
"""One for each server, of the same app."""


async def rule(client: sojourn.AsyncClient, action: app_pb2.QuotaAction.ValueType) -> None:
    policy = app_pb2.Policy(max_active_sessions=QUOTA, session_quota_action=action)
    request = app_service_pb2.UpdateAppRequest(app=client.app, policy=policy)
    await client.stubs.apps.UpdateApp(request)


class Lookers:
    """Looks, until told to stop, how many sessions are ACTIVE: by list, count and watch."""

    def __init__(self) -> None:
        self.most = Counter[str]()
        self.looks = Counter[str]()
        self.done = asyncio.Event()

    def see(self, way: str, count: int) -> None:
        self.most[way] = max(self.most[way], count)
        self.looks[way] += 1

    async def list(self, client: sojourn.AsyncClient) -> None:
        while not self.done.is_set():
            page = await client.sessions.list().page(1, limit=1_000)
            self.see("list", len(page.items))

    async def get_app(self, client: sojourn.AsyncClient) -> None:
        while not self.done.is_set():
            request = app_service_pb2.GetAppRequest(app=client.app)
            read = await client.stubs.apps.GetApp(request)
            self.see("count", read.app.active_sessions)

    async def watch(self, client: sojourn.AsyncClient, until_revision: asyncio.Future[int]) -> None:
        """Follow the log change by change: also between two changes of one unit."""
        request = session_service_pb2.WatchSessionsRequest(app=client.app, send_initial_state=True)
        request.filter.statuses.append(session_pb2.SESSION_STATUS_ACTIVE)
        active: set[str] = set()
        stream = client.stubs.sessions.WatchSessions(request)
        async for message in stream:
            active.update(session.uid for session in message.initial_sessions)
            for change in message.changes:
                session = change.session
                if session.membership == session.MEMBERSHIP_LEFT:
                    active.discard(session.session.uid)
                else:
                    active.add(session.session.uid)
                self.see("watch", len(active))
            if until_revision.done() and message.revision >= until_revision.result():
                break
        stream.cancel()


async def race(clients: Clients, action: str) -> None:
    """Have all callers create sessions, by CreateSession and on the way, and look meanwhile.

    Whoever is let in where the policy refuses ends its session again: there is a fight for
    every place until the end.
    """

    def of(number: int) -> sojourn.AsyncClient:
        return clients[number % len(clients)]

    await rule(of(0), app_pb2.QuotaAction.Value(f"QUOTA_ACTION_{action}"))
    await of(0).sessions.create_many(
        [sojourn.NewSession(f"first-{number}") for number in range(QUOTA - PLACES)]
    )
    outcomes = Counter[str]()

    async def caller(number: int) -> None:
        client = of(number)
        for turn in range(ROUNDS):
            name = f"s-{number}-{turn}"
            try:
                if turn % 2:
                    hello = sojourn.NewMessage("user", "hello")
                    await client.messages.append(name, hello, create_if_missing=True)
                else:
                    await client.sessions.create(name)
            except sojourn.errors.QuotaExceededError:
                outcomes["refused"] += 1
                continue
            outcomes["made"] += 1
            if action == "REFUSE":
                await client.sessions.end(name)

    lookers = Lookers()
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    looking = [
        asyncio.create_task(lookers.list(of(0))),
        asyncio.create_task(lookers.get_app(of(1))),
    ]
    watching = asyncio.create_task(lookers.watch(of(1), last))
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    lookers.done.set()
    await asyncio.gather(*looking)
    # So that the watch sees something after the revision that it is to end at.
    app = (await of(0).stubs.apps.GetApp(app_service_pb2.GetAppRequest(app=of(0).app))).app
    last.set_result(app.revision)
    newest = (await of(0).sessions.list().page(1, limit=1)).items[0]
    await of(0).sessions.update(newest.session_id, labels={"last": "1"})
    async with asyncio.timeout(30):
        await watching

    assert set(lookers.looks) == {"list", "count", "watch"}
    assert max(lookers.most.values()) <= QUOTA, lookers.most
    # And it was full, or nothing was tried.
    assert lookers.most["watch"] == QUOTA
    assert outcomes.total() == CALLERS * ROUNDS
    if action == "REFUSE":
        assert outcomes["refused"]
        assert app.active_sessions == QUOTA - PLACES
    else:
        assert outcomes["refused"] == 0
        assert app.active_sessions == QUOTA
