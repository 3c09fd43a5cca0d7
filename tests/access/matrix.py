"""The isolation matrix: every RPC, every place that names something, by everybody.

Two servers know the same callers and hold the same sessions of theirs, to the last bit: the
store of the one is a copy of the other's. Then the first gets tenants that the second never
had. Whatever a caller asks who may not see these tenants, both must answer alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path as File
from typing import Any, Final

import grpc
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sojourn import testing
from sojourn.v1 import app_service_pb2, session_pb2
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Permission, Role
from sojourn_server.rpc.methods import Method, methods
from sojourn_server.rpc.permissions import TABLE
from tests import postgres
from tests.access.requests import Path, Target, make, paths, stream
from tests.access.tenants import Line, Wanted, canary, everything, furnish, plant, scar

SHARED: Final = "acme"
"""An app with users of both sides."""
FOREIGN: Final = "other"
"""The app of the caller from elsewhere."""
VALUES: Final = ("own", "other", "missing")
NOBODY: Final = ("none", "wrong", "expired")
"""Callers who are nobody: they get one and the same answer, whatever they ask."""
STRANGERS: Final = ("other app", "other user")
"""Callers who have something of their own, and nothing of what is the others'."""
CALLERS: Final = (*NOBODY, "granted nothing", "read-only", *STRANGERS)
PLACES: Final = {"ListAuditEntries": 0, "ExportSessions": 0, "ImportSessions": 2, "EraseUser": 3}
"""First what tells of all that was done, for that is then the callers' own doing as well; last
what leaves nothing for others to find."""
Answer = tuple[bytes, tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """A call by somebody, and what both servers said."""

    caller: str
    method: Method
    path: Path
    value: str
    request: bytes
    there: Answer
    """Where the tenants are."""
    missing: Answer
    """Where they are not."""
    mine: Target
    """What all else named."""
    target: Target
    """What the place named."""

    def __str__(self) -> str:
        place = ".".join(self.path)
        return f"{self.caller}: {self.method.name} with {self.value} {place}: {self.there}"

    @property
    def code(self) -> str:
        return str(self.there[1][0]) if self.there[1] else "OK"

    @property
    def writes(self) -> bool:
        permission = TABLE[f"{self.method.service}/{self.method.name}"].permission
        return permission not in (None, Permission.READ)


@dataclass(repr=False)
class Ran:
    """The whole matrix, once it has run."""

    store: str
    """Of which kind."""
    cases: list[Case] = field(default_factory=list)
    controls: list[Case] = field(default_factory=list)
    """The same requests by the owner, all about the tenants."""
    secrets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By caller: texts that must not be in any answer."""
    before: Any = None
    """All that the tenants have; after the matrix it must be the same."""
    after: Any = None
    ghosts: dict[str, str] = field(default_factory=dict)
    """What of the tenants' names stands for what of the missing ones'."""


class Callers:
    """Keys for everybody.

    Args:
        path: Where the file is to be.
    """

    def __init__(self, path: File) -> None:
        self.path = path
        self.owner = canary()
        granted = {
            self.owner: (Grant(Role.ADMIN, "*"),),
            "helper": (Grant(Role.ADMIN, "*"),),
            "expired": (Grant(Role.ADMIN, "*"),),
            "granted nothing": (),
            "read-only": (Grant(Role.READ, SHARED),),
            "other app": (Grant(Role.ADMIN, FOREIGN),),
            "other user": (
                Grant(Role.WRITE, SHARED, "mallory"),
                Grant(Role.RESET, SHARED, "mallory"),
            ),
        }
        made = {
            name: keys.make(
                name.replace(" ", "-"),
                grants,
                timedelta(seconds=-1) if name == "expired" else None,
                keys.utc_now(),
            )
            for name, grants in granted.items()
        }
        keys.write_file(path, KeyFile(keys=tuple(entry for _, entry in made.values())))
        self._keys = {name: key for name, (key, _) in made.items()}
        # As long as a real one, with the id of a real one.
        self._keys["wrong"] = self._keys[self.owner][:-8] + "00000000"

    def line(self, channel: Any, name: str) -> Line:
        """A server, as somebody."""
        if name == "none":
            return Line(channel, ())
        return Line(channel, (("authorization", f"Bearer {self._keys[name]}"),))


async def run(store: str, folder: File) -> Ran:
    """Run the matrix on a store of a kind.

    In full on SQLite. On PostgreSQL only what gets as far as the store: callers with
    grants of their own, who ask for what is not theirs, of methods that this release has.
    """
    full = store == "sqlite"
    values = VALUES if full else VALUES[1:]
    vault = f"v-{canary()}"
    callers = Callers(folder / "keys.json")
    with stores(store, folder) as (first, copy):
        async with served(callers, first) as channel:
            # Not the owner: who made what is theirs is no secret to the callers.
            helper = callers.line(channel, "helper")
            own = {
                "other app": await _own(helper, FOREIGN, "ed", values),
                "other user": await _own(helper, SHARED, "mallory", values),
            }
        second = copy()
        async with served(callers, first) as there, served(callers, second) as gone:
            matrix = _Matrix(Ran(store), callers, vault, own, there, gone)
            callers_asking = CALLERS if full else STRANGERS
            return await matrix.run(callers_asking, list(methods()), values)


class _Matrix:
    def __init__(
        self,
        ran: Ran,
        callers: Callers,
        vault: str,
        own: dict[str, dict[Any, Target]],
        there: Any,
        gone: Any,
    ) -> None:
        self._callers = callers
        self._vault = vault
        self._own = own
        self._there = there
        self._gone = gone
        self._owner = callers.line(there, callers.owner)
        self._ran = ran
        self._alice = f"a-{canary()}"
        self._secret = canary()

    async def run(
        self, names: Sequence[str], asked: Sequence[Method], values: Sequence[str]
    ) -> Ran:
        """Make every call."""
        tenants = {app: await self._furnish(app) for app in (self._vault, SHARED)}
        ran = self._ran
        ran.before = await self._all()
        kept_from = (self._alice, self._secret, self._callers.owner)
        of_uids = {
            app: tuple(each.uid for each in found.values()) for app, found in tenants.items()
        }
        for name in CALLERS:
            ran.secrets[name] = (self._vault, *kept_from, *of_uids[self._vault])
        ran.secrets["other user"] += of_uids[SHARED]
        ran.secrets["read-only"] = (self._vault, *of_uids[self._vault])
        await asyncio.gather(
            *(
                self._call_all(
                    name, asked, values, tenants[SHARED if name in _INSIDERS else self._vault]
                )
                for name in names
            )
        )
        ran.after = await self._all()
        await self._control(tenants[self._vault])
        return ran

    async def _furnish(self, app: str) -> dict[Any, Target]:
        """Give an app what only its owner may see."""
        places = list(_places(values=("",)))
        spent = [method for method, *_ in _mutating()]
        wanted = [
            Wanted(f"{self._secret}-{number:04}") for number in range(len(places) + len(spent))
        ]
        found = await furnish(self._owner, app, self._alice, wanted, self._secret)
        await scar(self._owner, app, self._alice, self._secret)
        patch = session_pb2.StatePatch(set={f"{self._secret}-app": f'"{self._secret}"'})
        await self._owner.ask(
            app_service_pb2.UpdateStateRequest(app=app, patch=patch),
            app_service_pb2.UpdateStateResponse(),
        )
        # What the callers have is there once more, under the names of others.
        for caller, user in (("other app", "ed"), ("other user", "mallory")):
            ids = [each.session_id for each in self._own[caller].values()]
            await plant(self._owner, app, self._alice, ids)
            if app == self._vault:
                await plant(self._owner, app, user, ids)
        tenants = dict(zip(places, found, strict=False))
        for method, target in zip(spent, found[len(places) :], strict=True):
            # These ids of requests are known: somebody else has used them.
            request = make(method, ("request_id",), target, target)
            if method.name == "BatchCreateSessions":
                request.sessions[0].session_id += "-new"
            if method.name == "EraseUser":
                # Somebody of whom nothing is there: the others are still needed.
                request.user += "-gone"
            _, refused = await self._owner.send(method, request.SerializeToString())
            assert not refused, (method.name, refused)
            place = (method, ("request_id",), "")
            tenants[place] = replace(tenants[place], request_id=target.request_id)
        return tenants

    async def _call_all(
        self,
        name: str,
        asked: Sequence[Method],
        values: Sequence[str],
        tenants: dict[Any, Target],
    ) -> None:
        """Make every call as somebody, on both servers."""
        there, gone = (self._callers.line(each, name) for each in (self._there, self._gone))
        own = self._own["other user" if name in _INSIDERS else "other app"]
        spare = next(iter(own.values()))
        for method in _in_order(asked):
            for path in paths(method):
                theirs = tenants.get((method, path, ""), next(iter(tenants.values())))
                targets = {"other": theirs, "missing": self._ghost(theirs)}
                for value in values:
                    mine = own.get((method, path, value), spare)
                    target = targets.get(value, mine)
                    raw = stream(method, make(method, path, mine, target), mine)
                    # Whoever is nobody gets one answer for all requests: that is asked of every
                    # one, and needs no second server.
                    asked_of = (there,) if name in NOBODY else (there, gone)
                    answers = await asyncio.gather(*(each.send(method, *raw) for each in asked_of))
                    told = answers[0], answers[-1]
                    self._ran.cases.append(
                        Case(name, method, path, value, b"".join(raw), *told, mine, target)
                    )

    async def _control(self, tenants: dict[Any, Target]) -> None:
        """The same calls by the owner, all of them about the tenants."""
        places = {(method.name, path): target for (method, path, _), target in tenants.items()}
        for method in _in_order(list(methods())):
            for path in paths(method):
                target = places[method.name, path]
                raw = stream(method, make(method, path, target, target), target)
                answer = await self._owner.send(method, *raw)
                self._ran.controls.append(
                    Case(
                        "owner",
                        method,
                        path,
                        "own",
                        b"".join(raw),
                        answer,
                        answer,
                        target,
                        target,
                    )
                )

    async def _all(self) -> Any:
        vault, shared = await asyncio.gather(
            everything(self._owner, self._vault, None), everything(self._owner, SHARED, self._alice)
        )
        states = [
            await self._owner.ask(
                app_service_pb2.GetStateRequest(app=app, user=user),
                app_service_pb2.GetStateResponse(),
            )
            for app in (self._vault, SHARED)
            for user in (None, self._alice)
        ]
        # The shared app's revision moves: the caller in it may write to its own sessions.
        return vault, shared[1], [each.state for each in states]

    def _ghost(self, target: Target) -> Target:
        """One that nowhere is, with names as long as another's."""
        ghosts = self._ran.ghosts
        names = (self._vault, self._alice, self._secret)
        for text in names:
            ghosts.setdefault(text, text[:2] + canary()[: len(text) - 2].ljust(len(text) - 2, "0"))
        for uid in (target.uid, target.parent_uid):
            ghosts.setdefault(uid, str(uuid.uuid4()))

        def haunted(text: str) -> str:
            for known in names:
                text = text.replace(known, ghosts[known])
            return text

        app = target.app if target.app == SHARED else haunted(target.app)
        return Target(
            app=app,
            user=haunted(target.user),
            session_id=haunted(target.session_id),
            uid=ghosts[target.uid],
            parent_uid=ghosts[target.parent_uid],
            etag=_damaged(target.etag),
            turn_token=_damaged(target.turn_token),
            parent_turn_token=_damaged(target.parent_turn_token),
            sessions_page=_damaged(target.sessions_page),
            messages_page=_damaged(target.messages_page),
            resume_token=_damaged(target.resume_token),
            request_id=haunted(target.request_id),
            message_id=haunted(target.message_id),
            label=(haunted(target.label[0]), haunted(target.label[1])),
        )


_INSIDERS: Final = ("other user", "read-only")


def _in_order(asked: Sequence[Method]) -> list[Method]:
    """The methods in their order, but for those of `PLACES`."""
    return sorted(asked, key=lambda method: PLACES.get(method.name, 1))


def _places(values: Sequence[str]) -> Iterator[tuple[Method, Path, str]]:
    """Every place of every method."""
    for method in methods():
        for path in paths(method):
            for value in values:
                yield method, path, value


def _mutating() -> Iterator[tuple[Method]]:
    """The methods whose requests are remembered; a deletion is refused while the app is used."""
    for method in methods():
        if method.has_request_id and method.name != "DeleteApp":
            yield (method,)


async def _own(owner: Line, app: str, user: str, values: Sequence[str]) -> dict[Any, Target]:
    """What a caller has: a session for each of its calls, for calls change them."""
    places = list(_places(values))
    wanted = [
        Wanted(
            f"{user}-{number:04}",
            turn=method.name in ("RenewTurn", "EndTurn") or "turn_token" in path,
            page=method.name == "ListMessages",
        )
        for number, (method, path, _) in enumerate(places)
    ]
    found = await furnish(owner, app, user, wanted, f"of-{user}")
    return dict(zip(places, found, strict=True))


def _damaged(token: str) -> str:
    middle = len(token) // 2
    return f"{token[:middle]}{'A' if token[middle] != 'A' else 'B'}{token[middle + 1 :]}"


@contextlib.asynccontextmanager
async def served(callers: Callers, settings: dict[str, Any]) -> AsyncIterator[Any]:
    """A channel to a server of its own."""
    async with (
        testing.serve(keys_file=callers.path, **settings) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        yield channel


@contextlib.contextmanager
def stores(kind: str, folder: File) -> Iterator[Any]:
    """Settings of a store, and a function that makes a copy of it, to the last bit."""
    if kind == "sqlite":
        fast = {"sqlite_synchronous": "OFF"}

        def copied() -> dict[str, Any]:
            shutil.copy(folder / "first.db", folder / "second.db")
            return {"store": f"sqlite:///{folder / 'second.db'}", **fast}

        yield {"store": f"sqlite:///{folder / 'first.db'}", **fast}, copied
        return
    database = postgres.server()
    dsn = database.take()
    name = str(conninfo_to_dict(dsn)["dbname"])

    def cloned() -> dict[str, Any]:
        database.leave(dsn)
        database.execute(f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}"')
        return _on(make_conninfo(dsn, dbname=f"{name}_copy"))

    try:
        yield _on(dsn), cloned
    finally:
        database.execute(f'DROP DATABASE IF EXISTS "{name}_copy" WITH (FORCE)')
    database.give(dsn)


def _on(dsn: str) -> dict[str, Any]:
    return {"store": postgres.url(dsn), "postgres_connections": 4}
