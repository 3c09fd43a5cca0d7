"""ListMessages and GetMessage."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import (
    SessionRef,
)
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.limits import ANSWER_BYTES, MIB, PAGE_MOST
from sojourn_server.domain.model import Status
from sojourn_server.service.message_listing import MessageQuery
from tests.service.kit import KEPT, World, message, refused, twenty

TIMED = [1, 2, 3, 4, 9, 11, 13, 15, 17, 19]


@pytest.mark.parametrize("page_size", [1, 2, 7, 1_000])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, KEPT),
        ({"descending": True}, KEPT[::-1]),
        ({"after_sequence": 3}, KEPT[3:]),
        ({"after_sequence": 3, "descending": True}, KEPT[:2:-1]),
        ({"before_sequence": 10}, [1, 2, 3, 4, 9]),
        ({"before_sequence": 10, "descending": True}, [9, 4, 3, 2, 1]),
        ({"after_sequence": 3, "before_sequence": 11}, [4, 9, 10]),
        ({"after_sequence": 10, "before_sequence": 11}, []),
        ({"after_sequence": 20}, []),
        ({"before_sequence": 0}, []),
        ({"last": 0}, []),
        ({"last": 3}, [18, 19, 20]),
        ({"last": 3, "descending": True}, [20, 19, 18]),
        ({"last": 14}, KEPT[2:]),
        ({"last": 100}, KEPT),
        ({"last": 2, "before_sequence": 10}, [4, 9]),
        ({"last": 2, "before_sequence": 10, "descending": True}, [9, 4]),
        ({"event_time_not_before": 3}, [n for n in TIMED if n >= 3]),
        ({"event_time_not_before": 3, "descending": True}, [n for n in TIMED[::-1] if n >= 3]),
        ({"event_time_not_before": 3, "last": 2}, [17, 19]),
        ({"event_time_not_before": 3, "last": 2, "descending": True}, [19, 17]),
        ({"event_time_not_before": 99}, []),
    ],
)
async def test_lists_hold_what_was_asked_for_whatever_the_page_size(
    world: World, query: dict[str, Any], expected: list[int], page_size: int
) -> None:
    await twenty(world)
    found: list[int] = []
    asked = {**query, "page_size": page_size}
    for _ in range(30):
        page = await world.messages("s-1", **asked)
        assert len(page.messages) <= page_size
        found += [shot.message.sequence for shot in page.messages]
        if not page.next_page_token:
            break
        asked["page_token"] = page.next_page_token
    assert found == expected


async def test_a_list_of_the_newest_is_those_of_its_first_page_while_others_write(
    world: World,
) -> None:
    await world.create("s-1")
    await world.fill("s-1", 10)
    page = await world.messages("s-1", last=4, page_size=2)
    await world.fill("s-1", 10, 11)
    rest = await world.messages("s-1", last=4, page_size=9, page_token=page.next_page_token)
    found = [shot.message.sequence for shot in (*page.messages, *rest.messages)]
    assert found == [7, 8, 9, 10]
    assert not rest.next_page_token


async def test_a_message_removed_meanwhile_is_passed_over_and_no_other_missed(
    world: World,
) -> None:
    await world.create("s-1")
    await world.fill("s-1", 6)
    page = await world.messages("s-1", page_size=2)
    await world.truncate("s-1", 4)
    await world.fill("s-1", 1, 7)
    token = page.next_page_token
    assert await world.sequences("s-1", page_size=2, page_token=token) == [3, 4, 7]


async def test_a_page_token_serves_the_list_it_was_made_for_only(world: World) -> None:
    await twenty(world)
    await world.create("s-2")
    await world.fill("s-2", 9)
    token = (await world.messages("s-1", page_size=2)).next_page_token
    for other in (
        {"descending": True},
        {"after_sequence": 0},
        {"before_sequence": 99},
        {"last": 9},
        {"event_time_not_before": 0},
    ):
        with refused(Reason.PAGE_TOKEN_INVALID):
            await world.messages("s-1", page_token=token, **other)
    with refused(Reason.PAGE_TOKEN_INVALID):
        await world.messages("s-2", page_token=token)
    with refused(Reason.PAGE_TOKEN_INVALID):
        await world.messages("s-1", page_token=token[:-1])
    by_uid = await world.get("s-1")
    assert len((await world.messages(by_uid, page_token=token, page_size=3)).messages) == 3


async def test_a_page_token_of_an_older_generation_is_refused(world: World) -> None:
    await twenty(world)
    token = (await world.messages("s-1", page_size=2)).next_page_token
    await world.reset("s-1")
    await world.fill("s-1", 5)
    with refused(Reason.GENERATION_CHANGED, generation="2"):
        await world.messages("s-1", page_token=token)
    assert (await world.messages("s-1")).generation == 2


async def test_page_sizes_have_a_default_and_a_ceiling(world: World) -> None:
    await world.create("s-1")
    await world.fill("s-1", PAGE_MOST + 100)
    assert len((await world.messages("s-1", page_size=0)).messages) == 50
    assert len((await world.messages("s-1", page_size=5_000)).messages) == PAGE_MOST
    with refused(Reason.INVALID_FIELD, field="page_size"):
        await world.messages("s-1", page_size=-1)


async def test_pages_are_cut_at_a_mebibyte_or_hold_one_message(world: World) -> None:
    await world.create("s-1")
    sizes = [MIB, 10, MIB // 2, MIB // 2, MIB // 2 - 5_000, 10]
    for number, size in enumerate(sizes, start=1):
        await world.append("s-1", [message(f"m-{number}", "x" * size)])
    pages: list[list[int]] = []
    query: dict[str, Any] = {}
    while True:
        page = await world.messages("s-1", **query)
        pages.append([shot.message.sequence for shot in page.messages])
        size = sum(shot.message.size for shot in page.messages)
        assert size <= ANSWER_BYTES or len(page.messages) == 1
        if not page.next_page_token:
            break
        query["page_token"] = page.next_page_token
    assert [each for page in pages for each in page] == [1, 2, 3, 4, 5, 6]
    assert pages[0] == [1]
    assert len(pages) <= 4
    newest = (await world.read("s-1", last=6)).messages
    assert [shot.message.sequence for shot in newest] == [4, 5, 6]
    popped = await world.pop("s-1", 6)
    assert [shot.message.sequence for shot in popped.outcome.messages] == [4, 5, 6]
    assert await world.sequences("s-1") == [1, 2, 3]


async def test_as_many_small_messages_as_allowed_fit_into_one_answer(world: World) -> None:
    await world.create("s-1")
    long_id = "i" * 200
    written = [
        message(f"{long_id}-{n}", "x" * 300, metadata={"kind": '"note"'}) for n in range(1_000)
    ]
    await world.append("s-1", written)
    assert len((await world.messages("s-1")).messages) == 1_000
    assert len((await world.read("s-1", last=1_000)).messages) == 1_000
    assert len((await world.pop("s-1", 1_000)).outcome.messages) == 1_000


async def test_one_message_is_read_by_id_or_by_sequence(world: World) -> None:
    await twenty(world)

    async def get(message_id: str | None, sequence: int | None) -> tuple[str, str | None]:
        found = await world.history.get(
            world.call("GetMessage"), world.ref("s-1"), message_id, sequence
        )
        return found.snapshot.message.message_id, found.snapshot.body.content

    assert await get("m-9", None) == ("m-9", "text 9")
    assert await get(None, 20) == ("m-20", "text 20")
    with refused(Reason.MESSAGE_NOT_FOUND, message_id="m-5"):
        await get("m-5", None)
    with refused(Reason.MESSAGE_NOT_FOUND, sequence="5"):
        await get(None, 5)
    with refused(Reason.SESSION_NOT_FOUND, session_id="x"):
        await world.history.get(world.call("GetMessage"), world.ref("x"), "m-1", None)


async def test_reading_messages_of_an_overdue_session_commits_its_expiry_first(
    world: World,
) -> None:
    for number, reading in enumerate(
        (
            lambda ref: world.history.get(world.call("GetMessage"), ref, "m-1", None),
            lambda ref: world.history.list(world.call("ListMessages"), MessageQuery(ref=ref)),
        )
    ):
        session = f"s-{number}"
        await world.create(session, idle_timeout=SECOND)
        await world.say(session, "m-1")
        world.clock.step(1)
        await reading(world.ref(session))
        assert (await world.stored(session)).status is Status.EXPIRED


async def test_reads_renew_nothing(world: World) -> None:
    await twenty(world)
    before = await world.stored("s-1")
    world.clock.step(60)
    await world.read("s-1", last=5)
    await world.messages("s-1")
    await world.page()
    assert await world.stored("s-1") == before


async def test_a_reference_with_key_and_uid_must_name_one_session(world: World) -> None:
    old = await world.create("s-1")
    await world.delete("s-1")
    new = await world.create("s-1")
    stale = SessionRef(app=old.app, user=old.user, session_id="s-1", uid=old.uid)
    with refused(Reason.UID_MISMATCH, uid=new.uid):
        await world.history.list(world.call("ListMessages"), MessageQuery(ref=stale))
