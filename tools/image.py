"""`make image`: build the image with the container engine that is here.

    python -m tools.image [--engine ENGINE] [--name NAME] [--base BASE] [FLAG...]

Tries docker, podman and buildah, in this order. Flags go to the engine's build as they are: a
proxy, a certificate, a mirror of the package index are the machine's matter, not the Dockerfile's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
NAME: Final = "sojourn:dev"
BUILD_LIMIT: Final = 1_800
"""Seconds that a build may take; a first one fetches the base and every dependency."""
ANSWER_LIMIT: Final = 60
"""Seconds that any other command of an engine may take."""

ENGINES: Final = ("docker", "podman", "buildah")


class ImageError(Exception):
    """The image cannot be built; the message says why."""


@dataclass(frozen=True)
class Engine:
    """A program that builds images."""

    name: str

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the engine's quick commands, whatever comes of it."""
        return subprocess.run(
            [self.name, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_LIMIT,
        )

    def inspect(self, image: str) -> dict[str, Any] | None:
        """Return what the engine knows of an image; None: it is not on this machine."""
        kind = ("inspect", "--type", "image") if self.name == "buildah" else ("image", "inspect")
        said = self.call(*kind, image)
        if said.returncode != 0:
            return None
        found = json.loads(said.stdout)
        # buildah answers for one image, the others for a list of them.
        known: dict[str, Any] = found[0] if isinstance(found, list) else found
        return known

    def build_command(self, image: str, base: str, flags: Sequence[str]) -> list[str]:
        """Return the command that builds the repository's image."""
        command = [self.name, "build", "--tag", image, "--build-arg", f"BASE={base}"]
        if self.name != "docker":
            # Their own format has no health check and would drop the Dockerfile's.
            command += ["--format", "docker", "--layers"]
        return [*command, *flags, str(ROOT)]


def choose(wanted: str = "") -> Engine | None:
    """Return the engine that was asked for, or the first one that answers; None: none does."""
    for name in ENGINES:
        # docker's command may be there without its daemon; `version` asks both.
        if wanted in {"", name} and shutil.which(name):
            engine = Engine(name)
            if engine.call("version").returncode == 0:
                return engine
    return None


def default_base() -> str:
    """Return the base that the Dockerfile names."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    if found is None:
        raise ImageError("the Dockerfile names no base")
    return found[1]


def main() -> None:
    """Build the image."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--engine", default="", help="docker, podman or buildah")
    parser.add_argument("--name", default=NAME, help="what the image is called")
    parser.add_argument("--base", default="", help="another base with Python 3.11")
    options, flags = parser.parse_known_args()
    engine = choose(options.engine)
    if engine is None:
        wanted = options.engine or "docker, podman or buildah"
        sys.exit(f"no container engine answers here: {wanted} is needed")
    command = engine.build_command(options.name, options.base or default_base(), flags)
    print(f"building {options.name} with {engine.name}", flush=True)
    sys.exit(subprocess.run(command, check=False, timeout=BUILD_LIMIT).returncode)


if __name__ == "__main__":
    main()
