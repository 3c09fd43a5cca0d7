"""Check that hand-written Python files stay under 500 lines; longer ones hide a second subject."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 500
FOLDERS = ("client", "server", "tests", "tools", "bench", "examples")
GENERATED = ("client/sojourn/v1/", "client/sojourn/_sync/", "tests/api/_sync/")


def hand_written(root: Path) -> list[Path]:
    """Return the Python files below `root` that somebody wrote."""
    files = (path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    return sorted(
        path for path in files if not path.relative_to(root).as_posix().startswith(GENERATED)
    )


def too_long(root: Path) -> list[tuple[Path, int]]:
    """Return the files of 500 lines and more, with their lengths."""
    lengths = (
        (path, len(path.read_text(encoding="utf-8").splitlines())) for path in hand_written(root)
    )
    return [(path, length) for path, length in lengths if length >= LIMIT]


def main(arguments: list[str] | None = None) -> int:
    """Report every file that is too long; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    root = parser.parse_args(arguments).root
    if not hand_written(root):
        print("no hand-written file found", file=sys.stderr)
        return 1
    problems = too_long(root)
    for path, length in problems:
        print(
            f"{path.relative_to(root)}: {length} lines, the limit is under {LIMIT}", file=sys.stderr
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
