"""Admission: how much of the server one caller, one app and all together may take.

A call passes three gates. `arrive` knows who calls and how large the request is; `enter`
knows the app, too, once the caller may touch it; and beyond the calls that run at once,
`wait` lets everybody run in turns. What is over a budget is refused before it has done
anything, and those who do not care are refused slowly: `hold`.

It is ours and not `maximum_concurrent_rpcs`, which counts streams as calls and has been
bypassed. All of it runs on the event loop; the way of a call that nothing speaks against
is a few additions, without a pause.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import msgspec

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.errors import Reason, Refusal, draining
from sojourn_server.domain.limits import KIB, MIB
from sojourn_server.domain.rate import Rate
from sojourn_server.rpc.fair import FairQueue, Line

RETRY_AFTER: Final[Nanos] = SECOND
"""When a caller with too much under way may try again: calls take milliseconds, and a
client that waits this long is no load."""
REFUSALS: Final = Rate(50, 100)
"""How fast one caller is refused without being held. What is beyond is held until it fits."""
ALL_REFUSALS: Final = Rate(500, 1_000)
"""How fast all are, together."""
HOLD_MOST: Final = 10.0
"""The longest that a refusal is held back, in seconds."""
HOLD_MARGIN: Final = 0.05
"""How long before the caller's deadline it is told all the same, in seconds."""
HELD_MOST: Final = 10_000
"""How many refusals are held at once; further ones are sent at once."""
HELD_BYTES: Final = 16 * MIB
"""The most that their requests may be together."""
UNSENT_BYTES: Final = 4 * KIB
"""Answers of this size count until they are sent; smaller ones until they are made."""
SWEEP: Final = 1_024
"""After so many new names, those of whom nothing is left to know are forgotten."""

_OF_STRANGERS: Final = frozenset({Reason.CREDENTIAL_MISSING, Reason.CREDENTIAL_INVALID})
_PRINCIPAL: Final = "principal"
_APP: Final = "app"
_SERVER: Final = "server"


class Budget(msgspec.Struct, frozen=True):
    """The most of one thing, at the same time."""

    principal: int
    app: int
    server: int


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to be shared."""

    calls: Budget = Budget(2_500, 5_000, 10_000)
    """Calls that are being served, or wait to be. Streams and waits for turns are none."""
    streams: Budget = Budget(2_500, 5_000, 10_000)
    """Streams, and calls that wait for a turn."""
    bytes_in_flight: Budget = Budget(64 * MIB, 128 * MIB, 256 * MIB)
    """What their requests are together, and those answers that are not sent yet."""
    running: int = 64
    """Calls that run at the same time. Those beyond wait, and are served in turns."""
    calls_per_second: int = 0
    """How many calls a principal may begin each second; 0: as many as it likes."""
    calls_burst: int = 100
    """How many more it may begin at once after a rest."""


class Account:
    """What one principal, one app or the server has under way."""

    __slots__ = ("bucket", "bytes_in_flight", "calls", "line", "pace", "scope", "streams")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.calls = 0
        self.streams = 0
        self.bytes_in_flight = 0
        self.line = Line()
        self.bucket = 0.0
        """For the rate of its calls."""
        self.pace = 0.0
        """For the rate of its refusals."""

    def forgettable(self, now: float) -> bool:
        """Whether a new account would be the same."""
        under_way = self.calls or self.streams or self.bytes_in_flight or not self.line.idle
        return not under_way and self.bucket <= now and self.pace <= now


class OverBudget(Refusal):
    """A call is over a budget; nothing of it has happened.

    Args:
        reason: `RATE_LIMITED` or `STREAM_LIMIT`.
        limit: The budget: `100 calls`.
        account: Whose it is.
        blamed: Who is to wait for refusals.
        retry_after: How long to wait, in nanoseconds.
    """

    def __init__(
        self,
        reason: Reason,
        limit: str,
        account: Account,
        blamed: Account,
        retry_after: Nanos = RETRY_AFTER,
    ) -> None:
        super().__init__(
            reason,
            f"the limit of {limit} of the {account.scope} is reached",
            {"limit": limit, "of": account.scope},
            retry_after=retry_after,
        )
        self.blamed = blamed


class Ticket:
    """One call's part of the budgets. Made by `arrive`, given back by `leave`."""

    __slots__ = ("app", "long", "over", "principal", "running", "size", "who")

    def __init__(self, principal: Account | None, size: int) -> None:
        self.principal = principal
        self.app: Account | None = None
        self.who = principal
        """In whose line it stands: its principal's or, while nobody is asked, its app's."""
        self.size = size
        self.running = False
        """Whether it holds a slot."""
        self.long = False
        """Whether it counts among the streams."""
        self.over = False

    @property
    def waits(self) -> bool:
        """Whether it is known whose call it is, and has to `wait`."""
        return self.who is not None and not self.running and not self.long


class Admission:
    """Keeps the budgets.

    Args:
        budgets: What there is.
    """

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._rate = (
            Rate(budgets.calls_per_second, budgets.calls_burst)
            if budgets.calls_per_second
            else None
        )
        self._queue = FairQueue(budgets.running)
        self._server = Account(_SERVER)
        self._strangers = Account(_PRINCIPAL)
        self._principals: dict[str, Account] = {}
        self._apps: dict[str, Account] = {}
        self._sweep_at = SWEEP
        self._held: set[asyncio.Future[None]] = set()
        self._held_bytes = 0
        self._closed = False

    @property
    def running(self) -> int:
        """How many calls run."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """How many calls wait to run."""
        return self._queue.waiting

    @property
    def held(self) -> int:
        """How many refusals are held back."""
        return len(self._held)

    def arrive(self, principal: str, size: int, now: float) -> Ticket:
        """Take in a call, whatever it is about.

        Args:
            principal: Who calls; empty: nobody is asked who they are.
            size: Of its request, in bytes.
            now: The monotonic time.

        Returns:
            To be given back by `leave`, whatever becomes of the call. If it `waits`, it is to
            `wait` before it does anything.

        Raises:
            OverBudget: Its principal or the server has too much under way.
        """
        server, budgets = self._server, self._budgets
        account: Account | None = None
        blamed = self._strangers
        if principal:
            account = blamed = self._account(self._principals, principal, _PRINCIPAL, now)
            _spare(
                account, blamed, budgets.calls.principal, budgets.bytes_in_flight.principal, size
            )
        _spare(server, blamed, budgets.calls.server, budgets.bytes_in_flight.server, size)
        ticket = Ticket(account, size)
        if account is not None:
            # Last: a call that is refused for something else costs no token.
            self._keep_to_rate(account, now)
            account.calls += 1
            account.bytes_in_flight += size
            ticket.running = self._queue.enter(account.line, now)
        server.calls += 1
        server.bytes_in_flight += size
        return ticket

    def enter(self, ticket: Ticket, app: str, now: float) -> bool:
        """Let a call go on. Its caller may touch the app.

        Args:
            ticket: The call's.
            app: What it is about; empty: no app.
            now: The monotonic time.

        Returns:
            Whether it runs. Otherwise it is to `wait`.

        Raises:
            OverBudget: The app has too much under way.
        """
        account = self._account(self._apps, app, _APP, now) if app else None
        who = ticket.who or account or self._strangers
        if account is not None:
            budgets = self._budgets
            _spare(account, who, budgets.calls.app, budgets.bytes_in_flight.app, ticket.size)
        if ticket.who is None:
            self._keep_to_rate(who, now)
            ticket.who = who
            ticket.running = self._queue.enter(who.line, now)
        if account is not None:
            ticket.app = account
            account.calls += 1
            account.bytes_in_flight += ticket.size
        return ticket.running

    async def wait(self, ticket: Ticket) -> None:
        """Wait until a call may run.

        Raises:
            Refusal: `DRAINING`: it never will.
            CancelledError: Its caller is gone.
        """
        if self._closed:
            raise draining()
        assert ticket.who is not None
        await self._queue.wait(ticket.who.line)
        ticket.running = True
        self._still_fits(ticket)

    def ran(self, ticket: Ticket, answer_bytes: int) -> None:
        """Let others run: a call is done, but its large answer is not sent yet.

        Its caller may never read the answer. So the call still counts, and so does the
        answer, until it is given back by `leave`. What is smaller than `UNSENT_BYTES` is not
        worth that: a connection has so many streams, and no more.

        Args:
            ticket: The call's.
            answer_bytes: How large the answer is.
        """
        if ticket.over:
            return
        ticket.size += answer_bytes
        for account in (ticket.principal, ticket.app, self._server):
            if account is not None:
                account.bytes_in_flight += answer_bytes
        self._give_slot(ticket)

    def rest(self, ticket: Ticket, reason: Reason = Reason.RATE_LIMITED) -> None:
        """Count a call among the streams from now on: it may take minutes.

        Others run meanwhile. Twice is once.

        Args:
            ticket: A call that runs.
            reason: Why it is refused when there are too many.

        Raises:
            OverBudget: Its principal, its app or the server has too many streams.
        """
        if ticket.long:
            return
        budget, blamed = self._budgets.streams, ticket.who or self._strangers
        accounts = [
            (account, most)
            for account, most in (
                (ticket.principal, budget.principal),
                (ticket.app, budget.app),
                (self._server, budget.server),
            )
            if account is not None
        ]
        for account, most in accounts:
            if account.streams >= most:
                limit = f"{most} streams and waiting calls"
                raise OverBudget(reason, limit, account, blamed)
        for account, _ in accounts:
            account.calls -= 1
            account.streams += 1
        ticket.long = True
        self._give_slot(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give back what a call took. Twice is once."""
        if ticket.over:
            return
        ticket.over = True
        for account in (ticket.principal, ticket.app, self._server):
            if account is not None:
                account.bytes_in_flight -= ticket.size
                if ticket.long:
                    account.streams -= 1
                else:
                    account.calls -= 1
        self._give_slot(ticket)

    async def hold(self, refusal: Refusal, size: int, now: float, deadline: float | None) -> None:
        """Hold a refusal back, if its caller is refused too often.

        Who waits for an answer occupies a place of its own connection, and of nothing else:
        callers who do not heed refusals slow down themselves.

        Args:
            refusal: Over a budget, or of a credential; others are not held.
            size: Of the request, in bytes.
            now: The monotonic time.
            deadline: When the caller gives up, by the same clock; None: never.

        Raises:
            CancelledError: The caller is gone.
        """
        if isinstance(refusal, OverBudget):
            blamed = refusal.blamed
        elif refusal.reason in _OF_STRANGERS:
            blamed = self._strangers
        else:
            return
        delay = max(_paced(REFUSALS, blamed, now), _paced(ALL_REFUSALS, self._server, now))
        if deadline is not None:
            delay = min(delay, deadline - HOLD_MARGIN - now)
        room = len(self._held) < HELD_MOST and self._held_bytes + size <= HELD_BYTES
        if delay <= 0 or not room or self._closed:
            return
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(delay, _let_go, place)
        self._held.add(place)
        self._held_bytes += size
        try:
            await place
        finally:
            timer.cancel()
            self._held.discard(place)
            self._held_bytes -= size

    def close(self) -> None:
        """Refuse whoever waits, with DRAINING, and let go of refusals that are held."""
        self._closed = True
        self._queue.dismiss(draining)
        for place in self._held:
            _let_go(place)

    def _account(self, accounts: dict[str, Account], name: str, scope: str, now: float) -> Account:
        account = accounts.get(name)
        if account is None:
            if len(self._principals) + len(self._apps) >= self._sweep_at:
                self._sweep(now)
            account = accounts[name] = Account(scope)
        return account

    def _sweep(self, now: float) -> None:
        """Forget those of whom nothing is left to know."""
        for accounts in (self._principals, self._apps):
            for name in [name for name, each in accounts.items() if each.forgettable(now)]:
                del accounts[name]
        self._sweep_at = SWEEP + 2 * (len(self._principals) + len(self._apps))

    def _still_fits(self, ticket: Ticket) -> None:
        """See that answers which nobody reads have not used up the bytes meanwhile.

        Raises:
            OverBudget: They have.
        """
        budget, blamed = self._budgets.bytes_in_flight, ticket.who or self._strangers
        for account, most in (
            (ticket.principal, budget.principal),
            (ticket.app, budget.app),
            (self._server, budget.server),
        ):
            if account is not None and account.bytes_in_flight > max(most, ticket.size):
                raise OverBudget(Reason.RATE_LIMITED, f"{most} bytes", account, blamed)

    def _keep_to_rate(self, account: Account, now: float) -> None:
        rate = self._rate
        if rate is None:
            return
        wait = rate.wait(account.bucket, now)
        if wait:
            limit = f"{self._budgets.calls_per_second}/s"
            after = round(wait * SECOND)
            raise OverBudget(Reason.RATE_LIMITED, limit, account, account, after)
        account.bucket = rate.taken(account.bucket, now)

    def _give_slot(self, ticket: Ticket) -> None:
        if ticket.running:
            ticket.running = False
            assert ticket.who is not None
            self._queue.leave(ticket.who.line)


def _spare(account: Account, blamed: Account, calls: int, bytes_in_flight: int, size: int) -> None:
    """See that an account has a call and some bytes left.

    Raises:
        OverBudget: It has not.
    """
    if account.calls >= calls:
        raise OverBudget(Reason.RATE_LIMITED, f"{calls} calls", account, blamed)
    # Whoever has nothing else under way may always: no request is too large for good.
    if account.bytes_in_flight + size > bytes_in_flight and account.bytes_in_flight:
        raise OverBudget(Reason.RATE_LIMITED, f"{bytes_in_flight} bytes", account, blamed)


def _paced(rate: Rate, account: Account, now: float) -> float:
    """How long a refusal is to be held, in seconds; it takes a place in the row."""
    delay = rate.wait(account.pace, now)
    if delay > HOLD_MOST:
        # Not all after the same time: they came together, and would come again together.
        return HOLD_MOST * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
    account.pace = rate.taken(account.pace, now)
    return delay


def _let_go(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)
