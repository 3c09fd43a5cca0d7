"""Running Python in another process: to kill it, or to let it become another user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SECONDS = 100
"""After so long a script that hangs is killed, so that its test fails."""


def run_script(script: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end; the path is its first argument."""
    return subprocess.run(
        [sys.executable, "-c", script, str(path), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


def start_script(script: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a script whose output is read while it runs."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), *arguments], stdout=subprocess.PIPE, text=True
    )


def mount_small_disk(folder: Path, size: str) -> bool:
    """Mount a small file system there; False where this user may not."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(mount, check=False, capture_output=True).returncode == 0


def remount(folder: Path, options: str) -> None:
    """Mount a small disk again, with other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """Take a small disk away."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
