"""Generate the sync client, and the tests of its surface, from the async ones.

    python -m tools.gen_sync            write every `_sync` folder
    python -m tools.gen_sync --check    compare with what is committed, write nothing

Names and phrases are replaced first, by the table below, in code, docstrings and comments alike;
then the unasync library takes out `async` and `await` and turns the async protocol's names into
the plain ones; then ruff sorts the imports and formats.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import unasync

from tools.drift import differences, replace_folder

ROOT = Path(__file__).resolve().parent.parent

# Source folder, and the fewest files it must have: a check that finds nothing proves nothing.
SOURCES: dict[str, int] = {
    "client/sojourn/_async": 2,
    "tests/api/_async": 1,
}

# Whole words, replaced wherever they stand. A rule that no source uses is an error: it would
# mislead whoever reads the table next.
WORDS: dict[str, str] = {
    "_async": "_sync",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncAdmin": "Admin",
    "AsyncApps": "Apps",
    "AsyncAttempt": "Attempt",
    "AsyncCaller": "Caller",
    "AsyncClient": "Client",
    "AsyncCredential": "Credential",
    "AsyncFollowedSessions": "FollowedSessions",
    "AsyncManySessions": "ManySessions",
    "AsyncMessages": "Messages",
    "AsyncPager": "Pager",
    "AsyncServices": "Services",
    "AsyncSessionCache": "SessionCache",
    "AsyncSessionHandle": "SessionHandle",
    "AsyncSessions": "Sessions",
    "AsyncTurnHandle": "TurnHandle",
    "AsyncTurns": "Turns",
    "AsyncUsers": "Users",
    "AsyncWatch": "Watch",
    # The pairs of sojourn._acompat and sojourn._astreams.
    "AsyncChannel": "SyncChannel",
    "AsyncFunction": "SyncFunction",
    "AsyncLock": "SyncLock",
    "AsyncMethod": "SyncMethod",
    "AsyncMonitor": "SyncMonitor",
    "AsyncStream": "SyncStream",
    "AsyncStreamMethod": "SyncStreamMethod",
    "AsyncStubs": "SyncStubs",
    "AsyncTicker": "SyncTicker",
    "AsyncWorker": "SyncWorker",
    "async_acquire": "sync_acquire",
    "async_ask": "sync_ask",
    "async_finish": "sync_finish",
    "async_sleep": "sync_sleep",
    "async_upload": "sync_upload",
    "async_within": "sync_within",
    # What the standard library has for both.
    "aclosing": "closing",
    # The pairs of sojourn.testing and of the tests.
    "AsyncLocalServer": "LocalServer",
    "async_together": "sync_together",
    "async_until": "sync_until",
    # The pairs behind the two recipes.
    "async_retrying": "sync_retrying",
    "async_tracked": "sync_tracked",
}

# Anything longer than a word, as a regular expression and its replacement. unasync does code only;
# these two do the examples in docstrings as well.
PHRASES: dict[str, str] = {
    r"\basync (?=(?:with|for|def)\b)": "",
    r"\bawait (?=[\w.]+\()": "",
    r"\bsojourn\.connect\(": "sojourn.connect_sync(",
    r"\btesting\.serve\(": "testing.serve_sync(",
}

# What the unasync library replaces by itself.
LEFT_TO_UNASYNC = {"AsyncGenerator", "AsyncIterable", "AsyncIterator"}
ASYNC_NAME = re.compile(r"\bAsync[A-Z]\w*")

HEADER = "# Generated from {source} by `make gen`. Edit the source, never this file.\n"


class UnknownNameError(Exception):
    """A name says that it is async, and no rule says what its sync counterpart is called."""


def rules() -> dict[str, str]:
    """Return the whole table as regular expressions, in the order in which they apply."""
    return PHRASES | {rf"\b{re.escape(word)}\b": to for word, to in WORDS.items()}


def replace_names(text: str, used: Counter[str]) -> str:
    """Apply the table to a file's text and count the use of each rule."""
    for pattern, replacement in rules().items():
        text, count = re.subn(pattern, replacement, text)
        used[pattern] += count
    unknown = set(ASYNC_NAME.findall(text)) - LEFT_TO_UNASYNC
    if unknown:
        raise UnknownNameError(", ".join(sorted(unknown)))
    return text


def generate(source: Path, target: Path, *, label: str, used: Counter[str]) -> None:
    """Write the sync counterpart of every file in `source` to `target`.

    `label` is the path of the source folder as the generated files name it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        # unasync finds its folder by name in the path, so the copy is made in one of that name.
        renamed, plain = Path(temporary) / "_async", Path(temporary) / "_sync"
        shutil.copytree(source, renamed, ignore=shutil.ignore_patterns("__pycache__"))
        modules = sorted(renamed.rglob("*.py"))
        for path in modules:
            try:
                replaced = replace_names(path.read_text(encoding="utf-8"), used)
            except UnknownNameError as unknown:
                where = f"{label}/{path.relative_to(renamed)}"
                raise SystemExit(f"{where}: no rule in {__file__} for {unknown}") from None
            path.write_text(replaced, encoding="utf-8")
        rule = unasync.Rule(fromdir=f"{renamed}/", todir=f"{plain}/")
        unasync.unasync_files([str(path) for path in modules], [rule])
        for path in sorted(plain.rglob("*.py")):
            name = path.relative_to(plain).as_posix()
            text = HEADER.format(source=f"{label}/{name}") + path.read_text(encoding="utf-8")
            destination = target / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_text(tidy(text, f"{target_label(label)}/{name}"), encoding="utf-8")


def target_label(label: str) -> str:
    """Return the folder that belongs to a source folder."""
    return label.removesuffix("_async") + "_sync"


def tidy(text: str, name: str) -> str:
    """Sort the imports and format, as ruff would do for a file at `name` in the repository."""
    for arguments in (["check", "--fix", "--quiet", "--select", "I"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", name, "-"],
            input=text,
            capture_output=True,
            check=True,
            cwd=ROOT,
            text=True,
        ).stdout
    return text


def main(arguments: list[str] | None = None) -> int:
    """Write or check every generated folder; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    options = parser.parse_args(arguments)

    problems: list[str] = []
    used: Counter[str] = Counter()
    found = 0
    for label, minimum in SOURCES.items():
        source, target = options.root / label, options.root / target_label(label)
        if not source.exists():
            print(f"{label} does not exist yet: nothing to generate from it")
            if target.exists():
                problems.append(f"{target} exists without its source {source}")
            continue
        found += 1
        with tempfile.TemporaryDirectory() as fresh:
            generate(source, Path(fresh), label=label, used=used)
            if options.check:
                problems += differences(Path(fresh), target, minimum=minimum)
            else:
                replace_folder(Path(fresh), target)
    if found == len(SOURCES):
        problems += [f"the rule {rule} was never used" for rule in rules() if not used[rule]]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and options.check:
        print("run `make gen` and commit what it writes", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
