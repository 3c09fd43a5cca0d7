"""A server with metrics, and what Prometheus would read of it."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client import parser

from sojourn_server.app import RunningServer
from sojourn_server.settings import Settings

Sample = tuple[str, tuple[tuple[str, str], ...]]


def settings_in(folder: Path, **values: Any) -> Settings:
    given = {
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
        "store": f"sqlite:///{folder}/s.db",
    }
    return Settings(**{**given, **values})


def fetch(port: int, accept: str = "text/plain", host: str = "127.0.0.1") -> str:
    request = urllib.request.Request(f"http://{host}:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


async def page(server: RunningServer) -> str:
    """The page, read by another thread, as Prometheus would."""
    assert server.metrics_port is not None
    return await asyncio.to_thread(fetch, server.metrics_port)


def samples(text: str) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: dict[Sample, float], name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        number
        for (each, has), number in found.items()
        if each == name and labels.items() <= dict(has).items()
    )


async def until(server: RunningServer, condition: Any) -> dict[Sample, float]:
    """The samples as soon as they fulfil a condition."""
    found: dict[Sample, float] = {}
    for _ in range(300):
        found = samples(await page(server))
        if condition(found):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"it never came to hold: {found}")
