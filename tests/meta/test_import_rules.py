"""The import rules can fail: each test adds a forbidden import to a small house and finds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


# The rooms of the house and one allowed import in each.
HOUSE = {
    "sojourn/__init__.py": "import sojourn.models",
    "sojourn/models.py": "",
    "sojourn/_acompat.py": "import asyncio, threading, grpc",
    "sojourn/_async/__init__.py": "import sojourn._acompat",
    "sojourn/_sync/__init__.py": "import sojourn._acompat",
    "sojourn/adapters/__init__.py": "",
    "sojourn/adapters/_items.py": "import sojourn._async",
    "sojourn/adapters/adk.py": "import asyncio, sojourn.adapters._items",
    "sojourn/adapters/aiecs.py": "import sojourn.adapters._items",
    "sojourn/adapters/claude.py": "import claude_agent_sdk, sojourn.adapters._items",
    "sojourn/adapters/langgraph.py": "import langgraph",
    "sojourn/adapters/openai_agents.py": "import agents, sojourn.adapters._items",
    "sojourn/cli/__init__.py": "import sojourn.models",
    "sojourn/testing.py": "import sojourn_server.app",
    "sojourn/v1/__init__.py": "",
    "sojourn/v1/session_pb2.py": "import google.protobuf.message",
    "sojourn_server/__init__.py": "",
    "sojourn_server/__main__.py": "import sojourn_server.app",
    "sojourn_server/app.py": "import sojourn_server.store.sqlite, sojourn_server.rpc",
    "sojourn_server/settings.py": "",
    "sojourn_server/rpc/__init__.py": "import grpc, sojourn.v1.session_pb2, sojourn_server.service",
    "sojourn_server/jobs/__init__.py": "import sojourn_server.service",
    "sojourn_server/service/__init__.py": "import sojourn_server.feed, sojourn_server.store.base",
    "sojourn_server/feed/__init__.py": "import asyncio, sojourn_server.store.base",
    "sojourn_server/store/__init__.py": "",
    "sojourn_server/store/base.py": "import sojourn_server.domain",
    "sojourn_server/store/rows.py": "import sojourn_server.store.base",
    "sojourn_server/store/postgres/__init__.py": "import sojourn_server.store.rows",
    "sojourn_server/store/sqlite/__init__.py": "import sojourn_server.store.sqlite.store",
    "sojourn_server/store/sqlite/store.py": "import aiosqlite, sojourn_server.store.base",
    "sojourn_server/domain/__init__.py": "import sojourn_server.domain.model",
    "sojourn_server/domain/model.py": "import dataclasses",
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house that keeps every rule."""
    for name, statement in HOUSE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{statement}\n", encoding="utf-8")
    return tmp_path


def broken_contracts(root: Path, *contracts: str) -> bool:
    """Lint the house; say whether one of the named contracts (or of all) is broken."""
    program = "from importlinter.cli import lint_imports_command as main; main()"
    command = [sys.executable, "-c", program, "--no-logo", "--no-cache"]
    command += ["--config", str(ROOT / "pyproject.toml")]
    command += [f"--contract={contract}" for contract in contracts]
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
        text=True,
    )
    # A wrong configuration fails as well, and would look like a broken contract.
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return done.returncode != 0


def test_allowed_imports_keep_every_rule(house: Path) -> None:
    assert not broken_contracts(house)


@pytest.mark.parametrize(
    ("contract", "module", "statement"),
    [
        ("acompat", "sojourn/stray.py", "import asyncio"),
        ("adapters", "sojourn/adapters/claude.py", "import sojourn.adapters.aiecs"),
        ("acompat", "sojourn/models.py", "import grpc"),
        ("adapters", "sojourn/adapters/claude.py", "import sojourn.adapters.openai_agents"),
        ("backends", "sojourn_server/rpc/stray.py", "import sojourn_server.store.sqlite"),
        ("backends", "sojourn_server/service/stray.py", "import sojourn_server.store.sqlite.store"),
        ("client", "sojourn/stray.py", "import sojourn_server.app"),
        ("domain", "sojourn_server/domain/stray.py", "import google.protobuf.message"),
        ("domain", "sojourn_server/domain/stray.py", "import grpc"),
        ("domain", "sojourn_server/domain/stray.py", "import sqlite3"),
        ("frameworks", "sojourn/_async/stray.py", "import agents"),
        ("frameworks", "sojourn/cli/stray.py", "import sojourn.adapters.adk"),
        ("frameworks", "sojourn_server/rpc/stray.py", "import langgraph.graph"),
        ("layers", "sojourn_server/domain/stray.py", "import sojourn_server.store.base"),
        ("layers", "sojourn_server/feed/stray.py", "import sojourn_server.service"),
        ("layers", "sojourn_server/rpc/stray.py", "import sojourn_server.jobs"),
        ("layers", "sojourn_server/service/stray.py", "import sojourn_server.rpc"),
        ("backends", "sojourn_server/jobs/stray.py", "import sojourn_server.store.rows"),
        (
            "one-backend",
            "sojourn_server/store/postgres/stray.py",
            "import sojourn_server.store.sqlite.store",
        ),
        ("server", "sojourn_server/rpc/stray.py", "import sojourn.models"),
        ("storage", "sojourn_server/store/base.py", "import google.protobuf.message"),
        ("storage", "sojourn_server/store/sqlite/stray.py", "import grpc"),
        ("storage", "sojourn_server/store/sqlite/stray.py", "import sojourn_server.service"),
        ("storage", "sojourn_server/store/sqlite/stray.py", "import sojourn_server.settings"),
        ("use-cases", "sojourn_server/service/stray.py", "import grpc"),
    ],
)
def test_forbidden_import_is_found(house: Path, contract: str, module: str, statement: str) -> None:
    (house / module).write_text(f"{statement}\n", encoding="utf-8")
    assert broken_contracts(house, contract)
