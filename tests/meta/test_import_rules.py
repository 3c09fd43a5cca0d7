"""The import rules can fail: each test writes a forbidden import into a copy and sees it found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of both import roots, and of nothing that could hide it."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "client" / "sojourn", tmp_path / "sojourn", ignore=ignore)
    shutil.copytree(ROOT / "server" / "sojourn_server", tmp_path / "sojourn_server", ignore=ignore)
    return tmp_path


def lint_imports(root: Path) -> str:
    program = "from importlinter.cli import lint_imports_command as main; main()"
    command = [sys.executable, "-c", program, "--no-logo", "--no-cache"]
    done = subprocess.run(
        [*command, "--config", str(ROOT / "pyproject.toml")],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("sojourn_server/domain/stray.py", "import grpc", "The domain is pure"),
        ("sojourn_server/domain/stray.py", "import sqlite3", "The domain is pure"),
        (
            "sojourn_server/domain/stray.py",
            "import google.protobuf.message",
            "The domain is pure",
        ),
        (
            "sojourn_server/domain/stray.py",
            "import sojourn_server.store.base",
            "The server's layers",
        ),
        (
            "sojourn_server/rpc/stray.py",
            "import sojourn_server.store.sqlite",
            "Only app names a storage backend",
        ),
        (
            "sojourn_server/store/sqlite/stray.py",
            "import sojourn_server.service",
            "Storage knows the domain",
        ),
        ("sojourn_server/store/sqlite/stray.py", "import grpc", "Storage knows the domain"),
        ("sojourn_server/service/stray.py", "import grpc", "Use cases and the feed"),
        ("sojourn_server/rpc/stray.py", "import sojourn.models", "The server shares"),
        ("sojourn/stray.py", "import sojourn_server.app", "The client never imports the server"),
        ("sojourn/stray.py", "import asyncio", "In the client only _acompat"),
    ],
)
def test_forbidden_import_is_found(copy: Path, module: str, statement: str, contract: str) -> None:
    (copy / module).write_text(f'"""Stray."""\n\n{statement}\n', encoding="utf-8")
    broken = [line for line in lint_imports(copy).splitlines() if line.endswith("BROKEN")]
    assert [line for line in broken if line.startswith(contract)], broken


def test_the_house_as_it_stands_keeps_every_rule(copy: Path) -> None:
    assert " 0 broken" in lint_imports(copy)
