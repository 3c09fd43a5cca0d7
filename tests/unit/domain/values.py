"""Sessions for the domain's tests, with plain values where a test does not care."""

from __future__ import annotations

from typing import Any

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.model import Session, Status, Turn

START: Nanos = 1_700_000_000 * SECOND


def a_session(**fields: Any) -> Session:
    values: dict[str, Any] = {
        "uid": "018bcfe5-6800-7000-8000-000000000001",
        "app": "support",
        "user": "ann",
        "session_id": "s-1",
        "status": Status.ACTIVE,
        "labels": {},
        "create_time": START,
        "update_time": START,
        "activity_time": START,
    }
    return Session(**{**values, **fields})


def a_turn(number: int = 1, *, begin: Nanos = START, lease: Nanos = 30 * SECOND) -> Turn:
    return Turn(
        number=number, holder="pod-1", begin_time=begin, lease_time=begin + lease, lease=lease
    )
