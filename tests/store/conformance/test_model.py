"""A state machine drives a store and the model with the same commands and compares."""

from __future__ import annotations

import asyncio
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sojourn_server.domain.model import Change, ChangeCause
from sojourn_server.store.base import Precede, Store, Tx
from tests.faults import counts
from tests.store.backends import BACKENDS, Backend, make_backend
from tests.store.conformance.commands import COMMANDS, count, look, sum_up
from tests.store.conformance.model import Model
from tests.store.kit import ACTOR, APP, Boom, ManualClock, record_of

SEEDS = st.integers(min_value=0, max_value=1 << 32)
STEPS = st.lists(st.tuples(st.sampled_from(sorted(COMMANDS)), SEEDS), min_size=1, max_size=8)


class StoreMachine(RuleBasedStateMachine):
    """Units of random commands, of which some fail, some come first, some run at once."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.model = Model()
        # A power cut is not among the rules, so nothing has to reach the disk itself.
        self.backend: Backend = make_backend(
            self.kind, Path(self.folder.name), ManualClock(), "OFF"
        )
        self.store: Store = self.runner.run(self.backend.open())

    def teardown(self) -> None:
        self.runner.run(self.backend.close())
        self.runner.close()
        self.folder.cleanup()

    async def _play(self, tx: Tx, steps: list[tuple[str, int]], model: Model) -> Model:
        """The model after these commands, which the transaction carries out as well."""
        after = model.copy()
        for name, seed in steps:
            await COMMANDS[name](tx, after, random.Random(seed))
        return after.commit()

    async def _unit(self, steps: list[tuple[str, int]]) -> None:
        answer = await self.store.apply(APP, ACTOR, lambda tx: self._play(tx, steps, self.model))
        assert answer.changed == (answer.value.head > self.model.head)
        assert answer.revision == answer.value.head
        self.model = answer.value

    @rule(steps=STEPS)
    def unit(self, steps: list[tuple[str, int]]) -> None:
        self.runner.run(self._unit(steps))

    @rule(several=st.lists(STEPS, min_size=2, max_size=4))
    def units_at_once(self, several: list[list[tuple[str, int]]]) -> None:
        """Units in one commit: each must see what the one before it has done."""

        async def play(tx: Tx, steps: list[tuple[str, int]], number: int) -> None:
            models[number + 1] = await self._play(tx, steps, models[number])

        models = {0: self.model}
        calls = [
            self.store.apply(APP, ACTOR, partial(play, steps=steps, number=number))
            for number, steps in enumerate(several)
        ]

        async def all_of_them() -> list[Any]:
            return list(await asyncio.gather(*calls))

        answers = self.runner.run(all_of_them())
        for number, answer in enumerate(answers):
            assert answer.revision == models[number + 1].head
        self.model = models[len(several)]

    @rule(steps=STEPS, beside=STEPS)
    def unit_that_fails_beside_one_that_does_not(
        self, steps: list[tuple[str, int]], beside: list[tuple[str, int]]
    ) -> None:
        async def fails(tx: Tx) -> None:
            await self._play(tx, steps, self.model)
            raise Boom

        async def both() -> None:
            failing, other = await asyncio.gather(
                self.store.apply(APP, ACTOR, fails), self._unit(beside), return_exceptions=True
            )
            assert isinstance(failing, Boom), failing
            if isinstance(other, BaseException):
                raise other

        model = self.model
        self.runner.run(both())
        assert self.model is not model, "the neighbour was lost"

    @rule(steps=STEPS, first=STEPS)
    def unit_that_comes_after_another(
        self, steps: list[tuple[str, int]], first: list[tuple[str, int]]
    ) -> None:
        models: list[Model] = []

        async def precedes(tx: Tx) -> None:
            after = self.model.copy()
            await tx.log(Change(cause=ChangeCause.UPDATED))
            after.record(None, None)
            models[:] = [await self._play(tx, first, after)]

        async def unit(tx: Tx) -> Model:
            if await tx.head(APP) == self.model.head:
                await self._play(tx, steps, self.model)
                raise Precede(precedes)
            return await self._play(tx, steps, models[0])

        answer = self.runner.run(self.store.apply(APP, ACTOR, unit))
        assert answer.revision == answer.value.head
        self.model = answer.value

    @rule(limit=st.sampled_from([1, 3, 100]))
    def finish_purges(self, limit: int) -> None:
        for _ in range(1_000):
            if self.runner.run(self.store.purge(limit)):
                break
        else:
            raise AssertionError("the purge never ends")
        self.model.finish_purges()

    @rule()
    def close_and_open(self) -> None:
        self.store = self.runner.run(self.backend.reopen(self.store))

    @rule()
    def crash(self) -> None:
        crashed = self.store
        self.store = self.runner.run(self.backend.after_crash(crashed))
        self.runner.run(crashed.close())

    @rule(seed=SEEDS)
    def read(self, seed: int) -> None:
        dice = random.Random(seed)
        for compare in (look, count, sum_up):
            self.runner.run(self.store.read(partial(compare, model=self.model, dice=dice)))

    @invariant()
    def log_and_requests_agree(self) -> None:
        log = self.runner.run(self.store.read(lambda tx: tx.changes(APP, 0, 10_000)))
        assert [(c.revision, c.index, c.before, c.after) for c in log] == self.model.log
        assert self.runner.run(self.store.read(lambda tx: tx.head(APP))) == self.model.head
        for key, record in self.model.requests.items():
            assert self.runner.run(record_of(self.store, key)) == record


@pytest.mark.rule("S1", "S2", "S4", "S5", "S6", "S7", "S12", "S13", "S20", "S30", "S41")
@pytest.mark.rule("S70", "S71", "S72")
@pytest.mark.parametrize("backend", BACKENDS, indirect=False)
@pytest.mark.timeout(counts.patience("model_runs", 10))
def test_a_store_does_what_the_model_does(backend: str) -> None:
    runs = counts.count("model_runs")
    run_state_machine_as_test(
        type("Machine", (StoreMachine,), {"kind": backend}),
        settings=settings(
            # Each step is several round trips on PostgreSQL.
            max_examples=runs if backend == "sqlite" else runs // 3,
            stateful_step_count=20,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
