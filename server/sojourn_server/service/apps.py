"""Apps: reading, listing and changing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from sojourn_server.domain import documents
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import LabelSelector
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.limits import ANSWER_BYTES, PAGE_DEFAULT, PAGE_MOST, SCAN_ROWS
from sojourn_server.domain.model import App, AppStatus, Change, ChangeCause
from sojourn_server.domain.policy import NO_POLICY, Policy
from sojourn_server.domain.tokens import PagePosition, digest
from sojourn_server.service.answers import Answer, AppOutcome, AppPage, AppRead, Call
from sojourn_server.service.blockers import blockers
from sojourn_server.service.paging import open_page, page_size
from sojourn_server.service.units import Units
from sojourn_server.service.updating import check_labels
from sojourn_server.service.work import Work
from sojourn_server.store.base import ListedApp, ReadTx

LISTED: Final = (AppStatus.ACTIVE, AppStatus.DRAINING)
"""What a list names unless it is told otherwise."""
CHUNK: Final = 250
"""How many apps are read at once when a filter may pass over some of them."""
_FRAME: Final = 700
"""Bytes that an app takes beside its name and labels, about: most of them its policy."""
_LABEL_FRAME: Final = 12


class AppChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What UpdateApp changes in an app."""

    labels: dict[str, str] = {}
    remove_labels: tuple[str, ...] = ()
    policy: Policy | None = None
    """Takes the place of the old one; None: unchanged."""
    allow_again: bool = False


class AppQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What ListApps asks for."""

    labels: tuple[LabelSelector, ...] = ()
    statuses: tuple[AppStatus, ...] = ()
    """Empty: ACTIVE and DRAINING."""
    page_size: int = 0
    page_token: str = ""


class Apps:
    """The use cases of AppService that are about apps as such."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def get(self, call: Call, app: str) -> AppRead:
        """GetApp."""

        async def query(tx: ReadTx) -> AppRead:
            found = await tx.app(app)
            if found is None:
                raise absent_app(app)
            listed = ListedApp(found, await tx.head(app), await tx.app_counts(app))
            drains = found.status is AppStatus.DRAINING
            return AppRead(
                listed=listed,
                effective=self._units.defaults.effective(found.policy),
                blockers=await blockers(tx, app) if drains else None,
            )

        return await self._units.read(query)

    async def list(self, call: Call, query: AppQuery) -> AppPage:
        """ListApps: those of which the caller may read all sessions."""
        size = page_size(query.page_size, PAGE_DEFAULT, PAGE_MOST)
        statuses = query.statuses or LISTED
        request = digest(msgspec.msgpack.encode(("ListApps", query.labels, sorted(statuses))))
        token = open_page(self._units.sealer, query.page_token, request)

        def shows(app: App) -> bool:
            return (
                app.status in statuses
                and all(selector.matches(app.labels) for selector in query.labels)
                and call.reads(app.app)
            )

        async def read(tx: ReadTx) -> tuple[tuple[ListedApp, ...], str]:
            return await _gather(tx, str(token.value) if token else "", size, shows)

        found, last = await self._units.read(read)
        more = self._units.sealer.seal(PagePosition(request, 0, last, 0)) if last else ""
        return AppPage(apps=found, next_page_token=more)

    async def update(self, call: Call, app: str, changes: AppChanges) -> Answer[AppOutcome]:
        """UpdateApp."""
        documents.check_apart("remove_labels", changes.labels, changes.remove_labels)

        async def decide(work: Work) -> AppOutcome:
            after, cause = _changed(work, app, await work.tx.app(app), changes)
            check_labels(after.labels, work.limits)
            if cause is not None:
                await work.tx.put_app(after)
                await work.tx.log(Change(cause=cause))
            counts = await work.tx.app_counts(app)
            return AppOutcome(
                app=after,
                changed=cause is not None,
                active=counts.active,
                sessions=counts.sessions,
            )

        return await self._units.write(call, app, AppOutcome, decide)


def absent_app(app: str) -> Refusal:
    """The refusal of an app that is not there."""
    return Refusal(Reason.APP_NOT_FOUND, "there is no such app", {"app": app})


def _changed(
    work: Work, name: str, before: App | None, changes: AppChanges
) -> tuple[App, ChangeCause | None]:
    """The app after an update, and what the log says of it; None: nothing changed.

    Raises:
        Refusal: `APP_DELETED`.
    """
    if before is not None and before.status is AppStatus.DELETED and not changes.allow_again:
        raise Refusal(Reason.APP_DELETED, "the app was deleted", {"app": name})
    if before is None or before.status is AppStatus.DELETED:
        # Nothing of what was deleted comes back, and its tokens are good for nothing.
        made = App(
            app=name,
            status=AppStatus.ACTIVE,
            create_time=work.now,
            feed_id=uuid7(work.now),
            labels=changes.labels,
            policy=changes.policy or NO_POLICY,
        )
        return made, ChangeCause.APP_CREATED
    after = msgspec.structs.replace(
        before,
        labels=documents.merge(before.labels, changes.labels, changes.remove_labels).document,
        policy=before.policy if changes.policy is None else changes.policy,
    )
    return (before, None) if after == before else (after, ChangeCause.APP_UPDATED)


async def _gather(
    tx: ReadTx, after: str, size: int, shows: Callable[[App], bool]
) -> tuple[tuple[ListedApp, ...], str]:
    """One page, of `SCAN_ROWS` apps looked at and `ANSWER_BYTES` at most.

    Returns:
        The apps, and the name that the next page begins after; empty: there is none.
    """
    found: list[ListedApp] = []
    taken = looked_at = 0
    while looked_at < SCAN_ROWS:
        rows = await tx.listed_apps(after, CHUNK)
        for row in rows:
            if shows(row.app):
                taken += _size(row.app)
                if len(found) == size or (taken > ANSWER_BYTES and found):
                    return tuple(found), after
                found.append(row)
            after = row.app.app
        looked_at += len(rows)
        if len(rows) < CHUNK:
            return tuple(found), ""
    return tuple(found), after


def _size(app: App) -> int:
    """At least as many bytes as the app takes in an answer."""
    texts = sum(
        len(key.encode()) + len(value.encode()) + _LABEL_FRAME for key, value in app.labels.items()
    )
    return _FRAME + len(app.app.encode()) + texts
