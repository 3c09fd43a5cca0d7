"""One unit of work: what every use case does inside its transaction.

A `Work` finds and checks sessions, writes their changes, and remembers what must be
told or finished once the unit is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sojourn_server.domain.clock import DAY, Nanos
from sojourn_server.domain.commands import Precondition, SessionRef
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.lifecycle import due
from sojourn_server.domain.limits import UNIT_ROWS, Limits
from sojourn_server.domain.model import (
    App,
    AppStatus,
    Change,
    ChangeCause,
    Session,
)
from sojourn_server.domain.policy import NO_POLICY, Policy
from sojourn_server.domain.tokens import Sealer, TurnClaim, etag
from sojourn_server.store.base import Precede, ReadTx, SessionRow, Tx

SETTLE_MOST: Final = 64
"""How many overdue sessions are looked for, and settled, at once."""


class ManyOverdue(Exception):
    """So much is due before a unit that units of their own settle it first.

    They do so (`ahead.settle_ahead`), and then this one comes again. A store carries out a
    unit that comes first only so many times (`Precede`), and all that within one commit.

    Args:
        sessions: Those to be settled, of one app.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        super().__init__("more is overdue than comes first within one commit")
        self.sessions = sessions


class Defaults:
    """What the server's settings say where an app's policy is silent.

    Args:
        idle_timeout: For sessions whose creator named none; 0: for ever.
        max_lifetime: The same; 0: no limit.
        unknown_apps: Whether an app comes into being with its first session.
        retention: How long ended sessions are kept; 0: for ever.
    """

    def __init__(
        self,
        *,
        idle_timeout: Nanos,
        max_lifetime: Nanos,
        unknown_apps: bool = True,
        retention: Nanos = 7 * DAY,
    ) -> None:
        self.idle_timeout = idle_timeout
        self.max_lifetime = max_lifetime
        self.unknown_apps = unknown_apps
        self.retention = retention

    def idle_timeout_of(self, policy: Policy) -> Nanos:
        """What a session gets whose creator named no idle timeout."""
        own = policy.default_idle_timeout
        return self.idle_timeout if own is None else own

    def max_lifetime_of(self, policy: Policy) -> Nanos:
        """What a session gets whose creator named no age."""
        own = policy.default_max_lifetime
        return self.max_lifetime if own is None else own

    def retention_of(self, policy: Policy) -> Nanos:
        """How long an app's ended sessions are kept; 0: for ever."""
        return self.retention if policy.retention is None else policy.retention

    def effective(self, policy: Policy) -> Policy:
        """What holds: a policy, and these where it says nothing."""
        return msgspec.structs.replace(
            policy,
            default_idle_timeout=self.idle_timeout_of(policy),
            default_max_lifetime=self.max_lifetime_of(policy),
            retention=self.retention_of(policy),
            auto_create=policy.auto_create is not False,
            require_turn=bool(policy.require_turn),
        )


class Work:
    """A unit in the making.

    Args:
        tx: Its transaction.
        sealer: Opens turn tokens.
        limits: Ceilings on content.
        defaults: What holds where nothing else is said.
    """

    def __init__(self, tx: Tx, sealer: Sealer, limits: Limits, defaults: Defaults) -> None:
        self.tx = tx
        self.sealer = sealer
        self.limits = limits
        self.defaults = defaults
        self.freed: set[str] = set()
        """Uids whose turn ended: somebody may be waiting for it."""
        self.made: set[str] = set()
        """Uids of the sessions that the unit has inserted."""
        self.left_over = False
        """Whether something is left to be purged after the commit."""
        self.ended_ahead = 0
        """How many sessions units before this one have ended to make it small enough."""
        self._rows_left = UNIT_ROWS

    @property
    def rows_left(self) -> int:
        """How many messages it may still remove by itself."""
        return self._rows_left

    @property
    def now(self) -> Nanos:
        """The store's clock."""
        return self.tx.now

    async def current(self, ref: SessionRef) -> SessionRow:
        """The session of a reference, with nothing overdue.

        Raises:
            Refusal: `SESSION_NOT_FOUND` or `UID_MISMATCH`.
            Precede: Something is due; it is a unit of its own and comes first.
        """
        row = await find(self.tx, ref)
        self.require_settled(row)
        return row

    async def overdue_in(self, app: str, user: str | None = None) -> Sequence[SessionRow]:
        """Sessions that are overdue in an app, or of one of its users, the longest first.

        There are no others where these are fewer than `SETTLE_MOST`. Where they are as many,
        `require_settled` raises `ManyOverdue`, and the unit that comes again finds the rest.
        """
        return await self.tx.overdue_in(app, user, self.now, SETTLE_MOST)

    def require_settled(self, *rows: SessionRow) -> None:
        """Let what is due on sessions of one app come first, in one unit if it is not much.

        Raises:
            Precede: Something is due.
            ManyOverdue: It is due on `SETTLE_MOST` sessions or more.
        """
        overdue = [row.session for row in rows if is_overdue(row.session, self.now)]
        if len(overdue) >= SETTLE_MOST:
            raise ManyOverdue(overdue)
        if overdue:
            # Imported late: settling a session needs the tree, and the tree needs Work.
            from sojourn_server.service.tree import settle  # noqa: PLC0415

            async def unit(tx: Tx) -> None:
                work = Work(tx, self.sealer, self.limits, self.defaults)
                for session in overdue:
                    await settle(work, session.app, session.uid)

            self.freed.update(session.uid for session in overdue)
            raise Precede(unit)

    async def policy(self, app: str) -> Policy:
        """The app's rules as they are now; every store has them at hand."""
        found = await self.tx.app(app)
        return NO_POLICY if found is None else found.policy

    async def turn_required(self, app: str) -> bool:
        """Whether history and a session's state may be written with a turn only."""
        return bool((await self.policy(app)).require_turn)

    def check(
        self, session: Session, condition: Precondition, *, turn_required: bool = False
    ) -> None:
        """Hold a write to its precondition, in the contract's order.

        Args:
            session: What is written.
            condition: What must hold.
            turn_required: Whether it must hold a turn, too.

        Raises:
            Refusal: `SESSION_ENDED`, `GENERATION_CHANGED`, `TURN_SUPERSEDED`,
                `TURN_TOKEN_INVALID`, `TURN_REQUIRED`, `ETAG_MISMATCH` or
                `SEQUENCE_MISMATCH`.
        """
        require_active(session)
        self.check_conditions(session, condition, turn_required=turn_required)

    def check_conditions(
        self, session: Session, condition: Precondition, *, turn_required: bool = False
    ) -> None:
        """The same, for a write that an ended session allows too."""
        if condition.generation is not None and condition.generation != session.generation:
            raise Refusal(
                Reason.GENERATION_CHANGED,
                f"the session is in generation {session.generation}",
                {"generation": str(session.generation)},
            )
        if condition.turn_token:
            claim = self.open_turn(session.app, condition.turn_token)
            require_turn(session, claim)
        elif turn_required:
            raise Refusal(
                Reason.TURN_REQUIRED,
                "the app's policy wants history and state written by a turn",
                {"app": session.app},
            )
        if condition.etag and condition.etag != (now := etag(session.uid, session.version)):
            raise Refusal(Reason.ETAG_MISMATCH, "the session changed since", {"etag": now})
        if condition.last_sequence is not None and condition.last_sequence != session.last_sequence:
            raise Refusal(
                Reason.SEQUENCE_MISMATCH,
                f"the last sequence is {session.last_sequence}",
                {"last_sequence": str(session.last_sequence)},
            )

    def open_turn(self, app: str, token: str) -> TurnClaim:
        """What a turn token claims.

        Raises:
            Refusal: `TURN_TOKEN_INVALID`: it was changed, or belongs to another app.
        """
        return open_turn(self.sealer, app, token)

    async def require_app(self, app: str, *, draining_too: bool = False) -> None:
        """See to it that the app exists and takes new sessions.

        Args:
            app: Its name.
            draining_too: Whether an app that is being drained will do as well.

        Raises:
            Refusal: `APP_DELETED`, `APP_DRAINING` or `APP_UNKNOWN`.
        """
        found = await self.tx.app(app)
        if found is None:
            if not self.defaults.unknown_apps:
                raise Refusal(Reason.APP_UNKNOWN, "the server knows no such app", {"app": app})
            await self.tx.put_app(
                App(
                    app=app,
                    status=AppStatus.ACTIVE,
                    create_time=self.now,
                    feed_id=uuid7(self.now),
                )
            )
            await self.tx.log(Change(cause=ChangeCause.APP_CREATED))
        elif found.status is AppStatus.DELETED:
            raise Refusal(Reason.APP_DELETED, "the app was deleted", {"app": app})
        elif found.status is AppStatus.DRAINING and not draining_too:
            raise Refusal(Reason.APP_DRAINING, "the app is being drained", {"app": app})

    async def write(self, row: SessionRow, changes: Iterable[Change]) -> SessionRow:
        """Log the changes of one session and store it as the last of them leaves it."""
        last = row.session
        logged: list[Change] = list(changes)
        for change in logged:
            assert change.after is not None
            last = change.after
            if change.cause is ChangeCause.TURN_ENDED:
                self.freed.add(last.uid)
                # The error of the turn before is told no more.
                assert change.before is not None
                await self.tx.replace_content(change.before.turn_error, b"")
        if last is not row.session:
            row = await self.tx.update_session(row, last, due(last))
        for change in logged:
            await self.tx.log(change)
        return row

    async def purge(self, row: SessionRow, low: int, high: int, count: int) -> bool:
        """Remove messages: as many as a unit may, and the rest after the commit.

        Args:
            row: The session.
            low: The first sequence.
            high: The last sequence.
            count: How many messages there are from the one to the other.

        Returns:
            True when none is left.
        """
        done = await self.tx.purge_messages(row, low, high, self._rows_left)
        self._rows_left = max(0, self._rows_left - count)
        self.left_over |= not done
        return done

    async def keep(self, row: SessionRow, session: Session) -> SessionRow:
        """Store a session that changed in nothing the log tells of."""
        return await self.tx.update_session(row, session, due(session))


def is_overdue(session: Session, now: Nanos) -> bool:
    """Whether time has brought about something that is not in the log yet."""
    instant = due(session)
    return instant is not None and instant <= now


async def find(tx: ReadTx, ref: SessionRef) -> SessionRow:
    """The session of a reference.

    Raises:
        Refusal: `SESSION_NOT_FOUND` or `UID_MISMATCH`.
    """
    if ref.session_id:
        row = await tx.session_by_key(ref.app, ref.user, ref.session_id)
    else:
        row = await tx.session_by_uid(ref.app, ref.uid)
    if row is None or not ref.users.covers(row.session.user):
        raise absent(ref)
    if ref.uid and row.session.uid != ref.uid:
        raise Refusal(
            Reason.UID_MISMATCH,
            "the id belongs to another session now",
            {"uid": row.session.uid},
        )
    return row


def absent(ref: SessionRef) -> Refusal:
    """The refusal of a session that is not there, or not the caller's: they look alike."""
    named = {"session_id": ref.session_id} if ref.session_id else {"uid": ref.uid}
    return Refusal(Reason.SESSION_NOT_FOUND, "there is no such session", named)


def require_active(session: Session) -> None:
    """Refuse a session that has ended.

    Raises:
        Refusal: `SESSION_ENDED`.
    """
    if not session.is_active:
        cause = session.end_cause.name if session.end_cause else ""
        raise Refusal(
            Reason.SESSION_ENDED,
            f"the session is {session.status.name}",
            {"status": session.status.name, "cause": cause},
        )


def open_turn(sealer: Sealer, app: str, token: str) -> TurnClaim:
    """What a turn token claims.

    Raises:
        Refusal: `TURN_TOKEN_INVALID`: it was changed, or belongs to another app.
    """
    claim = sealer.open(token, TurnClaim)
    if claim.app != app:
        # The very words of a token that is none: which it is, is nobody's business.
        raise sealer.invalid(TurnClaim)
    return claim


def require_turn(session: Session, claim: TurnClaim) -> None:
    """Refuse a turn that is over.

    Raises:
        Refusal: `TURN_SUPERSEDED`.
    """
    live = session.turn
    if claim.uid != session.uid or live is None or live.number != claim.number:
        metadata = {"turn": str(claim.number)}
        if live is not None and claim.uid == session.uid:
            metadata["live_turn"] = str(live.number)
        raise Refusal(Reason.TURN_SUPERSEDED, f"turn {claim.number} is over", metadata)
