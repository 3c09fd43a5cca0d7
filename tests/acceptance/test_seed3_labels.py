"""Rows S3-01, S3-03 to S3-11, S3-30 and S3-31: sessions with labels, without an event loop."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

import sojourn
from sojourn import Client, NewSession, SessionFilter, errors
from sojourn.v1 import session_service_pb2
from tests.acceptance.kit import Place


def test_s3_01_created_from_an_image(blocking: Client) -> None:
    """What a session is made from is a label, so that sessions can be found by it, or metadata."""
    session = blocking.sessions.create(
        labels={"image": "agb-code-space-1"}, metadata={"resource": {"cpu": 2}}
    )
    blocking.sessions.create(labels={"image": "agb-browser-1"})
    found = blocking.sessions.list(labels={"image": "agb-code-space-1"}).to_list()
    assert [one.uid for one in found] == [session.uid]
    assert dict(blocking.sessions.get(session).metadata) == {"resource": {"cpu": 2}}


def test_s3_03_the_id(blocking: Client) -> None:
    """A session without an id of the caller's gets a unique one, which can be passed around."""
    made = [blocking.sessions.create() for _ in range(3)]
    assert len({one.session_id for one in made}) == 3
    for one in made:
        assert blocking.sessions.get(one.session_id).uid == one.uid


def test_s3_04_labels_at_creation(blocking: Client) -> None:
    """Labels given at creation are on the session from its first moment on."""
    labels = {"project": "demo", "environment": "testing", "team": "data-science"}
    session = blocking.sessions.create(labels=labels)
    assert session.labels == labels
    assert blocking.sessions.list(labels=labels).to_list()[0].uid == session.uid


def test_s3_05_setting_labels(blocking: Client) -> None:
    """Setting can mean to replace all labels or to merge some in, and the call says which."""
    session = blocking.sessions.create("s", labels={"project": "demo", "stage": "1"})
    merged = blocking.sessions.update("s", labels={"stage": "2", "team": "x"}).session
    assert merged.labels == {"project": "demo", "stage": "2", "team": "x"}
    replaced = blocking.sessions.update("s", labels={"stage": "3"}, replace_labels=True).session
    assert replaced.labels == {"stage": "3"}
    assert blocking.sessions.update("s", remove_labels=["stage"]).session.labels == {}
    assert blocking.sessions.list(labels={"project": "demo"}).count() == 0
    assert session.labels == {"project": "demo", "stage": "1"}


def test_s3_06_getting_labels(blocking: Client) -> None:
    """Labels come with every read of the session, also with a list of many."""
    blocking.sessions.create_many(
        [NewSession(f"s-{n}", labels={"number": str(n)}) for n in range(5)]
    )
    assert blocking.sessions.get("s-3").labels == {"number": "3"}
    listed = {one.session_id: one.labels["number"] for one in blocking.sessions.list()}
    assert listed == {f"s-{n}": str(n) for n in range(5)}


def refused(blocking: Client, labels: Any, named: str) -> None:
    """Check that labels are refused at creation and at a change, with nothing sent or changed."""
    blocking.sessions.get_or_create("s", labels={"kept": "yes"})
    before = blocking.sessions.list(status="any").count()
    for call in (
        lambda: blocking.sessions.create(labels=labels),
        lambda: blocking.sessions.update("s", labels=labels),
    ):
        with pytest.raises(errors.InvalidFieldError) as error:
            call()
        assert "labels" in error.value.field_violations[0].field
        assert named in str(error.value)
        assert not error.value.correlation_id, "it was sent"
    assert blocking.sessions.get("s").labels == {"kept": "yes"}
    assert blocking.sessions.list(status="any").count() == before


def test_s3_07_an_empty_key(blocking: Client) -> None:
    """An empty label key is refused by name, before anything is sent."""
    refused(blocking, {"": "empty-key"}, "key")


def test_s3_08_an_empty_value(blocking: Client) -> None:
    """An empty label value is refused, and the error names its key."""
    refused(blocking, {"team": "x", "project": ""}, "project")


def test_s3_09_none_as_a_value(blocking: Client) -> None:
    """None as a label's value is a mistake of the program, and is told as a wrong type, too."""
    refused(blocking, {"team": None}, "team")
    with pytest.raises(TypeError):
        blocking.sessions.create(labels={"team": None})  # type: ignore[dict-item]


def test_s3_10_a_key_that_is_no_text(blocking: Client) -> None:
    """A label key that is no text is refused instead of being turned into one."""
    refused(blocking, {7: "seven"}, "int")
    refused(blocking, {("a", "b"): "list-key"}, "tuple")


def test_s3_11_checked_everywhere_alike(place: Place, blocking: Client) -> None:
    """The same rule holds at creation and at changes, in the client and in the server."""
    refused(blocking, {"-bad-": "x"}, "-bad-")
    refused(blocking, {"k": "x" * 257}, "k")
    refused(blocking, {f"k-{n}": "x" for n in range(65)}, "64")
    done = place.shell(blocking.app).refusal("sessions", "create", "--label", "=x", status=2)
    assert "label" in done
    request = session_service_pb2.CreateSessionRequest(
        app=blocking.app, session=session_service_pb2.NewSession(labels={"": "x"})
    )
    with pytest.raises(grpc.RpcError, match="labels"):
        blocking.stubs.sessions.CreateSession(request)


def test_s3_30_standard_labels(place: Place, app: str) -> None:
    """A program says its standard labels once, and all sessions it creates have them."""
    standard = {"project": "ml-training", "environment": "staging", "created_by": "sdk"}
    with place.sync_client(app, default_labels=standard) as client:
        session = client.sessions.create(labels={"model_version": "v1.3.2", "gpu_enabled": "true"})
        assert session.labels == {
            **standard,
            "model_version": "v1.3.2",
            "gpu_enabled": "true",
        }
        own = client.sessions.create(labels={"environment": "production"})
        assert own.labels == {**standard, "environment": "production"}
        with client.session("block") as block:
            assert block.info.labels == standard


def test_s3_31_labels_follow_the_work(blocking: Client) -> None:
    """Labels change while the work goes on, and sessions are found by what they say now."""
    with blocking.session(labels={"project": "ml", "version": "v2.1.0"}) as session:
        session.update(labels={"status": "training_complete", "accuracy": "0.94"})
        selected = blocking.sessions.list(labels={"status": "training_complete"}).to_list()
        assert [one.uid for one in selected] == [session.uid]
        assert selected[0].labels["accuracy"] == "0.94"
        assert selected[0].labels["version"] == "v2.1.0"
    done = blocking.sessions.list(
        status="completed",
        labels={"accuracy": ["0.94", "0.95"]},
        filter=SessionFilter(labels=[sojourn.LabelSelector.exists("version")]),
    )
    assert done.count() == 1
