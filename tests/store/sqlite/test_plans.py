"""Query plans: no statement reads a table from end to end, or sorts without need."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn_server.domain.model import Status
from sojourn_server.store.base import Candidates, Position, SortBy
from sojourn_server.store.sqlite import lists, schema
from sojourn_server.store.sqlite.queries import QUERIES
from tests.store.kit import APP, a_session

IN_ORDER_OF_ITS_KEY = {
    # A scan in key order with LIMIT 1 reads one row.
    "purge_first": "SCAN purge",
    "content_last": "SCAN content",
    # At most 256 rows.
    "token_keys": "SCAN token_key",
    # The values that it has found so far.
    "label_values": "SCAN v",
    # All of them, for a migration.
    "backfill_sessions": "SCAN session USING INDEX session_user",
}
STATEMENTS = {name: sql for name, sql in QUERIES._asdict().items() if not name.startswith("list_")}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "sojourn.db"
    made = sqlite3.connect(path, isolation_level=None)
    schema.migrate(made)
    yield made
    made.close()


def plan_of(connection: sqlite3.Connection, sql: str, parameters: object = None) -> list[str]:
    named = dict.fromkeys(re.findall(r":(\w+)", sql))
    given = parameters if parameters is not None else named or [None] * sql.count("?")
    rows = connection.execute("EXPLAIN QUERY PLAN " + sql, given)  # type: ignore[arg-type]
    return [row[3] for row in rows]


def scans(plan: list[str]) -> list[str]:
    return [
        line
        for line in plan
        if line.startswith("SCAN")
        and line not in {"SCAN CONSTANT ROW", "SCAN json_each VIRTUAL TABLE INDEX 1:"}
    ]


def test_the_check_sees_a_scan_and_a_sort(connection: sqlite3.Connection) -> None:
    plan = plan_of(connection, "SELECT * FROM session ORDER BY session_id")
    assert scans(plan)
    assert any("TEMP B-TREE" in line for line in plan)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_scans_or_sorts(connection: sqlite3.Connection, name: str) -> None:
    plan = plan_of(connection, STATEMENTS[name])
    allowed = IN_ORDER_OF_ITS_KEY.get(name)
    assert [line for line in scans(plan) if line != allowed] == []
    assert [line for line in plan if "TEMP B-TREE" in line] == []


def queries() -> Iterator[Candidates]:
    for user, status, label, parent, sort_by, descending, after in itertools.product(
        (None, "ann"),
        (None, Status.ACTIVE, Status.FAILED),
        (None, ("k", "v")),
        (None, a_session().uid),
        SortBy,
        (False, True),
        (False, True),
    ):
        value: int | str = "x" if sort_by is SortBy.SESSION_ID else 7
        yield Candidates(
            app=APP,
            user=user,
            status=status,
            label=label,
            parent_uid=parent,
            sort_by=sort_by,
            descending=descending,
            after=Position(value, 7) if after else None,
        )


def may_sort(query: Candidates) -> bool:
    """Only the few sessions of one user or one parent are sorted."""
    if query.parent_uid is not None:
        return query.sort_by is not SortBy.CREATE
    return query.user is not None and query.sort_by in {SortBy.UPDATE, SortBy.ACTIVITY}


def test_no_list_scans_and_none_sorts_a_whole_app(connection: sqlite3.Connection) -> None:
    seen = set()
    for query in queries():
        for sql, parameters in lists.plan(query, 1):
            plan = plan_of(connection, sql, parameters)
            seen.add(sql)
            assert scans(plan) == [], query
            sorts = [line for line in plan if "TEMP B-TREE" in line]
            assert bool(sorts) == may_sort(query), (query, plan)
            # The place to go on from is found in the index and not by reading up to it.
            ranged = "<" in plan[0] or ">" in plan[0]
            if query.after is not None and not may_sort(query):
                assert ranged, (query, plan)
    assert len(seen) > 150


def test_every_fragment_is_used_by_some_list() -> None:
    texts = [sql for query in queries() for sql, _ in lists.plan(query, 1)]
    for name, sql in QUERIES._asdict().items():
        if name.startswith("list_"):
            assert any(sql in text for text in texts), name
