"""Write docs/reference/acceptance.md: what users expect, and the test that shows it.

    python -m tools.gen_acceptance            write the page
    python -m tools.gen_acceptance --check    compare with what is committed, write nothing

The rows are those of tests/acceptance/rows.py. The tests are read, not imported: the name of a test
says which row it shows, and its docstring what a user may expect.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.rows import OUT_OF_SCOPE, ROWS, SYSTEMS
from tools.gen_docs import NOTE, ROOT, outdated

PAGE = ROOT / "docs" / "reference" / "acceptance.md"
TESTS = ROOT / "tests" / "acceptance"
NAME = re.compile(r"test_(s\d)_(\d\d)_\w+")

INTRODUCTION = f"""# Acceptance

Five systems for sessions were read before this one was made: what they offer, what their users have
to write themselves, and what they complain about. Each row is one such thing, with what a user of
Sojourn may expect instead. The test of a row does it as that user would, with the public client or
the command line, against a real server, on SQLite and on PostgreSQL. {len(ROWS)} rows,
{len(OUT_OF_SCOPE)} of them out of scope.

The tests are in `tests/acceptance/`; `make pytest PYTEST_ARGS=tests/acceptance` runs them.
"""


@dataclass(frozen=True)
class Showing:
    """How a row is shown: by a test."""

    row: str
    test: str
    module: str
    sentence: str


def showings(folder: Path = TESTS) -> Iterator[Showing]:
    """Yield the tests that name a row, in the order of modules and lines."""
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            named = NAME.fullmatch(node.name)
            if named:
                row = f"{named[1].upper()}-{named[2]}"
                sentence = " ".join((ast.get_docstring(node) or "").split())
                yield Showing(row, node.name, path.name, sentence)


def page(found: Iterator[Showing]) -> str:
    """Return the text of the page."""
    by_row = {showing.row: showing for showing in found}
    parts = [NOTE + INTRODUCTION]
    for system, title in SYSTEMS.items():
        lines = [
            f"## {title}\n",
            "| row | what | what a user may expect | test |",
            "|---|---|---|---|",
        ]
        for row, what in ROWS.items():
            if row.startswith(system):
                lines.append(f"| {row} | {what} | {_shown(row, by_row)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _shown(row: str, by_row: dict[str, Showing]) -> str:
    if row in OUT_OF_SCOPE:
        return f"Out of scope: {OUT_OF_SCOPE[row]} | –"
    showing = by_row.get(row)
    if showing is None:
        return "**no test** | –"
    return f"{showing.sentence} | `{showing.module}`: `{showing.test}`"


def main() -> None:
    """Write the page, or compare it with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    wanted = {PAGE: page(showings())}
    if parser.parse_args().check:
        sys.exit("\n".join(outdated(wanted)) or None)
    PAGE.write_text(wanted[PAGE], encoding="utf-8")


if __name__ == "__main__":
    main()
