"""ListAuditEntries: who did what, when, why, and to which session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.auditing import AuditEntry, AuditPlace, AuditRange
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.limits import PAGE_DEFAULT, PAGE_MOST, SCAN_ROWS
from sojourn_server.domain.model import ChangeCause
from sojourn_server.domain.tokens import PagePosition, digest
from sojourn_server.service.paging import open_page, page_size
from sojourn_server.service.units import Units
from sojourn_server.store.base import ReadTx

CHUNK: Final = 250
"""How many entries are fetched at once when a filter may pass over some of them."""
LOOK_BACK: Final = 50
"""How many changes are looked at for the last caller: the server's own lie in between."""


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What ListAuditEntries asks for."""

    app: str
    user: str | None = None
    """None: of all users, and of the app itself."""
    session_id: str = ""
    """Only with a user."""
    uid: str = ""
    causes: tuple[ChangeCause, ...] = ()
    """Empty: any."""
    actor: str | None = None
    begin: Nanos | None = None
    """Not before this instant."""
    end: Nanos | None = None
    """Before this instant."""
    page_size: int = 0
    page_token: str = ""
    users: Users = EVERY_USER
    """Whose entries the caller may see; the app's own are for those who may see all."""

    def selects(self, entry: AuditEntry) -> bool:
        """Whether an entry is asked for."""
        return (
            (not self.causes or entry.cause in self.causes)
            and (self.actor is None or entry.actor == self.actor)
            and (not self.uid or entry.uid == self.uid)
            and (self.user is None or entry.user == self.user)
            and (not self.session_id or entry.session_id == self.session_id)
            and (self.begin is None or entry.time >= self.begin)
            and (self.end is None or entry.time < self.end)
            and (self.users.everyone or (entry.user is not None and self.users.covers(entry.user)))
        )


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit."""

    entries: tuple[AuditEntry, ...]
    next_page_token: str


class Auditing:
    """The use case of ListAuditEntries."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def page(self, query: AuditQuery) -> AuditPage:
        """One page, the newest entries first.

        It looks at `SCAN_ROWS` entries at most, so a page may have fewer entries than were
        asked for, even none, and still a token to go on with.

        Raises:
            Refusal: `PAGE_TOKEN_INVALID`, or `INVALID_FIELD`.
        """
        if query.session_id and query.user is None:
            raise invalid_field("session_id", "needs the user")
        size = page_size(query.page_size, PAGE_DEFAULT, PAGE_MOST)
        asked = msgspec.structs.replace(query, page_size=0, page_token="", users=EVERY_USER)
        request = digest(msgspec.msgpack.encode(msgspec.structs.asdict(asked) | {"users": None}))
        token = open_page(self._units.sealer, query.page_token, request)
        before = AuditPlace(int(token.value), token.tie) if token else None

        async def read(tx: ReadTx) -> tuple[list[AuditEntry], AuditPlace | None]:
            return await _gather(tx, query, before, size)

        found, last = await self._units.read(read)
        following = ""
        if last is not None:
            following = self._units.sealer.seal(PagePosition(request, 0, last.revision, last.index))
        return AuditPage(entries=tuple(found), next_page_token=following)


async def _gather(
    tx: ReadTx, query: AuditQuery, before: AuditPlace | None, size: int
) -> tuple[list[AuditEntry], AuditPlace | None]:
    """The entries of a page, and where the next one begins; None: there is none."""
    found: list[AuditEntry] = []
    looked_at = 0
    while True:
        entries: Sequence[AuditEntry] = await tx.audit(
            AuditRange(app=query.app, user=query.user, uid=query.uid, before=before, limit=CHUNK)
        )
        for entry in entries:
            if query.selects(entry):
                if len(found) == size:
                    return found, before
                found.append(entry)
            before = AuditPlace(entry.revision, entry.index)
        looked_at += len(entries)
        if len(entries) < CHUNK:
            return found, None
        if looked_at >= SCAN_ROWS:
            return found, before


async def last_actor(tx: ReadTx, app: str) -> str:
    """Who changed something in an app last; empty: nobody did lately but the server itself."""
    after = max(0, await tx.head(app) - LOOK_BACK)
    changes = await tx.changes(app, after, LOOK_BACK)
    return next((each.actor for each in reversed(changes) if each.actor), "")
