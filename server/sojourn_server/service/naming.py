"""What names a user in the log, the audit and request records, and what is left instead.

Pure: each function looks at one row and says what becomes of it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sojourn_server.domain.auditing import AuditEntry
from sojourn_server.domain.model import ChangeCause, ChangeDetail
from sojourn_server.store.base import LoggedChange

_UID: Final = 36
_SESSION: Final = 9
"""A stored session has more fields than this, and begins with uid, app and user."""
_KEY: Final = 2
"""A key is a user and a session_id."""

replace = msgspec.structs.replace


class Erasee(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A user who is being erased, and what is the user's."""

    app: str
    user: str
    alias: str
    """What the audit calls the user from now on: random."""
    log_alias: str
    """What the log does: a keyed hash, so that the user's own watches find it."""
    begun: int
    """The head when the erasure began: what came later, of sessions created later, stays."""
    kept: tuple[str, ...] = ()
    """Uids of sessions that were created since, as far as the log has been read."""

    def names(self, actor: str) -> bool:
        """Whether an actor is the user: by the bare name, or behind a credential's kind."""
        return bool(self.user) and self.user in {actor, actor.partition(":")[2]}

    def actor(self, actor: str) -> str:
        """The actor, without the user's name."""
        return self.alias if self.names(actor) else actor

    def read(self, change: LoggedChange) -> Erasee:
        """The same, after a look at one more entry of the log."""
        new = change.cause is ChangeCause.CREATED and change.revision > self.begun
        if new and change.after is not None and change.after.user == self.user:
            return replace(self, kept=(*self.kept, change.uid))
        return self

    def left(self, change: LoggedChange) -> LoggedChange | None:
        """What is left of an entry of the log; None: it stays as it is."""
        subject = change.before if change.after is None else change.after
        detail = change.detail
        if subject is None:
            mine = not detail.alias and detail.user == self.user and change.revision <= self.begun
            parent = ""
        else:
            mine = subject.user == self.user and change.uid not in self.kept
            parent = subject.parent_uid if change.cause is ChangeCause.DELETED else ""
        if mine:
            return replace(
                change,
                actor=self.actor(change.actor),
                before=None,
                after=None,
                detail=ChangeDetail(
                    alias=self.log_alias, deleted_why=detail.deleted_why, parent_uid=parent
                ),
            )
        if self.names(change.actor) and (
            change.revision <= self.begun or detail.alias == self.log_alias
        ):
            return replace(change, actor=self.alias)
        return None

    def left_in_audit(self, entry: AuditEntry) -> AuditEntry | None:
        """What is left of an entry of the audit; None: it stays as it is."""
        if entry.user == self.user and entry.uid not in self.kept:
            actor = self.actor(entry.actor)
            return replace(entry, actor=actor, user=self.alias, session_id="")
        if self.names(entry.actor) and entry.revision <= self.begun:
            return replace(entry, actor=self.alias)
        return None

    def is_named_in(self, outcome: bytes) -> bool:
        """Whether the outcome of a request tells of the user's sessions, or of the user."""
        if not outcome or self.user.encode() not in outcome:
            return False  # nearly always, and decoding takes long where it tells of many
        return self._named(msgspec.msgpack.decode(outcome))

    def _named(self, value: Any) -> bool:
        if not isinstance(value, list):
            return False
        if len(value) >= _SESSION and _is_uid(value[0]) and value[1] == self.app:
            # Of another's session it does not matter what is called as the user is.
            return bool(value[2] == self.user) and value[0] not in self.kept
        if len(value) == _KEY and isinstance(value[1], str) and value[0] == self.user:
            return True
        return any(self._named(each) for each in value)


def _is_uid(value: Any) -> bool:
    return isinstance(value, str) and len(value) == _UID
