"""Sessions between wire and domain.

The encoders fill a message in place: on the path of every call that is twice as fast
as making it from parts. What the protos' rules checked already is not checked again.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from sojourn.v1 import session_pb2, session_service_pb2
from sojourn_server.domain.access import Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import (
    NO_PATCHES,
    NO_PRECONDITION,
    IfExists,
    MetricsDelta,
    NewOwner,
    NewSession,
    OnConflict,
    Precondition,
    ResetScope,
    SessionRef,
    StatePatch,
    StatePatches,
    View,
)
from sojourn_server.domain.lifecycle import Expiry, expiry
from sojourn_server.domain.model import Metrics, Session, Status, Turn, TurnOutcome
from sojourn_server.domain.tokens import etag
from sojourn_server.rpc.times import fill, length
from sojourn_server.service.answers import (
    RolledUp,
    ScopeDocument,
    SessionContent,
    SessionSnapshot,
    StateVersions,
)
from sojourn_server.store.base import SortBy

# An enum that is not set is 0, and means what the proto's comment on it says.
VIEWS: Final[Sequence[View]] = (View.BASIC, View.IDS, View.BASIC, View.FULL)
IF_EXISTS: Final[Sequence[IfExists]] = (IfExists.FAIL, *IfExists)
RESET_SCOPES: Final[Sequence[ResetScope]] = (ResetScope.ALL, *ResetScope)
ON_CONFLICT: Final[Sequence[OnConflict]] = (OnConflict.REJECT, *OnConflict)
END_STATUSES: Final[Sequence[Status]] = (Status.COMPLETED, *Status)
SORTS: Final[Sequence[SortBy]] = (SortBy.CREATE, *SortBy)
OUTCOMES: Final[Sequence[TurnOutcome]] = (TurnOutcome.OK, TurnOutcome.OK, TurnOutcome.ERROR)


# --- requests --------------------------------------------------------------------------------


def decode_ref(ref: session_pb2.SessionRef, users: Users) -> SessionRef:
    """Which session is meant, by a caller who may know of the sessions of these users."""
    return SessionRef(
        app=ref.app, user=ref.user, session_id=ref.session_id, uid=ref.uid, users=users
    )


def decode_precondition(condition: session_pb2.Precondition) -> Precondition:
    """What must hold for a write; an empty message is the same as none."""
    generation = condition.generation if condition.HasField("generation") else None
    last_sequence = condition.last_sequence if condition.HasField("last_sequence") else None
    etag_wanted, turn_token = condition.etag, condition.turn_token
    if generation is None and last_sequence is None and not etag_wanted and not turn_token:
        return NO_PRECONDITION
    return Precondition(
        etag=etag_wanted,
        generation=generation,
        turn_token=turn_token,
        last_sequence=last_sequence,
    )


def decode_patch(patch: session_pb2.StatePatch) -> StatePatch:
    """A change of one scope's state."""
    return StatePatch(
        set=dict(patch.set),
        remove=tuple(patch.remove),
        replace=patch.replace,
        expected_version=patch.expected_version if patch.HasField("expected_version") else None,
    )


def decode_patches(patches: session_pb2.StatePatches) -> StatePatches:
    """Changes of the scopes' states; an absent scope is left alone."""
    session = decode_patch(patches.session) if patches.HasField("session") else None
    user = decode_patch(patches.user) if patches.HasField("user") else None
    app = decode_patch(patches.app) if patches.HasField("app") else None
    if session is None and user is None and app is None:
        return NO_PATCHES
    return StatePatches(session=session, user=user, app=app)


def decode_metrics(delta: session_pb2.MetricsDelta) -> MetricsDelta:
    """What to add to the counters.

    Raises:
        Refusal: `INVALID_FIELD`: a duration that is none.
    """
    return MetricsDelta(
        requests=delta.requests,
        errors=delta.errors,
        processing_time=length("metrics.processing_time", delta.processing_time),
        counters=dict(delta.counters),
    )


def decode_new_session(path: str, new: session_service_pb2.NewSession, users: Users) -> NewSession:
    """A session to create.

    Args:
        path: Where it stands in the request: `session`, `sessions[3]`.
        new: The message.
        users: Whose session the parent may be.

    Raises:
        Refusal: `INVALID_FIELD`: a duration that is none.
    """
    return NewSession(
        user=new.user,
        session_id=new.session_id,
        labels=dict(new.labels),
        metadata=dict(new.metadata),
        state=decode_patches(new.state) if new.HasField("state") else NO_PATCHES,
        parent_uid=new.parent_uid,
        owner=_decode_owner(path, new.ephemeral) if new.HasField("ephemeral") else None,
        idle_timeout=(
            length(f"{path}.idle_timeout", new.idle_timeout)
            if new.HasField("idle_timeout")
            else None
        ),
        max_lifetime=(
            length(f"{path}.max_lifetime", new.max_lifetime)
            if new.HasField("max_lifetime")
            else None
        ),
        parents=users,
    )


def _decode_owner(path: str, ephemeral: session_service_pb2.Ephemeral) -> NewOwner:
    if ephemeral.HasField("lease"):
        return NewOwner(lease=length(f"{path}.ephemeral.lease", ephemeral.lease))
    return NewOwner(turn_token=ephemeral.turn_token)


# --- answers ---------------------------------------------------------------------------------


def fill_snapshot(
    target: session_pb2.Session,
    snapshot: SessionSnapshot,
    now: Nanos,
    view: View,
    *,
    shared: bool = True,
) -> None:
    """Write a session as a view shows it.

    Args:
        target: An empty message.
        snapshot: The session, with its content for view FULL.
        now: The clock that times left count from.
        view: How much to show.
        shared: Whether the state of user and app is part of it.
    """
    session = snapshot.session
    if view is View.IDS:
        fill_ids(target, session)
        return
    fill_session(target, session, now)
    if view is View.FULL and snapshot.content is not None:
        _fill_content(target, snapshot.content)
        if shared:
            fill_state(target.state.user, snapshot.content.user_state)
            fill_state(target.state.app, snapshot.content.app_state)


def fill_ids(target: session_pb2.Session, session: Session) -> None:
    """Write a session in view IDS: its key and uid."""
    key = target.key
    key.app, key.user, key.session_id = session.app, session.user, session.session_id
    target.uid = session.uid


def fill_session(target: session_pb2.Session, session: Session, now: Nanos) -> None:
    """Write a session in view BASIC.

    Args:
        target: An empty message.
        session: The session.
        now: The clock that times left count from.
    """
    _fill_lasting(target, session)
    _fill_time_left(target, expiry(session), now)


class SessionEncoder:
    """Writes sessions in view BASIC, those that are read again and again from memory.

    A session never changes (a change makes another one), so its bytes are kept by its
    identity, all but the time it has left.

    Args:
        most: How many to keep; then it begins anew.
    """

    def __init__(self, most: int = 4_096) -> None:
        self._most = most
        self._kept: dict[int, tuple[Session, bytes, Expiry | None]] = {}

    def fill(self, target: session_pb2.Session, session: Session, now: Nanos) -> None:
        """Write a session in view BASIC, as `fill_session` does."""
        kept = self._kept.get(id(session))
        if kept is None:
            _fill_lasting(target, session)
            kept = (session, target.SerializeToString(), expiry(session))
            if len(self._kept) >= self._most:
                self._kept.clear()
            self._kept[id(session)] = kept  # holds the session, so the id stays its own
        else:
            target.MergeFromString(kept[1])
        _fill_time_left(target, kept[2], now)


def _fill_lasting(target: session_pb2.Session, session: Session) -> None:
    """Write what does not depend on the clock."""
    fill_ids(target, session)
    # The domain's numbers are the proto's, and a test holds them together.
    target.status = session.status  # type: ignore[assignment]
    if session.labels:
        target.labels.update(session.labels)
    fill(target.create_time, session.create_time)
    fill(target.update_time, session.update_time)
    fill(target.activity_time, session.activity_time)
    fill(target.idle_timeout, session.idle_timeout)
    fill(target.max_lifetime, session.max_lifetime)
    target.generation = session.generation
    target.etag = etag(session.uid, session.version)
    if session.last_sequence:
        target.message_count = session.message_count
        target.message_bytes = session.message_bytes
        target.last_sequence = session.last_sequence
    if session.state_version:
        target.state_version = session.state_version
    _fill_metrics(target.metrics, session.metrics)
    if session.parent_uid:
        target.parent_uid = session.parent_uid
    if session.reset_time:
        fill(target.last_reset_time, session.reset_time)
    if session.last_event_time is not None:
        fill(target.last_event_time, session.last_event_time)
    if session.turn is not None:
        fill_turn(target.turn, session.turn)
    _fill_end(target, session)
    if session.owner is not None:
        target.ephemeral = True
        if session.owner.lease_time:
            fill(target.owner_lease_time, session.owner.lease_time)
    if session.forked_from is not None:
        target.forked_from.uid = session.forked_from.uid
        target.forked_from.through_sequence = session.forked_from.through_sequence


def _fill_end(target: session_pb2.Session, session: Session) -> None:
    """Write when the session will expire, or when and why it ended."""
    if session.end_time:
        fill(target.end_time, session.end_time)
    if session.end_cause is not None:
        target.end_cause = session.end_cause  # type: ignore[assignment]
    deadline = expiry(session)
    if deadline is not None:
        fill(target.expire_time, deadline.time)
        target.expire_cause = deadline.cause  # type: ignore[assignment]


def _fill_time_left(target: session_pb2.Session, deadline: Expiry | None, now: Nanos) -> None:
    if deadline is not None:
        fill(target.time_left, max(0, deadline.time - now))


def _fill_metrics(target: session_pb2.Metrics, metrics: Metrics) -> None:
    if metrics.requests:
        target.request_count = metrics.requests
    if metrics.errors:
        target.error_count = metrics.errors
    fill(target.processing_time, metrics.processing_time)
    if metrics.counters:
        target.counters.update(metrics.counters)


def fill_rolled_up(target: session_pb2.RolledUp, sums: RolledUp) -> None:
    """Write the sums over a session and its descendants."""
    _fill_metrics(target.metrics, sums.metrics)
    target.session_count = sums.sessions
    target.active_count = sums.active
    target.message_count = sums.messages
    target.complete = sums.complete


def fill_turn(target: session_pb2.Turn, turn: Turn) -> None:
    """Write a turn."""
    target.number = turn.number
    target.holder = turn.holder
    fill(target.begin_time, turn.begin_time)
    fill(target.lease_time, turn.lease_time)


def _fill_content(target: session_pb2.Session, content: SessionContent) -> None:
    fill_texts(target.metadata, content.metadata)
    fill_state(target.state.session, content.session_state)
    target.end_reason = content.end_note.reason
    target.end_result = content.end_note.result
    target.last_turn_error = content.turn_error
    target.last_reset_reason = content.reset_reason


def fill_state(target: session_pb2.State, state: ScopeDocument) -> None:
    """Write one scope's state; of one that was never written nothing is sent."""
    if state.version:
        target.version = state.version
        fill_texts(target.values, state.values)


def fill_texts(target: MutableMapping[str, str], texts: Mapping[str, str]) -> None:
    """Write JSON texts by their keys: faster than the `update` of protobuf's maps."""
    for key, text in texts.items():
        target[key] = text


def fill_versions(target: session_pb2.StateScopes, versions: StateVersions) -> None:
    """Write the state versions of the scopes that were patched, without values."""
    if versions.session is not None:
        target.session.version = versions.session
    if versions.user is not None:
        target.user.version = versions.user
    if versions.app is not None:
        target.app.version = versions.app


def fill_ref(target: session_pb2.SessionRef, ref: SessionRef) -> None:
    """Write a reference, as it came."""
    target.app, target.user = ref.app, ref.user
    target.session_id, target.uid = ref.session_id, ref.uid
