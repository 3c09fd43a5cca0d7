"""Containers of the image under test: one volume, and what runs on it, one after the other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.image import Engine

START_PATIENCE = 30.0
STOP_PATIENCE = 30.0
LOOPBACK = "127.0.0.1"
LISTENING = re.compile(r'"listen": "([^"]+)".*"event": "started"')


class Box:
    """A volume at /data and the image that runs on it.

    docker and podman run the image as their users do: the server is the first process, in a network
    of its own. buildah runs it in a changed root, in the machine's network, so the address is moved
    to the loopback there; a working container keeps what is in /data, and that is its volume.
    """

    def __init__(self, engine: Engine, image: str, name: str, folder: Path) -> None:
        self.engine = engine
        self.image = image
        self.name = name
        self.changed_root = engine.name == "buildah"
        self._log = folder / f"{name}.log"

    def __enter__(self) -> Box:
        if self.changed_root:
            made = self.engine.call("from", "--pull=never", "--name", self.name, self.image)
        else:
            made = self.engine.call("volume", "create", self.name)
        assert made.returncode == 0, made.stderr
        return self

    def __exit__(self, *_: object) -> None:
        if self.changed_root:
            self.engine.call("rm", self.name)
        else:
            self.engine.call("rm", "--force", self._running)
            self.engine.call("volume", "rm", "--force", self.name)

    @property
    def _running(self) -> str:
        return f"{self.name}-server"

    def config(self) -> dict[str, Any]:
        """The image's configuration, as far as all engines tell it alike."""
        known = self.engine.inspect(self.image)
        assert known is not None
        config: dict[str, Any] = known["Docker"]["config"] if self.changed_root else known["Config"]
        return config

    def once(
        self, *flags: str, entrypoint: str = "", user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the image to its end, with flags or another command."""
        as_user = ("--user", user) if user else ()
        if self.changed_root:
            command = [entrypoint] if entrypoint else self.config()["Entrypoint"]
            return self.engine.call("run", *as_user, self.name, "--", *command, *flags)
        other = ("--entrypoint", entrypoint) if entrypoint else ()
        return self.engine.call(*self._run_flags(), *as_user, *other, self.image, *flags)

    def _run_flags(self) -> tuple[str, ...]:
        return ("run", "--rm", "--pull=never", "--volume", f"{self.name}:/data")

    @contextlib.contextmanager
    def serve(self, *flags: str, read_only: bool = False) -> Iterator[Server]:
        """Run the server beside the test, reachable from the loopback alone."""
        if self.changed_root:
            listen = f"SOJOURN_LISTEN={LOOPBACK}:0"
            arguments = ["run", "--env", listen, self.name, "--", *self.config()["Entrypoint"]]
        else:
            arguments = [*self._run_flags(), "--name", self._running]
            arguments += ["--publish", f"{LOOPBACK}::7070"]
            if read_only:
                arguments.append("--read-only")
                # podman would lay writable folders over it; docker does not.
                arguments += ["--read-only-tmpfs=false"] if self.engine.name == "podman" else []
            arguments.append(self.image)
        self._log.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [self.engine.name, *arguments, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        server = Server(self, process, self._log)
        try:
            server.wait_for_start()
            yield server
        finally:
            server.kill()


class Server:
    """The server in a container."""

    def __init__(self, box: Box, process: subprocess.Popen[bytes], log: Path) -> None:
        self._box = box
        self._process = process
        self._log = log
        self.target = ""
        """Where a client outside reaches it."""

    def wait_for_start(self) -> None:
        until = time.monotonic() + START_PATIENCE
        while (started := LISTENING.search(self.log())) is None:
            assert self._process.poll() is None, f"the server ended by itself:\n{self.log()}"
            assert time.monotonic() < until, f"the server did not start:\n{self.log()}"
            time.sleep(0.05)
        self.target = started[1]
        if not self._box.changed_root:
            said = self._box.engine.call("port", self._box._running, "7070/tcp")
            self.target = said.stdout.splitlines()[0].strip()
        assert self.target.startswith(f"{LOOPBACK}:"), self.target

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the server, as the image's user."""
        call, name = self._box.engine.call, self._box.name
        if self._box.changed_root:
            return call("run", "--env", f"SOJOURN_LISTEN={self.target}", name, "--", *command)
        return call("exec", self._box._running, *command)

    def health_command(self) -> list[str]:
        """What the image says that its health is asked with."""
        if self._box.changed_root:
            config = self._box.config()
        else:
            # podman tells an image's health check elsewhere, a container's like docker.
            config = json.loads(self._box.engine.call("inspect", self._box._running).stdout)[0]
            config = config["Config"]
        kind, *command = config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return [str(word) for word in command]

    def terminate(self) -> int:
        """Tell the server to stop; return the container's exit status."""
        if self._box.changed_root:
            # buildah answers a signal by killing what it runs, so the server itself is told.
            os.kill(_youngest(self._process.pid), signal.SIGTERM)
        else:
            self._box.engine.call("kill", "--signal", "TERM", self._box._running)
        return self._process.wait(timeout=STOP_PATIENCE)

    def kill(self) -> None:
        """Leave nothing running, also when a test fails."""
        if self._process.poll() is None:
            if self._box.changed_root:
                os.kill(_youngest(self._process.pid), signal.SIGKILL)
            else:
                self._box.engine.call("kill", self._box._running)
            self._process.wait(timeout=STOP_PATIENCE)


def _youngest(pid: int) -> int:
    """Follow a process's children to the last one."""
    while children := _children(pid):
        pid = children[-1]
    return pid


def _children(pid: int) -> list[int]:
    # A process's children are listed by the thread that made them.
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for task in tasks for child in task.read_text().split())
