"""A credential is kept, renewed in time, and exchanged when it is refused; by a clock of ours."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import operator
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sojourn import ApiKey, BearerToken, errors
from sojourn._async.bearer import AsyncCredential
from sojourn._credentials import Held, held_token
from sojourn._sync import bearer
from sojourn._sync.bearer import Credential
from sojourn.errors import ConfigurationError

WALL = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NEVER = math.inf


class Clock:
    """Takes the place of `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bearer, "time", clock)
    return clock


class Issuer:
    """Gives token after token, or whatever it is told to."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> str:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]


# --- what an answer comes to ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expiry", "renew_at", "expires_at"),
    [
        (timedelta(seconds=100), 90.0, 100.0),
        (timedelta(hours=1), 3540.0, 3600.0),
        (WALL + timedelta(minutes=5), 270.0, 300.0),
        (timedelta(seconds=0), 1.0, 0.0),
        (WALL - HOUR, 1.0, -3600.0),
    ],
)
def test_a_token_is_renewed_when_a_tenth_of_its_time_is_left_at_most_a_minute(
    expiry: object, renew_at: float, expires_at: float
) -> None:
    held = held_token(("t", expiry), 50.0, WALL)
    assert (held.value, held.renew_at - 50.0, held.expires_at - 50.0) == ("t", renew_at, expires_at)


def test_a_token_without_expiry_is_kept() -> None:
    held = held_token("t", 50.0, WALL)
    assert (held.renew_at, held.expires_at) == (NEVER, NEVER)
    assert "secret" not in repr(held_token("secret", 0.0, WALL))


@pytest.mark.parametrize(
    "answer",
    [None, 5, b"t", "", "a b", ("t", 60), ("t", datetime(2026, 1, 1)), ("t", HOUR, 1)],  # noqa: DTZ001
)
def test_an_answer_that_is_no_token_is_said_to_be_none(answer: object) -> None:
    with pytest.raises(ConfigurationError):
        held_token(answer, 0.0, WALL)


# --- functions -----------------------------------------------------------------------------------


def test_a_function_is_asked_at_the_first_call_and_again_shortly_before_the_token_expires(
    clock: Clock,
) -> None:
    issuer = Issuer(("one", HOUR), ("two", HOUR))
    credential = Credential(BearerToken(issuer))
    assert issuer.asked == 0
    assert [credential.value(NEVER) for _ in range(3)] == ["one"] * 3
    clock.now += 3500
    assert (credential.value(NEVER), issuer.asked) == ("one", 1)
    clock.now += 45
    assert (credential.value(NEVER), issuer.asked) == ("two", 2)


def test_while_the_old_token_lasts_a_function_that_fails_is_logged_once_and_asked_each_second(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer(("one", HOUR), ValueError("secret"), ValueError("secret"), "two")
    credential = Credential(BearerToken(issuer))
    credential.value(NEVER)
    clock.now += 3545
    with caplog.at_level(logging.WARNING, "sojourn"):
        assert [credential.value(NEVER) for _ in range(3)] == ["one"] * 3
        clock.now += 1
        assert (credential.value(NEVER), issuer.asked) == ("one", 3)
    assert [record.getMessage() for record in caplog.records] == [
        "no new credential (ValueError); the last one stays in use"
    ]
    clock.now += 1
    assert credential.value(NEVER) == "two"


def test_a_function_that_fails_without_an_older_token_fails_the_call_with_its_cause(
    clock: Clock,
) -> None:
    issuer = Issuer(ValueError("secret"), ValueError("secret"), ("two", HOUR), OSError("secret"))
    credential = Credential(BearerToken(issuer))
    for asked in (1, 1, 1):
        with pytest.raises(errors.CredentialUnavailableError, match=r"had: ValueError$") as caught:
            credential.value(NEVER)
        assert isinstance(caught.value.__cause__, ValueError)
        assert issuer.asked == asked, "who asks within a second hears of the same failure"
    clock.now += 1
    with pytest.raises(errors.CredentialUnavailableError):
        credential.value(NEVER)
    clock.now += 1
    assert (credential.value(NEVER), issuer.asked) == ("two", 3)
    clock.now += 3601
    with pytest.raises(errors.CredentialUnavailableError, match="OSError"):
        credential.value(NEVER)


def test_a_function_that_gives_no_token_is_told_what_one_is(clock: Clock) -> None:
    with pytest.raises(errors.CredentialUnavailableError, match="printable ASCII") as caught:
        Credential(BearerToken(Issuer("a secret"))).value(NEVER)
    assert "secret" not in str(caught.value)


def test_a_sync_client_takes_no_async_function() -> None:
    async def get() -> str:
        return "t"

    with pytest.raises(errors.CredentialUnavailableError, match="async clients only"):
        Credential(BearerToken(get)).value(NEVER)


def test_a_refused_token_is_asked_for_again_once_a_second(clock: Clock) -> None:
    issuer = Issuer("one", "one", "two")
    credential = Credential(BearerToken(issuer))
    credential.value(NEVER)
    assert not credential.is_replaced("one", NEVER)
    assert not credential.is_replaced("one", NEVER)
    assert issuer.asked == 2
    clock.now += 1
    assert credential.is_replaced("one", NEVER)
    assert credential.is_replaced("one", NEVER), "another call has replaced it"
    assert (credential.value(NEVER), issuer.asked) == ("two", 3)


def test_a_function_that_fails_after_a_refusal_leaves_the_refusal(clock: Clock) -> None:
    credential = Credential(BearerToken(Issuer(("one", HOUR), ValueError("x"))))
    credential.value(NEVER)
    assert not credential.is_replaced("one", NEVER)
    clock.now += 3601
    assert not credential.is_replaced("one", NEVER)


def together(count: int, work: Callable[[], object]) -> list[object]:
    """Do the same in many threads at once."""
    results: list[object] = []
    begin = threading.Barrier(count)

    def run() -> None:
        begin.wait(10)
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_a_function_that_takes_longer_than_the_deadline_serves_the_next_call(clock: Clock) -> None:
    def get() -> str:
        clock.now += 5
        return "t"

    credential = Credential(BearerToken(get))
    with pytest.raises(errors.DeadlineExceededError):
        credential.value(clock.now + 4)
    assert credential.value(clock.now + 4) == "t"


def test_of_many_calls_at_once_one_asks() -> None:
    issuer = Issuer("one", "two")

    def get() -> str:
        time.sleep(0.02)
        return issuer()

    credential = Credential(BearerToken(get))
    assert together(8, lambda: credential.value(NEVER)) == ["one"] * 8
    assert together(8, lambda: credential.is_replaced("one", NEVER)) == [True] * 8
    assert issuer.asked == 2


def test_while_one_call_asks_the_others_use_the_token_that_still_lasts(clock: Clock) -> None:
    asking, go_on = threading.Event(), threading.Event()

    def get() -> tuple[str, timedelta]:
        if not asking.is_set() and clock.now > 1000.0:
            asking.set()
            assert go_on.wait(10)
        return f"token-{clock.now:g}", HOUR

    credential = Credential(BearerToken(get))
    first = credential.value(NEVER)
    clock.now += 3545
    slow = threading.Thread(target=lambda: credential.value(NEVER))
    slow.start()
    assert asking.wait(10)
    assert credential.value(NEVER) == first
    go_on.set()
    slow.join(10)
    assert credential.value(NEVER) == "token-4545"


# --- files ---------------------------------------------------------------------------------------


def test_a_file_is_read_again_after_a_second(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "key"
    path.write_text("one", encoding="ascii")
    credential = Credential(ApiKey.from_file(path))
    assert credential.value(NEVER) == "one"
    path.write_text("two", encoding="ascii")
    assert credential.value(NEVER) == "one"
    clock.now += 1
    assert credential.value(NEVER) == "two"


def test_a_broken_file_leaves_the_last_key_and_is_logged_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "key"
    path.write_text("one", encoding="ascii")
    credential = Credential(BearerToken.from_file(path))
    for spoil in (path.unlink, path.touch, lambda: path.write_bytes(b"\xff")):
        spoil()
        clock.now += 1
        assert credential.value(NEVER) == "one"
        assert not credential.is_replaced("one", NEVER)
    assert len(caplog.records) == 1
    path.write_text("two", encoding="ascii")
    assert credential.is_replaced("one", NEVER), "a refusal waits for no second"
    assert credential.value(NEVER) == "two"


def test_a_key_or_token_that_was_said_once_is_not_replaced() -> None:
    for option in (ApiKey("k"), BearerToken("k")):
        credential = Credential(option)
        assert credential.value(NEVER) == "k"
        assert not credential.is_replaced("k", NEVER)


# --- async ---------------------------------------------------------------------------------------


async def test_an_async_client_takes_functions_of_both_kinds_and_waits_in_no_loop_for_either() -> (
    None
):
    loop_thread = threading.get_ident()
    ran_in: list[int] = []

    def plain() -> str:
        ran_in.append(threading.get_ident())
        return "plain"

    async def coroutine() -> str:
        ran_in.append(threading.get_ident())
        await asyncio.sleep(0)
        return "coroutine"

    assert await AsyncCredential(BearerToken(plain)).value(NEVER) == "plain"
    assert await AsyncCredential(BearerToken(coroutine)).value(NEVER) == "coroutine"
    # Not said to be async, but what it gives is to be awaited all the same.
    wrapped = functools.partial(operator.call, coroutine)
    assert await AsyncCredential(BearerToken(wrapped)).value(NEVER) == "coroutine"
    assert [thread == loop_thread for thread in ran_in] == [False, True, True]


async def test_of_many_tasks_at_once_one_asks() -> None:
    issuer = Issuer("one", "two")
    credential = AsyncCredential(BearerToken(issuer))
    assert await asyncio.gather(*[credential.value(NEVER) for _ in range(8)]) == ["one"] * 8
    assert all(await asyncio.gather(*[credential.is_replaced("one", NEVER) for _ in range(8)]))
    assert issuer.asked == 2


async def test_a_cancelled_call_leaves_the_asking_to_the_next(clock: Clock) -> None:
    started = asyncio.Event()
    asked = 0

    async def get() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            started.set()
            await asyncio.Event().wait()
        return "t"

    credential = AsyncCredential(BearerToken(get))
    first = asyncio.create_task(credential.value(NEVER))
    await started.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await credential.value(NEVER) == "t"


def test_what_is_held_is_kept_a_second_longer() -> None:
    assert Held("t", 1.0, 9.0).kept(5.0).renew_at == 6.0
