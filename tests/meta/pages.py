"""Pages as their reader uses them: blocks that are run in order, and links that are followed.

A page is run in one folder, with one terminal. In a page, a fenced block is

- `python` whose first line is a comment with a file name: saved under that name; a later block must
  run or import it;
- any other `python`: run at once;
- `sh` that begins with `sojourn-server` and has no `&`: a server, run beside all that follows;
- any other `sh`: typed into the terminal, whose shell stops at the first command that fails;
- `text` after a block that was run: what that block printed, all of it;
- anything else, or any block under a line `*Not run by the tests: … .*`: not run.

In a `text` block a time stands for any time, `…` for an id or a number, a line `…` for any lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import sojourn

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PORTS = (":7070", ":7443")
"""What pages say; the tests take free ports in their place."""
PATIENCE = 60.0
"""Seconds that one block may take."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"^\*Not run by the tests: ([^*]+)\.\*\n+\Z", re.MULTILINE)
_FILE = re.compile(r"# (\w+\.py)\n")
_TIME = re.compile(r"(?:\d{4}\\?-\d\d\\?-\d\d(?:\\? |T))?\d\d:\d\d:\d\d")
_LEFT_OUT = r"[0-9A-Za-z_.:+=/-]+"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    text: str
    not_run: str
    """Why it is not run; empty: it is."""


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order; each must begin at the margin."""
    found = []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        marker = _NOT_RUN.search(before)
        found.append(
            Block(
                before.count("\n") + 1,
                fence[1],
                fence[2],
                " ".join(marker[1].split()) if marker else "",
            )
        )
    assert len(re.findall(r"^ *(?:```|~~~)", text, re.MULTILINE)) == 2 * len(found)
    return found


def environment(**variables: str) -> dict[str, str]:
    """The tests' environment without settings of Sojourn, with its commands on the path."""
    own = {key: value for key, value in os.environ.items() if "SOJOURN" not in key}
    return own | {"PATH": f"{BIN}{os.pathsep}{own['PATH']}"} | variables


def shell(script: str, folder: Path, **variables: str) -> str:
    """Run a script by itself and return what it wrote to standard output; it must succeed."""
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def difference(wanted: str, printed: str) -> str:
    """Say what was printed instead of what the page says; empty: nothing else."""
    patterns = []
    for line in wanted.splitlines():
        known = [re.escape(part) for part in line.rstrip().split("…")]
        pattern = _TIME.sub(lambda _: _TIME.pattern, _LEFT_OUT.join(known))
        patterns.append(r"(?:.*\n)*?" if line == "…" else pattern + r" *\n")
    if re.fullmatch("".join(patterns), printed):
        return ""
    return f"the page says\n{wanted}\nand this was printed:\n{printed}"


class Terminal:
    """A shell that keeps its variables from block to block.

    Args:
        folder: Where it begins.
        variables: More variables.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-e"],
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._count = 0

    def run(self, script: str, scratch: Path) -> str:
        """Type a script and return what it printed.

        Args:
            script: What a reader would type.
            scratch: A file to keep it in.
        """
        self._count += 1
        end = f"--- block {self._count} is done ---\n"
        scratch.write_text(script, encoding="utf-8")
        assert self._shell.stdin is not None
        self._shell.stdin.write(f". {scratch} < /dev/null; printf '%s' '{end}'\n".encode())
        self._shell.stdin.flush()
        return self._read_until(end)

    def _read_until(self, end: str) -> str:
        assert self._shell.stdout is not None
        printed = b""
        until = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as ready:
            ready.register(self._shell.stdout, selectors.EVENT_READ)
            while not printed.endswith(end.encode()):
                if not ready.select(0.1):
                    alive = self._shell.poll() is None
                    assert alive, f"a command failed:\n{printed.decode()}"
                    assert time.monotonic() < until, f"no end:\n{printed.decode()}"
                    continue
                more = os.read(self._shell.stdout.fileno(), 65_536)
                assert more, f"a command failed:\n{printed.decode()}"
                printed += more
        return printed.decode().removesuffix(end)

    def close(self) -> None:
        """End the shell and whatever it left running."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        # It leads its session, so its group has its number, also once it has ended by itself.
        with_children = self._shell.pid
        self._shell.stdin.close()
        try:
            self._shell.wait(10)
        finally:
            self._shell.stdout.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(with_children, signal.SIGKILL)


class Reader:
    """Runs a page from its first block to its last.

    Args:
        folder: An empty folder: what the reader works in.
        scratch: Another one, for what the reader does not see.
        variables: More variables of the terminal.
    """

    def __init__(self, folder: Path, scratch: Path, **variables: str) -> None:
        self._folder = folder
        self._scratch = scratch
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        ours = self._ports[PORTS[0]]
        self._address = {"SOJOURN_LISTEN": f"127.0.0.1{ours}"}
        self._target = {"SOJOURN_TARGET": f"127.0.0.1{ours}", "SOJOURN_OUTPUT": "table"}
        self._terminal = Terminal(folder, **self._address, **self._target, **variables)
        self._server: subprocess.Popen[bytes] | None = None
        self._printed: str | None = None
        self._saved: set[str] = set()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._terminal.close()
        code = self._stop_server()
        if error is None:
            assert code == 0, f"the server ended with {code}"

    def read(self, text: str) -> int:
        """Run a page; return how many of its blocks were run."""
        count = 0
        for block in blocks(text):
            try:
                count += self._one(block)
            except AssertionError as failure:
                raise AssertionError(f"line {block.line}: {failure}") from None
        self._all_is_shown()
        assert not self._saved, f"saved and never run: {self._saved}"
        return count

    def _one(self, block: Block) -> bool:
        if block.language == "text" and not block.not_run:
            assert self._printed is not None, "what printed this?"
            said = difference(block.text, self._printed)
            assert not said, said
            self._printed = None
            return False
        self._all_is_shown()
        if block.not_run:
            return False
        script = block.text
        for said, taken in self._ports.items():
            script = script.replace(said, taken)
        self._saved -= {
            name for name in self._saved if re.search(_uses(name), script, re.MULTILINE)
        }
        match block.language:
            case "python" if name := _FILE.match(script):
                (self._folder / name[1]).write_text(script, encoding="utf-8")
                self._saved.add(name[1])
            case "python":
                (self._scratch / "block.py").write_text(script, encoding="utf-8")
                self._type(f"python {self._scratch / 'block.py'}\n")
            case "sh" if script.startswith("sojourn-server") and is_server(script):
                self._start_server(script)
            case "sh":
                self._type(script)
            case _:
                raise AssertionError(f"say why a block of {block.language!r} is not run")
        return True

    def _type(self, script: str) -> None:
        printed = self._terminal.run(script, self._scratch / "block.sh")
        for said, taken in self._ports.items():
            printed = printed.replace(taken, said)
        self._printed = printed or None

    def _all_is_shown(self) -> None:
        said, self._printed = self._printed, None
        assert said is None, f"the block before printed what the page does not show:\n{said}"

    def _start_server(self, script: str) -> None:
        assert self._server is None, "one server in a page"
        port_file = self._scratch / "port"
        with (self._scratch / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                ["sh", "-c", f"exec {script}"],
                cwd=self._folder,
                env=environment(SOJOURN_PORT_FILE=str(port_file), **self._address),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + PATIENCE
        while not port_file.exists():
            log_text = (self._scratch / "server.log").read_text(errors="replace")
            assert self._server.poll() is None, f"the server ended by itself:\n{log_text}"
            assert time.monotonic() < until, f"the server did not start:\n{log_text}"
            time.sleep(0.02)

    def _stop_server(self) -> int:
        if self._server is None:
            return 0
        self._server.terminate()
        try:
            return self._server.wait(30)
        except subprocess.TimeoutExpired:
            self._server.kill()
            return self._server.wait()


def free_ports(count: int) -> list[str]:
    """Ports that nobody has now, as an address ends: `:40123`."""
    with contextlib.ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f":{each.getsockname()[1]}" for each in taken]


def _uses(name: str) -> str:
    """What a script says that runs or imports a file."""
    return rf"\b{re.escape(name)}\b|^from {re.escape(name.removesuffix('.py'))} import"


def is_server(script: str) -> bool:
    """Whether a script is one server in the foreground, and nothing else."""
    words = script.replace("\\\n", " ").split()
    alone = len(script.replace("\\\n", " ").strip().splitlines()) == 1
    other = {"&", "|", "||", "&&", ";", "health", "keys", "--version", "--help"}
    return alone and not other & set(words)


# --- links ---------------------------------------------------------------------------------------


def markdown_files(root: Path = ROOT) -> list[Path]:
    """All pages of the repository that somebody could read."""
    here = {"build", "dist", "bench-results", "node_modules"}
    return sorted(
        path
        for path in root.rglob("*.md")
        if not any(
            part.startswith(".") or part in here for part in path.relative_to(root).parent.parts
        )
    )


def prose(text: str) -> str:
    """A page without its fenced blocks and code spans, where nothing is a link."""
    return re.sub(r"`[^`\n]*`", "``", _FENCE.sub("", text))


def links(text: str) -> Iterator[str]:
    """Where a page's links and pictures lead, without those that leave the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def broken_links(page: Path, root: Path = ROOT) -> list[str]:
    """Return one sentence per link of a page that leads nowhere."""
    problems = []
    for link in links(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            problems.append(f"{page.relative_to(root)} links to {link}")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            problems.append(f"{page.relative_to(root)} links to {link}, which is no heading")
    return problems


def reachable(start: Path) -> set[Path]:
    """All pages that can be reached from one by links."""
    found: set[Path] = set()
    ahead = [start.resolve()]
    while ahead:
        page = ahead.pop()
        if page in found:
            continue
        found.add(page)
        if page.suffix == ".md":
            for link in links(page.read_text(encoding="utf-8")):
                target = (page.parent / link.partition("#")[0]).resolve()
                if target.exists() and target.is_file():
                    ahead.append(target)
    return found


# --- a load, for pages that say what holds under one --------------------------------------------


class Load:
    """Appends numbers to a session of its own, one after another, and counts the answers.

    Args:
        client: Where.
        name: The session's id.
    """

    def __init__(self, client: sojourn.AsyncClient, name: str) -> None:
        self._client = client
        self.name = name
        self.acknowledged = 0

    async def write(self) -> None:
        """Write until cancelled."""
        while True:
            message = sojourn.NewMessage("user", str(self.acknowledged))
            await self._client.messages.append(self.name, message, create_if_missing=True)
            self.acknowledged += 1


@contextlib.asynccontextmanager
async def running(writers: Iterable[Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Let writers write while a block runs."""
    tasks = [asyncio.ensure_future(write()) for write in writers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_beside(script: str, folder: Path) -> str:
    """Run a script, as `shell` does, while this event loop goes on."""
    return await asyncio.to_thread(shell, script, folder)
