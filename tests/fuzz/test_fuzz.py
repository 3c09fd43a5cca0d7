"""Whatever is sent, the live server answers one of the contract's codes, in time.

What `Caller` holds every answer to: no INTERNAL, no UNKNOWN, no hang; a reason that the
contract knows, under its own code; a correlation id.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.v1 import history_service_pb2, session_service_pb2, turn_service_pb2
from sojourn_server.rpc.callers import ACTOR
from sojourn_server.rpc.methods import Method, methods
from tests.faults import counts
from tests.fuzz.caller import APP, Caller, Outcome
from tests.fuzz.furnish import BY_NAME, Furniture, furnish, ref
from tests.fuzz.generate import Generator, damaged, mutated

EXAMPLES = counts.count("examples")
METHODS = list(methods())
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=counts.COUNTS["examples"].small == EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
"""The small run is the same each time; the full run is another each time."""
SMALL = counts.COUNTS["examples"].small == EXAMPLES


def settings_for(caller: Caller, examples: int = EXAMPLES) -> settings:
    """The settings of one test; a small run tries less on PostgreSQL, for most calls end before."""
    if SMALL and caller.store == "postgres":
        examples = max(5, examples // 3)
    return settings(FUZZ, max_examples=examples)


CHANCE = st.integers(0, 2**64 - 1).map(random.Random)
SENT: Counter[str] = Counter()
FURNISH_EVERY = 25


@pytest.fixture(scope="module", autouse=True)
def tally(caller: Caller):
    """Count what was sent, and see that the server is well after all of it."""
    yield
    furnish(caller)
    answers = ", ".join(f"{number:,} {code}" for code, number in SENT.most_common(4))
    counts.report("fuzzed calls", SENT.total(), f"0 INTERNAL, 0 UNKNOWN, 0 hangs; {answers}, …")


class Room:
    """The furniture, put back now and then: the calls break it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._calls = 0
        self._furniture = furnish(caller)

    def furniture(self) -> Furniture:
        self._calls += 1
        if self._calls % FURNISH_EVERY == 0:
            self._furniture = furnish(self._caller)
        return self._furniture

    def send(self, method: Method, raw: bytes, metadata: object = ()) -> Outcome:
        outcome = self._caller.call(method, raw, metadata)
        SENT[outcome.code] += 1
        return outcome


@pytest.mark.timeout(counts.patience("examples", 1))
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_request_gets_a_proper_answer(method: Method, caller: Caller) -> None:
    room = Room(caller)

    @settings_for(caller)
    @given(CHANCE)
    def check(chance: random.Random) -> None:
        request = Generator(chance, room.furniture()).request(method)
        room.send(method, request.SerializeToString())

    check()


@pytest.mark.timeout(counts.patience("examples", 1))
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_damaged_encodings_get_a_proper_answer(method: Method, caller: Caller) -> None:
    room = Room(caller)

    @settings_for(caller)
    @given(CHANCE)
    def check(chance: random.Random) -> None:
        request = Generator(chance, room.furniture()).request(method)
        if method.name == "BeginTurn":
            # Damage must not make it wait: after a field of the wrong type nothing is read.
            request.on_conflict = turn_service_pb2.ON_CONFLICT_REJECT
        raw = damaged(chance, request.SerializeToString())
        if method.name == "BeginTurn" and _may_wait(raw):
            return
        room.send(method, raw)

    check()


def _may_wait(raw: bytes) -> bool:
    try:
        request = turn_service_pb2.BeginTurnRequest.FromString(raw)
    except Exception:  # noqa: BLE001 - what cannot be read cannot wait
        return False
    return request.on_conflict == turn_service_pb2.ON_CONFLICT_WAIT


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.service}.{method.name}")
def test_bytes_that_are_no_message_get_a_proper_answer(method: Method, caller: Caller) -> None:
    room = Room(caller)

    @settings_for(caller, max(10, EXAMPLES // 4))
    @given(st.binary(max_size=200))
    def check(raw: bytes) -> None:
        room.send(method, raw)

    check()
    asks_for_nothing = method.name in ("GetServerInfo", "ListApps")
    assert (room.send(method, b"").code == "OK") is asks_for_nothing


@pytest.mark.parametrize("kind", ["sessions", "messages", "turn"])
def test_a_damaged_token_is_refused_by_its_own_reason(kind: str, caller: Caller) -> None:
    room = Room(caller)
    good = 0

    @settings_for(caller, EXAMPLES * 4)
    @given(CHANCE)
    def check(chance: random.Random) -> None:
        nonlocal good
        furniture = room.furniture()
        method, raw, token, other = _with_token(kind, furniture, chance)
        outcome = room.send(method, raw)
        if other in ("", token):
            good += 1
            assert outcome.code == "OK" or not other, outcome
        else:
            long = len(other) > (256 if kind == "turn" else 1_024)
            reason = "TURN_TOKEN_INVALID" if kind == "turn" else "PAGE_TOKEN_INVALID"
            assert outcome.reason == ("INVALID_FIELD" if long else reason), (other, outcome)

    check()
    assert good, "no token was left whole: the damage proves nothing"


def _with_token(
    kind: str, furniture: Furniture, chance: random.Random
) -> tuple[Method, bytes, str, str]:
    """A method, its request, the token that would be right, and the one it carries."""
    tokens = {
        "sessions": furniture.session_page_token,
        "messages": furniture.message_page_token,
        "turn": furniture.turn_token,
    }
    source = tokens[kind] if chance.random() < 0.8 else chance.choice(sorted(tokens.values()))
    token = mutated(chance, source)
    request: Any
    match kind:
        case "sessions":
            request = session_service_pb2.ListSessionsRequest(
                app=APP, page_size=1, page_token=token
            )
        case "messages":
            request = history_service_pb2.ListMessagesRequest(
                session=ref(), page_size=1, page_token=token
            )
        case _:
            request = turn_service_pb2.RenewTurnRequest(app=APP, turn_token=token)
    method = BY_NAME[type(request).__name__.removesuffix("Request")]
    return method, request.SerializeToString(), tokens[kind], token


def test_any_actor_gets_a_proper_answer(caller: Caller) -> None:
    room = Room(caller)

    @settings_for(caller)
    @given(st.one_of(st.binary(max_size=2_000), st.text(max_size=300).map(_utf8)))
    def check(actor: bytes) -> None:
        request = session_service_pb2.GetSessionRequest(session=ref())
        outcome = room.send(BY_NAME["GetSession"], request.SerializeToString(), ((ACTOR, actor),))
        assert outcome.reason in ("", "INVALID_FIELD")

    check()


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
