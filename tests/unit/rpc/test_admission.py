"""Admission: what is over a budget is refused, and everything is given back exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn_server.domain.clock import MILLISECOND, SECOND
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.rate import Rate
from sojourn_server.rpc import admission as admission_module
from sojourn_server.rpc.admission import HOLD_MOST, Admission, Budget, Budgets, OverBudget, Ticket

PRINCIPALS = ("", "key:a", "key:b", "jwt:c")
APPS = ("", "shop", "support")


def small(**changes: Any) -> Budgets:
    """Budgets that are soon used up."""
    few = {
        "calls": Budget(4, 5, 6),
        "streams": Budget(2, 3, 4),
        "bytes_in_flight": Budget(400, 500, 600),
        "running": 3,
    }
    return Budgets(**{**few, **changes})


def refused(attempt: Any, *args: Any) -> OverBudget:
    with pytest.raises(OverBudget) as caught:
        attempt(*args)
    return caught.value


def entered(admission: Admission, principal: str = "key:a", app: str = "shop") -> Ticket:
    ticket = admission.arrive(principal, 10, 0.0)
    try:
        admission.enter(ticket, app, 0.0)
    except Refusal:
        admission.leave(ticket)
        raise
    return ticket


@pytest.mark.parametrize(
    ("calls", "of", "limit"),
    [
        (Budget(2, 9, 9), "principal", "2 calls"),
        (Budget(9, 2, 9), "app", "2 calls"),
        (Budget(9, 9, 2), "server", "2 calls"),
    ],
)
async def test_too_many_calls_of_a_scope_are_refused_with_its_name(
    calls: Budget, of: str, limit: str
) -> None:
    admission = Admission(small(calls=calls))
    first = entered(admission)
    entered(admission)
    refusal = refused(entered, admission)
    assert refusal.reason is Reason.RATE_LIMITED
    assert refusal.metadata == {"limit": limit, "of": of}
    assert refusal.retry_after == SECOND
    admission.leave(first)
    entered(admission)


async def test_a_call_is_given_back_once_however_often_it_leaves() -> None:
    admission = Admission(small(calls=Budget(2, 9, 9)))
    first, second = entered(admission), entered(admission)
    admission.leave(first)
    admission.leave(first)
    assert admission.running == 1
    entered(admission)
    refused(entered, admission)
    admission.leave(second)


async def test_others_are_not_refused_for_one_principal_or_one_app() -> None:
    admission = Admission(small(calls=Budget(1, 2, 9)))
    entered(admission, "key:a", "shop")
    refused(entered, admission, "key:a", "support")
    entered(admission, "key:b", "shop")
    refused(entered, admission, "key:c", "shop")
    entered(admission, "key:c", "support")


@pytest.mark.parametrize(
    ("budget", "of"),
    [
        (Budget(100, 900, 900), "principal"),
        (Budget(900, 100, 900), "app"),
        (Budget(900, 900, 100), "server"),
    ],
)
async def test_too_many_bytes_of_requests_are_refused(budget: Budget, of: str) -> None:
    admission = Admission(small(bytes_in_flight=budget))

    def attempt(size: int) -> Ticket:
        ticket = admission.arrive("key:a", size, 0.0)
        try:
            admission.enter(ticket, "shop", 0.0)
        except Refusal:
            admission.leave(ticket)
            raise
        return ticket

    first = attempt(60)
    refusal = refused(attempt, 41)
    assert refusal.metadata == {"limit": "100 bytes", "of": of}
    second = attempt(40)
    admission.leave(first)
    admission.leave(second)
    # Alone even a request that is larger than the budget is served, not refused for ever.
    attempt(300)


async def test_an_answer_that_nobody_reads_counts_until_it_is_sent() -> None:
    budget = Budget(100, 900, 900)
    admission = Admission(small(bytes_in_flight=budget, running=1, calls=Budget(9, 9, 9)))
    first = admission.arrive("key:a", 10, 0.0)
    admission.enter(first, "shop", 0.0)
    waits, other = admission.arrive("key:a", 10, 0.0), admission.arrive("key:b", 10, 0.0)
    calls = [asyncio.ensure_future(admission.wait(each)) for each in (waits, other)]
    await asyncio.sleep(0)
    admission.ran(first, 85)
    # Others run, but whoever reads no answers gets no more of them.
    await calls[1]
    admission.leave(other)
    with pytest.raises(OverBudget) as caught:
        await calls[0]
    assert caught.value.metadata == {"limit": "100 bytes", "of": "principal"}
    admission.leave(waits)
    assert admission.running == 0
    refused(admission.arrive, "key:a", 10, 0.0)
    admission.leave(first)
    admission.leave(first)
    admission.arrive("key:a", 10, 0.0)


async def test_a_rate_is_held_per_principal_and_the_refusal_says_when() -> None:
    admission = Admission(small(calls_per_second=10, calls_burst=2))
    for _ in range(2):
        admission.leave(admission.arrive("key:a", 1, 0.0))
    refusal = refused(admission.arrive, "key:a", 1, 0.0)
    assert refusal.reason is Reason.RATE_LIMITED
    assert refusal.metadata == {"limit": "10/s", "of": "principal"}
    assert refusal.retry_after == pytest.approx(100 * MILLISECOND, abs=MILLISECOND)
    admission.leave(admission.arrive("key:b", 1, 0.0))
    admission.leave(admission.arrive("key:a", 1, 0.1))


async def test_where_nobody_is_asked_who_they_are_apps_have_the_rate() -> None:
    admission = Admission(small(calls_per_second=10, calls_burst=1))
    admission.leave(entered(admission, "", "shop"))
    assert refused(entered, admission, "", "shop").metadata == {"limit": "10/s", "of": "app"}
    admission.leave(entered(admission, "", "support"))


async def test_where_nobody_is_asked_who_they_are_apps_are_served_in_turns() -> None:
    admission = Admission(small(calls=Budget(99, 99, 99), running=1))
    running = entered(admission, "", "noisy")
    order: list[str] = []

    async def wait(app: str) -> None:
        ticket = admission.arrive("", 1, 0.0)
        assert not admission.enter(ticket, app, 0.0)
        await admission.wait(ticket)
        order.append(app)
        admission.leave(ticket)

    waiting = [asyncio.ensure_future(wait(app)) for app in ("noisy",) * 5 + ("quiet",)]
    await asyncio.sleep(0)
    admission.leave(running)
    await asyncio.gather(*waiting)
    assert order.index("quiet") <= 1, order


async def test_streams_have_budgets_of_their_own() -> None:
    admission = Admission(small(calls=Budget(2, 9, 9), streams=Budget(2, 9, 9)))
    streams = []
    for _ in range(2):
        ticket = entered(admission)
        admission.rest(ticket, Reason.STREAM_LIMIT)
        streams.append(ticket)
    assert admission.running == 0
    # They take nothing of the calls' budget …
    calls = [entered(admission) for _ in range(2)]
    for ticket in calls:
        admission.leave(ticket)
    # … and calls nothing of theirs.
    third = entered(admission)
    refusal = refused(admission.rest, third, Reason.STREAM_LIMIT)
    assert refusal.reason is Reason.STREAM_LIMIT
    assert refusal.metadata == {"limit": "2 streams and waiting calls", "of": "principal"}
    admission.leave(third)
    admission.leave(streams[0])
    admission.rest(entered(admission), Reason.STREAM_LIMIT)


async def test_a_call_that_rests_lets_others_run() -> None:
    admission = Admission(small(running=1))
    long = entered(admission)
    other = admission.arrive("key:b", 1, 0.0)
    assert other.waits
    waiting = asyncio.ensure_future(admission.wait(other))
    await asyncio.sleep(0)
    admission.rest(long)
    admission.rest(long)
    await waiting
    assert admission.running == 1
    admission.leave(long)
    admission.leave(other)
    assert admission.running == 0


async def test_who_waits_at_the_end_is_told_that_the_server_drains() -> None:
    admission = Admission(small(running=1))
    running = entered(admission, "key:a")
    second, third = (admission.arrive("key:b", 1, 0.0) for _ in range(2))
    waiting = asyncio.ensure_future(admission.wait(second))
    await asyncio.sleep(0)
    admission.close()
    for call in (waiting, admission.wait(third)):
        with pytest.raises(Refusal) as caught:
            await call
        assert caught.value.reason is Reason.DRAINING
    for ticket in (running, second, third):
        admission.leave(ticket)
    assert (admission.running, admission.waiting) == (0, 0)


# --- refusing slowly ---------------------------------------------------------------------------


def refusal_of(admission: Admission) -> OverBudget:
    """A refusal of key:a, whose budget is used up."""
    return refused(admission.arrive, "key:a", 1, 0.0)


async def test_who_is_refused_now_and_then_is_told_at_once() -> None:
    admission = Admission(small(calls=Budget(0, 9, 9)))
    for second in range(1_000):
        await asyncio.wait_for(admission.hold(refusal_of(admission), 1, second * 1.0, None), 0.5)
        assert admission.held == 0


async def test_who_does_not_heed_refusals_is_held_back_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So slow that none is let go while this looks, however slow the machine is.
    monkeypatch.setattr(admission_module, "REFUSALS", Rate(0.001, 100))
    admission = Admission(small(calls=Budget(0, 9, 9)))
    flood = [
        asyncio.ensure_future(admission.hold(refusal_of(admission), 1, 0.0, None))
        for _ in range(600)
    ]
    await asyncio.sleep(0)
    told = sum(one.done() for one in flood)
    assert told == 100, "the burst"
    assert admission.held == 500
    other = refused(admission.arrive, "key:b", 1, 0.0)
    await asyncio.wait_for(admission.hold(other, 1, 0.0, None), 0.5)
    # Held calls are let go at the end, and may be given up by their callers.
    flood[-1].cancel()
    await asyncio.sleep(0)
    assert admission.held == 499
    admission.close()
    await asyncio.gather(*flood, return_exceptions=True)
    assert admission.held == 0
    await asyncio.wait_for(admission.hold(refusal_of(admission), 1, 0.0, None), 0.5)


async def test_a_held_refusal_comes_before_its_caller_gives_up() -> None:
    admission = Admission(small(calls=Budget(0, 9, 9)))
    now = time.monotonic()
    calls = [
        asyncio.ensure_future(admission.hold(refusal_of(admission), 1, now, None))
        for _ in range(300)
    ]
    await asyncio.sleep(0)
    assert admission.held
    # By its place in the row it would be held for seconds.
    await asyncio.wait_for(admission.hold(refusal_of(admission), 1, now, now + 0.2), HOLD_MOST - 1)
    admission.close()
    await asyncio.gather(*calls)


async def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "HELD_MOST", 7)
    monkeypatch.setattr(admission_module, "HELD_BYTES", 50)
    admission = Admission(small(calls=Budget(0, 9, 9)))

    async def hold(size: int) -> None:
        await admission.hold(refusal_of(admission), size, 0.0, None)

    calls = [asyncio.ensure_future(hold(1)) for _ in range(150)]
    await asyncio.sleep(0)
    assert admission.held == 7
    assert sum(call.done() for call in calls) == 143
    admission.close()
    await asyncio.gather(*calls)
    admission = Admission(small(calls=Budget(0, 9, 9)))
    calls = [asyncio.ensure_future(hold(20)) for _ in range(150)]
    await asyncio.sleep(0)
    assert admission.held == 2, "no more bytes than that"
    admission.close()
    await asyncio.gather(*calls)


async def test_bad_credentials_are_refused_slowly_too_and_other_refusals_never_are() -> None:
    admission = Admission(small())
    bad = Refusal(Reason.CREDENTIAL_INVALID, "no")
    calls = [asyncio.ensure_future(admission.hold(bad, 1, 0.0, None)) for _ in range(150)]
    await asyncio.sleep(0)
    assert admission.held == 50
    other = Refusal(Reason.SESSION_NOT_FOUND, "no")
    for _ in range(200):
        await asyncio.wait_for(admission.hold(other, 1, 0.0, None), 0.5)
    admission.close()
    await asyncio.gather(*calls)


async def test_callers_are_forgotten_once_nothing_is_left_to_know() -> None:
    admission = Admission(Budgets(calls_per_second=1_000, calls_burst=1_000))
    kept = entered(admission, "key:kept", "shop")
    for number in range(20_000):
        now = number * 0.001
        ticket = admission.arrive(f"jwt:{number}", 1, now)
        admission.enter(ticket, f"app-{number}", now)
        admission.leave(ticket)
    assert len(admission._principals) + len(admission._apps) < 5_000
    assert "key:kept" in admission._principals
    admission.leave(kept)


# --- whatever happens, in whatever order ---------------------------------------------------------

LARGEST = 450
ANSWER = 70

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("begin"),
            st.sampled_from(PRINCIPALS),
            st.sampled_from(APPS),
            st.sampled_from([0, 10, 150, LARGEST]),
        ),
        st.tuples(st.sampled_from(["end", "cancel", "rest", "ran"]), st.integers(0, 30)),
        st.tuples(st.sampled_from(["turn", "turn", "later"])),
    ),
    max_size=80,
)


class Served:
    """A call that goes through admission as the pipeline does, until it is told to end."""

    def __init__(self, admission: Admission, principal: str, app: str, size: int, now: float):
        self.admission = admission
        self.over = asyncio.Event()
        self.ticket: Ticket | None = None
        self.runs = False
        self.task = asyncio.ensure_future(self._serve(principal, app, size, now))

    async def _serve(self, principal: str, app: str, size: int, now: float) -> None:
        try:
            self.ticket = self.admission.arrive(principal, size, now)
            if self.ticket.waits:
                await self.admission.wait(self.ticket)
            await asyncio.sleep(0)
            if not self.admission.enter(self.ticket, app, now):
                await self.admission.wait(self.ticket)
            self.runs = True
            await self.over.wait()
        finally:
            self.runs = False
            if self.ticket is not None:
                self.admission.leave(self.ticket)

    def tell(self, what: str) -> None:
        match what:
            case "end":
                self.over.set()
            case "cancel":
                self.task.cancel()
            case "ran" if self.runs and self.ticket is not None:
                self.admission.ran(self.ticket, ANSWER)
            case "rest" if self.runs and self.ticket is not None:
                with contextlib.suppress(OverBudget):
                    self.admission.rest(self.ticket, Reason.STREAM_LIMIT)


def check_budgets(admission: Admission, budgets: Budgets, answered: int) -> None:
    scopes = [
        ("server", [admission._server]),
        ("principal", list(admission._principals.values())),
        ("app", list(admission._apps.values())),
    ]
    for scope, accounts in scopes:
        for account in accounts:
            assert 0 <= account.calls <= getattr(budgets.calls, scope)
            assert 0 <= account.streams <= getattr(budgets.streams, scope)
            # One request that is larger than a budget is served when it comes alone.
            most = max(LARGEST, getattr(budgets.bytes_in_flight, scope))
            assert 0 <= account.bytes_in_flight <= most + answered
    assert 0 <= admission.running <= budgets.running


def check_no_slot_idles(admission: Admission) -> None:
    queue = admission._queue
    lines = [each.line for each in (*admission._principals.values(), *admission._apps.values())]
    lines.append(admission._strangers.line)
    assert queue.running == sum(line.running for line in lines)
    assert queue.waiting == sum(len(line.waiting) for line in lines)
    if queue.running < 3:
        # Who waits all the same has its share, and goes on when one of its calls ends.
        assert all(line.running >= queue.share for line in lines if line.waiting)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, close=st.booleans())
def test_no_budget_is_exceeded_and_all_comes_back_to_nothing(steps: list[Any], close: bool) -> None:
    budgets = small()

    async def play() -> None:
        admission, calls, now, answered = Admission(budgets), [], 0.0, 0
        for step in steps:
            match step:
                case ("begin", principal, app, size):
                    calls.append(Served(admission, principal, app, size, now))
                case (what, number) if calls:
                    calls[number % len(calls)].tell(what)
                    answered += ANSWER if what == "ran" else 0
                case ("turn",):
                    await asyncio.sleep(0)
                case ("later",):
                    now += 0.7
                case _:
                    pass
            check_budgets(admission, budgets, answered)
        if close:
            admission.close()
        for call in calls:
            call.over.set()
        # Nobody is left behind: those who wait run once the others have ended.
        done = await asyncio.wait_for(
            asyncio.gather(*(call.task for call in calls), return_exceptions=True), 5
        )
        assert all(
            one is None or isinstance(one, Refusal | asyncio.CancelledError) for one in done
        ), done
        assert (admission.running, admission.waiting, admission.held) == (0, 0, 0)
        accounts = [*admission._principals.values(), *admission._apps.values(), admission._server]
        for account in accounts:
            assert (account.calls, account.streams, account.bytes_in_flight) == (0, 0, 0)
            assert account.line.idle

    asyncio.run(play())


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_no_slot_is_idle_while_somebody_may_run(steps: list[Any]) -> None:
    budgets = small(calls=Budget(99, 99, 99), bytes_in_flight=Budget(10**6, 10**6, 10**6))

    async def play() -> None:
        admission, calls = Admission(budgets), []
        for step in steps:
            match step:
                case ("begin", principal, app, size):
                    calls.append(Served(admission, principal, app, size, 0.0))
                case (("end" | "cancel") as what, number) if calls:
                    calls[number % len(calls)].tell(what)
                case _:
                    pass
            for _ in range(8):
                await asyncio.sleep(0)
            check_no_slot_idles(admission)
        for call in calls:
            call.over.set()
        await asyncio.gather(*(call.task for call in calls), return_exceptions=True)
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(play())
