"""The files of SQL: named, described, and cut at the right places."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources
from pathlib import Path

import pytest

from sojourn_server.store.sqlfile import parse
from sojourn_server.store.sqlite import queries, schema
from sojourn_server.store.sqlite.queries import QUERIES, Queries

PACKAGE = Path(str(resources.files("sojourn_server.store.sqlite")))


def test_a_file_is_cut_into_its_queries() -> None:
    text = "-- A file.\n\n-- name: one\n-- The first.\nSELECT 1,\n  2\n\n"
    text += "-- name: two\n-- More.\nSELECT 3\n"
    assert parse(text) == {"one": "SELECT 1, 2", "two": "SELECT 3"}


@pytest.mark.parametrize(
    "text",
    [
        "-- name: one\nSELECT 1\n",
        "-- name: one\n-- A sentence without SQL.\n",
        "-- name: one\n-- First.\nSELECT 1\n-- name: one\n-- Again.\nSELECT 2\n",
    ],
    ids=["no sentence", "no SQL", "twice"],
)
def test_a_query_that_breaks_the_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="query one"):
        parse(text)


def test_every_query_has_an_attribute_and_every_attribute_a_query() -> None:
    named = parse((PACKAGE / "queries.sql").read_text(encoding="utf-8"))
    assert set(named) == set(Queries._fields)
    assert len(named) > 60


def test_every_query_is_used() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in PACKAGE.glob("*.py")
        if path.name != "queries.py"
    )
    used = set(re.findall(r"QUERIES\.([a-z]\w+)", code))
    # Those of lists are found by their names: `test_plans` sees that each has its list.
    assert used == {name for name in Queries._fields if not name.startswith("list_")}


def test_no_query_is_put_together_from_values() -> None:
    for path in PACKAGE.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "execute(f" in line:
                assert "PRAGMA" in line, f"{path.name}: {line}"


def test_a_script_is_cut_into_statements_and_not_inside_them() -> None:
    script = (
        "-- About it; all of it.\nCREATE TABLE t (x TEXT DEFAULT ';');\n\n"
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN\n  DELETE FROM t;\nEND;\n"
        "INSERT INTO t VALUES (1);\n"
    )
    made = sqlite3.connect(":memory:")
    count = 0
    for statement in schema.statements(script):
        made.execute(statement)
        count += 1
    made.close()
    assert count == 3
    with pytest.raises(ValueError, match="semicolon"):
        list(schema.statements("CREATE TABLE t (x)\n"))


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    numbers = [number for number, _ in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_the_loader_reads_the_file_of_its_own_package() -> None:
    assert queries.QUERIES is QUERIES
    assert QUERIES.session_by_uid.startswith("SELECT pk, record FROM session WHERE uid = ?")
