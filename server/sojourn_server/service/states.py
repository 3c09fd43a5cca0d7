"""State of users and apps, without any session: AppService's GetState, UpdateState."""

from __future__ import annotations

from sojourn_server.domain.commands import StatePatch
from sojourn_server.domain.documents import check_patch
from sojourn_server.service import state
from sojourn_server.service.answers import Answer, Call, StateOutcome, StateRead
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work
from sojourn_server.store.base import ReadTx


class States:
    """The use cases of AppService that are about state."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def get(self, call: Call, app: str, user: str | None) -> StateRead:
        """GetState. `user` None: the app's own state."""

        async def query(tx: ReadTx) -> StateRead:
            return StateRead(
                state=await state.read_scope(tx, app, user), revision=await tx.head(app)
            )

        return await self._units.read(query)

    async def update(
        self, call: Call, app: str, user: str | None, patch: StatePatch
    ) -> Answer[StateOutcome]:
        """UpdateState. `user` None: the app's own state."""
        check_patch("app" if user is None else "user", patch)

        async def decide(work: Work) -> StateOutcome:
            if patch.set or await work.tx.app(app) is not None:
                await work.require_app(app, draining_too=True)
            version, changed = await state.patch_scope(work, app, user, patch)
            return StateOutcome(version=version, changed=changed)

        return await self._units.write(call, app, StateOutcome, decide)
