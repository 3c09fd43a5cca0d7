"""`sojourn-server migrate`: what it says and how it ends, on either store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sojourn_server.command import command
from sojourn_server.store.sqlite import schema
from tests import postgres

NEWEST = schema.migrations()[-1][0]
"""Every backend's: their migrations go by the same numbers."""


def run(store: str, *flags: str) -> Result:
    return CliRunner().invoke(command(), ["--store", store, "migrate", *flags])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_store_is_looked_at_migrated_and_up_to_date(kind: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/s.db"
    if kind == "postgresql":
        store = postgres.url(postgres.server().fresh())
    for _ in range(2):
        looked = run(store, "--check")
        assert (looked.exit_code, looked.output) == (1, f"schema 0: to be migrated to {NEWEST}\n")
    assert (done := run(store)).exit_code == 0
    assert done.output == f"schema {NEWEST}: migrated from 0\n"
    for flags in ((), ("--check",)):
        again = run(store, *flags)
        assert (again.exit_code, again.output) == (0, f"schema {NEWEST}: nothing to do\n")


def test_a_store_that_cannot_be_used_ends_with_3_and_a_sentence_without_secrets() -> None:
    ended = run("postgresql://geheim-user:hunter2@127.0.0.1:1/x")
    assert ended.exit_code == 3
    assert "nothing listens there" in ended.output
    assert "hunter2" not in ended.output
    assert "geheim-user" not in ended.output


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sojourn_server.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    ended = run("postgresql://localhost/x")
    assert ended.exit_code == 3
    assert "sojourn[server,postgres]" in ended.output
    assert "psycopg" in ended.output


def test_a_store_may_be_named_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text(f"sqlite:///{tmp_path}/s.db\n", encoding="utf-8")
    arguments = ["--store-file", str(file), "migrate"]
    assert CliRunner().invoke(command(), arguments).exit_code == 0
    assert (tmp_path / "s.db").exists()
    missing = CliRunner().invoke(command(), ["--store-file", str(tmp_path / "none"), "migrate"])
    assert missing.exit_code == 2
