"""A store on each backend, and a `claude` command without a model."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import sojourn
from sojourn.adapters.claude import SojournSessionStore
from tests.acceptance.kit import Place
from tests.adapters.claude.kit import Machine

STUB = Path(__file__).parent / "stub_cli.py"


@pytest.fixture
def store(client: sojourn.AsyncClient) -> SojournSessionStore:
    """The store of this test's app."""
    return SojournSessionStore(client)


@pytest.fixture
async def stores(
    place: Place, client: sojourn.AsyncClient
) -> AsyncIterator[list[SojournSessionStore]]:
    """Two processes with the same transcripts."""
    async with place.client(client.app) as other:
        yield [SojournSessionStore(client), SojournSessionStore(other)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A computer of this test's own: nothing is read of the real home."""
    folder, config, command = tmp_path / "project", tmp_path / "config", tmp_path / "claude"
    folder.mkdir()
    config.mkdir()
    command.write_text(f"#!{sys.executable} -IS\n{STUB.read_text(encoding='utf-8')}")
    command.chmod(0o755)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    return Machine(folder, config, command)
