"""What every call goes through, over a real port."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import grpc
import pytest

from sojourn.v1 import session_pb2
from sojourn.v1 import session_service_pb2 as pb
from sojourn_server import logs
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.rpc import pipeline
from sojourn_server.rpc.callers import ACTOR
from sojourn_server.rpc.errors import CORRELATION
from sojourn_server.service.answers import Call
from sojourn_server.store.base import StoreDown, StoreFull
from tests.unit.rpc.wire import CREATE, GET, created, failed, serving

GOOD = pb.CreateSessionRequest(app="a", session=pb.NewSession(session_id="s"))


class Lines(list[dict[str, Any]]):
    """Takes the place of the logs' sink."""

    def _take(self, event: str, **facts: Any) -> None:
        self.append({"event": event, "correlation_id": logs.correlation.get(), **facts})

    debug = info = warning = error = _take


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    taken = Lines()
    monkeypatch.setattr(logs.Log, "sink", taken)
    return taken


class Recorder:
    """A use case that remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, request: Any, call: Call) -> pb.CreateSessionResponse:
        self.calls.append(call)
        return await created(request, call)


# --- what an answer carries ------------------------------------------------------------------


async def test_an_answer_is_the_use_case_s():
    async with serving(created) as wire:
        answer, trailers = await wire.create()
    assert pb.CreateSessionResponse.FromString(answer).revision == 7
    assert CORRELATION not in trailers  # no line in the log to be found by it


async def test_no_two_calls_share_a_correlation_id():
    async with serving(created, log_calls=True) as wire:
        answers = await asyncio.gather(*(wire.create() for _ in range(50)))
    found = {trailers[CORRELATION] for _, trailers in answers}
    assert len(found) == 50
    assert min(map(len, found)) >= 16


async def test_a_correlation_id_does_not_tell_how_many_calls_there_were():
    async with serving(created, log_calls=True) as wire:
        found = [(await wire.create())[1][CORRELATION] for _ in range(20)]
    # Neither half of one is that of the next, nor near it.
    halves = {half for each in found for half in (each[:10], each[10:])}
    assert len(halves) == 40
    gaps = [abs(int(a, 16) - int(b, 16)) for a, b in itertools.pairwise(found)]
    assert min(gaps) > 2**32


async def test_answers_are_not_compressed():
    async with serving(created) as wire:
        call = wire.channel.unary_unary(CREATE)(
            GOOD.SerializeToString(), metadata=(("grpc-accept-encoding", "gzip"),)
        )
        await call
        headers = dict(await call.initial_metadata())
    assert headers.get("grpc-encoding", "identity") == "identity"


# --- what a use case is told -----------------------------------------------------------------


async def test_the_use_case_is_told_method_and_actor():
    recorder = Recorder()
    async with serving(recorder) as wire:
        await wire.create(metadata=((ACTOR, "Zoë's bot".encode()),))
    (call,) = recorder.calls
    assert (call.method, call.actor, call.principal) == ("CreateSession", "Zoë's bot", "")


async def test_without_an_actor_there_is_none():
    recorder = Recorder()
    async with serving(recorder) as wire:
        await wire.create()
    assert recorder.calls[0].actor == ""


@pytest.mark.parametrize("actor", [b"\xff", b"x" * 257, "é".encode() * 257, b"a\nb", b"a\0b"])
async def test_a_bad_actor_is_refused(actor: bytes):
    async with serving(created) as wire:
        failure = await failed(wire.create(metadata=((ACTOR, actor),)))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert failure.metadata == {"field": ACTOR}


async def test_an_actor_may_have_256_characters():
    recorder = Recorder()
    async with serving(recorder) as wire:
        await wire.create(metadata=((ACTOR, "é".encode() * 256),))
    assert recorder.calls[0].actor == "é" * 256


async def test_the_deadline_is_the_caller_s_by_the_monotonic_clock():
    recorder = Recorder()
    async with serving(recorder) as wire:
        before = time.monotonic()
        await wire.create()
        after = time.monotonic()
    deadline = recorder.calls[0].deadline
    assert deadline is not None
    # However long the call took: ten seconds from when it was begun.
    assert before + 8 < deadline <= after + 10


async def test_without_a_deadline_there_is_none():
    recorder = Recorder()
    async with serving(recorder) as wire:
        await wire.channel.unary_unary(CREATE)(GOOD.SerializeToString())
    assert recorder.calls[0].deadline is None


async def test_equal_payloads_have_equal_fingerprints_whatever_their_id():
    recorder = Recorder()
    many = {f"k{number}": "v" for number in range(30)}
    request = pb.CreateSessionRequest(app="a", session=pb.NewSession(labels=many))
    turned = pb.CreateSessionRequest(
        app="a", session=pb.NewSession(labels=dict(reversed(many.items())))
    )
    async with serving(recorder) as wire:
        for each, request_id in ((request, "r-1"), (turned, "r-1"), (request, "r-2")):
            each.request_id = request_id
            await wire.create(each)
    hashes = [call.payload_hash for call in recorder.calls]
    assert len(hashes[0]) == 16
    assert len(set(hashes)) == 1
    first, again, other = (call.request_id for call in recorder.calls)
    assert first == again != other
    assert "r-1" not in first, "callers like to put names into them"


async def test_other_payloads_have_other_fingerprints():
    recorder = Recorder()
    async with serving(recorder) as wire:
        for name in ("x", "y"):
            await wire.create(
                pb.CreateSessionRequest(
                    app="a", session=pb.NewSession(session_id=name), request_id="r"
                )
            )
    first, second = (call.payload_hash for call in recorder.calls)
    assert first != second


async def test_without_a_request_id_nothing_is_fingerprinted():
    recorder = Recorder()
    async with serving(recorder) as wire:
        await wire.create()
    assert recorder.calls[0].payload_hash == b""


# --- what is refused before any use case -----------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0a\x05ab", id="truncated"),
        pytest.param(b"\x0a\x01\xff", id="not-utf-8"),
        pytest.param(b"\x0a\x03\xed\xa0\x80", id="surrogate"),
        pytest.param(b"\xff\xff\xff", id="no-message"),
    ],
)
async def test_bytes_that_are_no_message_are_malformed(data: bytes):
    recorder = Recorder()
    async with serving(recorder) as wire:
        failure = await failed(wire.raw(CREATE, data))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    assert not recorder.calls


async def test_a_request_over_the_limit_is_refused_with_the_limit():
    request = pb.CreateSessionRequest(app="a", request_id="x" * 5_000)
    async with serving(created) as wire:
        failure = await failed(wire.create(request))
    assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")
    assert failure.metadata == {"limit_bytes": "4000"}


async def test_a_broken_rule_is_refused_with_its_field():
    async with serving(created) as wire:
        failure = await failed(wire.create(pb.CreateSessionRequest(session=pb.NewSession())))
    assert (failure.code, failure.reason, failure.fields) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        ["app", "app"],
    )


async def test_the_short_cut_of_get_still_refuses():
    request = pb.GetSessionRequest(session=session_pb2.SessionRef(app="a", session_id=" s"))
    async with serving(created) as wire:
        failure = await failed(wire.raw(GET, request.SerializeToString()))
    assert failure.fields == ["session.session_id"]


# --- what fails in a use case ----------------------------------------------------------------


def raising(error: BaseException) -> Any:
    async def use(request: Any, call: Call) -> Any:
        raise error

    return use


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Refusal(Reason.SESSION_ENDED, "it ended"), "FAILED_PRECONDITION", "SESSION_ENDED"),
        (StoreFull("secret"), "RESOURCE_EXHAUSTED", "STORAGE_FULL"),
        (StoreDown("secret"), "UNAVAILABLE", "STORE_UNAVAILABLE"),
        (ValueError("secret"), "INTERNAL", "INTERNAL"),
        (AssertionError("secret"), "INTERNAL", "INTERNAL"),
        (grpc.aio.AbortError("secret"), "INTERNAL", "INTERNAL"),
    ],
)
async def test_what_a_use_case_raises_has_its_code_and_keeps_its_text(
    error: Exception, code: str, reason: str, lines: Lines
):
    async with serving(raising(error)) as wire:
        failure = await failed(wire.create())
    assert (failure.code, failure.reason) == (code, reason)
    assert "secret" not in failure.text
    assert failure.correlation_id


async def test_a_fault_is_logged_under_its_correlation_id_without_its_text(lines: Lines):
    async def use(request: Any, call: Call) -> Any:
        try:
            raise KeyError("secret-cause")
        except KeyError as cause:
            raise ValueError("secret") from cause

    async with serving(use) as wire:
        failure = await failed(wire.create())
    (line,) = [line for line in lines if line["event"] == "call failed"]
    assert line["correlation_id"] == failure.correlation_id
    assert line["method"] == "CreateSession"
    assert line["error"] == ["builtins.ValueError", "builtins.KeyError"]
    assert any("in use" in frame for frame in line["frames"])
    assert "secret" not in str(line)


async def test_a_refusal_is_no_fault(lines: Lines):
    async with serving(raising(Refusal(Reason.SESSION_ENDED, "it ended"))) as wire:
        await failed(wire.create())
    assert not lines


async def test_a_cancellation_from_inside_does_not_leave_the_caller_hanging(lines: Lines):
    async def use(request: Any, call: Call) -> Any:
        lost = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    async with serving(use) as wire:
        begin = time.monotonic()
        failure = await failed(wire.create())
    assert (failure.code, failure.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert time.monotonic() - begin < 5
    assert [line["event"] for line in lines] == ["call lost"]


async def test_a_caller_that_goes_away_cancels_its_handler(lines: Lines):
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def use(request: Any, call: Call) -> Any:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(use) as wire:
        call = asyncio.create_task(wire.create())
        await begun.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await cancelled.wait()
            await wire.pipeline.idle()
    assert not lines


async def test_an_answer_that_cannot_be_encoded_is_a_fault(lines: Lines):
    async def use(request: Any, call: Call) -> Any:
        return None

    async with serving(use) as wire:
        failure = await failed(wire.create())
    assert failure.reason == "INTERNAL"
    assert lines


# --- draining --------------------------------------------------------------------------------


async def test_a_draining_server_refuses_new_calls_and_lets_running_ones_finish():
    begun, go = asyncio.Event(), asyncio.Event()

    async def use(request: Any, call: Call) -> Any:
        begun.set()
        await go.wait()
        return await created(request, call)

    async with serving(use) as wire:
        running = asyncio.create_task(wire.create())
        await begun.wait()
        wire.pipeline.draining = True
        failure = await failed(wire.create())
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "DRAINING")
        # The refused call leaves when its answer is on its way, not before.
        for _ in range(1_000):
            if wire.pipeline.running == 1:
                break
            await asyncio.sleep(0.005)
        assert wire.pipeline.running == 1
        go.set()
        await wire.pipeline.idle()
        answer, _ = await running
    assert pb.CreateSessionResponse.FromString(answer).created


async def test_a_finishing_server_refuses_new_work_alone():
    async with serving(created) as wire:
        wire.pipeline.finishing = True
        failure = await failed(wire.create())
        assert failure.reason == "DRAINING"
        request = pb.GetSessionRequest(session=session_pb2.SessionRef(app="a", session_id="s"))
        await wire.raw(GET, request.SerializeToString())


async def test_a_call_that_is_broken_off_by_a_drain_may_have_happened():
    begun = asyncio.Event()

    async def use(request: Any, call: Call) -> Any:
        begun.set()
        await asyncio.sleep(60)

    async with serving(use) as wire:
        running = asyncio.create_task(failed(wire.create()))
        await begun.wait()
        wire.pipeline.draining = True
        wire.pipeline.evict()
        async with asyncio.timeout(5):
            failure = await running
            await wire.pipeline.idle()
    # DRAINING would promise that nothing has happened.
    assert (failure.code, failure.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")


async def test_refusals_are_kept_back_until_they_are_released():
    async with serving(created) as wire:
        wire.pipeline.draining = True
        await wire.pipeline.hold()
        call = asyncio.create_task(failed(wire.create()))
        await asyncio.sleep(0.1)
        assert not call.done()
        wire.pipeline.release()
        async with asyncio.timeout(5):
            assert (await call).reason == "DRAINING"


async def test_keeping_back_waits_for_silence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "HOLD_MOST", 10.0)
    async with serving(created) as wire:
        await wire.create()
        begin = time.monotonic()
        await wire.pipeline.hold()
        wire.pipeline.release()
    assert 0.0 <= time.monotonic() - begin < 5


async def test_keeping_back_waits_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "HOLD_MOST", 0.3)
    monkeypatch.setattr(pipeline, "SILENCE", 60.0)
    calls: list[asyncio.Task[Any]] = []

    async with serving(created) as wire:
        wire.pipeline.draining = True

        async def ring() -> None:
            while True:
                calls.append(asyncio.create_task(failed(wire.create())))
                await asyncio.sleep(0.01)

        ringing = asyncio.create_task(ring())
        await asyncio.sleep(0.1)
        # Nobody falls silent for a minute: it is its time that ends the waiting.
        async with asyncio.timeout(20):
            await wire.pipeline.hold()
        ringing.cancel()
        wire.pipeline.release()
        failures = await asyncio.gather(*calls)
    assert {failure.reason for failure in failures} == {"DRAINING"}


async def test_idle_is_at_once_when_nothing_runs():
    async with serving(created) as wire:
        async with asyncio.timeout(1):
            await wire.pipeline.idle()


async def _awaited(call: Any) -> Any:
    return await call


async def _first(call: Any) -> Any:
    async for item in call:
        return item
    return None


async def test_a_method_of_no_contract_is_grpc_s_own_answer():
    async with serving(created) as wire:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.raw("/sojourn.v1.SessionService/Nonsense", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- log lines -------------------------------------------------------------------------------


async def test_every_call_has_a_line_at_level_debug(lines: Lines):
    async with serving(created, log_calls=True) as wire:
        _, trailers = await wire.create()
        failure = await failed(wire.create(pb.CreateSessionRequest()))
        await wire.pipeline.idle()
    first, second = lines
    assert (first["method"], first["code"], first["outcome"]) == ("CreateSession", "OK", "OK")
    assert first["correlation_id"] == trailers[CORRELATION]
    assert (second["code"], second["outcome"]) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert second["correlation_id"] == failure.correlation_id
    assert first["milliseconds"] >= 0
