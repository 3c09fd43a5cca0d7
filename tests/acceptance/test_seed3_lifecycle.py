"""Rows S3-02, S3-20 to S3-22, S3-27 to S3-29 and S3-32 to S3-37: release, safety, failures."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

import sojourn
from sojourn import (
    Client,
    EndCause,
    ExpireCause,
    IfExists,
    NewMessage,
    Policy,
    RetryOptions,
    SessionHandle,
    Status,
    TurnOutcome,
    errors,
)
from sojourn.v1 import session_service_pb2
from tests.acceptance.kit import GuardedPlace, Place, until

ONCE = RetryOptions(max_attempts=1)


def test_s3_02_an_id_of_every_request(talkative: Place, blocking: Client, app: str) -> None:
    """Every error has an id that finds the call in the log, and so has every answer, if wanted."""
    with pytest.raises(errors.SessionNotFoundError) as unknown:
        blocking.sessions.get("nobody")
    assert len(unknown.value.correlation_id) >= 16
    # At the level debug each call is logged, and then each answer names its lines.
    request = session_service_pb2.ListSessionsRequest(app=app)
    with talkative.sync_client(app) as client:
        _, call = client.stubs.sessions.ListSessions.with_call(request)
    answered = dict(call.trailing_metadata())["x-sojourn-correlation-id"]

    def logged() -> list[str]:
        lines = talkative.log()
        return [line["method"] for line in lines if line.get("correlation_id") == answered]

    until(logged, "the call is in the log")
    assert logged() == ["ListSessions"]


def test_s3_20_deleting(blocking: Client) -> None:
    """Deleting removes the session with all it held; doing it twice is told, not passed over."""
    session = blocking.sessions.create("s")
    blocking.messages.append("s", NewMessage("user", "Hello"))
    deleted = blocking.sessions.delete(session)
    assert (deleted.sessions_deleted, deleted.messages_deleted) == (1, 1)
    with pytest.raises(errors.SessionNotFoundError):
        blocking.sessions.get("s")
    with pytest.raises(errors.SessionNotFoundError):
        blocking.sessions.delete(session)
    blocking.sessions.create("open")
    ended = blocking.sessions.end("open")
    assert ended.session.status is Status.COMPLETED


def test_s3_21_release_after_a_time_out(place: Place, blocking: Client) -> None:
    """Each session may set its own time-out, change it, and read what is left of it."""
    session = blocking.sessions.create("s", idle_timeout=900)
    assert session.idle_timeout == timedelta(minutes=15)
    assert session.expire_cause is ExpireCause.IDLE
    assert session.expire_time == session.activity_time + timedelta(minutes=15)
    by_default = blocking.sessions.create("default")
    assert by_default.idle_timeout == timedelta(hours=1)
    never = blocking.sessions.update("s", idle_timeout=0).session
    assert (never.expire_time, never.time_left) == (None, None)
    short = blocking.sessions.update("s", idle_timeout=0.05).session
    assert short.expire_time == short.activity_time + timedelta(seconds=0.05)
    time.sleep(0.06)
    late = blocking.sessions.get("s")
    assert (late.status, late.end_cause) == (Status.EXPIRED, EndCause.IDLE)


def test_s3_22_a_released_id_stays_released(blocking: Client) -> None:
    """Nobody brings a released session back by its id; a new one under it is another session."""
    old = blocking.sessions.create("s", max_lifetime=0.05)
    time.sleep(0.06)
    for call in (
        lambda: blocking.sessions.touch("s"),
        lambda: blocking.attach("s"),
        lambda: blocking.messages.append("s", NewMessage("user", "x"), create_if_missing=True),
        lambda: blocking.turns.begin("s", create_if_missing=True),
    ):
        with pytest.raises(errors.SessionEndedError):
            call()
    new = blocking.sessions.create("s", if_exists=IfExists.REPLACE_ENDED)
    assert new.uid != old.uid
    with pytest.raises(errors.UidMismatchError):
        blocking.sessions.get(old)


def test_s3_27_deleted_in_any_case(blocking: Client) -> None:
    """A delete in `finally` works whether the work went well, failed, or ended the session."""
    for name, ended in (("fails", False), ("ends", True)):
        session = blocking.sessions.create(name)
        try:
            if ended:
                blocking.sessions.end(session)
            raise ValueError
        except ValueError:
            pass
        finally:
            blocking.sessions.delete(session)
    assert blocking.sessions.list(status="any").count() == 0


def test_s3_28_a_context_manager(blocking: Client) -> None:
    """The block has a session that is ended behind it; if creating fails, the block is not run."""
    with blocking.session("s") as session:
        session.append("user", "Hello")
        assert blocking.sessions.list().count() == 1
    assert blocking.sessions.list().count() == 0
    assert blocking.sessions.get("s").status is Status.COMPLETED
    entered = False
    with pytest.raises(errors.SessionExistsError), blocking.session("s"):
        entered = True
    assert not entered


def test_s3_32_monitoring_an_operation(blocking: Client) -> None:
    """How long an operation took is kept, and its session is healthy before and after."""
    session = blocking.attach("s")

    @sojourn.tracked(holder="data_processing")
    def operation(session: SessionHandle) -> int:
        live = blocking.sessions.get("s").turn
        assert live is not None
        assert live.holder == "data_processing"
        time.sleep(0.05)
        return 7

    before = session.refresh()
    assert operation(session) == 7
    after = session.refresh()
    assert before.is_active
    assert after.is_active
    assert after.turn is None
    spent = after.metrics.processing_time - before.metrics.processing_time
    assert spent >= timedelta(seconds=0.05)
    assert after.metrics.request_count == before.metrics.request_count + 1


def test_s3_34_replacing_one_that_does_not_respond(blocking: Client) -> None:
    """A session whose worker went silent shows it, and is closed as failed and replaced."""
    session = blocking.sessions.create("s", labels={"project": "demo"})
    with blocking.sessions.watch() as watch:
        busy = blocking.turns.begin("s", holder="pod-1", lease=1).session
        assert busy.turn is not None
        assert busy.turn.holder == "pod-1"
        outcomes = (getattr(change, "turn_outcome", None) for change in watch.changes())
        assert next(one for one in outcomes if one) is TurnOutcome.ABANDONED
    silent = blocking.sessions.get("s")
    assert silent.turn is None
    assert (silent.metrics.request_count, silent.metrics.error_count) == (1, 1)
    blocking.sessions.end(session, status=Status.FAILED, reason="unresponsive")
    new = blocking.sessions.create("s", labels=session.labels, if_exists=IfExists.REPLACE_ENDED)
    assert (new.is_active, new.labels) == (True, {"project": "demo"})
    assert new.uid != session.uid


def test_s3_37_api_keys(guarded: GuardedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, given in the program or in a variable, opens what it was granted, and no more."""
    with guarded.sync_client("support", credentials=sojourn.ApiKey(guarded.keys["agent"])) as agent:
        agent.sessions.create("s3-37")
        assert agent.sessions.get("s3-37").is_active
        with pytest.raises(errors.NotFoundError):
            agent.sessions.create("s", app="sales")
    with guarded.sync_client("support") as nobody, pytest.raises(errors.CredentialMissingError):
        nobody.sessions.get("s3-37")
    monkeypatch.setenv("SOJOURN_API_KEY", guarded.keys["auditor"])
    assert guarded.shell("support").json("sessions", "get", "s3-37")["status"] == "ACTIVE"


def test_s3_29_safe_operations(blocking: Client) -> None:
    """An operation in a session of its own gives its result, whatever becomes of the clean-up."""

    def operation(session: SessionHandle) -> str:
        session.append("user", "print('Hello')")
        return "Hello"

    assert blocking.run(operation, "fine") == "Hello"
    assert blocking.sessions.get("fine").status is Status.COMPLETED

    def deletes_it(session: SessionHandle) -> str:
        blocking.sessions.delete(session.ref)
        return "Hello"

    assert blocking.run(deletes_it, "gone") == "Hello"

    def fails(session: SessionHandle) -> str:
        blocking.sessions.delete(session.ref)
        raise ValueError("no result")

    with pytest.raises(ValueError, match="no result"):
        blocking.run(fails, "failed")


def test_s3_33_why_creating_failed(guarded: GuardedPlace, place: Place, app: str) -> None:
    """A bad key, a service that is away and an exhausted limit are three errors, told apart."""
    forged = sojourn.ApiKey(guarded.keys["agent"][:-1] + "x")
    with (
        guarded.sync_client("support", credentials=forged) as stranger,
        pytest.raises(errors.UnauthenticatedError),
    ):
        stranger.sessions.create()
    with (
        sojourn.connect_sync("127.0.0.1:1", app=app, retry=ONCE, deadline=5) as cut_off,
        pytest.raises(errors.UnavailableError),
    ):
        cut_off.sessions.create()
    with place.sync_client(app) as client:
        client.apps.update(policy=Policy(max_active_sessions=1))
        client.sessions.create()
        with pytest.raises(errors.ResourceExhaustedError) as full:
            client.sessions.create()
        assert full.value.metadata == {"quota": "max_active_sessions", "limit": "1"}


def test_s3_35_a_new_session_after_so_many_operations(blocking: Client) -> None:
    """After so many operations the same id gives a new session, or the limit refuses more."""
    uids = []
    for _ in range(5):
        session = blocking.attach("s", max_requests=2)
        uids.append(session.uid)
        with session.turn():
            pass
    assert [len([1 for uid in uids if uid == one]) for one in dict.fromkeys(uids)] == [2, 2, 1]
    blocking.apps.update(policy=Policy(max_requests_per_session=3))
    session = blocking.attach("limited")
    for _ in range(3):
        with session.turn():
            pass
    with pytest.raises(errors.QuotaExceededError) as refused, session.turn():
        pass
    assert refused.value.metadata == {"quota": "max_requests_per_session", "limit": "3"}
