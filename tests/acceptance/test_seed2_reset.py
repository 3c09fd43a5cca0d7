"""Rows S2-01 to S2-04 and S2-11 to S2-28: resetting a memory, also while somebody works on it."""

from __future__ import annotations

import asyncio

import pytest

from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    ChangeCause,
    MetricsDelta,
    NewMessage,
    Precondition,
    ResetScope,
    RetryOptions,
    SessionChange,
    TurnOutcome,
    errors,
)
from tests.acceptance.kit import GuardedPlace, Place, holds

ONCE = RetryOptions(max_attempts=1)


async def filled(client: AsyncClient, name: str = "s", user: str = "") -> AsyncSessionHandle:
    """Return a session with messages, state, counters, labels and metadata."""
    session = await client.attach(
        name, user=user, labels={"tier": "gold"}, metadata={"from": "web"}, state={"mood": "good"}
    )
    await session.append_many(
        [NewMessage("user", "My card is 4111"), NewMessage("assistant", "Noted.")],
        metrics=MetricsDelta(requests=1),
    )
    return session


async def test_s2_01_reset_with_a_name(client: AsyncClient) -> None:
    """A reset needs nothing but to say which session is meant."""
    await filled(client)
    await client.sessions.reset("s")
    read = await client.sessions.get("s", last_messages=10)
    assert read.messages == ()
    assert dict(read.state) == {}


async def test_s2_02_a_reset_says_what_it_did(client: AsyncClient) -> None:
    """Instead of "successfully", the answer has the counts and the new generation."""
    session = await filled(client)
    done = await client.sessions.reset("s")
    assert (done.messages_cleared, done.state_keys_cleared, done.metrics_cleared) == (2, 1, True)
    assert done.session.generation == session.info.generation + 1
    assert done.revision == done.session.revision
    history_only = await filled(client, "another")
    done = await history_only.reset(ResetScope.HISTORY)
    assert (done.messages_cleared, done.state_keys_cleared, done.metrics_cleared) == (2, 0, False)
    assert dict((await history_only.get_state()).values) == {"mood": "good"}


async def test_s2_03_gone_for_good(place: Place, client: AsyncClient) -> None:
    """After a reset no trace of the text is left in the store, and the answer can say so."""
    marker = f"SECRET-{client.app}-{place.store}"
    session = await client.attach("s", state={"note": f"{marker}-state"})
    await session.append_many([NewMessage("user", f"{marker}-{n} " * 40) for n in range(30)])
    assert holds(place, marker)
    done = await session.reset()
    assert done.scrubbed or place.store == "postgres"
    assert not holds(place, marker)


async def test_s2_04_the_same_session_and_empty(client: AsyncClient) -> None:
    """Id, labels, metadata and expiry stay as they were; what was said and remembered is gone."""
    session = await filled(client)
    before = await session.refresh()
    await session.reset()
    after = await session.refresh(last_messages=10)
    assert (after.uid, after.session_id) == (before.uid, before.session_id)
    assert (after.labels, dict(after.metadata)) == ({"tier": "gold"}, {"from": "web"})
    assert (after.idle_timeout, after.max_lifetime) == (before.idle_timeout, before.max_lifetime)
    assert (after.messages, dict(after.state), after.metrics.request_count) == ((), {}, 0)
    done = await session.append("user", "A new start")
    assert done.sequences[0] > before.last_sequence


async def test_s2_11_resetting_an_empty_memory(client: AsyncClient) -> None:
    """A reset of what is empty succeeds, as often as one likes; of what is not there it says so."""
    session = await client.attach("s")
    for generation in (2, 3):
        done = await session.reset()
        assert (done.messages_cleared, done.session.generation) == (0, generation)
    with pytest.raises(errors.SessionNotFoundError):
        await client.sessions.reset("nobody")


async def test_s2_12_usable_at_once(client: AsyncClient) -> None:
    """The next message after a reset is taken in at once; nothing has to be set up or restarted."""
    session = await filled(client)
    for number in range(3):
        await session.reset()
        async with session.turn() as turn:
            await turn.append("user", f"Start {number}")
        assert [one.content for one in await session.messages()] == [f"Start {number}"]


async def test_s2_15_why_it_was_reset(client: AsyncClient) -> None:
    """The reason of a reset is kept, whichever it was, and read back with the session."""
    session = await filled(client)
    for reason in ("new conversation", "user's wish", "error recovery"):
        await session.reset(reason=reason)
        read = await session.refresh()
        assert read.last_reset_reason == reason
        assert read.last_reset_time is not None


async def test_s2_16_reset_while_the_agent_works(client: AsyncClient) -> None:
    """The answer to a question from before the reset does not get into the memory after it."""
    agent = await client.attach("s")
    with pytest.raises(errors.TurnSupersededError):
        async with agent.turn(holder="pod-1") as turn:
            await turn.append("user", "My card is 4111")
            await client.sessions.reset("s", reason="user's wish")
            await turn.append("assistant", "Your card 4111 is noted.")
    read = await client.sessions.get("s", last_messages=10)
    assert read.messages == ()
    assert read.turn is None
    with pytest.raises(errors.GenerationChangedError) as late:
        await client.messages.append(
            "s", NewMessage("assistant", "4111"), precondition=Precondition(generation=1)
        )
    assert late.value.metadata["generation"] == "2"


async def test_s2_17_everybody_sees_it_at_once(place: Place, client: AsyncClient) -> None:
    """As soon as a reset is answered, every reader over any connection sees the empty memory."""
    session = await filled(client)
    async with place.client(client.app) as other:
        for generation in range(2, 7):
            done = await session.reset()
            read = await other.sessions.get("s", last_messages=10)
            assert (read.generation, read.messages) == (generation, ())
            assert read.revision >= done.revision
            await other.messages.append("s", NewMessage("user", "Hello"))
            assert len(await session.messages()) == 1


async def test_s2_18_never_partial(client: AsyncClient) -> None:
    """A reader sees a session before its reset or after it, never with half of it gone."""
    session = await filled(client)
    stop = asyncio.Event()
    seen: set[tuple[bool, bool, bool]] = set()

    async def look() -> None:
        while not stop.is_set():
            read = await client.sessions.get("s", last_messages=10)
            parts = (bool(read.messages), bool(read.state), bool(read.metrics.request_count))
            seen.add(parts)

    readers = [asyncio.create_task(look()) for _ in range(4)]
    async with client.sessions.watch() as watch:
        for _ in range(20):
            await session.append_many(
                [NewMessage("user", "again")], state={"k": 1}, metrics=MetricsDelta(requests=1)
            )
            await session.reset()
        changes = watch.changes()
        log: list[tuple[int, ChangeCause]] = []
        while sum(cause is ChangeCause.RESET for _, cause in log) < 20:
            change = await anext(changes)
            log.append((change.revision, change.cause))
    stop.set()
    await asyncio.gather(*readers)
    assert seen <= {(True, True, True), (False, False, False)}
    # In the log, too, each reset is one step of its own.
    resets = {revision for revision, cause in log if cause is ChangeCause.RESET}
    assert len([1 for revision, _ in log if revision in resets]) == 20


async def test_s2_19_which_errors_are_worth_another_try(client: AsyncClient) -> None:
    """A conflict says what to do: wait so long, or read again; a repeat does nothing twice."""
    await filled(client)
    begun = await client.turns.begin("s", holder="pod-1", lease=5)
    with pytest.raises(errors.TurnConflictError) as busy:
        await client.turns.begin("s", holder="pod-2")
    assert busy.value.metadata["holder"] == "pod-1"
    assert busy.value.retry_after is not None
    assert 0 < busy.value.retry_after.total_seconds() <= 5
    await client.turns.end(begun.turn_token)
    assert (await client.turns.begin("s", holder="pod-2")).turn.holder == "pod-2"
    for _ in range(2):
        done = await client.sessions.reset("s", request_id="reset-1")
        assert done.session.generation == 2
    assert (await client.sessions.get("s")).generation == 2


async def test_s2_20_only_if_idle(client: AsyncClient) -> None:
    """A reset can insist on an idle agent, or on nothing having changed since it was looked at."""
    session = await filled(client)
    async with session.turn(holder="pod-1"):
        with pytest.raises(errors.NotIdleError) as busy:
            await client.sessions.reset("s", if_idle=True)
        assert busy.value.metadata["holder"] == "pod-1"
    seen = await session.refresh()
    await session.append("user", "One thing more")
    with pytest.raises(errors.EtagMismatchError):
        await client.sessions.reset("s", precondition=Precondition(etag=seen.etag))
    assert (await session.refresh()).message_count == 3
    done = await client.sessions.reset(
        "s", if_idle=True, precondition=Precondition(etag=session.info.etag)
    )
    assert done.messages_cleared == 3


async def test_s2_21_users_are_told(client: AsyncClient) -> None:
    """Whoever watches the session hears of its reset, of the turn that it ended, and when."""
    agent = await filled(client)
    async with client.sessions.watch() as watch:
        begun = await client.turns.begin("s")
        done = await agent.reset()
        changes = watch.changes()
        heard: list[SessionChange] = []
        while not heard or heard[-1].cause is not ChangeCause.RESET:
            change = await anext(changes)
            assert isinstance(change, SessionChange)
            heard.append(change)
    assert heard[-1].revision == done.revision
    assert heard[-1].session.generation == 2
    outcomes = [one.turn_outcome for one in heard if one.turn_outcome]
    assert outcomes == [TurnOutcome.REVOKED]
    with pytest.raises(errors.TurnSupersededError):
        await client.turns.end(begun.turn_token)


async def test_s2_22_atomic_among_concurrent_writes(client: AsyncClient) -> None:
    """Among writers, a reset clears all that came before it and nothing that came after it."""
    await client.sessions.create("s")
    kept: dict[int, list[str]] = {}

    async def write(agent: int) -> None:
        for number in range(12):
            generation = (await client.sessions.get("s")).generation
            text = f"{generation}:{agent}-{number}"
            try:
                await client.messages.append(
                    "s", NewMessage("user", text), precondition=Precondition(generation=generation)
                )
            except errors.GenerationChangedError:
                continue
            kept.setdefault(generation, []).append(text)

    async def reset() -> None:
        for _ in range(4):
            await asyncio.sleep(0.01)
            await client.sessions.reset("s")

    await asyncio.gather(*(write(agent) for agent in range(6)), reset())
    final = await client.sessions.get("s")
    assert final.generation == 5
    left = [one.content or "" async for one in client.messages.list("s")]
    assert sorted(left) == sorted(kept.get(5, []))


async def test_s2_23_a_failed_reset_removes_nothing(own: Place) -> None:
    """If the service dies or refuses, the caller gets a typed error and the memory is as it was."""
    async with own.client("support") as client:
        await filled(client)
        own.server.kill()
        with pytest.raises(errors.UnavailableError):
            await client.with_options(retry=ONCE).sessions.reset("s")
    own.server.start()
    async with own.client("support") as client:
        with pytest.raises(errors.GenerationChangedError):
            await client.sessions.reset("s", precondition=Precondition(generation=7))
        read = await client.sessions.get("s", last_messages=10)
        assert [one.content for one in read.messages] == ["My card is 4111", "Noted."]
        assert (dict(read.state), read.generation) == ({"mood": "good"}, 1)


async def test_s2_28_resetting_is_a_right_of_its_own(guarded: GuardedPlace) -> None:
    """Who may write to a memory may not clear it; that is granted apart."""
    async with guarded.client_of("agent") as agent, guarded.client_of("operator") as operator:
        await filled(agent, user="ann")
        with pytest.raises(errors.GrantMissingError):
            await agent.sessions.reset("s", user="ann")
        async with guarded.client_of("bob") as stranger:
            with pytest.raises(errors.SessionNotFoundError):
                await stranger.sessions.reset("s", user="ann")
        assert (await agent.sessions.get("s", user="ann")).message_count == 2
        assert (await operator.sessions.reset("s", user="ann")).messages_cleared == 2
