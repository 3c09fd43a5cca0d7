"""DeleteApps: the apps that a filter selects, but for the newest.

Which ones is decided at the start, and kept in an operation of no app; it begins the
deletion of one after the other, each an operation of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import LabelSelector
from sojourn_server.domain.model import AppStatus
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.deleting import (
    DELETE_APP,
    DRAIN_TIMEOUT,
    MARGIN,
    AppDeletion,
    DeleteMode,
)
from sojourn_server.service.operations import Begun, Done, Operations, Task
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work
from sojourn_server.store.base import ListedApp, ReadTx

DELETE_APPS: Final = "DeleteApps"
NO_APP: Final = ""
"""Where an operation is kept that is about several apps: no app has this name."""
MOST: Final = 1_000
"""How many apps one call deletes."""
AT_ONCE: Final = 20
"""The deletions of how many are begun before a step."""
PAGE: Final = 500


class WhichApps(msgspec.Struct, frozen=True, kw_only=True):
    """What DeleteApps means."""

    labels: tuple[LabelSelector, ...]
    keep_newest: int = 0
    mode: DeleteMode = DeleteMode.REFUSE
    drain_timeout: Nanos = DRAIN_TIMEOUT
    dry_run: bool = False


class DeleteAppsOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """DeleteApps."""

    apps: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    more: bool = False


class Deletions(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where such an operation has come to."""

    names: tuple[str, ...]
    """Whose deletion is to be begun."""
    mode: DeleteMode
    drain_timeout: Nanos
    apps: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    more: bool = False


class AppDeletions:
    """The use case of DeleteApps.

    Args:
        units: Where.
        operations: Brings deletions to their end.
        deletion: Deletes one app.
    """

    def __init__(self, units: Units, operations: Operations, deletion: AppDeletion) -> None:
        self._units = units
        self._operations = operations
        self._deletion = deletion
        operations.register(DELETE_APPS, _step, self._errand)

    async def delete(self, call: Call, which: WhichApps) -> Answer[DeleteAppsOutcome]:
        """DeleteApps."""
        found = await self._selected(which)
        more = len(found) > MOST
        found = found[:MOST]
        if which.dry_run:
            busy = [
                each.app.app
                for each in found
                if which.mode is DeleteMode.REFUSE and each.counts.active
            ]
            would = tuple(each.app.app for each in found if each.app.app not in busy)
            outcome = DeleteAppsOutcome(apps=would, refused=tuple(busy), more=more)
            return Answer(outcome=outcome, revision=0, now=0)

        async def begin(_: Work) -> Begun | Done:
            deletions = Deletions(
                names=tuple(each.app.app for each in found),
                mode=which.mode,
                drain_timeout=which.drain_timeout,
                more=more,
            )
            if not found and not call.request_id:
                return Done(msgspec.msgpack.encode(DeleteAppsOutcome()))
            return Begun(msgspec.msgpack.encode(deletions))

        answer = await self._operations.run(call, NO_APP, DELETE_APPS, DeleteAppsOutcome, begin)
        if which.mode is not DeleteMode.DRAIN:
            await self._wait(call, answer.outcome.apps)
        return answer

    async def _wait(self, call: Call, apps: Sequence[str]) -> None:
        """Wait until the apps are deleted, or until shortly before the call's deadline."""
        for name in apps:
            if call.deadline is not None and call.deadline - MARGIN <= time.monotonic():
                return
            await self._deletion.wait_for([self._operations.drive(name, DELETE_APP)], call)

    async def _selected(self, which: WhichApps) -> list[ListedApp]:
        """The apps that are meant, the oldest first."""
        found: list[ListedApp] = []
        after = ""
        while True:
            at = after

            async def query(tx: ReadTx, at: str = at) -> Sequence[ListedApp]:
                return await tx.listed_apps(at, PAGE)

            page = await self._units.read(query)
            found += [each for each in page if _matches(each, which)]
            if len(page) < PAGE:
                break
            after = page[-1].app.app
        found.sort(key=lambda each: (each.app.create_time, each.app.app))
        return found[: max(0, len(found) - which.keep_newest)]

    async def _errand(self, task: Task) -> None:
        """Begin the deletion of the next few apps."""
        deletions = msgspec.msgpack.decode(task.order.state, type=Deletions)
        call = Call(actor=task.order.actor, users=task.order.users, method=DELETE_APP)
        for name in deletions.names[:AT_ONCE]:
            try:
                begun, _ = await self._deletion.begin(
                    call, name, deletions.mode, deletions.drain_timeout
                )
            except Refusal as refusal:
                if refusal.reason is not Reason.APP_HAS_SESSIONS:
                    raise
            else:
                if begun.run:
                    self._operations.drive(name, DELETE_APP)


def _matches(each: ListedApp, which: WhichApps) -> bool:
    return each.app.status is not AppStatus.DELETED and all(
        selector.matches(each.app.labels) for selector in which.labels
    )


async def _step(work: Work, task: Task) -> bytes | Done:
    """Note what became of the apps whose deletion was to be begun."""
    state = msgspec.msgpack.decode(task.order.state, type=Deletions)
    apps, refused = list(state.apps), list(state.refused)
    for name in state.names[:AT_ONCE]:
        app = await work.tx.app(name)
        left_alone = app is not None and app.status is AppStatus.ACTIVE
        (refused if left_alone else apps).append(name)
    state = msgspec.structs.replace(
        state, names=state.names[AT_ONCE:], apps=tuple(apps), refused=tuple(refused)
    )
    if state.names:
        return msgspec.msgpack.encode(state)
    outcome = DeleteAppsOutcome(apps=state.apps, refused=state.refused, more=state.more)
    return Done(msgspec.msgpack.encode(outcome))
