"""Tokens: what they are held to, in which order, and where the log no longer reaches."""

from __future__ import annotations

import base64

import msgspec
import pytest

from sojourn_server.domain import resume
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.model import AppStatus, Change, ChangeCause, Status
from sojourn_server.domain.resume import Point
from sojourn_server.domain.tokens import Sealer
from sojourn_server.service import feeds, watching
from sojourn_server.store.base import Tx
from sojourn_server.store.records import TokenKey
from tests.service.kit import APP
from tests.watch.kit import Scene
from tests.watch.validators import cause_of

KEEP_ALL = 1_000_000
SCOPE = resume.scope_hash(APP, None, "", SessionFilter())


async def logged(world: Scene, count: int = 10) -> None:
    for number in range(count):
        await world.create(f"s-{number}")


async def token_at(world: Scene, revision: int, *, nonce: int | None = None) -> str:
    """A token at a revision, whatever is there."""

    async def read(tx):
        app = await tx.app(APP)
        return app.feed_id, await tx.nonce(APP, revision)

    feed_id, found = await world.store.read(read)
    point = Point(revision, found or 0 if nonce is None else nonce)
    return resume.seal(world.services.sealer, feed_id, point, SCOPE)


async def refusal(world: Scene, token: str, **query) -> Refusal:
    return await world.watch(token=token, **query).refusal()


@pytest.mark.guarantee("W8")
async def test_tokens_around_the_horizon(world: Scene) -> None:
    await logged(world)
    tokens = {revision: await token_at(world, revision) for revision in range(11)}
    await world.store.compact(APP, 0, 4, 100)  # 7 to 10 are left
    for revision, token in tokens.items():
        if revision < 7:
            refused = await refusal(world, token)
            assert refused.reason is Reason.REVISION_COMPACTED, revision
            assert refused.metadata == {"oldest_revision": "7"}
        else:
            watcher = world.watch(token=token, start=revision)
            await watcher.reach(10)
            assert [c.revision for c in watcher.record.changes] == list(range(revision + 1, 11))


@pytest.mark.guarantee("W8")
async def test_no_change_comes_before_the_refusal_of_a_compacted_token(world: Scene) -> None:
    await logged(world)
    token = await token_at(world, 3)
    await world.store.compact(APP, 0, 4, 100)
    watcher = world.watch(token=token, start=3)
    assert (await watcher.refusal()).reason is Reason.REVISION_COMPACTED
    assert watcher.record.messages == []


@pytest.mark.guarantee("W8")
async def test_a_live_stream_outlives_compaction(world: Scene) -> None:
    watcher = await world.watch_now()
    for number in range(30):
        await world.create(f"s-{number}")
        await watcher.reach(await world.head())
        await world.store.compact(APP, 0, 1, 100)
    assert [c.revision for c in watcher.record.changes] == list(range(1, 31))


@pytest.mark.guarantee("W8")
async def test_a_stream_that_is_itself_behind_the_horizon_is_told(
    world: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await logged(world, 3)
    watcher = await world.watch_now()
    # It takes nothing, is offered more than may wait for it, and so must read the log.
    watcher.stuck.clear()
    for stream in world.hub._streams:
        monkeypatch.setattr(stream, "_most", 1_000)
    for number in range(10):
        await world.create(f"more-{number}")
    await world.point()
    await world.store.compact(APP, 0, 1, 100)
    watcher.stuck.set()
    refused = await watcher.refusal()
    assert (refused.reason, refused.metadata) == (
        Reason.REVISION_COMPACTED,
        {"oldest_revision": "13"},
    )


@pytest.mark.guarantee("W9")
async def test_a_revision_that_is_not_there_yet_is_waited_for(
    world: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await logged(world, 3)
    head = await world.head()
    # As a reader of a server that is ahead might come to one that is behind.
    future = await token_at(world, head + 1, nonce=1)
    monkeypatch.setattr(watching, "FUTURE", 0.1)
    refused = await refusal(world, future)
    assert refused.reason is Reason.REVISION_FUTURE
    assert refused.metadata == {"head_revision": str(head)}
    monkeypatch.setattr(watching, "FUTURE", 10.0)
    watcher = world.watch(token=future, start=head + 1)
    await world.create("s-new")
    # It has come, and it is another one than the token's.
    assert (await watcher.refusal()).reason is Reason.FEED_CHANGED
    assert watcher.record.messages == []


@pytest.mark.guarantee("W9")
async def test_a_revision_with_another_nonce_is_of_another_history(world: Scene) -> None:
    await logged(world, 3)
    refused = await refusal(world, await token_at(world, 2, nonce=12345))
    assert refused.reason is Reason.FEED_CHANGED


@pytest.mark.guarantee("W9")
async def test_a_token_of_a_feed_that_was_renewed(world: Scene) -> None:
    await logged(world, 3)
    token = await token_at(world, 3)
    watcher = await world.watch_now()
    await feeds.renew(world.store)
    assert (await watcher.refusal()).reason is Reason.FEED_CHANGED
    assert (await refusal(world, token)).reason is Reason.FEED_CHANGED
    again = await world.watch_now()
    await world.create("s-new")
    await world.settled(again)


@pytest.mark.guarantee("W9")
async def test_a_token_of_another_store(world: Scene) -> None:
    await logged(world, 3)
    elsewhere = Sealer([TokenKey(key_id=1, secret=b"k" * 32)])
    foreign = resume.seal(elsewhere, "another feed", Point(3, 7), SCOPE)
    assert (await refusal(world, foreign)).reason is Reason.FEED_CHANGED
    # One that says it is of this feed is a forgery.
    feed_id = (await world.store.read(lambda tx: tx.app(APP))).feed_id  # type: ignore[union-attr]
    forged = resume.seal(elsewhere, feed_id, Point(3, 7), SCOPE)
    assert (await refusal(world, forged)).reason is Reason.RESUME_TOKEN_INVALID


@pytest.mark.guarantee("W9", "W16")
async def test_a_token_of_another_scope_or_filter(world: Scene) -> None:
    await logged(world, 3)
    await world.create("s-1", app="other")
    token = await token_at(world, 3)
    for query in (
        {"app": "other"},
        {"app": "nowhere"},
        {"user": "ann"},
        {"parent_uid": "00000000-0000-0000-0000-000000000000"},
        {"filter": SessionFilter(statuses=(Status.ACTIVE,))},
    ):
        refused = await refusal(world, token, **query)
        assert (refused.reason, refused.metadata) == (Reason.RESUME_TOKEN_INVALID, {})
    # The form is no part of what it is bound to.
    await world.watch(token=token, start=3, previous=True).opened()


@pytest.mark.guarantee("W9")
async def test_a_token_with_a_flipped_bit(world: Scene) -> None:
    await logged(world, 3)
    token = await token_at(world, 3)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for place in range(0, len(raw), 3):
        bad = bytearray(raw)
        bad[place] ^= 1 << (place % 8)
        flipped = base64.urlsafe_b64encode(bytes(bad)).rstrip(b"=").decode()
        assert (await refusal(world, flipped)).reason is Reason.RESUME_TOKEN_INVALID, place
    for text in ("", "x", token[:-1], token + "A", "ä"):
        if text:
            assert (await refusal(world, text)).reason is Reason.RESUME_TOKEN_INVALID


async def test_initial_state_and_a_token_do_not_go_together(world: Scene) -> None:
    await logged(world, 1)
    refused = await refusal(world, await token_at(world, 1), initial=True)
    assert refused.reason is Reason.INVALID_FIELD


@pytest.mark.guarantee("W9")
async def test_a_log_that_went_back_in_time_ends_its_streams(world: Scene) -> None:
    await logged(world, 3)
    watcher = await world.watch_now()
    tail = world.hub._tails[APP]
    # As if a standby had taken over that lacked the last commit, and counted it anew.
    tail.point = Point(tail.point.revision, tail.point.nonce ^ 1)
    assert (await watcher.refusal()).reason is Reason.FEED_CHANGED


async def test_the_end_of_an_app_is_the_end_of_its_feed(world: Scene) -> None:
    await logged(world, 3)
    watcher = await world.watch_now(app_changes=True)
    silent = await world.watch_now()
    behind = silent.record.token

    async def delete(tx: Tx) -> None:
        app = await tx.app(APP)
        assert app is not None
        await tx.put_app(msgspec.structs.replace(app, status=AppStatus.DELETED))
        await tx.log(Change(cause=ChangeCause.APP_DELETED))

    await world.store.apply(APP, "tester", delete)
    for each in (watcher, silent, world.watch(token=behind, start=3, app_changes=True)):
        assert (await each.refusal()).reason is Reason.APP_NOT_FOUND
        assert each.record.revision == 4
    assert cause_of(watcher.record.changes[-1]) is ChangeCause.APP_DELETED
    assert cause_of(world.watchers[-1].record.changes[-1]) is ChangeCause.APP_DELETED
    assert (await world.watch().refusal()).reason is Reason.APP_NOT_FOUND
