"""Test each adapter in an environment of its own: `make test-adapters`.

There its extra is installed and no other adapter's, as with whoever uses it: so an import that
the extra does not bring is found. Versions are those of the lock, where they can be.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".venv-adapters"
ADAPTERS: Final[dict[str, tuple[str, ...]]] = {
    "adk": (),
    "aiecs": ("aiecs>=2.2,<3",),
    "claude": (),
    "langgraph": ("langgraph",),
    "openai-agents": (),
}
"""By the names of their extras: what their tests need besides."""
UNLOCKED: Final = frozenset({"aiecs"})
"""Whose frameworks do not go together with the versions of the lock."""


def main(names: Sequence[str]) -> int:
    """Test those that are named, or all; return the exit status: 0 when all passed."""
    if unknown := sorted(set(names) - set(ADAPTERS)):
        print(f"there is no {', '.join(unknown)}: {', '.join(ADAPTERS)}", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    constraints = FOLDER / "constraints.txt"
    constraints.write_text(_versions((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    failed = [name for name in names or ADAPTERS if not _test(name, constraints)]
    print(f"failed: {', '.join(failed)}" if failed else "every adapter passed")
    return 1 if failed else 0


def _versions(lock: str) -> str:
    """The lock without its hashes, which pip does not take beside an editable project."""
    return "\n".join(re.findall(r"^[\w.\[\]-]+==[^\\\n]+", lock, re.MULTILINE)) + "\n"


def _test(name: str, constraints: Path) -> bool:
    folder = FOLDER / name
    python = folder / "bin" / "python"
    tests = ROOT / "tests" / "adapters" / name.replace("-", "_")
    locked = [] if name in UNLOCKED else ["--constraint", str(constraints)]
    commands: list[list[str]] = [
        [sys.executable, "-m", "venv", str(folder)],
        [
            *(str(python), "-m", "pip", "install", "--quiet", *locked),
            *("--editable", f"{ROOT}[{name},test]", *ADAPTERS[name]),
        ],
        [str(python), "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile", str(tests)],
    ]
    print(f"--- {name}", flush=True)
    return all(subprocess.run(one, cwd=ROOT, check=False).returncode == 0 for one in commands)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
