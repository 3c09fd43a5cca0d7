"""The demo's watcher says so when what it saw is not what was written."""

import itertools

import pytest

from sojourn import NewMessage, connect_sync
from tools.witness import Witness

APPS = itertools.count(1)


@pytest.fixture
def app() -> str:
    return f"witnessed-{next(APPS)}"


def write(target: str, app: str) -> None:
    with connect_sync(target, app=app) as client, client.session("s-1") as session:
        session.append("user", "one")
        with session.turn() as turn:
            turn.append("assistant", "two")


def test_a_witness_saw_everything(target: str, app: str) -> None:
    with Witness(target, app) as witness:
        write(target, app)
        seen, problems = witness.verdict()
    assert problems == []
    assert seen == "6 changes under 6 revisions: 1 sessions, 2 messages"


def test_a_change_that_was_lost_twice_or_out_of_order_is_found(target: str, app: str) -> None:
    with Witness(target, app) as witness:
        write(target, app)
        assert witness.verdict()[1] == []
        place = witness._places.pop(2)
        assert witness.verdict()[1] == ["revisions are missing"]
        witness._places.append(place)
        assert witness.verdict()[1] == ["changes came twice, or not in their order"]


def test_what_does_not_add_up_is_named(target: str, app: str) -> None:
    with Witness(target, app) as witness:
        write(target, app)
        assert witness.verdict()[1] == []
        [account] = witness._accounts.values()
        account.messages += 1
        account.causes["TURN_ENDED"] = 0
        assert witness.verdict()[1] == [
            "s-1: messages seen 3, stored 2",
            "s-1: turns seen 0, stored 1",
        ]


def test_a_session_that_nobody_saw_is_named(target: str, app: str) -> None:
    with connect_sync(target, app=app) as client:
        client.sessions.create("before")
    with Witness(target, app) as witness:
        witness._client.messages.append("before", NewMessage("user", "hi"))
        problems = witness.verdict()[1]
    assert problems == ["before: creations seen 0, stored 1"]
