"""Exports and imports on their way: part by part, cut off, refused, and given up."""

import io
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

import sojourn
from sojourn import AsyncClient, Message, OnExisting, RetryOptions, Session, errors
from sojourn._acompat import async_ask, async_sleep
from tests.api.scripted import Failure, reasoned
from tests.api.scripted_parts import PartsScript, app, messages, parts_server, session

AWAY = Failure(grpc.StatusCode.UNAVAILABLE)
QUICK = RetryOptions(initial_backoff=timedelta(milliseconds=1))
WHOLE = [app("a"), session("s"), messages("one", "two"), session("t"), messages("three")]


@pytest.fixture
def script() -> Iterator[PartsScript]:
    with parts_server() as script:
        yield script


@pytest.fixture
async def quick(script: PartsScript) -> AsyncIterator[AsyncClient]:
    async with sojourn.connect(script.target, app="a", retry=QUICK, deadline=5) as client:
        yield client


def name(part: sojourn.Exported) -> str:
    if isinstance(part, Session):
        return part.session_id
    return str(part.content) if isinstance(part, Message) else type(part).__name__


async def test_an_export_comes_part_by_part(script: PartsScript, quick: AsyncClient) -> None:
    script.exports = [WHOLE]
    found = [name(one) async for one in quick.admin.export(user="u", labels={"k": "v"})]
    assert found == ["ExportedApp", "s", "one", "two", "t", "three"]
    [request] = script.requests
    assert (request.app, request.user) == ("a", "u")
    assert [one.key for one in request.filter.labels] == ["k"]
    assert not request.filter.statuses


async def test_an_export_is_repeated_until_its_first_part_has_come(
    script: PartsScript, quick: AsyncClient
) -> None:
    script.exports = [[AWAY], [AWAY], WHOLE]
    assert len([one async for one in quick.admin.export()]) == 6
    assert len(script.requests) == 3


async def test_an_export_that_is_cut_off_in_the_middle_is_an_error_at_once(
    script: PartsScript, quick: AsyncClient
) -> None:
    script.exports = [[session("s"), messages("one"), AWAY], WHOLE]
    found: list[str] = []
    with pytest.raises(errors.UnavailableError) as caught:
        async for one in quick.admin.export():
            found += [name(one)]
    assert found == ["s", "one"]
    assert caught.value.method == "ExportSessions"
    assert len(script.requests) == 1


async def test_a_refused_export_is_one_of_our_errors(
    script: PartsScript, quick: AsyncClient
) -> None:
    script.exports = [[reasoned(grpc.StatusCode.NOT_FOUND, "APP_NOT_FOUND")]]
    with pytest.raises(errors.AppNotFoundError):
        [one async for one in quick.admin.export()]


async def test_a_file_that_was_exported_can_be_imported(
    script: PartsScript, quick: AsyncClient, tmp_path: Path
) -> None:
    script.exports = [WHOLE]
    file = tmp_path / "support.jsonl"
    done = await quick.admin.export_jsonl(file)
    assert (done.sessions, done.messages) == (2, 3)
    taken = await quick.admin.import_jsonl(file, app="b", on_existing=OnExisting.SKIP)
    assert (taken.sessions, taken.messages, taken.revision) == (2, 3, 9)
    assert (taken.skipped, taken.renamed) == (1, 2)
    target, *rest = script.taken
    assert (target.target.app, target.target.on_existing) == ("b", 2)
    assert [one.SerializeToString() for one in rest] == [one.SerializeToString() for one in WHOLE]
    assert script.whole == [True]


async def test_an_export_that_fails_leaves_no_file(
    script: PartsScript, quick: AsyncClient, tmp_path: Path
) -> None:
    script.exports = [[session("s"), AWAY]]
    with pytest.raises(errors.UnavailableError):
        await quick.admin.export_jsonl(tmp_path / "support.jsonl")
    assert not await async_ask(lambda: list(tmp_path.iterdir()))


async def test_a_torso_is_not_imported_unless_it_may_be_one(
    script: PartsScript, quick: AsyncClient
) -> None:
    script.exports = [WHOLE]
    file = io.BytesIO()
    await quick.admin.export_jsonl(file)
    torso = b"".join(file.getvalue().splitlines(keepends=True)[:-1])
    with pytest.raises(errors.ExportFormatError, match="not whole"):
        await quick.admin.import_jsonl(io.BytesIO(torso))
    assert script.taken == []
    done = await quick.admin.import_jsonl(io.BytesIO(torso), partial=True)
    assert done.sessions == 2


class Pipe(io.BytesIO):
    """A file that cannot be searched."""

    def seekable(self) -> bool:
        return False


async def test_what_is_wrong_in_the_middle_of_a_file_ends_the_import(
    script: PartsScript, quick: AsyncClient
) -> None:
    script.exports = [WHOLE]
    file = io.BytesIO()
    await quick.admin.export_jsonl(file)
    script.patience = 0.5
    wrong = file.getvalue().replace(b'"three"', b"three")
    with pytest.raises(errors.ExportFormatError, match="line 6: no JSON"):
        await quick.admin.import_jsonl(Pipe(wrong))
    for _ in range(100):
        if script.whole:
            break
        await async_sleep(0.02)
    assert True not in script.whole


async def test_a_refused_import_says_why_and_sends_no_more(
    script: PartsScript, quick: AsyncClient
) -> None:
    script.exports = [[session(f"s-{number}") for number in range(2000)]]
    file = io.BytesIO()
    await quick.admin.export_jsonl(file)
    file.seek(0)
    script.refuse_after = 3
    script.refusal = reasoned(
        grpc.StatusCode.ALREADY_EXISTS, "SESSION_EXISTS", metadata={"sessions_imported": "1"}
    )
    with pytest.raises(errors.SessionExistsError) as caught:
        await quick.admin.import_jsonl(file)
    assert caught.value.metadata["sessions_imported"] == "1"
    assert caught.value.method == "ImportSessions"
    assert len(script.taken) == 3


async def test_an_import_is_never_repeated(script: PartsScript, quick: AsyncClient) -> None:
    script.exports = [WHOLE]
    file = io.BytesIO()
    await quick.admin.export_jsonl(file)
    file.seek(0)
    script.refuse_after, script.refusal = 1, AWAY
    with pytest.raises(errors.UnavailableError):
        await quick.admin.import_jsonl(file)
    assert len(script.taken) == 1


async def test_a_closed_client_neither_exports_nor_imports(script: PartsScript) -> None:
    client = sojourn.connect(script.target, app="a")
    await client.close()
    with pytest.raises(errors.ClientClosedError):
        [one async for one in client.admin.export()]
    with pytest.raises(errors.ClientClosedError):
        await client.admin.import_jsonl(io.BytesIO(b'{"end":{}}'))
