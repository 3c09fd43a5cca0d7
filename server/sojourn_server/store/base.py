"""The storage contract: what a backend must do, in numbered sentences.

The conformance suite (`tests/store/conformance`) holds every backend to them; each
test names the sentences it checks.

Units and reads
    S1  A unit runs inside one transaction: all it wrote is kept, or nothing is.
    S2  Units of one app are serial: each sees all that earlier ones wrote.
    S3  `apply` returns only when the unit is on disk; a crash takes nothing back.
    S4  A unit that logs a change takes exactly one revision of its app. Revisions
        are dense, begin at 1 and follow the order of commits. A unit that logs
        nothing takes none, and is answered with the head it saw.
    S5  A unit that fails leaves its neighbours in the same commit alone.
    S6  When a unit raises `Precede`, the named unit is carried out first, as a unit
        of its own that stays even if the other then fails; then the first runs
        again.
    S7  A read sees one committed state, at one head; a read begun after `apply`
        returned sees that unit.
    S8  No change can be read that a crash could take back.
    S9  `apps` names every app that was put, each once, in the order of their bytes.

Sessions
    S10 (app, user, session_id) and uid are unique; `insert_session` of a taken key
        raises `KeyTaken` and the unit may go on.
    S11 A session's `create_order` is greater than that of every session of the app
        whose creation was committed earlier; within a unit it ascends.
    S12 A candidate list is in its order, begins after its position, holds no
        session twice and leaves out none that its hints select.
    S13 `due_sessions` names the ACTIVE sessions whose `due` is not after the
        instant, the longest due first.
    S18 `overdue_in` names the same of one app, or of one of its users.
    S19 `ended_sessions` names the sessions of an app that ended before an instant, in the
        order of their ends, after a position.

History
    S20 `messages` are those of the session, without removed ranges, in the order
        and within the bounds asked for.
    S21 A session holds at most one message with a given id.

Content
    S30 `put_content` keeps bytes; `content` gives back exactly those bytes for as
        long as a live row holds the id.
    S31 After an `apply` that erased content returns with `scrubbed`, those bytes are
        in no file of the store. Where files are not the backend's own, it never says
        so (`scrubs`), and what it erased is gone from every answer all the same.
    S32 Log and request records hold no content.

Staging
    S35 Messages put under a number of `new_history` are nobody's until a session names
        it as its `history`. No number comes twice, as a pk neither.
    S36 Until it is dropped, a staging is found by name, by owner, and once it expired.

Log and requests
    S40 Change, session, content and request record of a unit are written together.
    S41 `changes` gives the log in order of (revision, index), complete, from after
        a revision on. Each revision has one random 64-bit nonce.
    S42 A request record is found again by (app, principal, method, request_id) for
        at least its keeping time.
    S43 `compact` removes whole revisions from the beginning of one app's log, never its
        newest: what is left is dense. `oldest` names the first that is left.
    S44 Whoever is told by `on_commit` hears of an app only after a commit has logged
        something there, through this server or another. It is a hint: it may be lost,
        come late or come twice.

Audit, and erasing users
    S90 A change that `auditing.is_audited` is written into the audit by the unit that logs
        it. `audit` gives the newest first; compaction leaves the audit alone, and
        `forget_audit` removes its oldest entries.
    S91 `rewrite_changes`, `rewrite_audit` and `empty_request` replace what a row says, and
        leave its place, its nonce, its time and its cause.
    S92 Where `scrubs`, once a unit has asked for `clear_stale` and `purge` says that nothing
        is left, no name of any row removed before that unit is in any file, nor any text that
        was erased; also where the process died in between.

Faults
    S50 A full disk refuses writes with `StoreFull`, serves reads, and heals without
        a restart.
    S51 A store that cannot be opened says why in one sentence: `StoreUnusable`.
    S52 A store that fails while it runs raises `StoreDown`; the unit may or may not
        have happened.

Jobs
    S55 Of the servers that share a store, `leads` names one for each job; where it dies,
        another within 5 s. For a moment there may be two: a job must bear that.

Counts and sums
    S70 The counts of apps and users are those of the sessions that are there, in every state
        that can be read; an app's and a user's cost the same, however many there are.
    S71 The sums are what those sessions add up to, exactly, also beyond 64 bits.
    S72 Counts and sums move with the unit that writes the session: they are kept with it,
        undone with it, and seen by the units after it.
    S73 A page of users costs what its users cost, however many sessions and users there are.
    S74 Nothing of counts and sums is kept of a user or app without sessions.

Operations
    S80 `operation` finds what the last committed unit has put under its id; `operations`
        names those of every app, in the order in which they were put.
    S81 `scopes` names each user that has a state, and the app; a dropped one is version 0.
    S82 `with_children` names those of the given sessions that have a child.
    S83 An emptied request record is found as before, and has neither outcome nor content.
    S84 A unit that says `scrub_later` is answered before the scrub; `purge` awaits it.

Figures
    S60 `stats` does little, however much is stored. Its counts begin at 0 with `open` and
        never go down; `rows` may come late, and be an estimate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import (
    App,
    Change,
    ContentId,
    Message,
    ScopeState,
    Session,
)
from sojourn_server.store.counting import Counting
from sojourn_server.store.erasing import AuditReads, ErasingWrites
from sojourn_server.store.operations import OperationReads, OperationWrites
from sojourn_server.store.outcomes import Applied as Applied
from sojourn_server.store.outcomes import KeyTaken as KeyTaken
from sojourn_server.store.outcomes import Priority as Priority
from sojourn_server.store.outcomes import StoreDown as StoreDown
from sojourn_server.store.outcomes import StoreFull as StoreFull
from sojourn_server.store.outcomes import StoreUnusable as StoreUnusable
from sojourn_server.store.records import AppCounts as AppCounts
from sojourn_server.store.records import ListedApp as ListedApp
from sojourn_server.store.records import LoggedChange as LoggedChange
from sojourn_server.store.records import Operation as Operation
from sojourn_server.store.records import RequestKey as RequestKey
from sojourn_server.store.records import RequestRecord as RequestRecord
from sojourn_server.store.records import SessionRow as SessionRow
from sojourn_server.store.records import Staging as Staging
from sojourn_server.store.records import TokenKey as TokenKey
from sojourn_server.store.staged import Backing, StagedReads, StagedWrites
from sojourn_server.store.staged import BackupTaken as BackupTaken
from sojourn_server.store.staged import NoBackupPlace as NoBackupPlace
from sojourn_server.store.stats import StoreStats
from sojourn_server.store.upkeep import Upkeep
from sojourn_server.store.wanted import Candidates as Candidates
from sojourn_server.store.wanted import MessageRange as MessageRange
from sojourn_server.store.wanted import Position as Position
from sojourn_server.store.wanted import SortBy as SortBy

T = TypeVar("T")


class Precede(Exception):
    """This unit must come after another one, which is to be carried out first (S6).

    Args:
        unit: The other unit, of the same app.
    """

    def __init__(self, unit: Callable[[Tx], Awaitable[object]]) -> None:
        super().__init__("another unit comes first")
        self.unit = unit


class ReadTx(AuditReads, Counting, OperationReads, StagedReads, Protocol):
    """One committed state, at one head. Every method may be awaited in any order."""

    @property
    def now(self) -> Nanos:
        """The store's clock when the transaction began."""
        ...

    async def head(self, app: str) -> int:
        """The newest revision of the app's log; 0 for an app without one."""
        ...

    async def app(self, app: str) -> App | None:
        """The app, or None."""
        ...

    async def session_by_key(self, app: str, user: str, session_id: str) -> SessionRow | None:
        """The session of this key, or None."""
        ...

    async def session_by_uid(self, app: str, uid: str) -> SessionRow | None:
        """The session of this uid in this app, or None."""
        ...

    async def candidates(self, query: Candidates) -> Sequence[SessionRow]:
        """Up to `query.limit` sessions (S12)."""
        ...

    async def due_sessions(self, until: Nanos, limit: int) -> Sequence[SessionRow]:
        """Sessions of all apps for which something is due (S13)."""
        ...

    async def next_due(self) -> Nanos | None:
        """The nearest `due` of all ACTIVE sessions, or None."""
        ...

    async def overdue_in(
        self, app: str, user: str | None, until: Nanos, limit: int
    ) -> Sequence[SessionRow]:
        """Sessions of one app, or of one of its users, for which something is due (S18)."""
        ...

    async def ended_sessions(
        self, app: str, before: Nanos, after: Position | None, limit: int
    ) -> Sequence[SessionRow]:
        """Sessions that ended before an instant, the one that ended first at the front (S19).

        Args:
            app: The app.
            before: They ended before this.
            after: Only those after this place; its value is when a session ended.
            limit: The most of them.
        """
        ...

    async def messages(self, row: SessionRow, which: MessageRange) -> Sequence[Message]:
        """The messages of a range (S20), without their bodies."""
        ...

    async def message_totals(self, row: SessionRow, low: int, high: int) -> tuple[int, int]:
        """How many messages there are from sequence `low` to `high`, and their bytes."""
        ...

    async def message_by_id(self, row: SessionRow, message_id: str) -> Message | None:
        """The message of this id, or None."""
        ...

    async def message_by_sequence(self, row: SessionRow, sequence: int) -> Message | None:
        """The message of this sequence, or None."""
        ...

    async def content(self, content_id: ContentId) -> bytes:
        """The bytes of one piece of content; empty for `NO_CONTENT` (S30)."""
        ...

    async def contents(self, content_ids: Sequence[ContentId]) -> Sequence[bytes]:
        """The bytes of several pieces, in the order asked."""
        ...

    async def scope_state(self, app: str, user: str | None) -> ScopeState:
        """The state of a user, or of the app (None); version 0 where there is none."""
        ...

    async def scope_states(self, app: str, users: Sequence[str | None]) -> Sequence[ScopeState]:
        """The states of several users, or of the app (None), in the order asked."""
        ...

    async def request(self, key: RequestKey) -> RequestRecord | None:
        """What is remembered of a request (S42)."""
        ...

    async def changes(self, app: str, after_revision: int, limit: int) -> Sequence[LoggedChange]:
        """About `limit` changes with a higher revision (S41).

        A revision is never cut: the last one comes whole, even beyond the limit.
        """
        ...

    async def nonce(self, app: str, revision: int) -> int | None:
        """The nonce of a revision (S41); None for one that is not in the log."""
        ...

    async def oldest(self, app: str) -> int:
        """The oldest revision that is in the app's log (S43); 0 for an empty one."""
        ...


class Tx(ReadTx, ErasingWrites, OperationWrites, StagedWrites, Protocol):
    """A unit's transaction. Reads see the unit's own writes."""

    async def put_app(self, app: App) -> None:
        """Create or replace an app."""
        ...

    async def insert_session(self, session: Session, due: Nanos | None) -> SessionRow:
        """Add a session. `due`: when something must be done about it, or None.

        Raises:
            KeyTaken: A session with this key exists; the unit may go on.
        """
        ...

    async def update_session(
        self, row: SessionRow, session: Session, due: Nanos | None
    ) -> SessionRow:
        """Replace a session; `row` is how the unit last read or wrote it.

        Raises:
            KeyTaken: Another session has its new key.
            LookupError: The session is gone.
        """
        ...

    async def delete_session(self, row: SessionRow) -> None:
        """Remove a session. Its messages and content must be erased before."""
        ...

    async def insert_messages(self, row: SessionRow, messages: Sequence[Message]) -> None:
        """Add messages to a session; their bodies are put already.

        The id of a message in a removed range is free again.

        Raises:
            KeyTaken: The session holds one with this id or sequence (S21); the unit
                must fail.
        """
        ...

    async def remove_messages(self, row: SessionRow, messages: Sequence[Message]) -> None:
        """Remove messages but not their bodies: the caller erases or holds those."""
        ...

    async def purge_messages(self, row: SessionRow, low: int, high: int, limit: int) -> bool:
        """Remove messages and erase their bodies, sequences `low` to `high`.

        At most `limit` of them now, and fewer when they are large; the rest is left for
        `Store.purge`, by way of a note that outlives the session's row and a crash.

        Returns:
            True when none is left.
        """
        ...

    async def put_content(self, data: bytes) -> ContentId:
        """Keep bytes; `NO_CONTENT` for none."""
        ...

    async def replace_content(self, content_id: ContentId, data: bytes) -> ContentId:
        """Keep bytes in the place of others, which are overwritten.

        With no bytes it only overwrites and answers `NO_CONTENT`. Unlike
        `erase_content` it lets the answer go before the scrub.
        """
        ...

    async def erase_content(self, content_id: ContentId) -> None:
        """Overwrite bytes; the id is free to be used again.

        Makes this unit one whose answer waits for the scrub (S31).
        """
        ...

    async def put_scope_state(self, app: str, user: str | None, state: ScopeState) -> None:
        """Create or replace the state of a user, or of the app (None)."""
        ...

    async def put_request(self, record: RequestRecord) -> None:
        """Remember a request. The store sets the revision."""
        ...

    async def erase_held(self, row: SessionRow) -> None:
        """Erase the content that request records hold of this session; keep the records."""
        ...

    async def log(self, change: Change) -> None:
        """Add a change to the app's log; the unit's first one takes the revision."""
        ...

    def answer_at(self, revision: int) -> None:
        """Answer this unit with an earlier revision: it repeats an outcome."""
        ...


class BesideUnits(Backing, Upkeep, Protocol):
    """A backend, as far as it can be used without a unit."""

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    @property
    def engine_version(self) -> str:
        """The release of the database engine; known once the store is open."""
        ...

    @property
    def schema_version(self) -> int:
        """The number of the schema that this server knows."""
        ...

    @property
    def place(self) -> str:
        """What to call the database in a log: never a user or a password."""
        ...

    @property
    def scrubs(self) -> bool:
        """Whether all files are in the backend's hands, so that `scrubbed` can be true.

        Where it is false, erased rows are gone for every reader at once, and from the
        database's own files, log and copies when it sees fit.
        """
        ...

    @property
    def token_keys(self) -> Sequence[TokenKey]:
        """The keys for tokens, the current one first."""
        ...

    async def versions(self) -> tuple[int, int]:
        """The number of the schema that the database has (0: none), and the newest.

        Looks without changing anything; the store need not be open.

        Raises:
            StoreUnusable: It cannot be used (S51).
        """
        ...

    async def open(self) -> None:
        """Open, migrate and recover.

        Raises:
            StoreUnusable: It cannot be used (S51).
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted, then close. Safe to call twice."""
        ...

    async def read(self, query: Callable[[ReadTx], Awaitable[T]]) -> T:
        """Carry out a read (S7)."""
        ...

    def on_commit(self, tell: Callable[[str], None]) -> None:
        """Have a function called with the name of an app whose log has grown (S44).

        An empty name stands for any app. At most one function; it must be quick.
        """
        ...

    async def check_readable(self) -> None:
        """Raise `StoreDown` when reads fail."""

    async def check_writable(self) -> None:
        """Raise `StoreFull` or `StoreDown` when writes fail."""

    async def stats(self) -> StoreStats:
        """What it has done, and how large it is (S60)."""
        ...


class Store(BesideUnits, Protocol):
    """A backend. Made by `app`, used by `service`, `feed` and `jobs`; written to by `Units`."""

    async def apply(
        self,
        app: str,
        actor: str,
        unit: Callable[[Tx], Awaitable[T]],
        priority: Priority = Priority.CALLER,
    ) -> Applied[T]:
        """Carry out a unit (S1–S6).

        Args:
            app: The app whose log it writes.
            actor: Who does it, for the log.
            unit: Reads, decides and writes. May run more than once; must wait for
                nothing but the transaction.
            priority: Jobs give way to callers.

        Raises:
            StoreFull: No room; nothing happened.
            StoreDown: The store failed; the outcome is unknown.
            Exception: Whatever the unit raised; nothing of it happened.
        """
        ...
