"""A real server in a process of its own, on one of the stores, and what is looked at from outside."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import sojourn
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

    def metrics(self) -> dict[str, float]:
        """What the server tells Prometheus, summed up over the labels."""
        [started] = [line for line in self.log() if line["event"] == "started"]
        with urllib.request.urlopen(f"http://{started['metrics']}/metrics") as answer:
            page = answer.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
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


def until(holds: Callable[[], Any], what: str, pause: float = 0.02) -> None:
    """Wait until something holds; it must, in the end."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < PATIENCE, f"still not: {what}"
        time.sleep(pause)
