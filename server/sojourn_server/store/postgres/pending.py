"""What has been written and is not in the database yet.

Rows are kept as they will be in the end, and go to the database in one statement for
each kind, whatever the number of units that wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import ContentId, Message
from sojourn_server.store.base import RequestKey, RequestRecord, SessionRow, Staging
from sojourn_server.store.postgres.arrays import Bigints, columns
from sojourn_server.store.postgres.connection import Statement
from sojourn_server.store.postgres.facts import Domain
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.tally_rows import tally_statements
from sojourn_server.store.rows import (
    Row,
    held_blob,
    message_values,
    parent_blob,
    staging_values,
    uid_blob,
)
from sojourn_server.store.tallies import Tallies


class SessionWrite(NamedTuple):
    """A session to be written."""

    row: SessionRow
    due: Nanos | None
    record: bytes

    @property
    def columns(self) -> Row:
        """The columns of the table, without the app's."""
        session = self.row.session
        return (
            self.row.pk,
            uid_blob(session.uid),
            session.user,
            session.session_id,
            int(session.status),
            parent_blob(session),
            session.update_time,
            session.activity_time,
            self.due if session.is_active else None,
            self.record,
        )


class Pending:
    """Writes of one app that wait. Deletions come before everything else."""

    def __init__(self) -> None:
        self.moved = Tallies()
        """What has moved in the tallies."""
        self.clear()

    def clear(self) -> None:
        """Forget them: they are in the database, or undone."""
        self.inserted: dict[int, SessionWrite] = {}
        self.updated: dict[int, SessionWrite] = {}
        self.restated: dict[int, SessionWrite] = {}
        self.deleted: set[int] = set()
        self.labels: dict[tuple[str, str, int], bool] = {}
        self.messages: dict[tuple[int, int], Message] = {}
        self.removed: set[tuple[int, int]] = set()
        self.contents: dict[ContentId, bytes] = {}
        self.erased: set[ContentId] = set()
        self.scopes: dict[tuple[int, str], bytes | None] = {}
        self.operations: dict[str, Row | None] = {}
        self.requests: dict[RequestKey, RequestRecord] = {}
        self.moved.clear()  # the same object: units look into it
        self.changes: list[Row] = []
        self.audit: list[Row] = []
        self.rewritten: list[tuple[str, list[Row]]] = []
        self.notes: list[tuple[int, int, int, int]] = []
        self.staged: dict[str, Staging | None] = {}
        self.done: set[int] = set()
        self.dirty: set[Domain] = set()
        """What queries must not be asked before these writes are in the database."""

    def __bool__(self) -> bool:
        return bool(
            self.inserted
            or self.updated
            or self.restated
            or self.deleted
            or self.labels
            or self.messages
            or self.removed
            or self.contents
            or self.erased
            or self.scopes
            or self.operations
            or self.requests
            or self.moved
            or self.changes
            or self.audit
            or self.rewritten
            or self.notes
            or self.staged
            or self.done
        )

    # --- one write at a time ---

    def update(self, write: SessionWrite) -> None:
        """Replace a session."""
        pk = write.row.pk
        (self.inserted if pk in self.inserted else self.updated)[pk] = write
        self.restated.pop(pk, None)

    def restate(self, write: SessionWrite) -> None:
        """Replace the record of a session of which nothing else has changed."""
        pk = write.row.pk
        for writes in (self.inserted, self.updated):
            if pk in writes:
                writes[pk] = write._replace(due=writes[pk].due)
                return
        self.restated[pk] = write

    def delete(self, pk: int) -> None:
        """Remove a session."""
        self.updated.pop(pk, None)
        self.restated.pop(pk, None)
        if self.inserted.pop(pk, None) is None:
            self.deleted.add(pk)

    def remove(self, session_pk: int, sequence: int) -> None:
        """Remove a message."""
        if self.messages.pop((session_pk, sequence), None) is None:
            self.removed.add((session_pk, sequence))

    def erase(self, content_id: ContentId) -> None:
        """Erase content."""
        if self.contents.pop(content_id, None) is None:
            self.erased.add(content_id)

    def add(self, later: Pending) -> None:
        """Take over what was written after these."""
        for pk in later.deleted:
            self.delete(pk)
        for write in later.updated.values():
            self.update(write)
        for write in later.restated.values():
            self.restate(write)
        self.inserted.update(later.inserted)
        self.labels.update(later.labels)
        for session_pk, sequence in later.removed:
            self.remove(session_pk, sequence)
        self.messages.update(later.messages)
        for content_id in later.erased:
            self.erase(content_id)
        self.contents.update(later.contents)
        self.scopes.update(later.scopes)
        self.operations.update(later.operations)
        self.requests.update(later.requests)
        self.moved.add(later.moved)
        self.changes += later.changes
        self.audit += later.audit
        self.rewritten += later.rewritten
        self.notes += later.notes
        self.staged.update(later.staged)
        self.done |= later.done
        self.dirty |= later.dirty

    # --- all at once ---

    def statements(self, app_pk: int) -> list[Statement]:
        """The statements that bring them into the database."""
        return [
            *self._deletions(app_pk),
            *self._sessions(app_pk),
            *self._additions(app_pk),
            *((sql, (*columns(rows), app_pk)) for sql, rows in self.rewritten),
            *tally_statements(app_pk, self.moved),
        ]

    def _deletions(self, app_pk: int) -> Iterator[Statement]:
        if self.deleted:
            yield QUERIES.sessions_delete, (app_pk, Bigints(sorted(self.deleted)))
        gone = sorted(label for label, there in self.labels.items() if not there)
        if gone:
            yield QUERIES.labels_delete, (*columns(gone), app_pk)
        if self.removed:
            yield QUERIES.messages_delete, (*columns(sorted(self.removed)), app_pk)
        if self.erased:
            yield QUERIES.contents_delete, (app_pk, Bigints(sorted(self.erased)))
        dropped = sorted(key for key, state in self.scopes.items() if state is None)
        if dropped:
            yield QUERIES.scope_states_delete, (*columns(dropped), app_pk)
        over = sorted(key for key, row in self.operations.items() if row is None)
        if over:
            yield QUERIES.operations_delete, (app_pk, over)
        unstaged = sorted(name for name, staging in self.staged.items() if staging is None)
        if unstaged:
            yield QUERIES.stagings_delete, (app_pk, unstaged)
        if self.done:
            yield QUERIES.purge_delete, (app_pk, Bigints(sorted(self.done)))

    def _sessions(self, app_pk: int) -> Iterator[Statement]:
        if self.updated:
            rows = [self.updated[pk].columns for pk in sorted(self.updated)]
            yield QUERIES.sessions_update, (*columns(rows), app_pk)
        if self.restated:
            pks = sorted(self.restated)
            records = [self.restated[pk].record for pk in pks]
            yield QUERIES.sessions_set_record, (pks, records, app_pk)
        if self.inserted:
            rows = [write.columns for write in self.inserted.values()]
            yield QUERIES.sessions_insert, (app_pk, *columns(rows))

    def _additions(self, app_pk: int) -> Iterator[Statement]:
        tables: tuple[tuple[str, Sequence[Row]], ...] = (
            (
                QUERIES.labels_insert,
                sorted(label for label, there in self.labels.items() if there),
            ),
            (
                QUERIES.messages_insert,
                [message_values(pk, each) for (pk, _), each in self.messages.items()],
            ),
            (QUERIES.contents_insert, list(self.contents.items())),
            (
                QUERIES.scope_states_put,
                [(*key, state) for key, state in sorted(self.scopes.items()) if state is not None],
            ),
            (
                QUERIES.operations_put,
                [(key, *row) for key, row in sorted(self.operations.items()) if row is not None],
            ),
            (QUERIES.requests_put, [_request_columns(each) for each in self.requests.values()]),
            (QUERIES.changes_insert, self.changes),
            (QUERIES.audits_insert, self.audit),
            (QUERIES.purge_insert, self.notes),
            (
                QUERIES.stagings_put,
                [staging_values(each) for each in self.staged.values() if each is not None],
            ),
        )
        for sql, rows in tables:
            if rows:
                yield sql, (app_pk, *columns(rows))


def _request_columns(record: RequestRecord) -> Row:
    key = record.key
    return (
        key.principal,
        key.method,
        key.request_id,
        record.payload_hash,
        record.revision,
        record.outcome,
        record.create_time,
        record.session_pk,
        held_blob(record.held),
    )
