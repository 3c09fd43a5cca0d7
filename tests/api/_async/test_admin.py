"""The operator's calls against a real server: audit, erase, export and import, backup, info."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from sojourn import (
    AsyncClient,
    ChangeCause,
    DeletedWhy,
    ExportedApp,
    ExportedUser,
    Message,
    NewMessage,
    OnExisting,
    Policy,
    Session,
    TimeRange,
    errors,
)


async def furnish(client: AsyncClient) -> None:
    await client.apps.update(labels={"agent": "x"}, policy=Policy(max_active_sessions=9))
    session = await client.attach(
        "s", user="ann", labels={"k": "v"}, state={"n": 1.0}, user_state={"lang": "de"}
    )
    await session.append_many([NewMessage("user", "a"), NewMessage("tool", None, b"\x00\xff")])
    async with session.turn():
        pass
    await client.sessions.create("t")
    await client.sessions.end("t", reason="done")


async def exported(client: AsyncClient, app: str) -> bytes:
    file = io.BytesIO()
    await client.admin.export_jsonl(file, app=app)
    return file.getvalue()


async def test_an_app_is_read_part_by_part(client: AsyncClient, app: str) -> None:
    await furnish(client)
    parts = [one async for one in client.admin.export()]
    first, user, *rest = parts
    assert isinstance(first, ExportedApp)
    assert (first.app, first.labels, first.policy.max_active_sessions) == (app, {"agent": "x"}, 9)
    assert isinstance(user, ExportedUser)
    assert user.user == "ann"
    assert user.state.values == {"lang": "de"}
    sessions = [one for one in rest if isinstance(one, Session)]
    assert [one.session_id for one in sessions] == ["s", "t"]
    assert sessions[0].state_json == {"n": "1.0"}
    assert sessions[1].end_reason == "done"
    assert [one.payload for one in rest if isinstance(one, Message)] == [b"", b"\x00\xff"]
    only = [one async for one in client.admin.export(user="ann", status="active")]
    assert [one.session_id for one in only if isinstance(one, Session)] == ["s"]


async def test_what_was_exported_comes_back_as_it_was(client: AsyncClient, app: str) -> None:
    await furnish(client)
    file = await exported(client, app)
    done = await client.admin.import_jsonl(io.BytesIO(file), app="copy")
    assert (done.sessions, done.messages, done.skipped, done.renamed) == (2, 2, 0, 0)
    copied = await client.sessions.get("s", user="ann", app="copy", last_messages=9)
    assert (copied.labels, copied.state_json) == ({"k": "v"}, {"n": "1.0"})
    assert copied.metrics.request_count == 1
    assert [one.payload for one in copied.messages] == [b"", b"\x00\xff"]
    with pytest.raises(errors.SessionExistsError):
        await client.admin.import_jsonl(io.BytesIO(file), app="copy")
    again = await client.admin.import_jsonl(
        io.BytesIO(file), app="copy", on_existing=OnExisting.SKIP
    )
    assert (again.sessions, again.skipped) == (0, 2)
    # Both ids and uids are taken: there by the copies, here by the sessions themselves.
    for name in ("copy", app):
        renamed = await client.admin.import_jsonl(
            io.BytesIO(file), app=name, on_existing=OnExisting.RENAME
        )
        assert (renamed.sessions, renamed.renamed) == (2, 2)


async def test_an_app_that_is_not_there_exports_nothing(client: AsyncClient) -> None:
    assert not [one async for one in client.admin.export(app="never")]


async def test_a_user_is_erased_and_the_receipt_says_what(client: AsyncClient) -> None:
    await furnish(client)
    receipt = await client.users.erase("ann", request_id="r-1")
    assert (receipt.sessions, receipt.messages) == (1, 2)
    assert receipt.state_keys >= 2
    with pytest.raises(errors.SessionNotFoundError):
        await client.sessions.get("s", user="ann")
    assert (await client.users.get_state("ann")).version == 0
    assert (await client.sessions.get("t")).session_id == "t"
    [entry] = await client.admin.audit(causes=[ChangeCause.USER_ERASED]).to_list()
    assert entry.erased is not None
    assert (entry.erased.sessions, entry.erased.messages) == (1, 2)
    assert entry.user not in {"", "ann"}
    repeated = await client.users.erase("ann", request_id="r-1")
    assert (repeated.sessions, repeated.messages) == (1, 2)
    assert (await client.users.erase("nobody")).sessions == 0


async def test_the_audit_says_who_did_what_and_when(client: AsyncClient) -> None:
    mine = client.with_options(actor="ann")
    session = await mine.sessions.create("s")
    await mine.sessions.reset("s")
    await client.with_options(actor="bob").sessions.delete("s")
    entries = await client.admin.audit().to_list()
    of_session = [one for one in entries if one.uid == session.uid]
    causes = [one.cause for one in of_session]
    assert causes[0] is ChangeCause.DELETED
    assert ChangeCause.RESET in causes
    assert of_session[0].actor == "bob"
    assert [one.revision for one in entries] == sorted(
        (one.revision for one in entries), reverse=True
    )
    assert await client.admin.audit(uid=session).to_list() == of_session
    assert await client.admin.audit(user="", session_id="s").to_list() == of_session
    assert await client.admin.audit(actor="bob").to_list() == of_session[:1]
    assert of_session[0].deleted_why is DeletedWhy.REQUEST
    resets = await client.admin.audit(causes=[ChangeCause.RESET]).to_list()
    assert [one.cause for one in resets] == [ChangeCause.RESET]
    assert await client.admin.audit(page_size=1).to_list() == entries
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert not await client.admin.audit(time=TimeRange(not_before=tomorrow)).to_list()


async def test_the_server_says_what_it_is(client: AsyncClient) -> None:
    info = await client.admin.info()
    assert info.store in {"sqlite", "postgresql"}
    assert info.schema_version > 0
    assert info.start_time <= datetime.now(UTC) + timedelta(minutes=1)
    assert not info.draining


async def test_a_server_without_a_folder_for_them_makes_no_backups(client: AsyncClient) -> None:
    with pytest.raises((errors.BackupsOffError, errors.RpcNotImplementedError)):
        await client.admin.backup("monday.db")
