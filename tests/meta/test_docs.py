"""The pages in docs are true as far as a machine can see: they run, they link, they name it all."""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from psycopg.conninfo import conninfo_to_dict

import sojourn
import sojourn.testing
from sojourn.v1 import (
    admin_service_pb2,
    app_pb2,
    app_service_pb2,
    change_pb2,
    error_reason_pb2,
    history_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from sojourn_server.settings import table
from tests import postgres
from tests.faults.checker import until
from tests.faults.harness import ServerProcess
from tests.meta import pages
from tools import gen_cli_docs

DOCS = pages.ROOT / "docs"
EXECUTED = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
PROTOS: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR
    for module in (
        admin_service_pb2,
        app_pb2,
        app_service_pb2,
        change_pb2,
        error_reason_pb2,
        history_service_pb2,
        message_pb2,
        session_pb2,
        session_service_pb2,
        turn_service_pb2,
    )
)
BLOCKS = {
    "tutorial": 30,
    "adk": 5,
    "aiecs": 4,
    "back-up": 10,
    "claude-agent-sdk": 6,
    "delete-app": 6,
    "embed": 8,
    "erase": 7,
    "export": 5,
    "jwt": 6,
    "keys": 8,
    "langgraph": 13,
    "limits": 3,
    "openai-agents": 6,
    "operate": 8,
    "policies": 10,
    "postgresql": 16,
    "sub-agents": 9,
    "tls": 10,
    "upgrade": 2,
    "watch": 11,
}

"""How many blocks of each page are run: a page that loses them shall not pass unseen."""

NEEDS = {
    "operate": ("openssl",),
    "tls": ("openssl",),
    "back-up": ("sqlite3",),
    "upgrade": ("sqlite3",),
}
"""Commands that a page uses and that are not everywhere."""


# --- what pages tell to do -----------------------------------------------------------------------


@pytest.fixture
def database() -> Iterator[dict[str, str]]:
    """The variables of a terminal that has a PostgreSQL of its own, and its commands."""
    owned = postgres.private()
    yield {
        "PATH": os.pathsep.join([str(owned.commands), str(pages.BIN), os.environ["PATH"]]),
        "PGHOST": str(conninfo_to_dict(owned.options().dsn)["host"]),
        "PGUSER": "postgres",
    }
    owned.close()


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    missing = [need for need in NEEDS.get(page.stem, ()) if shutil.which(need) is None]
    if missing:
        pytest.skip(f"the page uses {missing}, which this machine has not")
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    variables = request.getfixturevalue("database") if page.stem == "postgresql" else {}
    with pages.Reader(folder, scratch, **variables) as reader:
        assert reader.read(page.read_text(encoding="utf-8")) == BLOCKS[page.stem]


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_a_page_names_settings_that_there_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    ours = {setting.variable for setting in table()} | set(
        re.findall(r"SOJOURN_\w+", gen_cli_docs.PAGE.read_text(encoding="utf-8"))
    )
    # What click makes of the options of `sojourn-server health`.
    assert set(re.findall(r"SOJOURN_\w+", text)) <= ours | {
        f"SOJOURN_HEALTH_TLS_{part}" for part in ("NAME", "CERT", "KEY")
    }
    flags = {setting.flag for setting in table()} | {"--target", "--tls-ca", "--tls-name"}
    flags |= {"--service", "--version", "--check"}
    flags |= {"--grant", "--expires", "--all"}  # of `sojourn-server keys`
    for command in re.findall(r"sojourn-server((?:\\\n|[^\n`|>&])*)", text):
        assert set(re.findall(r"(?<!\S)--[a-z-]+", command)) <= flags, command


async def test_a_backup_of_a_busy_server_holds_what_was_answered_before(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "back-up.md").read_text(encoding="utf-8")
    [code] = [block.text for block in pages.blocks(page) if block.text.startswith("# backup.py")]
    (tmp_path / "backup.py").write_text(code, encoding="utf-8")
    (tmp_path / "store" / "backups").mkdir(parents=True)
    with ServerProcess(tmp_path) as server:
        async with sojourn.connect(server.target, app="a") as client:
            load = [pages.Load(client, f"w{number}") for number in range(8)]

            async def warm() -> bool:
                return all(each.acknowledged >= 20 for each in load)

            async with pages.running(each.write for each in load):
                await until(warm, "every writer has written")
                before = {each.name: each.acknowledged for each in load}
                await pages.run_beside("python ../backup.py", tmp_path / "store")
            after = {each.name: each.acknowledged for each in load}
    assert sum(after.values()) > sum(before.values()), "nothing was written meanwhile"
    restored = tmp_path / "store" / "backups" / "sojourn-2.db"
    with closing(sqlite3.connect(restored)) as copy:
        [(head, changes)] = copy.execute(
            "SELECT head, (SELECT count(DISTINCT revision) FROM change) FROM app"
        )
    assert head == changes
    async with (
        sojourn.testing.serve(store=f"sqlite:///{restored}") as server_of_copy,
        server_of_copy.client(app="a") as client,
    ):
        for name, count in before.items():
            kept = [m.content async for m in client.messages.list(name, page_size=1000)]
            assert len(kept) >= count
            assert kept == [str(number) for number in range(len(kept))]


# --- where links lead ----------------------------------------------------------------------------


def test_all_links_and_anchors_lead_somewhere() -> None:
    found = pages.markdown_files()
    assert {"README.md", "tutorial.md", "api.md", "operate.md"} <= {page.name for page in found}
    assert [problem for page in found for problem in pages.broken_links(page)] == []


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    named = {(DOCS / link).resolve() for link in pages.links(index)}
    decisions = DOCS / "decisions"
    wanted = {page for page in DOCS.rglob("*.md") if page.parent != decisions}
    assert wanted - {DOCS / "README.md"} <= named
    assert decisions / "README.md" in named


def test_every_page_can_be_reached_from_the_index_and_from_the_readme() -> None:
    wanted = {page for page in pages.markdown_files() if page.is_relative_to(DOCS)}
    assert len(wanted) > 15
    for start in (DOCS / "README.md", pages.ROOT / "README.md"):
        assert wanted <= pages.reachable(start)


# --- what words mean -----------------------------------------------------------------------------


def entries() -> list[tuple[str, str]]:
    """The glossary's words and what they mean."""
    found = re.findall(
        r"^- \*\*(.+?)\*\*: (.+?)(?=\n- \*\*|\n\n)", GLOSSARY, re.MULTILINE | re.DOTALL
    )
    return [(word, " ".join(meaning.split())) for word, meaning in found]


def test_the_glossary_is_sorted_and_has_one_sentence_for_each_word() -> None:
    words = [word for word, _ in entries()]
    assert len(words) > 60
    assert words == sorted(words, key=str.lower)
    assert len(words) == len(set(words))
    for word, meaning in entries():
        assert meaning.endswith("."), word
        assert ". " not in meaning, word


def names_of_the_contract() -> Iterator[str]:
    """What the protos call their resources, enums and services, and the statuses."""
    for file in PROTOS:
        yield from file.services_by_name
        yield from file.enum_types_by_name
        for message in file.message_types_by_name.values():
            yield from _names(message)
    for enum in (session_pb2.SessionStatus, app_pb2.AppStatus):
        yield from (name.partition("STATUS_")[2] for name in enum.keys()[1:])


def _names(message: Descriptor) -> Iterator[str]:
    if not message.name.endswith(("Request", "Response")):
        yield message.name
    yield from message.enum_types_by_name


def test_the_glossary_names_everything_in_the_contract() -> None:
    named = set(re.findall(r"\w+", GLOSSARY))
    missing = sorted(set(names_of_the_contract()) - named)
    assert missing == []
    words = {word for word, _ in entries()}
    said = "app user session status state message turn generation unit revision change etag label"
    also = "metadata filter content feed watch bookmark lease sequence request_id feed_id uid"
    assert set(said.split()) | set(also.split()) <= words


def test_the_glossary_marks_nothing_as_later() -> None:
    assert not [word for word, meaning in entries() if "*later*" in meaning]
