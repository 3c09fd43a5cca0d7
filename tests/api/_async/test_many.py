"""Many sessions at once, sums of them, copies, and sessions that are used up."""

from datetime import timedelta

import pytest

from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    ChangeCause,
    EndCause,
    GroupBy,
    MetricsDelta,
    NewMessage,
    NewSession,
    SessionFilter,
    SessionKey,
    Status,
    errors,
)
from sojourn._acompat import async_sleep


async def some(client: AsyncClient, count: int, **fields) -> None:
    await client.sessions.create_many(
        [NewSession(f"s-{number}", **fields) for number in range(count)]
    )


async def active(client: AsyncClient) -> list[str]:
    return [one.session_id async for one in client.sessions.list()]


async def test_selected_sessions_end_and_the_newest_stay(client: AsyncClient, app: str) -> None:
    await some(client, 5, user="ann")
    await client.sessions.create("other", user="bob")
    would = await client.sessions.end_many(user="ann", keep_newest=2, dry_run=True)
    assert would.count == 3
    assert len(await active(client)) == 6
    done = await client.sessions.end_many(
        user="ann", keep_newest=2, end_as=Status.FAILED, reason="clean-up"
    )
    assert done.count == 3
    assert done.first_keys == tuple(SessionKey(app, "ann", f"s-{number}") for number in (2, 1, 0))
    assert await active(client) == ["s-3", "s-4", "other"]
    ended = await client.sessions.get("s-0", user="ann")
    assert (ended.status, ended.end_reason) == (Status.FAILED, "clean-up")
    assert (await client.sessions.end_many(status="active", user="ann")).count == 2
    with pytest.raises(errors.InvalidFieldError, match="all"):
        await client.sessions.end_many()
    assert (await client.sessions.end_many(all=True)).count == 1


async def test_selected_sessions_are_removed_whatever_their_status(client: AsyncClient) -> None:
    await some(client, 4, labels={"team": "red"})
    await client.sessions.end("s-0")
    await client.sessions.create("t", labels={"team": "blue"})
    done = await client.sessions.delete_many(labels={"team": "red"}, request_id="r-1")
    assert done.count == 4
    assert await client.sessions.list(status="any").count() == 1
    assert await client.sessions.delete_many(labels={"team": "red"}, request_id="r-1") == done


async def test_what_was_idle_for_too_long_is_cleaned_up_and_counted(client: AsyncClient) -> None:
    await some(client, 3)
    busy = await client.attach("busy")
    await async_sleep(0.3)
    await client.sessions.touch("s-2")
    async with busy.turn():
        assert await client.sessions.cleanup_inactive(3600) == 0
        assert await client.sessions.cleanup_inactive(timedelta(milliseconds=250)) == 2
        assert await active(client) == ["s-2", "busy"]
    ended = await client.sessions.get("s-0")
    assert (ended.status, ended.end_cause) == (Status.EXPIRED, EndCause.REQUEST)


async def test_clean_up_by_age_and_by_error_rate(client: AsyncClient) -> None:
    await some(client, 2)
    await client.sessions.update("s-0", metrics=MetricsDelta(requests=3, errors=2))
    await client.sessions.update("s-1", metrics=MetricsDelta(requests=3, errors=1))
    failing = SessionFilter(error_rate_above=0.5, request_count_above=0)
    assert (await client.sessions.end_many(filter=failing, end_as=Status.FAILED)).count == 1
    old = SessionFilter(older_than=timedelta(days=7))
    assert (await client.sessions.end_many(filter=old, end_as=Status.EXPIRED)).count == 0
    assert await active(client) == ["s-1"]


async def test_sessions_are_counted_without_being_read(client: AsyncClient) -> None:
    assert await client.sessions.count() == 0
    await some(client, 3, user="ann")
    await client.sessions.create("t", labels={"k": "v"})
    await client.sessions.end("s-0", user="ann")
    assert await client.sessions.count() == 3
    assert await client.sessions.count(user="ann") == 2
    assert await client.sessions.count(status="any") == 4
    assert await client.sessions.count(labels={"k": "v"}) == 1


async def test_sums_are_by_user_by_status_by_label_and_of_all(client: AsyncClient) -> None:
    for user, team, requests in (("ann", "red", 4), ("bob", "red", 0), ("ann", "blue", 1)):
        delta = MetricsDelta(requests, requests // 2, requests * 1.5, {"tokens": requests * 10})
        name = f"{user}-{team}"
        await client.sessions.create(name, user=user, labels={"team": team})
        await client.sessions.update(name, user=user, metrics=delta)
    await client.messages.append("ann-red", NewMessage("user", "x"), user="ann")
    await client.sessions.end("bob-red", user="bob")

    async def sums(**what) -> dict[str, int]:
        return {one.group: one.session_count async for one in client.sessions.aggregate(**what)}

    assert await sums(group_by="user") == {"ann": 2, "bob": 1}
    assert await sums(group_by=GroupBy.STATUS) == {"ACTIVE": 2, "COMPLETED": 1}
    assert await sums(label_key="team") == {"red": 2, "blue": 1}
    assert await sums(label_key="team", status=Status.ACTIVE) == {"red": 1, "blue": 1}
    assert await sums(group_by="user", page_size=1) == {"ann": 2, "bob": 1}
    [ann, bob] = await client.sessions.aggregate(group_by=GroupBy.USER).to_list()
    assert (ann.metrics.request_count, ann.metrics.error_count) == (5, 2)
    assert ann.error_rate == pytest.approx(0.4)
    assert ann.metrics.processing_time == timedelta(seconds=7.5)
    assert ann.mean_processing_time == timedelta(seconds=1.5)
    assert ann.metrics.counters == {"tokens": 50}
    assert (ann.message_count, bob.message_count) == (1, 0)
    assert (bob.error_rate, bob.mean_processing_time) == (0.0, None)
    [whole] = await client.sessions.aggregate().to_list()
    assert (whole.group, whole.session_count) == ("", 3)


async def test_children_are_rolled_up_listed_and_watched(client: AsyncClient) -> None:
    root = await client.attach("root", user="ann")
    async with root.watch_children() as watch:
        async with root.child("sub") as sub:
            await sub.update(metrics=MetricsDelta(requests=2))
            assert [one.session_id async for one in root.children()] == ["sub"]
        causes = []
        async for change in watch.changes():
            causes.append(change.cause)
            if change.cause is ChangeCause.ENDED:
                break
    assert causes == [ChangeCause.CREATED, ChangeCause.UPDATED, ChangeCause.ENDED]
    assert [one.status async for one in root.children()] == [Status.COMPLETED]
    assert await root.children(status=Status.ACTIVE).count() == 0
    assert await client.sessions.list(parent=root.info, status="any").count() == 1
    [whole] = await client.sessions.aggregate(group_by=GroupBy.USER, roll_up=True).to_list()
    assert (whole.group, whole.session_count, whole.metrics.request_count) == ("ann", 2, 2)


async def test_a_fork_is_a_session_of_its_own(client: AsyncClient) -> None:
    session = await client.attach("s", user="ann", labels={"k": "v"}, state={"n": 1.0})
    for text in ("a", "b", "c"):
        await session.append("user", text)
    copy = await session.fork("copy", through_sequence=2)
    assert (copy.session_id, copy.user) == ("copy", "ann")
    assert [one.content for one in await copy.messages()] == ["a", "b"]
    assert copy.info.forked_from is not None
    assert copy.info.forked_from.uid == session.uid
    await copy.append("user", "other")
    assert len(await session.messages()) == 3
    full = await copy.refresh()
    assert (full.labels, full.state_json) == ({"k": "v"}, {"n": "1.0"})
    named = await client.sessions.fork("s", user="ann")
    assert named.session_id not in {"", "s", "copy"}
    with pytest.raises(errors.SessionExistsError):
        await session.fork("copy")


async def test_a_reset_can_keep_a_copy_first(client: AsyncClient) -> None:
    session = await client.attach("s")
    await session.append("user", "important")
    done = await session.reset(backup_session_id="s-backup", reason="user wish")
    assert done.backup is not None
    assert done.backup.session_id == "s-backup"
    assert done.messages_cleared == 1
    kept = await client.sessions.get("s-backup", last_messages=1)
    assert [one.content for one in kept.messages] == ["important"]


async def test_a_suffix_of_the_history_is_replaced_all_at_once(client: AsyncClient) -> None:
    session = await client.attach("s")
    await session.append_many([NewMessage("user", str(number)) for number in range(5)])
    done = await session.replace_messages(
        [NewMessage("system", "in short", message_id="m-1")], keep_through_sequence=1
    )
    assert (done.messages_removed, done.changed) == (4, True)
    assert (done.message_ids, done.sequences) == (("m-1",), (6,))
    assert [one.content for one in await session.messages()] == ["0", "in short"]
    assert (await session.message("m-1")).sequence == 6
    assert (await session.message(sequence=1)).content == "0"


async def test_more_messages_than_a_request_holds_are_staged(client: AsyncClient) -> None:
    session = await client.attach("s")
    await session.append("user", "old")
    new = [NewMessage("user", f"{number}") for number in range(2300)]
    done = await client.messages.replace(session.ref, new, request_id="r-1")
    assert done.messages_removed == 1
    assert len(done.sequences) == len(set(done.message_ids)) == 2300
    assert list(done.sequences) == sorted(done.sequences)
    assert done.session.message_count == 2300
    newest = await session.messages(last=2)
    assert [one.content for one in newest] == ["2298", "2299"]
    again = await client.messages.replace(session.ref, new, request_id="r-1")
    assert (again.sequences, again.revision) == (done.sequences, done.revision)
    assert (await session.refresh()).message_count == 2300


async def test_a_handle_can_remove_its_session(client: AsyncClient) -> None:
    session = await client.attach("s")
    assert (await session.delete()).sessions_deleted == 1
    with pytest.raises(errors.SessionNotFoundError):
        await session.refresh()


async def test_a_session_that_is_used_up_makes_way_under_its_id(client: AsyncClient) -> None:
    sessions = client.sessions
    first, created = await sessions.get_or_replace("s", max_idle=3600, max_requests=2)
    assert created
    same, created = await sessions.get_or_replace("s", max_idle=3600, max_requests=2)
    assert (same.uid, created) == (first.uid, False)
    await sessions.update("s", metrics=MetricsDelta(requests=2))
    second, created = await sessions.get_or_replace("s", max_requests=2)
    assert created
    assert second.uid != first.uid
    await sessions.end("s", status=Status.EXPIRED)
    third, created = await sessions.get_or_replace("s", labels={"k": "v"})
    assert (created, third.labels) == (True, {"k": "v"})
    await async_sleep(0.2)
    fourth, created = await sessions.get_or_replace("s", max_idle=0.1)
    assert created
    assert fourth.uid != third.uid


async def test_a_session_in_use_is_not_replaced(client: AsyncClient) -> None:
    session = await client.attach("s")
    await session.update(metrics=MetricsDelta(requests=5))
    async with session.turn():
        await async_sleep(0.1)
        same = await client.attach("s", max_idle=0.05, max_requests=1)
        assert same.uid == session.uid


async def test_to_attach_can_replace_what_has_ended(client: AsyncClient) -> None:
    first = await client.attach("s")
    await first.end()
    with pytest.raises(errors.SessionEndedError):
        await client.attach("s")
    second = await client.attach("s", replace_ended=True)
    assert second.uid != first.uid


async def test_what_was_done_counts_more_than_how_it_ended(
    client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(session: AsyncSessionHandle) -> int:
        await session.append("user", "hello")
        return 42

    assert await client.run(work, "s", user="ann") == 42
    assert (await client.sessions.get("s", user="ann")).status is Status.COMPLETED

    async def remove(session: AsyncSessionHandle) -> int:
        await session.delete()
        return 43

    assert await client.run(remove, "t") == 43
    assert "could not be ended" in caplog.text

    async def fail(session: AsyncSessionHandle) -> int:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await client.run(fail, "u")
    assert (await client.sessions.get("u")).status is Status.FAILED
