"""Every field of every request, at the edges of its rule: -1, 0, +1, and what patterns forbid."""

from __future__ import annotations

from collections import Counter

import pytest

from sojourn_server.rpc.methods import Method, methods
from tests.faults import counts
from tests.fuzz.caller import Caller, Outcome
from tests.fuzz.cases import Case, cases
from tests.fuzz.furnish import Furniture, furnish

BUILT = [method for method in methods() if method.request.DESCRIPTOR.fields]
FEWEST = 9_500
"""Fewer cases than this mean that the descriptors were not read."""
FEWEST_OUTSIDE = 3_000
EVERY = {"postgres": 16}
"""On PostgreSQL one value of so many is tried: rules are looked at before any store is."""
SLOW = {"EraseUser": 8, "ImportSessions": 4}
"""So many where a good value costs much: an erasure looks through the whole file."""
FURNISH_EVERY = 50
"""After so many values that may get as far as the store, what they have broken is put back."""
OWN_RULES = {
    ("AggregateSessions", "label_key"): "must be set where grouped by label, and only there",
    ("BatchGetSessions", "sessions[0].app"): "must be the request's own app",
    ("BeginTurn", "precondition.turn_token"): "must be empty",
    ("ReplaceMessages", "part"): "must be 0 without a staging_id",
}
"""What the service demands beyond the protos: values that fit may be refused so."""


def blames(outcome: Outcome, path: str) -> bool:
    """Whether an outcome names a field; `a.labels[` stands for any key of the map."""
    if path.endswith("["):
        return any(field.startswith(path) for field in outcome.fields)
    return path in outcome.fields


def holds(method: Method, case: Case, outcome: Outcome) -> bool:
    """Whether the outcome is what the rule says. What no rule speaks of may be anything."""
    if method.requests_stream and not case.path.startswith("target"):
        return True  # parts are of the types that answers have, and no rules are in the protos
    match case.probe.fits:
        case None:
            return True
        case True:
            own = OWN_RULES.get((method.name, case.path))
            blamed = outcome.reason == "INVALID_FIELD" and blames(outcome, case.path)
            return not blamed or (own is not None and outcome.message.endswith(own))
        case False:
            reason = "CONTENT_TOO_LARGE" if case.probe.too_large else "INVALID_FIELD"
            return outcome.reason == reason and blames(outcome, case.path)


@pytest.mark.parametrize("method", BUILT, ids=lambda method: method.name)
def test_every_rule_holds_at_its_edges(
    method: Method, caller: Caller, furniture: Furniture
) -> None:
    wrong: list[str] = []
    every = EVERY.get(caller.store, 1)
    stride = SLOW.get(method.name, every)
    let_in = 0
    for number, case in enumerate(cases(method, furniture)):
        if number % (every if case.probe.fits is False else stride):
            continue
        let_in += case.probe.fits is not False
        if let_in == FURNISH_EVERY:
            furniture, let_in = furnish(caller), 0
        outcome = caller.call(method, case.request.SerializeToString())
        if not holds(method, case, outcome):
            value = repr(case.probe.value)
            wrong.append(
                f"{case.path} = {value[:60]} ({len(value)}), fits: {case.probe.fits}: {outcome}"
            )
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])


def test_the_descriptors_give_all_these_cases(furniture: Furniture) -> None:
    found: Counter[bool | None] = Counter()
    fields: set[str] = set()
    for method in BUILT:
        made = list(cases(method, furniture))
        assert len(made) >= 20, method.name
        found.update(case.probe.fits for case in made)
        fields |= {f"{method.name}.{case.path}" for case in made}
    assert found.total() >= FEWEST, found
    assert found[False] >= FEWEST_OUTSIDE, found
    counts.report(
        "boundary cases",
        found.total(),
        f"{len(fields):,} fields of {len(BUILT)} requests: {found[True]:,} within their rule, "
        f"{found[False]:,} outside, {found[None]:,} without a rule",
    )
