"""An app's log in memory, and streams of it, cut up as a server may: for a watch's pure part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from sojourn.v1 import change_pb2, session_pb2, session_service_pb2

Message = session_service_pb2.WatchSessionsResponse
Request = session_service_pb2.WatchSessionsRequest
Place = tuple[int, int]
Draw = Callable[[st.SearchStrategy[Any]], Any]

ENTERED = change_pb2.SessionChange.MEMBERSHIP_ENTERED
CHANGED = change_pb2.SessionChange.MEMBERSHIP_CHANGED
LEFT = change_pb2.SessionChange.MEMBERSHIP_LEFT

UIDS = ("a", "b", "c")


def session(uid: str, version: int) -> session_pb2.Session:
    """A session that can be told from what it was before."""
    key = session_pb2.SessionKey(app="app", user="u", session_id=f"name-of-{uid}")
    return session_pb2.Session(
        key=key, uid=uid, status=session_pb2.SESSION_STATUS_ACTIVE, state_version=version
    )


def change(revision: int, index: int, uid: str, membership: Any) -> change_pb2.Change:
    """A change whose session says at which revision it was made."""
    made = change_pb2.Change(revision=revision, index=index, cause=change_pb2.CHANGE_CAUSE_UPDATED)
    made.session.membership = membership
    made.session.session.CopyFrom(session(uid, revision))
    return made


@dataclass
class Log:
    """Units of changes: the n-th has revision n + 1. An empty one is hidden from the watch."""

    units: list[list[change_pb2.Change]] = field(default_factory=list)

    @property
    def head(self) -> int:
        return len(self.units)

    def add(self, uids: list[str]) -> None:
        """Commit a unit that makes, changes or removes each of these sessions."""
        state = self.state(self.head)
        unit = []
        for index, word in enumerate(uids):
            uid, gone = word.strip("-"), word.startswith("-")
            if gone and uid not in state:
                continue
            kind = LEFT if gone else CHANGED if uid in state else ENTERED
            unit.append(change(self.head + 1, index, uid, kind))
            if gone:
                del state[uid]
            else:
                state[uid] = self.head + 1
        self.units.append(unit)

    def places(self, after: int = 0) -> list[Place]:
        """The changes after a revision, by revision and index."""
        return [(one.revision, one.index) for unit in self.units[after:] for one in unit]

    def state(self, revision: int) -> dict[str, int]:
        """The sessions at a revision, each with the revision that it was last changed at."""
        found: dict[str, int] = {}
        for unit in self.units[:revision]:
            for one in unit:
                uid = one.session.session.uid
                if one.session.membership == LEFT:
                    del found[uid]
                else:
                    found[uid] = one.revision
        return found


def token(revision: int) -> str:
    return f"token-{revision}"


def revision_of(text: str) -> int:
    return int(text.removeprefix("token-"))


UNITS = st.lists(
    st.lists(
        st.sampled_from([*UIDS, *(f"-{uid}" for uid in UIDS)]),
        max_size=4,
        unique_by=lambda w: w[-1],
    ),
    max_size=8,
)


def stream(log: Log, request: Request, draw: Draw, grow: bool) -> Iterator[Message]:
    """What a server sends until it has reached the head; the log may grow meanwhile."""
    revision = log.head
    if request.send_initial_state:
        revision = yield from _initial_state(log, draw, grow)
    elif request.resume_after_token:
        revision = revision_of(request.resume_after_token)
    while revision < log.head:
        if grow and draw(st.booleans()):
            log.add(draw(st.lists(st.sampled_from(UIDS), max_size=3, unique=True)))
        count = draw(st.integers(1, 3))
        units = log.units[revision : revision + count]
        revision += len(units)
        yield from _messages([one for unit in units for one in unit], revision, draw)
        if draw(st.booleans()):
            yield Message(resume_token=token(revision), revision=revision)


def _messages(changes: list[change_pb2.Change], revision: int, draw: Draw) -> Iterator[Message]:
    """Send whole units at once, or cut the last one up."""
    if not changes:
        return
    if len(changes) > 1 and draw(st.booleans()):
        split = draw(st.integers(1, len(changes) - 1))
        inside = changes[split - 1].revision == changes[split].revision
        if inside:
            yield Message(changes=changes[:split], continued=True)
            changes = changes[split:]
    yield Message(changes=changes, resume_token=token(revision), revision=revision)


def _initial_state(log: Log, draw: Draw, grow: bool) -> Generator[Message, None, int]:
    """Send the sessions page by page, what happened meanwhile, and the marker."""
    began = log.head
    uids = sorted(log.state(log.head))
    while uids:
        page, uids = uids[: draw(st.integers(1, 2))], []
        now = log.state(log.head)
        yield Message(initial_sessions=[session(uid, now[uid]) for uid in page if uid in now])
        uids = [uid for uid in sorted(now) if uid > page[-1]]
        if grow and draw(st.booleans()):
            log.add(draw(st.lists(st.sampled_from(UIDS), max_size=3, unique=True)))
    end = log.head
    meanwhile = [one for unit in log.units[began:end] for one in unit]
    if meanwhile:
        yield Message(changes=meanwhile)
    yield Message(initial_state_end=end, resume_token=token(end), revision=end)
    return end
