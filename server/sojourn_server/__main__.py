"""`sojourn-server`, or a sentence about what it needs. The command itself is in `command`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `sojourn-server`."""
    try:
        # Not at the top: an install of the client alone has this entry point, too.
        from sojourn_server import command  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"sojourn", "sojourn_server"}:
            raise
        sys.stderr.write(
            f"sojourn-server: the server needs {error.name}: "
            'install it with pip install "sojourn[server]"\n'
        )
        sys.exit(2)
    command.main()


if __name__ == "__main__":
    main()
