"""Histories: what is appended comes back, in order, exactly."""

from datetime import UTC, datetime

import pytest

from sojourn import (
    AsyncClient,
    MessageOrder,
    MetricsDelta,
    NewMessage,
    Precondition,
    ResetScope,
    errors,
)

LATE = NewMessage("user", "late")


async def contents(pager) -> list[str | None]:
    return [message.content async for message in pager]


async def history(client: AsyncClient, count: int) -> None:
    await client.sessions.create("s")
    await client.messages.append("s", [NewMessage("user", str(n)) for n in range(1, count + 1)])


async def test_a_message_comes_back_exactly(client: AsyncClient) -> None:
    await client.sessions.create("s")
    sent = NewMessage(
        "tool",
        "ä\u2028😀\n",
        payload=bytes(range(256)),
        content_type="image/png",
        metadata={"n": 1.0, "none": None, "deep": {"a": [1, 2.5, "ü"]}},
        message_id="m-1",
        event_time=1_234_567_890_123_456_789,
    )
    result = await client.messages.append("s", sent)
    assert result.message_ids == ("m-1",)
    assert result.sequences == (1,)
    assert result.changed
    assert not result.created
    message = await client.messages.get("s", "m-1")
    assert message == await client.messages.get("s", sequence=1)
    assert message.role == "tool"
    assert message.content == sent.content
    assert message.payload == sent.payload
    assert message.content_type == "image/png"
    assert message.metadata == sent.metadata
    assert message.metadata_json["n"] == "1.0"
    assert message.event_time_ns == 1_234_567_890_123_456_789
    assert message.event_time == datetime(2009, 2, 13, 23, 31, 30, 123456, tzinfo=UTC)


async def test_empty_and_absent_content_are_told_apart(client: AsyncClient) -> None:
    await client.sessions.create("s")
    await client.messages.append("s", [NewMessage("user", ""), NewMessage("user")])
    assert await contents(client.messages.list("s")) == ["", None]


async def test_event_times_of_other_centuries_are_kept(client: AsyncClient) -> None:
    await client.sessions.create("s")
    instants = [datetime(1678, 1, 1, tzinfo=UTC), datetime(2261, 12, 31, 23, 59, 59, 999_999, UTC)]
    await client.messages.append("s", [NewMessage("user", event_time=one) for one in instants])
    found = [message.event_time async for message in client.messages.list("s")]
    assert found == instants
    session = await client.sessions.get("s")
    assert session.last_event_time == instants[-1]


async def test_messages_are_listed_by_sequence_in_either_direction(client: AsyncClient) -> None:
    await history(client, 5)
    newest_first = MessageOrder.NEWEST_FIRST
    listed = client.messages.list
    assert await contents(listed("s")) == ["1", "2", "3", "4", "5"]
    assert await contents(listed("s", order=newest_first)) == ["5", "4", "3", "2", "1"]
    assert await contents(listed("s", last=2)) == ["4", "5"]
    assert await contents(listed("s", last=2, order=newest_first)) == ["5", "4"]
    assert await contents(listed("s", after_sequence=2, before_sequence=5)) == ["3", "4"]
    assert await contents(listed("s", last=4, page_size=1)) == ["2", "3", "4", "5"]
    assert await contents(listed("s", page_size=2)) == ["1", "2", "3", "4", "5"]
    page = await listed("s").page(2, limit=2)
    assert [message.content for message in page.items] == ["3", "4"]
    assert await listed("s").count() == 5


async def test_messages_are_listed_from_an_event_time_on(client: AsyncClient) -> None:
    await client.sessions.create("s")
    messages = [NewMessage("user", str(time), event_time=time) for time in (10, 20, 30)]
    await client.messages.append("s", [*messages, NewMessage("user", "no time")])
    assert await contents(client.messages.list("s", event_time_not_before=20)) == ["20", "30"]


async def test_a_long_history_is_cut_into_pages_and_read_whole(client: AsyncClient) -> None:
    await client.sessions.create("s")
    for _ in range(3):
        await client.messages.append("s", NewMessage("user", "a" * 900_000))
    pages = [page async for page in client.messages.list("s", page_size=1000).pages()]
    assert sum(len(page.items) for page in pages) == 3
    assert len(pages) >= 3


async def test_a_known_message_is_passed_over_and_another_one_refused(client: AsyncClient) -> None:
    await client.sessions.create("s")
    first = await client.messages.append("s", NewMessage("user", "hi", message_id="m-1"))
    again = await client.messages.append("s", NewMessage("user", "hi", message_id="m-1"))
    assert not again.changed
    assert again.sequences == first.sequences
    assert again.revision == first.revision
    with pytest.raises(errors.MessageExistsError) as caught:
        await client.messages.append("s", NewMessage("user", "other", message_id="m-1"))
    assert caught.value.metadata == {"message_id": "m-1"}


async def test_an_append_is_all_or_nothing(client: AsyncClient) -> None:
    await client.sessions.create("s")
    await client.messages.append("s", NewMessage("user", "hi", message_id="m-1"))
    with pytest.raises(errors.MessageExistsError):
        await client.messages.append(
            "s",
            [NewMessage("user", "new"), NewMessage("user", "other", message_id="m-1")],
            state={"x": 1},
        )
    session = await client.sessions.get("s")
    assert session.message_count == 1
    assert session.state == {}


async def test_state_and_counters_go_along_with_messages(client: AsyncClient) -> None:
    await client.sessions.create("s")
    result = await client.messages.append(
        "s",
        NewMessage("user", "hi"),
        state={"x": 1},
        user_state={"y": 2},
        app_state={"z": 3},
        metrics=MetricsDelta(requests=1, counters={"tokens": 12}),
    )
    assert (result.state_version, result.user_state_version, result.app_state_version) == (1, 1, 1)
    session = await client.sessions.get("s")
    assert session.state == {"x": 1}
    assert session.user_state.values == {"y": 2}
    assert session.app_state.values == {"z": 3}
    assert session.metrics.counters == {"tokens": 12}


async def test_an_append_can_create_the_session(client: AsyncClient) -> None:
    result = await client.messages.append("new", NewMessage("user", "hi"), create_if_missing=True)
    assert result.created
    assert result.session.session_id == "new"
    with pytest.raises(errors.SessionNotFoundError):
        await client.messages.append("other", NewMessage("user", "hi"))


async def test_the_same_request_id_appends_once(client: AsyncClient) -> None:
    await client.sessions.create("s")
    for _ in range(2):
        result = await client.messages.append("s", NewMessage("user", "hi"), request_id="r-1")
        assert result.sequences == (1,)
    assert (await client.sessions.get("s")).message_count == 1


async def test_a_history_that_grew_is_noticed(client: AsyncClient) -> None:
    await history(client, 2)
    await client.messages.append("s", LATE, precondition=Precondition(last_sequence=2))
    with pytest.raises(errors.SequenceMismatchError) as caught:
        await client.messages.append("s", LATE, precondition=Precondition(last_sequence=2))
    assert caught.value.metadata == {"last_sequence": "3"}


async def test_popped_messages_go_to_one_caller_and_sequences_are_not_reused(
    client: AsyncClient,
) -> None:
    await history(client, 3)
    result = await client.messages.pop("s", 2)
    assert [message.content for message in result.messages] == ["2", "3"]
    assert result.session.message_count == 1
    appended = await client.messages.append("s", NewMessage("user", "4"))
    assert appended.sequences == (4,)
    with pytest.raises(errors.MessageNotFoundError) as caught:
        await client.messages.get("s", sequence=3)
    assert caught.value.code == "NOT_FOUND"


async def test_a_repeated_pop_reads_the_same_messages(client: AsyncClient) -> None:
    await history(client, 3)
    first = await client.messages.pop("s", request_id="r-1")
    again = await client.messages.pop("s", request_id="r-1")
    assert first.messages == again.messages
    assert (await client.sessions.get("s")).message_count == 2


async def test_an_empty_history_pops_nothing(client: AsyncClient) -> None:
    await client.sessions.create("s")
    result = await client.messages.pop("s")
    assert result.messages == ()
    assert not result.changed


async def test_a_history_is_truncated_after_a_sequence(client: AsyncClient) -> None:
    await history(client, 4)
    result = await client.messages.truncate("s", 1)
    assert (result.messages_removed, result.changed) == (3, True)
    assert await contents(client.messages.list("s")) == ["1"]
    assert not (await client.messages.truncate("s", 1)).changed
    assert (await client.messages.truncate("s", 0)).session.message_count == 0


async def test_a_reset_between_two_pages_is_noticed(client: AsyncClient) -> None:
    await history(client, 3)
    with pytest.raises(errors.GenerationChangedError):
        async for _ in client.messages.list("s", page_size=1):
            await client.sessions.reset("s", scope=ResetScope.HISTORY)


async def test_messages_of_an_unknown_session_are_not_found(client: AsyncClient) -> None:
    for call in (
        lambda: client.messages.list("nobody").to_list(),
        lambda: client.messages.get("nobody", "m"),
        lambda: client.messages.pop("nobody"),
        lambda: client.messages.truncate("nobody", 0),
    ):
        with pytest.raises(errors.SessionNotFoundError):
            await call()


async def test_a_thousand_messages_go_at_once(client: AsyncClient) -> None:
    await history(client, 1000)
    session = await client.sessions.get("s", last_messages=1)
    assert session.message_count == session.last_sequence == 1000
    assert session.messages[0].content == "1000"
