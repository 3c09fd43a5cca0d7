"""The `sojourn` command: thin commands on the client's public names. It needs the extra `cli`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

NEEDED = ("click", "rich")


def main() -> None:
    """Run the command line and exit with its status."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"sojourn: the command line needs {' and '.join(missing)}: "
            'install it with pip install "sojourn[cli]"\n'
        )
        sys.exit(2)
    try:
        # Not before the check: the module needs what may be missing.
        from sojourn.cli.root import cli  # noqa: PLC0415

        cli(prog_name="sojourn")
    except KeyboardInterrupt:
        # While it was still starting, or at its very end.
        sys.exit(130)
