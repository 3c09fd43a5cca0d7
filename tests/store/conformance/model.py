"""What a store is, in a hundred lines of plain Python: the yardstick of `test_model`."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn_server.domain.model import Message, Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import (
    AppCounts,
    Candidates,
    MessageRange,
    RequestKey,
    RequestRecord,
    SessionRow,
)
from tests.store.kit import changed, sort_value

Entry = tuple[int, int, Session | None, Session | None]
"""Revision, index, before, after."""


class Model:
    """The state of one app. Content ids and session numbers are those of the store."""

    def __init__(self) -> None:
        self.head = 0
        self.orders = 0
        self.rows: dict[int, SessionRow] = {}
        self.due: dict[int, int | None] = {}
        self.messages: dict[int, dict[int, Message]] = {}
        self.leftovers: list[tuple[int, int, int]] = []
        self.content: dict[int, bytes] = {}
        self.requests: dict[RequestKey, RequestRecord] = {}
        self.log: list[Entry] = []

    def copy(self) -> Model:
        other = Model()
        for name, value in vars(self).items():
            other.__dict__[name] = value if isinstance(value, int) else value.copy()
        other.messages = {pk: dict(own) for pk, own in self.messages.items()}
        return other

    def record(self, before: Session | None, after: Session | None) -> None:
        """Log a change of the unit that makes revision `head + 1`."""
        index = sum(1 for entry in self.log if entry[0] == self.head + 1)
        self.log.append((self.head + 1, index, before, after))

    def commit(self) -> Model:
        """The unit is done: what it logged has taken the revision."""
        self.head = max([self.head, *(entry[0] for entry in self.log)])
        self.requests = {
            key: changed_record(record, self.head) if record.revision < 0 else record
            for key, record in self.requests.items()
        }
        return self

    def is_taken(self, session: Session) -> bool:
        return any(
            (row.session.user, row.session.session_id) == (session.user, session.session_id)
            for row in self.rows.values()
        )

    def has_uid(self, uid: str) -> bool:
        return any(row.session.uid == uid for row in self.rows.values())

    def insert(self, row: SessionRow, due: int | None) -> None:
        assert row.create_order > self.orders, "create order went back"
        assert row.pk not in self.messages, "a number was given twice"
        self.orders = row.create_order
        self.messages[row.pk] = {}
        self.put(row, due)

    def put(self, row: SessionRow, due: int | None) -> None:
        self.rows[row.pk] = row
        self.due[row.pk] = due if row.session.status is Status.ACTIVE else None

    def delete(self, pk: int) -> None:
        del self.rows[pk], self.due[pk]

    def new_content(self, content_id: int, data: bytes) -> int:
        assert content_id not in self.content, "content in use was overwritten"
        assert (content_id == 0) == (not data)
        if data:
            self.content[content_id] = data
        return content_id

    def visible(self, pk: int) -> list[Message]:
        """The messages of a session, the oldest first."""
        ranges = self.rows[pk].session.removed_ranges
        return [
            message
            for sequence, message in sorted(self.messages[pk].items())
            if not any(low <= sequence <= high for low, high in ranges)
        ]

    def read(self, pk: int, which: MessageRange) -> list[Message]:
        since = which.event_time_not_before
        kept = [
            message
            for message in self.visible(pk)
            if message.sequence > which.after_sequence
            and (which.before_sequence is None or message.sequence < which.before_sequence)
            and (since is None or (message.event_time is not None and message.event_time >= since))
        ]
        return (kept[::-1] if which.descending else kept)[: which.limit]

    def purge(self, pk: int, low: int, high: int, limit: int) -> bool:
        """Remove up to `limit` messages with their bodies; whether none is left."""
        own = self.messages[pk]
        doomed = sorted(sequence for sequence in own if low <= sequence <= high)
        for sequence in doomed[:limit]:
            self.content.pop(own.pop(sequence).body, None)
        return len(doomed) <= limit

    def finish_purges(self) -> None:
        for pk, low, high in self.leftovers:
            self.purge(pk, low, high, 1 << 30)
            if pk in self.rows:
                row = self.rows[pk]
                ranges = tuple(each for each in row.session.removed_ranges if each != (low, high))
                session = changed(row.session, removed_ranges=ranges)
                self.rows[pk] = SessionRow(pk, row.create_order, session)
        self.leftovers = []

    def candidates(self, query: Candidates) -> list[SessionRow]:
        def place(row: SessionRow) -> tuple[int | str, int]:
            return sort_value(row, query.sort_by), row.create_order

        selected = [
            row
            for row in self.rows.values()
            if query.user in {None, row.session.user}
            and query.status in {None, row.session.status}
            and (query.label is None or query.label in row.session.labels.items())
            and query.parent_uid in {None, row.session.parent_uid}
        ]
        ordered = sorted(selected, key=place, reverse=query.descending)
        if query.after is not None:
            at = (query.after.value, query.after.create_order)
            ordered = [
                row for row in ordered if (place(row) < at if query.descending else place(row) > at)
            ]
        return ordered[: query.limit]

    def due_rows(self, until: int) -> list[SessionRow]:
        due = [(when, pk) for pk, when in self.due.items() if when is not None and when <= until]
        return [self.rows[pk] for _, pk in sorted(due)]

    def counts(self) -> AppCounts:
        return AppCounts(sum(self.user_active(user) for user in self.users()), len(self.rows))

    def users(self) -> set[str]:
        return {row.session.user for row in self.rows.values()}

    def user_active(self, user: str) -> int:
        sums = self.status_sums(user).get(Status.ACTIVE)
        return 0 if sums is None else sums.sessions

    def status_sums(self, user: str | None) -> dict[Status, Sums]:
        found: dict[Status, Sums] = {}
        for row in self.rows.values():
            if user in {None, row.session.user}:
                found.setdefault(row.session.status, Sums()).count(row.session)
        return found

    def user_sums(
        self, statuses: Sequence[Status], after: str | None, limit: int
    ) -> list[tuple[str, Sums]]:
        found: dict[str, Sums] = {}
        for row in self.rows.values():
            user = row.session.user
            if row.session.status in statuses and (after is None or user > after):
                found.setdefault(user, Sums()).count(row.session)
        return sorted(found.items(), key=lambda item: item[0].encode())[:limit]


def changed_record(record: RequestRecord, revision: int) -> RequestRecord:
    return RequestRecord(
        key=record.key,
        payload_hash=record.payload_hash,
        revision=revision,
        outcome=record.outcome,
        create_time=record.create_time,
        session_pk=record.session_pk,
        held=record.held,
    )
