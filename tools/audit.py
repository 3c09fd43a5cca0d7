"""Look for known weaknesses in what the locks pin: `make check-audit`.

Asks the Python Package Index, through pip-audit. Where it cannot be reached, or knows
nothing of a package, that is said and is no failure: what is known does not change by our
being offline. A weakness that is known fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ("requirements.lock",)
"""It holds what the others pin, too."""
PATIENCE: Final = 120.0
"""How long one lock may take, in seconds."""
WEAK: Final = 1


class Unreachable(Exception):
    """Nothing could be asked."""


def ask(lock: Path) -> list[dict[str, Any]]:
    """What is known of the packages of a lock.

    Raises:
        Unreachable: The index gave no answer.
    """
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(lock)),
        *("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"),
        *("--timeout", "5"),
    ]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PATIENCE
        )
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        raise Unreachable from None
    if all("skip_reason" in each for each in packages):
        raise Unreachable
    return packages


def weaknesses(packages: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each known weakness."""
    return [
        f"{each['name']} {each['version']}: {weakness['id']}"
        f" (fixed in {', '.join(weakness['fix_versions']) or 'no release yet'})"
        for each in packages
        for weakness in each.get("vulns", ())
    ]


def main() -> int:
    """Audit the locks; return the exit status: 1 for a known weakness."""
    found: set[str] = set()
    for name in LOCKS:
        try:
            packages = ask(ROOT / name)
        except Unreachable:
            print(f"{name}: NOT AUDITED, the package index cannot be asked from here")
            continue
        unknown = sum("skip_reason" in each for each in packages)
        print(f"{name}: {len(packages) - unknown} packages audited, {unknown} unknown to the index")
        found |= set(weaknesses(packages))
    for line in sorted(found):
        print(line)
    return WEAK if found else 0


if __name__ == "__main__":
    sys.exit(main())
