"""The peers' environment, .venv-bench: made when it is needed, made again when its lock changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.processes import ROOT
from bench.results import Results

FOLDER = ROOT / ".venv-bench"
LOCK = ROOT / "requirements-bench-peers.lock"
INSTALL_PATIENCE = 600


def peers_python(results: Results) -> Path | None:
    """The environment's Python; None, and a line in the results, when it cannot be made."""
    python, ready = FOLDER / "bin" / "python", FOLDER / ".ready"
    if ready.exists() and ready.stat().st_mtime >= LOCK.stat().st_mtime:
        return python
    try:
        if not python.exists():
            _run(sys.executable, "-m", "venv", str(FOLDER))
        _run(str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(LOCK))
    except (OSError, subprocess.SubprocessError) as error:
        results.skipped.append(
            f"google-adk and py-spy: their environment cannot be made ({type(error).__name__})"
        )
        return None
    ready.touch()
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_PATIENCE, stdout=subprocess.DEVNULL)
