"""Mistakes that a type checker must find in users' code, each on the line that says so."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MISTAKES = """
import sojourn
from sojourn import AsyncClient, Client, NewMessage, Session

async def mistakes(client: AsyncClient, other: Client, session: Session) -> None:
    await client.sessions.create(5)  # arg-type
    await client.sessions.create("s", labels={"k": None})  # dict-item
    await client.sessions.create("s", colour="red")  # call-arg
    await client.sessions.create("s", status="ACTIVE")  # call-arg
    client.sessions.list(colour="red")  # call-arg
    client.sessions.create("s")  # unused-coroutine
    client.sessions.create("s").uid  # attr-defined
    await other.sessions.create("s")  # misc
    for one in client.sessions.list():  # attr-defined
        pass
    async for two in other.sessions.list():  # attr-defined
        pass
    with client.session("s"):  # attr-defined
        pass
    async with other.session("s"):  # attr-defined
        pass
    await client.messages.append("s", "hi")  # arg-type
    NewMessage()  # call-arg
    session.uid = "other"  # misc
    session.labels["k"] = "v"  # index
    session.metadata["k"] = 1  # index
    session.session  # attr-defined
    sojourn.connect("localhost:1", port=1)  # call-arg
    client.sessions.watch(colour="red")  # call-arg
    for three in client.sessions.watch():  # attr-defined
        pass
    async for four in other.sessions.watch():  # attr-defined
        pass
    client.sessions.cache(resync=print)  # call-arg

def more_mistakes(change: sojourn.SessionChange, event: sojourn.WatchEvent) -> None:
    change.session = change.session  # misc
    event.session  # union-attr

@sojourn.tracked
async def answer(session: sojourn.AsyncSessionHandle, question: str) -> int:
    return 1

async def more(session: sojourn.AsyncSessionHandle) -> None:
    await answer(session)  # call-arg
    await answer(session, 5)  # arg-type
    sojourn.retrying("s")  # call-overload
"""


def test_mypy_finds_each_mistake_and_no_other(tmp_path: Path) -> None:
    source = tmp_path / "mistakes.py"
    source.write_text(MISTAKES, encoding="utf-8")
    expected = {
        (number, found[1])
        for number, line in enumerate(MISTAKES.splitlines(), 1)
        if (found := re.search(r"# ([a-z-]+)$", line))
    }
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--hide-error-context"]
    command += [
        "--enable-error-code=unused-awaitable",
        f"--cache-dir={ROOT / '.mypy_cache' / 'mistakes'}",
    ]
    done = subprocess.run(
        [*command, str(source)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "client"), "PATH": ""},
    )
    found_errors = {
        (int(line), code)
        for line, code in re.findall(r"mistakes\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout)
    }
    assert found_errors == expected, done.stdout + done.stderr
