"""Threads of a test's own app, and a cleaner that is in a hurry."""

from __future__ import annotations

from datetime import timedelta

import pytest
from langgraph.checkpoint.memory import InMemorySaver

import sojourn
from sojourn.adapters import _langgraph_cleaner
from sojourn.adapters.langgraph import Threads


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = sojourn.RetryOptions(
        initial_backoff=timedelta(milliseconds=20), max_backoff=timedelta(milliseconds=100)
    )
    monkeypatch.setattr(_langgraph_cleaner, "PAUSES", pauses)


@pytest.fixture
def saver() -> InMemorySaver:
    return InMemorySaver()


@pytest.fixture
def threads(client: sojourn.AsyncClient) -> Threads:
    return Threads(client, labels={"by": "langgraph"})
