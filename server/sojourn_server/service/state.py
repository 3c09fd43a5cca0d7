"""State in its three scopes, and metadata: reading and patching documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sojourn_server.domain import documents
from sojourn_server.domain.access import THE_APP, Users
from sojourn_server.domain.commands import StatePatch, StatePatches
from sojourn_server.domain.model import (
    NO_CONTENT,
    Change,
    ChangeCause,
    ChangeDetail,
    ContentId,
    EndNote,
    ScopeState,
    Session,
)
from sojourn_server.service.answers import ScopeDocument, SessionContent, StateVersions
from sojourn_server.service.work import Work
from sojourn_server.store.base import ReadTx


async def read_scope(tx: ReadTx, app: str, user: str | None) -> ScopeDocument:
    """The state of a user, or of the app (None)."""
    state = await tx.scope_state(app, user)
    values = documents.decode(await tx.content(state.values))
    return ScopeDocument(values=values, version=state.version)


async def read_content(tx: ReadTx, session: Session, users: Users) -> SessionContent:
    """All content of a session but its messages, with the state of all three scopes.

    The app's state is empty for callers whose grants do not cover the app's own.
    """
    shared = SharedState(tx, session.app, users)
    [content] = await read_contents(tx, [session], shared)
    return content


class SharedState:
    """The state of an app and its users, each read once however many sessions share it.

    Args:
        tx: Where.
        app: Whose.
        users: The users whose sessions the caller may read: decides if the app's state shows.
    """

    def __init__(self, tx: ReadTx, app: str, users: Users) -> None:
        self._tx = tx
        self._app = app
        self._known: dict[str | None, ScopeDocument] = {}
        if not users.covers(THE_APP):
            self._known[None] = ScopeDocument(values={}, version=0)

    async def unread(self, sessions: Sequence[Session]) -> dict[str | None, ScopeState]:
        """What some sessions share and what was not read yet, by user; None: the app's."""
        whose = dict.fromkeys([None, *(each.user for each in sessions)])
        missing = [user for user in whose if user not in self._known]
        states = await self._tx.scope_states(self._app, missing) if missing else ()
        return dict(zip(missing, states, strict=True))

    def keep(self, states: Mapping[str | None, ScopeState], values: Sequence[bytes]) -> None:
        """Take what `unread` told, with its content."""
        for (user, state), text in zip(states.items(), values, strict=True):
            self._known[user] = ScopeDocument(values=documents.decode(text), version=state.version)

    async def of_app(self) -> ScopeDocument:
        """The app's; empty where it does not show."""
        if None not in self._known:
            self._known[None] = await read_scope(self._tx, self._app, None)
        return self._known[None]

    def of(self, user: str | None) -> ScopeDocument:
        """A user's, or the app's (None), that was read."""
        return self._known[user]


async def read_contents(
    tx: ReadTx, sessions: Sequence[Session], shared: SharedState
) -> list[SessionContent]:
    """All content of several sessions of one app, as `read_content`, in two reads."""
    states = await shared.unread(sessions)
    own = [one for session in sessions for one in _held(session)]
    ids = [one for one in (*own, *(each.values for each in states.values())) if one != NO_CONTENT]
    bodies = dict(zip(ids, await tx.contents(ids) if ids else (), strict=True))
    shared.keep(states, [bodies.get(each.values, b"") for each in states.values()])
    found = []
    for session in sessions:
        metadata, state, note, error, reason = (bodies.get(one, b"") for one in _held(session))
        document = ScopeDocument(values=documents.decode(state), version=session.state_version)
        found.append(
            SessionContent(
                metadata=documents.decode(metadata),
                session_state=document,
                user_state=shared.of(session.user),
                app_state=shared.of(None),
                end_note=decode_note(note),
                turn_error=error.decode(),
                reset_reason=reason.decode(),
            )
        )
    return found


def _held(session: Session) -> tuple[ContentId, ...]:
    return (
        session.metadata,
        session.state,
        session.end_note,
        session.turn_error,
        session.reset_reason,
    )


def encode_note(note: EndNote) -> bytes:
    """The stored form; no bytes for an empty note."""
    return msgspec.msgpack.encode(note) if note != EndNote() else b""


def decode_note(data: bytes) -> EndNote:
    """The note of a stored form."""
    return msgspec.msgpack.decode(data, type=EndNote) if data else EndNote()


def check_patches(patches: StatePatches) -> None:
    """Refuse patches that are wrong in themselves.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    for scope in ("session", "user", "app"):
        patch: StatePatch | None = getattr(patches, scope)
        if patch is not None:
            documents.check_patch(scope, patch)


async def check_versions(work: Work, session: Session, patches: StatePatches) -> None:
    """Hold patches to the versions they expect, before anything else is looked at.

    Raises:
        Refusal: `STATE_VERSION_MISMATCH`.
    """
    if patches.session is not None:
        documents.check_version("session", session.state_version, patches.session)
    if patches.user is not None:
        shared = await work.tx.scope_state(session.app, session.user)
        documents.check_version("user", shared.version, patches.user)
    if patches.app is not None:
        shared = await work.tx.scope_state(session.app, None)
        documents.check_version("app", shared.version, patches.app)


class SessionState(msgspec.Struct, frozen=True):
    """A session's own state after a patch."""

    values: ContentId
    version: int
    keys: tuple[str, ...]
    """Keys that changed; empty: nothing did."""


async def patch_session(
    work: Work, values: ContentId, version: int, patch: StatePatch | None
) -> SessionState:
    """Patch a session's own state.

    Raises:
        Refusal: `STATE_VERSION_MISMATCH`, `CONTENT_TOO_LARGE` or `INVALID_FIELD`.
    """
    if patch is None:
        return SessionState(values, version, ())
    old = documents.decode(await work.tx.content(values))
    new = documents.apply_patch("session", version, old, patch, work.limits)
    if not new.keys:
        return SessionState(values, version, ())
    stored = await work.tx.replace_content(values, documents.encode(new.document))
    return SessionState(stored, version + 1, new.keys)


async def patch_scope(
    work: Work, app: str, user: str | None, patch: StatePatch
) -> tuple[int, bool]:
    """Patch the state of a user, or of the app (None), and log it.

    Returns:
        The version afterwards, and whether anything changed.

    Raises:
        Refusal: `STATE_VERSION_MISMATCH`, `CONTENT_TOO_LARGE` or `INVALID_FIELD`.
    """
    scope = "app" if user is None else "user"
    state = await work.tx.scope_state(app, user)
    old = documents.decode(await work.tx.content(state.values))
    new = documents.apply_patch(scope, state.version, old, patch, work.limits)
    if not new.keys:
        return state.version, False
    stored = await work.tx.replace_content(state.values, documents.encode(new.document))
    version = state.version + 1
    await work.tx.put_scope_state(app, user, ScopeState(version=version, values=stored))
    await work.tx.log(
        Change(
            cause=ChangeCause.STATE_CHANGED,
            detail=ChangeDetail(user=user, state_keys=new.keys, state_version=version),
        )
    )
    return version, True


async def patch_shared(
    work: Work, app: str, user: str, patches: StatePatches
) -> tuple[StateVersions, bool]:
    """Patch user and app state, as far as the patches name them.

    Returns:
        Their versions afterwards, and whether anything changed.
    """
    versions = StateVersions()
    changed = False
    if patches.user is not None:
        version, moved = await patch_scope(work, app, user, patches.user)
        versions = msgspec.structs.replace(versions, user=version)
        changed |= moved
    if patches.app is not None:
        version, moved = await patch_scope(work, app, None, patches.app)
        versions = msgspec.structs.replace(versions, app=version)
        changed |= moved
    return versions, changed
