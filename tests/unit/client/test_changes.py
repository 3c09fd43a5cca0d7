"""Changes: frozen, decoded late, and as easily made by hand as by the client."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from sojourn import ChangeCause, Membership, SessionChange
from sojourn import _change_convert as change_convert
from sojourn import _convert as convert
from sojourn._lazy import Pending
from sojourn.models import EPOCH
from sojourn.v1 import change_pb2, message_pb2
from tests.unit.client.feed import CHANGED, change, session


def full() -> change_pb2.Change:
    source = change(5, 1, "a", CHANGED)
    source.session.previous.CopyFrom(session("a", 4))
    source.session.messages.append(message_pb2.Message(message_id="m", content="secret"))
    source.session.content_revision = 6
    return source


def decoded(source: change_pb2.Change) -> SessionChange:
    made = change_convert.change(source)
    assert isinstance(made, SessionChange)
    return made


def test_sessions_are_decoded_when_they_are_read_and_once() -> None:
    made = decoded(full())
    late = {name for name, value in vars(made).items() if isinstance(value, Pending)}
    assert late == {"session", "previous", "messages"}
    assert made.session is made.session
    assert made.previous is made.previous
    assert made.messages is made.messages
    assert not any(isinstance(value, Pending) for value in vars(made).values())
    assert made.session.state_version == 5
    assert made.previous is not None
    assert (made.previous.state_version, made.previous.revision) == (4, 4)


def test_nothing_of_a_change_can_be_written() -> None:
    made = decoded(full())
    for name in ("revision", "session", "previous", "messages"):
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, None)


def test_a_change_is_equal_to_its_copies_whether_it_was_read_or_not() -> None:
    made = decoded(full())
    copies = [pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)]
    assert any(isinstance(value, Pending) for value in vars(made).values())
    for one in copies:
        assert one == made
        assert one.messages[0].content == "secret"
    assert decoded(full()) == made
    assert decoded(change(5, 1, "a", CHANGED)) != made


def test_a_copy_keeps_no_message_of_the_wire() -> None:
    one = copy.copy(decoded(full()))
    assert not any(isinstance(value, Pending) for value in vars(one).values())


def test_a_change_can_be_made_by_hand() -> None:
    held = convert.session(session("a", 1), 1)
    made = SessionChange(
        revision=1,
        index=0,
        cause=ChangeCause.CREATED,
        time=EPOCH,
        actor="",
        membership=Membership.ENTERED,
        uid="a",
        session=held,
    )
    assert (made.session, made.previous, made.messages) == (held, None, ())
    assert replace(made, index=2).session is held
    with pytest.raises(TypeError, match="session"):
        SessionChange(  # type: ignore[call-arg]
            revision=1, index=0, cause=ChangeCause.CREATED, time=EPOCH, actor="", uid="a"
        )


def test_what_a_change_looks_like_holds_no_content() -> None:
    made = decoded(full())
    assert repr(made) == (
        "SessionChange(revision=5, index=1, cause=UPDATED, membership=CHANGED, uid='a')"
    )
