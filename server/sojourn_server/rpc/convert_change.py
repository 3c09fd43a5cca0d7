"""Changes between the log and the wire, and everything else a watch is sent.

Messages are put together from pieces that are encoded once and shared by many streams:
two encoded messages joined are their merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sojourn.v1 import change_pb2
from sojourn.v1.session_service_pb2 import WatchSessionsResponse
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import View
from sojourn_server.domain.model import ChangeCause, ChangeDetail, DeletedWhy, TurnOutcome
from sojourn_server.domain.watching import Sight
from sojourn_server.rpc.convert_message import fill_message
from sojourn_server.rpc.convert_session import fill_session, fill_snapshot
from sojourn_server.rpc.times import fill
from sojourn_server.service.answers import MessageSnapshot, SessionContent, SessionSnapshot
from sojourn_server.store.base import LoggedChange

_CONTINUED: Final = WatchSessionsResponse(continued=True).SerializeToString()


class WatchForms:
    """Gives the messages of WatchSessions their form."""

    continued = _CONTINUED
    """More of the last revision follows."""

    def change(self, app: str, change: LoggedChange, sight: Sight, previous: bool) -> bytes:
        """One change."""
        response = WatchSessionsResponse()
        target = response.changes.add()
        _fill_head(target, change)
        if sight is Sight.APP:
            _fill_app(target.app, app, change.detail)
        else:
            _fill_session(target.session, app, change, sight, previous, None)
        return response.SerializeToString()

    def content(
        self,
        app: str,
        change: LoggedChange,
        sight: Sight,
        previous: bool,
        content: SessionContent | None,
        messages: Sequence[MessageSnapshot],
        revision: int,
    ) -> bytes:
        """One change with content."""
        if content is None:
            return self.change(app, change, sight, previous)
        response = WatchSessionsResponse()
        target = response.changes.add()
        _fill_head(target, change)
        _fill_session(target.session, app, change, sight, previous, content)
        target.session.content_revision = revision
        for message in messages:
            fill_message(target.session.messages.add(), message)
        return response.SerializeToString()

    def initial(self, shot: SessionSnapshot, now: Nanos) -> bytes:
        """One session of the initial state."""
        response = WatchSessionsResponse()
        view = View.BASIC if shot.content is None else View.FULL
        fill_snapshot(response.initial_sessions.add(), shot, now, view)
        return response.SerializeToString()

    def initial_end(self, revision: int, token: str) -> bytes:
        """The end of the initial state."""
        return WatchSessionsResponse(
            initial_state_end=revision, resume_token=token, revision=revision
        ).SerializeToString()

    def end(self, token: str, revision: int) -> bytes:
        """Where to resume; by itself a bookmark."""
        return WatchSessionsResponse(resume_token=token, revision=revision).SerializeToString()


def _fill_head(target: change_pb2.Change, change: LoggedChange) -> None:
    target.revision = change.revision
    target.index = change.index
    # The domain's numbers are the proto's, and a test holds them together.
    target.cause = change.cause  # type: ignore[assignment]
    fill(target.time, change.time)
    target.actor = change.actor


def _fill_session(
    target: change_pb2.SessionChange,
    app: str,
    change: LoggedChange,
    sight: Sight,
    previous: bool,
    content: SessionContent | None,
) -> None:
    target.membership = sight  # type: ignore[assignment]
    shown = change.before if sight is Sight.LEFT else change.after
    # Times left are those at the change: its bytes are the same whenever they are sent.
    if change.detail.alias:
        # Of an erased user: all that is left to be told is which one is gone.
        target.session.key.app = app
        target.session.uid = change.uid
    elif shown is None:
        raise AssertionError("nobody sees a change without its session")
    elif content is None:
        fill_session(target.session, shown, change.time)
    else:
        shot = SessionSnapshot(session=shown, content=content)
        fill_snapshot(target.session, shot, change.time, View.FULL)
    if previous:
        if change.before is not None:
            fill_session(target.previous, change.before, change.time)
        elif change.cause is not ChangeCause.CREATED:
            target.previous_unavailable = True
    _fill_detail(target, change.detail)


def _fill_detail(target: change_pb2.SessionChange, detail: ChangeDetail) -> None:
    if detail.label_keys:
        target.label_keys.extend(detail.label_keys)
    if detail.metadata_keys:
        target.metadata_keys.extend(detail.metadata_keys)
    if detail.state_keys:
        target.state_keys.extend(detail.state_keys)
    target.first_sequence = detail.first_sequence
    target.last_sequence = detail.last_sequence
    why: DeletedWhy | None = detail.deleted_why
    if why is not None:
        target.deleted_why = why  # type: ignore[assignment]
    outcome: TurnOutcome | None = detail.turn_outcome
    if outcome is not None:
        target.turn_outcome = outcome  # type: ignore[assignment]


def _fill_app(target: change_pb2.AppChange, app: str, detail: ChangeDetail) -> None:
    target.app = app
    if detail.user is not None:
        target.user = detail.user
    target.state_keys.extend(detail.state_keys)
    target.state_version = detail.state_version
    target.active_sessions = detail.active_sessions
    if detail.drain_deadline:
        fill(target.drain_deadline, detail.drain_deadline)
