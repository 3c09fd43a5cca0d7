"""What a recorded watch must look like: one validator for each guarantee.

A record is held to a replay of the log that is kept in the database, by code that shares
nothing with the feed: the replay knows a session only by the changes before, and asks the
one evaluator of filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from sojourn.v1 import change_pb2, session_pb2
from sojourn.v1.session_service_pb2 import WatchSessionsResponse
from sojourn_server.domain import filter as filters
from sojourn_server.domain.filter import EVERYTHING, SessionFilter
from sojourn_server.domain.limits import MIB
from sojourn_server.domain.model import ChangeCause, Session
from sojourn_server.domain.tokens import etag
from sojourn_server.store.base import LoggedChange

ENTERED = change_pb2.SessionChange.MEMBERSHIP_ENTERED
CHANGED = change_pb2.SessionChange.MEMBERSHIP_CHANGED
LEFT = change_pb2.SessionChange.MEMBERSHIP_LEFT

GUARANTEES = {
    "W1": "all watchers see the log's order",
    "W2": "exactly the matching changes after the start, ascending, none missing, none twice",
    "W3": "a revision comes in one message, or in consecutive ones marked `continued`",
    "W4": "no change is delivered that is not in the log",
    "W5": "a change or bookmark at least as new as every revision returned",
    "W6": "at the marker the mirror is the state at its revision",
    "W10": "a token never decreases and never overtakes a change",
    "W11": "a mirror equals List(filter) at every token",
    "W12": "the session before, exactly, or previous_unavailable",
    "W13": "every revision is delivered",
    "W20": "a change carries no content that was not asked for",
}


class Violated(AssertionError):
    """A guarantee was broken."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {GUARANTEES[guarantee]} – {what}")
        self.guarantee = guarantee


@dataclass
class Record:
    """What one watcher asked for, and what it got, over all its streams."""

    user: str | None = None
    parent_uid: str = ""
    filter: SessionFilter = EVERYTHING
    app_changes: bool = False
    previous: bool = False
    content: bool = False
    start: int | None = None
    """Everything up to this revision was known; None: it begins with the initial state."""
    messages: list[WatchSessionsResponse] = field(default_factory=list)
    """In the order they came. After a cut, what is repeated of a unit is left out."""

    @property
    def changes(self) -> list[change_pb2.Change]:
        """All changes after the marker, or all where there is none."""
        return [change for message in self.after_marker() for change in message.changes]

    @property
    def token(self) -> str:
        """The newest token."""
        return next((m.resume_token for m in reversed(self.messages) if m.resume_token), "")

    @property
    def revision(self) -> int:
        """How far the newest token is; the start where there is none."""
        return next((m.revision for m in reversed(self.messages) if m.resume_token), self.begin)

    @property
    def marker(self) -> int | None:
        """The revision of the initial state."""
        found = [m for m in self.messages if m.HasField("initial_state_end")]
        return found[-1].initial_state_end if found else None

    @property
    def begin(self) -> int:
        """What every change must be newer than."""
        return self.start if self.start is not None else self.marker or 0

    def after_marker(self) -> Sequence[WatchSessionsResponse]:
        """Messages that are not of the initial state."""
        if self.start is not None:
            return self.messages
        for number, message in enumerate(self.messages):
            if message.HasField("initial_state_end"):
                return self.messages[number + 1 :]
        return ()


Place = tuple[int, int]
"""Revision and index."""


def place(change: change_pb2.Change | LoggedChange) -> Place:
    """Where a change stands in the log."""
    return change.revision, change.index


class Replay:
    """The log, played from its beginning, as one watcher would see it.

    Args:
        log: The whole log.
        record: What was asked for.
    """

    def __init__(self, log: Sequence[LoggedChange], record: Record) -> None:
        self.log = log
        self.record = record
        matches = filters.matcher(record.filter, 0)
        self.head = log[-1].revision if log else 0
        self._steps: list[tuple[int, str, Session | None]] = []
        """How the sessions that match become others: revision, uid, and what is there now."""
        self.expected: dict[Place, int] = {}
        """How each change shows: the membership; 0 for one that is not of a session."""
        self.before: dict[Place, Session | None] = {}
        sessions: dict[str, Session | None] = {}
        for change in log:
            at = place(change)
            if not change.uid:
                if self._app_change_shows(change):
                    self.expected[at] = 0
            else:
                known = sessions.get(change.uid)
                self.before[at] = known
                was = known is not None and self._in_scope(known) and matches(known)
                after = change.after
                now = after is not None and self._in_scope(after) and matches(after)
                sessions[change.uid] = after
                if now:
                    self.expected[at] = CHANGED if was else ENTERED
                    self._steps.append((change.revision, change.uid, after))
                elif was:
                    self.expected[at] = LEFT
                    self._steps.append((change.revision, change.uid, None))

    def mirror(self, revision: int) -> dict[str, Session]:
        """The sessions that match at a revision."""
        return Truth(self).at(revision)[0]

    @property
    def steps(self) -> Sequence[tuple[int, str, Session | None]]:
        """How the sessions that match become others."""
        return self._steps

    def _in_scope(self, session: Session) -> bool:
        record = self.record
        if record.user is not None and session.user != record.user:
            return False
        return not record.parent_uid or session.parent_uid == record.parent_uid

    def _app_change_shows(self, change: LoggedChange) -> bool:
        record, user = self.record, change.detail.user
        if not record.app_changes:
            return False
        if user is None:
            return True
        return not record.parent_uid and record.user in {None, user}


class Truth:
    """The sessions that match, revision after revision.

    Args:
        replay: Of the log.
    """

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._sessions: dict[str, Session] = {}
        self._next = 0

    def at(self, revision: int) -> tuple[dict[str, Session], set[str]]:
        """What matches at a revision, no older than the last one asked for, and what is new in it.

        Raises:
            Violated: There is no such revision.
        """
        if revision > self._replay.head:
            raise Violated("W4", f"the log has no revision {revision}")
        touched: set[str] = set()
        steps = self._replay.steps
        while self._next < len(steps) and steps[self._next][0] <= revision:
            _, uid, session = steps[self._next]
            self._next += 1
            touched.add(uid)
            if session is None:
                del self._sessions[uid]
            else:
                self._sessions[uid] = session
        return self._sessions, touched


def ascending(record: Record, replay: Replay) -> None:
    """W1."""
    seen: Place = (record.begin, 1 << 30)
    for change in record.changes:
        at = place(change)
        if at <= seen:
            raise Violated("W1", f"{at} comes after {seen}")
        seen = at


def exactly_once(record: Record, replay: Replay) -> None:
    """W2, up to the newest token."""
    seen = [place(change) for change in record.changes]
    if len(seen) != len(set(seen)):
        twice = sorted({at for at in seen if seen.count(at) > 1})
        raise Violated("W2", f"twice: {twice[:5]}")
    begin, end = record.begin, record.revision
    early = [at for at in seen if at[0] <= begin]
    if early:
        raise Violated("W2", f"not after the start {begin}: {early[:5]}")
    wanted = {at for at in replay.expected if begin < at[0] <= end}
    got = {at for at in seen if at[0] <= end}
    if wanted - got:
        raise Violated("W2", f"missing: {sorted(wanted - got)[:5]}")
    if got - wanted:
        raise Violated("W2", f"not asked for: {sorted(got - wanted)[:5]}")


def atomic(record: Record, replay: Replay) -> None:
    """W3."""
    last_of: dict[int, Place] = {}
    for at in replay.expected:
        last_of[at[0]] = max(last_of.get(at[0], at), at)
    open_revision: int | None = None
    for message in record.after_marker():
        if message.ByteSize() > MIB:
            raise Violated("W3", f"a message of {message.ByteSize()} bytes")
        revisions = [change.revision for change in message.changes]
        if open_revision is not None and (not revisions or revisions[0] != open_revision):
            raise Violated("W3", f"revision {open_revision} is broken off")
        if message.continued:
            if message.resume_token:
                raise Violated("W3", "a token inside a revision")
            open_revision = revisions[-1] if revisions else open_revision
            continue
        open_revision = None
        if revisions:
            end = place(message.changes[-1])
            if end != last_of.get(end[0]):
                raise Violated("W3", f"revision {end[0]} ends at {end}, without `continued`")
            if not message.resume_token:
                raise Violated("W3", f"revision {end[0]} is whole, and there is no token")


def durable(record: Record, replay: Replay) -> None:
    """W4."""
    known = {place(change) for change in replay.log}
    for change in record.changes:
        if place(change) not in known:
            raise Violated("W4", f"{place(change)} is in no log")


def observed(record: Record, revision: int) -> None:
    """W5: of a revision that was returned long enough ago."""
    if record.revision < revision:
        raise Violated("W5", f"{revision} was returned, {record.revision} is known")


def snapshot(record: Record, replay: Replay) -> None:
    """W6."""
    if record.start is not None:
        return
    mirror: dict[str, session_pb2.Session] = {}
    for message in record.messages:
        for session in message.initial_sessions:
            if session.uid in mirror:
                raise Violated("W6", f"{session.key.session_id} comes twice")
            mirror[session.uid] = session
        if message.HasField("initial_state_end"):
            there = replay.mirror(message.initial_state_end)
            _compare("W6", mirror, there, mirror.keys() | there.keys())
            return
        if message.resume_token:
            raise Violated("W6", "a token before the marker")
        for change in message.changes:
            _apply(mirror, change)


def tokens(record: Record, replay: Replay) -> None:
    """W10."""
    newest = record.begin
    seen: set[Place] = set()
    wanted = [at for at in replay.expected if at[0] > newest]
    covered = 0
    for message in record.after_marker():
        seen.update(place(change) for change in message.changes)
        if not message.resume_token:
            continue
        if message.revision < newest:
            raise Violated("W10", f"{message.revision} after {newest}")
        while covered < len(wanted) and wanted[covered][0] <= message.revision:
            if wanted[covered] not in seen:
                what = f"the token at {message.revision} overtakes {wanted[covered]}"
                raise Violated("W10", what)
            covered += 1
        if message.changes and message.changes[-1].revision != message.revision:
            raise Violated("W10", f"a token at {message.revision} with other changes")
        newest = message.revision


def membership(record: Record, replay: Replay) -> None:
    """W11."""
    causes = {place(change): change.cause for change in replay.log}
    mirror: dict[str, session_pb2.Session] = {}
    if record.start is None:
        for message in record.messages:
            for session in message.initial_sessions:
                mirror[session.uid] = session
            if message.HasField("initial_state_end"):
                break
            for change in message.changes:
                _apply(mirror, change)
    else:
        mirror = {uid: _bare(each) for uid, each in replay.mirror(record.start).items()}
    truth = Truth(replay)
    begin = record.begin
    truth.at(begin)
    touched = set(mirror)
    for message in record.after_marker():
        for change in message.changes:
            touched.add(change.session.session.uid)
            wanted = replay.expected.get(place(change), -1)
            if change.cause != causes.get(place(change), change.cause):
                raise Violated("W11", f"{place(change)} has another cause")
            got = change.session.membership if change.HasField("session") else 0
            if wanted not in {-1, got}:  # what was not to come at all, W2 says
                raise Violated("W11", f"{place(change)} shows as {got}, not {wanted}")
            if wanted == LEFT and change.session.session.uid not in mirror:
                raise Violated("W11", f"{place(change)}: who left was not there")
            _apply(mirror, change)
        if message.resume_token and message.revision >= begin:
            sessions, new = truth.at(message.revision)
            # What neither side has touched since the token before is as it was then.
            _compare("W11", mirror, sessions, (touched | new) - {""})
            touched.clear()


def previous(record: Record, replay: Replay) -> None:
    """W12."""
    for change in record.changes:
        if not change.HasField("session"):
            continue
        told = change.session
        if not record.previous:
            if told.HasField("previous") or told.previous_unavailable:
                raise Violated("W12", f"{place(change)}: it was not asked for")
            continue
        before = replay.before.get(place(change))
        if told.previous_unavailable:
            continue
        if before is None:
            if told.HasField("previous"):
                raise Violated("W12", f"{place(change)}: there was none before")
        elif not told.HasField("previous") or not _same(told.previous, before):
            raise Violated("W12", f"{place(change)}: it was another one")


def every_revision(record: Record, replay: Replay) -> None:
    """W13."""
    begin, end = record.begin, record.revision
    wanted = {at[0] for at in replay.expected if begin < at[0] <= end}
    got = {change.revision for change in record.changes}
    if wanted - got:
        raise Violated("W13", f"revisions left out: {sorted(wanted - got)[:5]}")


def bare(record: Record, replay: Replay) -> None:
    """W20."""
    if record.content:
        return
    for message in record.messages:
        sessions = [
            *message.initial_sessions,
            *(change.session.session for change in message.changes),
            *(change.session.previous for change in message.changes),
        ]
        for session in sessions:
            if session.metadata or session.HasField("state") or session.end_reason:
                raise Violated("W20", f"content of {session.key.session_id}")
        for change in message.changes:
            if change.session.messages or change.session.content_revision:
                raise Violated("W20", f"messages with {place(change)}")


VALIDATORS: Sequence[Callable[[Record, Replay], None]] = (
    durable,
    ascending,
    exactly_once,
    atomic,
    tokens,
    every_revision,
    snapshot,
    membership,
    previous,
    bare,
)


def validate(record: Record, log: Sequence[LoggedChange]) -> None:
    """Hold a record to every guarantee.

    Raises:
        Violated: One was broken.
    """
    replay = Replay(log, record)
    for check in VALIDATORS:
        check(record, replay)


def broken(record: Record, log: Sequence[LoggedChange]) -> dict[str, str]:
    """All guarantees that a record breaks, each with what is wrong."""
    found: dict[str, str] = {}
    replay = Replay(log, record)
    for check in VALIDATORS:
        try:
            check(record, replay)
        except Violated as violated:
            found[violated.guarantee] = str(violated)
    return found


def _apply(mirror: dict[str, session_pb2.Session], change: change_pb2.Change) -> None:
    if not change.HasField("session"):
        return
    session = change.session.session
    if change.session.membership == LEFT:
        mirror.pop(session.uid, None)
    else:
        mirror[session.uid] = session


def _compare(
    guarantee: str,
    mirror: dict[str, session_pb2.Session],
    truth: dict[str, Session],
    uids: Set[str],
) -> None:
    if len(mirror) != len(truth):
        raise Violated(guarantee, f"{len(mirror)} in the mirror, {len(truth)} in truth")
    for uid in uids:
        told, session = mirror.get(uid), truth.get(uid)
        if told is None and session is None:
            continue
        if told is None:
            raise Violated(guarantee, f"{uid} is missing from the mirror")
        if session is None:
            raise Violated(guarantee, f"{told.key.session_id} is in the mirror, and gone")
        if not _same(told, session):
            raise Violated(guarantee, f"{session.session_id} is another one in the mirror")


def _same(told: session_pb2.Session, session: Session) -> bool:
    """Whether a session was told as the log has it."""
    return (
        told.uid == session.uid
        and told.etag == etag(session.uid, session.version)
        and told.status == session.status.value
        and dict(told.labels) == session.labels
        and told.turn.number == (session.turn.number if session.turn else 0)
        and told.metrics.request_count == session.metrics.requests
        and told.last_sequence == session.last_sequence
    )


def _bare(session: Session) -> session_pb2.Session:
    told = session_pb2.Session(uid=session.uid, etag=etag(session.uid, session.version))
    told.key.session_id = session.session_id
    told.status = session.status  # type: ignore[assignment]
    told.labels.update(session.labels)
    if session.turn:
        told.turn.number = session.turn.number
    told.metrics.request_count = session.metrics.requests
    told.last_sequence = session.last_sequence
    return told


def causes(record: Record) -> Iterator[ChangeCause]:
    """What brought the recorded changes about."""
    return map(cause_of, record.changes)


def cause_of(change: change_pb2.Change) -> ChangeCause:
    """What brought a change about."""
    return ChangeCause(change.cause)
