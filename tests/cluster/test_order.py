"""One order for everybody: no gap is ever seen, and one session's versions ascend."""

from __future__ import annotations

import asyncio
import itertools
import time

import psycopg
import pytest

import sojourn
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import PATIENT, USER, Clients, Cluster, log_of
from tests.faults import counts

OVERLAPS = counts.count("overlaps")
HAMMERED = counts.count("hammered")
WRITERS = 16

NOTE_BEGINNINGS = """
CREATE TABLE IF NOT EXISTS begun (app_pk bigint, revision bigint, at timestamptz);
CREATE OR REPLACE FUNCTION note_beginning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO begun VALUES (NEW.app_pk, NEW.revision, transaction_timestamp());
  PERFORM pg_sleep(random() * 0.005);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_beginning AFTER INSERT ON change
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_beginning();
"""
"""Says when the transaction of each change began, and makes commits slow."""

FORGET_BEGINNINGS = "DROP FUNCTION note_beginning() CASCADE; DROP TABLE begun"

OVERTAKEN = """
SELECT count(*) FROM (
  SELECT at < lag(at) OVER (ORDER BY revision) AS overtaken
  FROM begun JOIN app USING (app_pk) WHERE name = %s
) AS each WHERE overtaken
"""


async def follow(store: PostgresStore, app: str, last: int) -> int:
    """Read the log as it grows; a gap shows what a reader who goes on from there would miss.

    Returns:
        How often it was asked.
    """
    head = asked = 0
    while head < last:
        asked += 1
        log = await store.read(lambda tx, head=head: tx.changes(app, head, 100))  # type: ignore[misc]
        for revision in dict.fromkeys(change.revision for change in log):
            assert revision == head + 1, f"{revision} is seen after {head}"
            head = revision
        await asyncio.sleep(0)
    return asked


@pytest.mark.timeout(counts.patience("overlaps", 0.1))
async def test_no_revision_is_seen_after_a_larger_one_though_the_first_to_begin_commits_last(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    with (
        psycopg.connect(cluster.dsn, autocommit=True) as admin,
        cluster.another(module="tests.cluster.slow_server") as slow,
    ):
        admin.execute(NOTE_BEGINNINGS.encode())
        try:
            async with sojourn.connect(slow.target, app=clients.app, retry=PATIENT) as client:
                await client.sessions.create("s", user=USER)
                numbers = itertools.count(1)

                async def write(through: sojourn.AsyncClient) -> None:
                    while next(numbers) < OVERLAPS:
                        delta = sojourn.MetricsDelta(1)
                        await through.sessions.update("s", user=USER, metrics=delta)

                writers = [write(each) for each in (client, clients.a, clients.b) * 2]
                asked, again, *_ = await asyncio.gather(
                    *(follow(store, clients.app, OVERLAPS) for _ in range(2)), *writers
                )
            row = admin.execute(OVERTAKEN.encode(), (clients.app,)).fetchone()
        finally:
            admin.execute(FORGET_BEGINNINGS.encode())
    overtaken = row[0] if row else 0
    assert overtaken > OVERLAPS / 20, "transactions have hardly overtaken each other"
    assert isinstance(asked, int)
    assert isinstance(again, int)
    counts.report(
        "overlapping transactions",
        OVERLAPS,
        f"{overtaken:,} began before and committed after another; "
        f"log read {asked + again:,} times meanwhile, no gap seen",
    )


async def test_a_reader_would_see_a_gap(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    """The test above finds what it looks for: here the first to begin does commit last."""
    await clients.a.sessions.create("s", user=USER)
    copy = (
        b"INSERT INTO change SELECT app_pk, revision + %s, idx, nonce, time, actor, cause, uid,"
        b" before, after, detail FROM change JOIN app USING (app_pk)"
        b" WHERE name = %s AND revision = 1"
    )
    with psycopg.connect(cluster.dsn) as first, psycopg.connect(cluster.dsn) as second:
        first.execute(copy, (1, clients.app))
        second.execute(copy, (2, clients.app))
        second.commit()
        with pytest.raises(AssertionError, match="3 is seen after 1"):
            await follow(store, clients.app, 3)
        first.commit()


@pytest.mark.timeout(counts.patience("hammered", 0.02))
async def test_versions_of_one_session_ascend_though_both_servers_hammer_it(
    clients: Clients, store: PostgresStore
) -> None:
    await clients.a.sessions.create("s", user=USER)
    numbers = itertools.count()

    async def write(number: int) -> list[tuple[int, int]]:
        """What was written: revisions and versions, in the order of the answers."""
        client = clients[number % 2]
        written: list[tuple[int, int]] = []
        while (value := next(numbers)) < HAMMERED:
            answer = await client.sessions.update("s", user=USER, state={"n": value})
            assert answer.state_version is not None
            written.append((answer.revision, answer.state_version))
        return written

    begin = time.monotonic()
    parts = await asyncio.gather(*(write(number) for number in range(WRITERS)))
    seconds = time.monotonic() - begin
    for part in parts:
        for (revision, version), (next_revision, next_version) in itertools.pairwise(part):
            assert revision < next_revision
            assert version < next_version
    # Together they are one order without gaps, the same by revision and by version.
    assert sorted(itertools.chain(*parts)) == [(n + 1, n) for n in range(1, HAMMERED + 1)]
    found = await clients.b.sessions.get("s", user=USER)
    assert found.state_version == HAMMERED
    log = [change for change in await log_of(store, clients.app) if change.after is not None]
    assert [change.revision for change in log] == list(range(1, HAMMERED + 2))
    versions = [change.after.state_version for change in log if change.after is not None]
    assert versions == list(range(HAMMERED + 1))
    counts.report(
        "writes of one session",
        HAMMERED,
        f"through both servers, {HAMMERED / seconds:,.0f}/s; versions ascend without a gap",
    )
