"""What the service's tests share: a world with one store, one clock and all use cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR, SECOND, Nanos
from sojourn_server.domain.commands import (
    NO_PATCHES,
    NO_PRECONDITION,
    Changes,
    IfExists,
    MetricsDelta,
    NewMessage,
    NewSession,
    OnConflict,
    Precondition,
    ResetScope,
    SessionRef,
    StatePatch,
    StatePatches,
    View,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import Limits
from sojourn_server.domain.model import (
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.domain.policy import Policy
from sojourn_server.domain.tokens import Sealer, etag
from sojourn_server.service import Services
from sojourn_server.service.aggregating import AggregatePage, AggregateQuery
from sojourn_server.service.answers import (
    Answer,
    AppendOutcome,
    AppOutcome,
    BeginOutcome,
    Call,
    CreateOutcome,
    DeleteOutcome,
    EndOutcome,
    EndTurnOutcome,
    ForkOutcome,
    MessagePage,
    Popped,
    ReplaceOutcome,
    ResetOutcome,
    SessionPage,
    SessionRead,
    StateOutcome,
    TouchOutcome,
    TruncateOutcome,
    UpdateOutcome,
)
from sojourn_server.service.apps import AppChanges
from sojourn_server.service.listing import ListQuery
from sojourn_server.service.message_listing import MessageQuery
from sojourn_server.service.replacing import Replacement
from sojourn_server.service.work import Defaults
from sojourn_server.store.base import (
    Candidates,
    LoggedChange,
    ReadTx,
    SessionRow,
    SortBy,
    Store,
)

APP = "support"
USER = "ann"
START: Nanos = 1_700_000_000 * SECOND
LEASE: Nanos = 30 * SECOND


class FakeClock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> Nanos:
        return self.time

    def step(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)


@contextmanager
def refused(reason: Reason, **metadata: str) -> Iterator[None]:
    """What is within must be refused, for this reason and with at least this metadata."""
    with pytest.raises(Refusal) as caught:
        yield
    assert caught.value.reason is reason, caught.value
    assert metadata.items() <= caught.value.metadata.items()


def patches(**scopes: dict[str, str]) -> StatePatches:
    """Patches that write these keys: `patches(session={"a": "1"})`."""
    return StatePatches(**{scope: StatePatch(set=values) for scope, values in scopes.items()})


def tag(session: Session) -> str:
    return etag(session.uid, session.version)


def message(message_id: str = "", content: str | None = "text", **fields: Any) -> NewMessage:
    return NewMessage(**{"message_id": message_id, "role": "user", "content": content, **fields})


class World:
    """One store with all use cases, and the time it is there."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.apps: set[str] = set()
        self.services = Services(
            store,
            Sealer(store.token_keys),
            Limits(),
            Defaults(idle_timeout=HOUR, max_lifetime=0),
        )
        self.sessions = self.services.sessions
        self.history = self.services.history
        self.turns = self.services.turns
        self.states = self.services.states
        self.units = self.services.units

    def call(self, method: str, request_id: str = "", payload: bytes = b"same") -> Call:
        return Call(
            actor="tester",
            principal="p",
            method=method,
            request_id=request_id,
            payload_hash=self.services.sealer.fingerprint(payload) if request_id else b"",
        )

    def ref(self, session: str | Session, *, app: str = APP, user: str = USER) -> SessionRef:
        """A session by its id, or a session by its uid."""
        self.apps.add(app)
        if isinstance(session, Session):
            self.apps.add(session.app)
            return SessionRef(app=session.app, uid=session.uid)
        return SessionRef(app=app, user=user, session_id=session)

    # --- the use cases, with everything a test does not care about filled in ---

    async def make(
        self,
        session_id: str = "",
        *,
        app: str = APP,
        if_exists: IfExists = IfExists.FAIL,
        request_id: str = "",
        payload: bytes = b"same",
        **fields: Any,
    ) -> Answer[CreateOutcome]:
        self.apps.add(app)
        new = NewSession(**{"user": USER, "session_id": session_id, **fields})
        call = self.call("CreateSession", request_id, payload)
        return await self.sessions.create(call, app, new, if_exists)

    async def create(self, session_id: str = "", **fields: Any) -> Session:
        return (await self.make(session_id, **fields)).outcome.session

    async def read(
        self, session: str | Session, view: View = View.FULL, last: int = 0, **which: Any
    ) -> SessionRead:
        ref = self.ref(session, **which)
        return await self.sessions.get(self.call("GetSession"), ref, view, last)

    async def get(self, session: str | Session, **which: Any) -> Session:
        return (await self.read(session, View.BASIC, **which)).snapshot.session

    async def stored(self, session: str | Session, **which: Any) -> Session:
        """The session as it is stored, with nothing settled on the way."""
        ref = self.ref(session, **which)

        async def query(tx: ReadTx) -> SessionRow | None:
            if ref.session_id:
                return await tx.session_by_key(ref.app, ref.user, ref.session_id)
            return await tx.session_by_uid(ref.app, ref.uid)

        row = await self.store.read(query)
        assert row is not None
        return row.session

    async def update(
        self,
        session: str | Session,
        *,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
        **changes: Any,
    ) -> Answer[UpdateOutcome]:
        call = self.call("UpdateSession", request_id, payload)
        return await self.sessions.update(call, self.ref(session), condition, Changes(**changes))

    async def touch(
        self, session: str | Session, lease: Nanos | None = None
    ) -> Answer[TouchOutcome]:
        return await self.sessions.touch(self.call("TouchSession"), self.ref(session), lease)

    async def end(
        self,
        session: str | Session,
        status: Status = Status.COMPLETED,
        *,
        reason: str = "",
        result: str = "",
        cascade: bool = False,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[EndOutcome]:
        call = self.call("EndSession", request_id, payload)
        ref = self.ref(session)
        return await self.sessions.end(call, ref, condition, status, reason, result, cascade)

    async def reset(
        self,
        session: str | Session,
        scope: ResetScope = ResetScope.ALL,
        *,
        if_idle: bool = False,
        reason: str = "",
        backup: str = "",
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[ResetOutcome]:
        call = self.call("ResetSession", request_id, payload)
        ref = self.ref(session)
        return await self.sessions.reset(call, ref, condition, scope, if_idle, reason, backup)

    async def fork(
        self,
        session: str | Session,
        session_id: str = "",
        through: int | None = None,
        *,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[ForkOutcome]:
        call = self.call("ForkSession", request_id, payload)
        return await self.sessions.fork(call, self.ref(session), condition, session_id, through)

    async def delete(
        self,
        session: str | Session,
        *,
        force: bool = False,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[DeleteOutcome]:
        call = self.call("DeleteSession", request_id, payload)
        return await self.sessions.delete(call, self.ref(session), condition, force)

    async def page(self, **query: Any) -> SessionPage:
        self.apps.add(query.setdefault("app", APP))
        return await self.sessions.list(self.call("ListSessions"), ListQuery(**query))

    async def aggregate(self, **query: Any) -> AggregatePage:
        self.apps.add(query.setdefault("app", APP))
        return await self.sessions.aggregate(
            self.call("AggregateSessions"), AggregateQuery(**query)
        )

    async def begin(
        self,
        session: str | Session,
        on_conflict: OnConflict = OnConflict.REJECT,
        *,
        holder: str = "pod-1",
        lease: Nanos = LEASE,
        wait: Nanos = 600 * SECOND,
        create: bool = False,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[BeginOutcome]:
        call = self.call("BeginTurn", request_id, payload)
        ref = self.ref(session)
        return await self.turns.begin(
            call, ref, condition, holder, lease, on_conflict, wait, create
        )

    async def turn(self, session: str | Session, **how: Any) -> str:
        """The token of a new turn."""
        begun = (await self.begin(session, **how)).outcome
        return self.turns.token(begun.session, begun.turn)

    async def renew(
        self, token: str, lease: Nanos | None = None, app: str = APP
    ) -> Answer[TouchOutcome]:
        return await self.turns.renew(self.call("RenewTurn"), app, token, lease)

    async def end_turn(
        self,
        token: str,
        outcome: TurnOutcome = TurnOutcome.OK,
        error: str = "",
        *,
        app: str = APP,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[EndTurnOutcome]:
        call = self.call("EndTurn", request_id, payload)
        return await self.turns.end(call, app, token, outcome, error)

    async def append(
        self,
        session: str | Session,
        messages: Sequence[NewMessage] = (),
        *,
        state: StatePatches = NO_PATCHES,
        metrics: MetricsDelta | None = None,
        create: bool = False,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[AppendOutcome]:
        call = self.call("AppendMessages", request_id, payload)
        return await self.history.append(
            call,
            self.ref(session),
            condition,
            messages,
            state,
            metrics or MetricsDelta(),
            create,
        )

    async def say(self, session: str | Session, *ids: str) -> tuple[int, ...]:
        """Append messages with these ids, each with its id as its text."""
        messages = [message(each, f"text of {each}") for each in ids]
        return (await self.append(session, messages)).outcome.sequences

    async def fill(self, session: str | Session, count: int, start: int = 1) -> None:
        """Append many small messages: m-1, m-2, …"""
        numbers = range(start, start + count)
        for first in range(0, count, 1_000):
            await self.append(
                session, [message(f"m-{number}", None) for number in numbers[first : first + 1_000]]
            )

    async def messages(self, session: str | Session, **query: Any) -> MessagePage:
        query = {"page_size": 1_000, **query}
        return await self.history.list(
            self.call("ListMessages"), MessageQuery(ref=self.ref(session), **query)
        )

    async def sequences(self, session: str | Session, **query: Any) -> list[int]:
        """The sequences of a list of messages, over all its pages."""
        found: list[int] = []
        for _ in range(100):
            page = await self.messages(session, **query)
            found += [each.message.sequence for each in page.messages]
            if not page.next_page_token:
                return found
            query["page_token"] = page.next_page_token
        raise AssertionError("the list has no end")

    async def pop(
        self,
        session: str | Session,
        count: int = 1,
        *,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[Popped]:
        call = self.call("PopMessages", request_id, payload)
        return await self.history.pop(call, self.ref(session), condition, count)

    async def replace(
        self,
        session: str | Session,
        keep: int,
        messages: Sequence[NewMessage],
        *,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
        **staged: Any,
    ) -> Answer[ReplaceOutcome]:
        call = self.call("ReplaceMessages", request_id, payload)
        asked = Replacement(keep=keep, messages=messages, **staged)
        return await self.history.replace(call, self.ref(session), condition, asked)

    async def truncate(
        self,
        session: str | Session,
        keep: int,
        *,
        condition: Precondition = NO_PRECONDITION,
        request_id: str = "",
        payload: bytes = b"same",
    ) -> Answer[TruncateOutcome]:
        call = self.call("TruncateMessages", request_id, payload)
        return await self.history.truncate(call, self.ref(session), condition, keep)

    async def patch(
        self,
        user: str | None,
        *,
        app: str = APP,
        request_id: str = "",
        payload: bytes = b"same",
        **patch: Any,
    ) -> Answer[StateOutcome]:
        self.apps.add(app)
        call = self.call("UpdateState", request_id, payload)
        return await self.states.update(call, app, user, StatePatch(**patch))

    async def set(
        self, app: str = APP, *, request_id: str = "", payload: bytes = b"same", **changes: Any
    ) -> Answer[AppOutcome]:
        """UpdateApp."""
        self.apps.add(app)
        call = self.call("UpdateApp", request_id, payload)
        return await self.services.apps.update(call, app, AppChanges(**changes))

    async def rule(self, app: str = APP, **policy: Any) -> None:
        """Give an app a policy with these fields."""
        await self.set(app, policy=Policy(**policy))

    # --- what is written ---

    async def head(self, app: str = APP) -> int:
        return await self.store.read(lambda tx: tx.head(app))

    async def log(self, after: int = 0, app: str = APP) -> list[LoggedChange]:
        return list(await self.store.read(lambda tx: tx.changes(app, after, 1_000_000)))

    async def every_session(self, app: str = APP) -> list[Session]:
        query = Candidates(app=app, sort_by=SortBy.CREATE, limit=1_000_000)
        return [row.session for row in await self.store.read(lambda tx: tx.candidates(query))]


KEPT = [1, 2, 3, 4, *range(9, 21)]
"""The sequences of `twenty`."""


async def twenty(world: World) -> None:
    """Messages 1 to 20 without 5 to 8; odd ones have an event time."""
    await world.create("s-1")
    await world.append("s-1", [message(f"m-{n}", event_time=n) for n in range(1, 9)])
    await world.truncate("s-1", 4)
    await world.append(
        "s-1",
        [message(f"m-{n}", f"text {n}", event_time=n if n % 2 else None) for n in range(9, 21)],
    )
