"""Query plans: no statement reads a table from end to end, or sorts without need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sojourn_server.store.base import Candidates, SortBy
from sojourn_server.store.lists import Lists
from sojourn_server.store.postgres import PostgresStore
from sojourn_server.store.postgres.connection import Options
from sojourn_server.store.postgres.queries import QUERIES
from tests import postgres
from tests.store.sqlite.test_plans import may_sort, queries

NOT_PLANNED = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "CREATE", "LISTEN")
FEW_ROWS = {"schema_version", "schema_set", "jobs_give_back", "table_sizes"}
"""Tables of a few rows, whatever the store holds."""
STATEMENTS = {
    name: statement
    for name, statement in QUERIES._asdict().items()
    if not name.startswith("list_")
    and not statement.startswith(NOT_PLANNED)
    and name not in FEW_ROWS
}
LISTS = Lists(QUERIES._asdict())

Plan = dict[str, Any]


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    server = postgres.server()
    dsn = server.take()
    options = Options(dsn)

    async def prepare() -> None:
        store = PostgresStore(options)
        await store.open()
        await store.close()

    import asyncio  # noqa: PLC0415

    asyncio.run(prepare())
    with psycopg.connect(dsn, autocommit=True) as made:
        statement, values = options.settings(local=False)
        made.execute(statement.encode(), values)
        yield made
    server.give(dsn)


def numbered(statement: str) -> str:
    """A statement with `$1` for each parameter: its plan must do for all values."""
    count = 0
    known: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        nonlocal count
        name = found.group(1)
        if name and name in known:
            return f"${known[name]}"
        count += 1
        if name:
            known[name] = count
        return f"${count}"

    return re.sub(r"%(?:\((\w+)\))?s", place, statement)


def plan_of(connection: psycopg.Connection[tuple[Any, ...]], statement: str) -> Plan:
    text = f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {numbered(statement)}"
    row = connection.execute(text.encode(), prepare=False).fetchone()
    assert row is not None
    plan: Plan = row[0][0]["Plan"]
    return plan


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def scans(plan: Plan) -> list[str]:
    """Tables that are read from end to end: without an index, or without a condition on it."""
    found = []
    for node in nodes(plan):
        kind = node["Node Type"]
        bare = kind in {"Index Scan", "Index Only Scan"} and "Index Cond" not in node
        if kind in {"Seq Scan", "Bitmap Heap Scan"} or bare:
            found.append(f"{kind} of {node['Relation Name']}")
    return found


def sorts(plan: Plan) -> bool:
    return any("Sort" in node["Node Type"] for node in nodes(plan))


def test_the_check_sees_a_scan_and_a_sort(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    plan = plan_of(connection, "SELECT * FROM session ORDER BY record")
    assert scans(plan)
    assert sorts(plan)


SIFTED = {
    # Messages of a session, sifted by their event time.
    "messages_since_up",
    "messages_since_down",
    # Apps, of which few have no record.
    "app_names",
    "apps_listed",
    # What is overdue in an app, which is little.
    "session_overdue_user",
    # Counters of a tally, of which few have come to nothing.
    "tally_get",
    "tallies_first",
    "tallies_after",
    # Rows that are looked up by their whole keys, and go if they come to nothing.
    "tallies_prune",
    "tally_counters_prune",
}

WHOLE_APP = {
    # The app itself, and its first note.
    "app_set",
    "backfill_app",
    "purge_first",
    # The log's beginning, with a LIMIT.
    "change_oldest",
    "audit_times",
    "change_times",
    # Whose state there is, with a LIMIT.
    "scope_names",
}

IN_ORDER_OF_ITS_KEY = {
    # In key order with LIMIT 1: one row.
    "purge_app": ["Index Only Scan of purge", "Index Scan of purge"],
    "session_next_due": ["Index Only Scan of session", "Index Scan of session"],
    # At most 256 rows.
    "token_keys": ["Index Scan of token_key"],
    # All of them, in pages, for a migration.
    "backfill_first": ["Index Scan of session"],
}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_scans_or_sorts(
    connection: psycopg.Connection[tuple[Any, ...]], name: str
) -> None:
    plan = plan_of(connection, STATEMENTS[name])
    allowed = IN_ORDER_OF_ITS_KEY.get(name, [])
    assert [line for line in scans(plan) if line not in allowed] == []
    assert not sorts(plan)
    # Reading all of an app and comparing is no better than reading all of a table.
    conditions = [node["Index Cond"] for node in nodes(plan) if "Index Cond" in node]
    whole_apps = [each for each in conditions if re.fullmatch(r"\(app_pk = \$\d+\)", each)]
    assert whole_apps == [] or name in WHOLE_APP, plan
    for node in nodes(plan):
        if node["Node Type"] == "Nested Loop":
            assert "Join Filter" not in node, plan
        # What an index finds is what was asked for, and not to be sifted.
        assert "Filter" not in node or name in SIFTED or "Subquery" in node["Node Type"], plan


def test_no_list_scans_and_none_sorts_a_whole_app(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    seen: set[str] = set()
    for query in queries():
        for statement, _ in LISTS.plan(query, 1):
            if statement in seen:
                continue
            seen.add(statement)
            plan = plan_of(connection, statement)
            assert scans(plan) == [], query
            assert sorts(plan) == may_sort(query), (query, plan)
            (leaf, *_) = [n for n in nodes(plan) if "Index Cond" in n]
            assert leaf["Index Name"] == index_of(query, statement), (query, plan)
            # The place to go on from is found in the index and not by reading up to it.
            if query.after is not None and not may_sort(query):
                assert "<" in leaf["Index Cond"] or ">" in leaf["Index Cond"], (query, plan)
    assert len(seen) > 150


def index_of(query: Candidates, statement: str) -> str:
    """The index that a list is to be read from, whatever statistics say."""
    if query.parent_uid is not None:
        return "session_parent"
    if query.sort_by is SortBy.CREATE:
        if query.user is not None:
            return "session_of_user"
        if query.label is not None:
            return "session_label_pkey"
        return "session_pkey" if query.status is None else "session_status"
    if query.user is not None:
        return "session_key" if query.sort_by is SortBy.SESSION_ID else "session_of_user"
    if query.sort_by is SortBy.ACTIVITY:
        return "session_idle" if "s.status = 1" in statement else "session_rested"
    return {
        SortBy.SESSION_ID: "session_name",
        SortBy.UPDATE: "session_update",
    }[query.sort_by]


def test_every_fragment_is_used_by_some_list() -> None:
    texts = [statement for query in queries() for statement, _ in LISTS.plan(query, 1)]
    for name, statement in QUERIES._asdict().items():
        if name.startswith("list_"):
            assert any(statement in text for text in texts), name
