"""A real server in a process of its own, on either store, and what is looked at from outside."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from prometheus_client.parser import text_string_to_metric_families

import sojourn
from sojourn_server.access import keys
from sojourn_server.domain.access import Grant, Role
from tests import postgres
from tests.cli.kit import Shell
from tests.faults.harness import ServerProcess

PATIENCE = 10.0

# Expiries are looked for every 20 ms, so that tests need not wait for them.
FLAGS = ("--expiry-interval", "20ms", "--metrics-listen", "127.0.0.1:0")


@dataclass
class Place:
    """A server and its store."""

    store: str
    """`sqlite` or `postgres`."""
    server: ServerProcess

    @property
    def target(self) -> str:
        """What to connect to."""
        return self.server.target

    def client(self, app: str, **fields: Any) -> sojourn.AsyncClient:
        """Return a client of it."""
        return sojourn.AsyncClient(self.target, app=app, deadline=20, **fields)

    def sync_client(self, app: str, **fields: Any) -> sojourn.Client:
        """Return a client of it for programs without an event loop."""
        return sojourn.Client(self.target, app=app, deadline=20, **fields)

    def shell(self, app: str) -> Shell:
        """Return the command line, as if in a terminal."""
        return Shell(self.target, app)

    def log(self) -> list[dict[str, Any]]:
        """What the server has logged."""
        text = (self.server.folder / "server.log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def metrics(self, **labels: str) -> dict[str, float]:
        """What the server tells Prometheus with these labels, summed up over the others."""
        [started] = [line for line in self.log() if line["event"] == "started"]
        with urllib.request.urlopen(f"http://{started['metrics']}/metrics") as answer:
            page = answer.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if not labels.items() <= sample.labels.items():
                    continue
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums


@contextmanager
def serving(store: str, folder: Path, *flags: str) -> Iterator[Place]:
    """Run a server on a store of its own."""
    if store == "sqlite":
        with ServerProcess(folder, *FLAGS, "--sqlite-synchronous", "OFF", *flags) as server:
            yield Place(store, server)
        return
    dsn = postgres.server().take()
    connections = ("--postgres-connections", "4")
    with ServerProcess(folder, *FLAGS, *connections, *flags, url=postgres.url(dsn)) as server:
        yield Place(store, server)
    postgres.server().give(dsn)


class Servers:
    """Servers that tests share, one for each store and purpose, started when first asked for.

    Args:
        folder: Makes a folder for the files of one.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._running = ExitStack()
        self._open: dict[tuple[str, ...], Place] = {}
        self._guarded: dict[str, GuardedPlace] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def open(self, store: str, *flags: str) -> Place:
        """Return the server that asks nobody who they are."""
        if (store, *flags) not in self._open:
            started = self._running.enter_context(serving(store, self._folder(), *flags))
            self._open[store, *flags] = started
        return self._open[store, *flags]

    def guarded(self, store: str) -> GuardedPlace:
        """Return the server that wants a key."""
        if store not in self._guarded:
            started = self._running.enter_context(guarding(store, self._folder()))
            self._guarded[store] = started
        return self._guarded[store]


def until(holds: Callable[[], Any], what: str, pause: float = 0.02) -> None:
    """Wait until something holds; it must, in the end."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < PATIENCE, f"still not: {what}"
        time.sleep(pause)


GRANTS: Mapping[str, tuple[Grant, ...]] = {
    "operator": (Grant(Role.ADMIN, "*"),),
    "agent": (Grant(Role.WRITE, "support"),),
    "auditor": (Grant(Role.READ, "support"),),
    "ann": (Grant(Role.WRITE, "support", "ann"),),
    "bob": (Grant(Role.WRITE, "support", "bob"),),
}


@dataclass
class GuardedPlace(Place):
    """A server that asks who calls, and a key for each who may."""

    keys: dict[str, str]

    def client_of(self, name: str, app: str = "support") -> sojourn.AsyncClient:
        """Return a client with somebody's key."""
        return self.client(app, credentials=sojourn.ApiKey(self.keys[name]))


@contextmanager
def guarding(store: str, folder: Path) -> Iterator[GuardedPlace]:
    """Run a server with API keys."""
    made = {name: keys.make(name, grants, None, keys.utc_now()) for name, grants in GRANTS.items()}
    file = folder / "keys.json"
    keys.write_file(file, keys.KeyFile(keys=tuple(entry for _, entry in made.values())))
    secrets = {name: key for name, (key, _) in made.items()}
    with serving(store, folder, "--keys-file", str(file)) as place:
        yield GuardedPlace(place.store, place.server, secrets)


def holds(place: Place, text: str) -> bool:
    """Return whether a text is anywhere in the store.

    With SQLite that is any byte of its files. PostgreSQL's files are its own affair: there it is
    any value of any table, as text or as bytes.
    """
    if place.store == "sqlite":
        return bool(place.server.files_hold(text.encode()))
    needles = (text, text.encode().hex())
    with psycopg.connect(place.server.url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert tables
        for (table,) in tables:
            for needle in needles:
                statement = f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text LIKE %s)"
                found = connection.execute(statement.encode(), (f"%{needle}%",)).fetchone()
                if found == (True,):
                    return True
    return False


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, pause: float = 0.02) -> None:
    """Wait until something holds, as `until` does."""
    begin = time.monotonic()
    while not await holds():
        assert time.monotonic() - begin < PATIENCE, f"still not: {what}"
        await asyncio.sleep(pause)
