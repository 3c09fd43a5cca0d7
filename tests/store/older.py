"""Databases as an older release has left them."""

from __future__ import annotations

import random
from typing import Any

from sojourn_server.domain.model import Metrics, Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import AppCounts, Store
from sojourn_server.store.rows import ORDER_BITS, encode, parent_blob, uid_blob
from tests.store.kit import a_session, an_app

APPS = ("support", "other")
SESSIONS = 30


def old_apps() -> list[dict[str, Any]]:
    """Rows of the table `app`, as the first schema has it."""
    return [
        {
            "app_pk": number,
            "name": name,
            "head": 0,
            "created": SESSIONS,
            "record": encode(an_app(name)),
        }
        for number, name in enumerate(APPS, 1)
    ]


def old_sessions() -> list[Session]:
    """Sessions of two apps, of several users, with all statuses and with counters."""
    dice = random.Random(4)
    return [
        a_session(
            f"s-{number}",
            app=dice.choice(APPS),
            user=dice.choice(["ann", "", "zoë"]),
            status=dice.choice(list(Status)),
            message_count=dice.randrange(9),
            metrics=Metrics(
                requests=dice.randrange(9),
                errors=dice.randrange(3),
                processing_time=dice.choice([0, (1 << 63) - 1]),
                counters={"tokens": dice.randrange(-5, 99)},
            ),
        )
        for number in range(SESSIONS)
    ]


def old_row(session: Session, number: int) -> dict[str, Any]:
    """A row of the table `session`, as the first schema has it, but for the user's column."""
    app_pk = APPS.index(session.app) + 1
    return {
        "pk": app_pk << ORDER_BITS | number,
        "app_pk": app_pk,
        "uid": uid_blob(session.uid),
        "session_id": session.session_id,
        "status": int(session.status),
        "parent": parent_blob(session),
        "update_time": session.update_time,
        "activity_time": session.activity_time,
        "due": None,
        "record": encode(session),
    }


async def assert_counted(store: Store, sessions: list[Session]) -> None:
    """What the store counts is what counting these sessions gives."""
    for app in APPS:
        own = [session for session in sessions if session.app == app]
        active = sum(session.is_active for session in own)
        counts = await store.read(lambda tx, app=app: tx.app_counts(app))  # type: ignore[misc]
        assert counts == AppCounts(active, len(own))
        statuses: dict[Status, Sums] = {}
        for session in own:
            statuses.setdefault(session.status, Sums()).count(session)
        assert await store.read(lambda tx, app=app: tx.status_sums(app)) == statuses  # type: ignore[misc]
        for user in ("ann", "", "zoë"):
            theirs: dict[Status, Sums] = {}
            for session in own:
                if session.user == user:
                    theirs.setdefault(session.status, Sums()).count(session)
            found = await store.read(lambda tx, app=app, user=user: tx.status_sums(app, user))  # type: ignore[misc]
            assert found == theirs
